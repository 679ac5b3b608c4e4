//! `[[kv]]`, and the grants of buckets, values and secrets.

use std::collections::BTreeMap;

use tidegate_keyvalue::{Bounds, Storage, WhenFull};

use super::*;

/// A plugin with these lines, after these tables.
fn plugin(tables: &str, lines: &str) -> String {
    with(&format!("{tables}\n[[plugin]]\nname = \"p\"\npath = \"p.wasm\"\n{lines}\n"))
}

#[test]
fn every_key_of_a_bucket_is_read() {
    let config = parse(&with(
        r#"
[[kv]]
name = "cache"
kind = "memory"
shared = true
max_entries = 5
max_bytes = "2KiB"
max_value = 7
ttl = "1h"
when_full = "evict"
[[kv]]
name = "sessions"
kind = "sqlite"
path = "sessions.db"
timeout = "20ms"
[[kv]]
name = "fleet"
kind = "nats"
url = ["nats://a:4222", "tls://b:4222"]
bucket = "gateways"
user = "gate"
password = { file = "password" }
ca = "ca.pem"
timeout = "1s"
history = 5
replicas = 3
storage = "memory"
[[kv]]
name = "plain"
kind = "nats"
url = "nats://127.0.0.1:4222"
token = { env = "TOKEN" }
"#,
    ));
    let default = Bounds {
        max_entries: 100_000,
        max_bytes: 64 << 20,
        max_value: 1 << 20,
        ttl: None,
        when_full: WhenFull::Refuse,
    };
    let hour = Some(Duration::from_secs(3600));
    let tight = Bounds { max_entries: 5, max_bytes: 2048, max_value: 7, ttl: hour, when_full: WhenFull::Evict };
    let [cache, sessions, fleet, plain] = &config.buckets[..] else { panic!("four buckets") };
    assert_eq!(*cache, Bucket { name: "cache".into(), shared: true, bounds: tight, kind: BucketKind::Memory });
    let file = BucketKind::Sqlite { path: "/etc/tidegate/sessions.db".into(), timeout: Duration::from_millis(20) };
    assert_eq!(*sessions, Bucket { name: "sessions".into(), shared: false, bounds: default, kind: file });
    let server = NatsBucket {
        urls: vec!["nats://a:4222".into(), "tls://b:4222".into()],
        bucket: "gateways".into(),
        login: Login::User("gate".into(), SecretSource::File("/etc/tidegate/password".into())),
        ca: Some("/etc/tidegate/ca.pem".into()),
        timeout: Duration::from_secs(1),
        history: 5,
        replicas: 3,
        storage: Storage::Memory,
    };
    assert_eq!(fleet.kind, BucketKind::Nats(Box::new(server)));
    let server = NatsBucket {
        urls: vec!["nats://127.0.0.1:4222".into()],
        bucket: "plain".into(),
        login: Login::Token(SecretSource::Env("TOKEN".into())),
        ca: None,
        timeout: Duration::from_millis(50),
        history: 1,
        replicas: 1,
        storage: Storage::File,
    };
    assert_eq!(plain.kind, BucketKind::Nats(Box::new(server)));
}

#[test]
fn every_grant_of_values_is_read() {
    let config = parse(&plugin(
        "[[kv]]\nname = \"cache\"\nkind = \"memory\"",
        r#"
[plugin.config]
region = "north"
limits = { rps = 5 }
other = 1
[plugin.grants]
kv = ["cache"]
config = ["region", "limits"]
secrets = [{ name = "token", file = "token" }, { name = "key", env = "API_KEY" }]
"#,
    ));
    let grants = &config.plugins[0].grants;
    assert_eq!(grants.kv.iter().map(|name| &**name).collect::<Vec<_>>(), ["cache"]);
    let values = [("region", "north"), ("limits", "{\"rps\":5}")];
    assert_eq!(grants.config, values.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    let secrets: BTreeMap<Arc<str>, SecretSource> = [
        ("token".into(), SecretSource::File("/etc/tidegate/token".into())),
        ("key".into(), SecretSource::Env("API_KEY".into())),
    ]
    .into();
    assert_eq!(grants.secrets, secrets);
}

#[test]
fn a_bucket_says_what_it_is_kept_in_and_where() {
    check_with(
        r#"
[[kv]]
name = "a"
[[kv]]
name = "b"
kind = "sqlite"
[[kv]]
name = "c"
kind = "nats"
[[kv]]
name = "d"
kind = "redis"
[[kv]]
name = "e"
kind = "memory"
path = "e.db"
"#,
        r#"
error: [[kv]] has no `kind`
 --> tidegate.toml:2:1
  |
2 | [[kv]]
  | ^^^^^^
hint: add `kind = "memory"`

error: [[kv]] has no `path`
 --> tidegate.toml:4:1
  |
4 | [[kv]]
  | ^^^^^^
hint: add `path = "sessions.db"`

error: [[kv]] has no `url`
 --> tidegate.toml:7:1
  |
7 | [[kv]]
  | ^^^^^^
hint: add `url = "nats://127.0.0.1:4222"`

error: `kind` has no such value
  --> tidegate.toml:12:8
   |
12 | kind = "redis"
   |        ^^^^^^^ expected "memory", "sqlite" or "nats"

error: unknown key `path` in [[kv]]
  --> tidegate.toml:16:1
   |
16 | path = "e.db"
   | ^^^^
hint: the keys in [[kv]] are `name`, `kind`, `kind`, `shared`, `max_bytes`, `max_value`, `ttl`, `max_entries`, `when_full`
"#,
    );
}

#[test]
fn what_cannot_be_together_is_refused() {
    check_with(
        r#"
[[kv]]
name = "small"
kind = "memory"
max_bytes = "64KiB"
max_value = "1MiB"
[[kv]]
name = "small"
kind = "memory"
[[kv]]
name = "one"
kind = "sqlite"
path = "kv.db"
[[kv]]
name = "two"
kind = "sqlite"
path = "kv.db"
[[kv]]
name = "server"
kind = "nats"
url = "nats://a:4222"
max_entries = 5
"#,
        r#"
error: `max_value` is greater than `max_bytes`
 --> tidegate.toml:6:13
  |
5 | max_bytes = "64KiB"
  |             -------
6 | max_value = "1MiB"
  |             ^^^^^^ a value of 1MiB does not fit into 64KiB
hint: lower `max_value` or raise `max_bytes`

error: there are two kvs named `small`
 --> tidegate.toml:8:8
  |
3 | name = "small"
  |        ------- first here
...
8 | name = "small"
  |        ^^^^^^^ again here

error: two buckets cannot have the same file
  --> tidegate.toml:17:8
   |
13 | path = "kv.db"
   |        ------- first here
...
17 | path = "kv.db"
   |        ^^^^^^^ again here

error: unknown key `max_entries` in [[kv]]
  --> tidegate.toml:22:1
   |
22 | max_entries = 5
   | ^^^^^^^^^^^
hint: the keys in [[kv]] are `name`, `kind`, `kind`, `shared`, `max_bytes`, `max_value`, `ttl`, `url`, `bucket`, `credentials`, `token`, `user`, `password`, `ca`, `timeout`, `history`, `replicas`, `storage`
"#,
    );
}

#[test]
fn a_server_is_a_host_and_a_port_and_one_way_to_log_in() {
    check_with(
        r#"
[[kv]]
name = "a.b"
kind = "nats"
url = "redis://a:1"
[[kv]]
name = "b"
kind = "nats"
url = ["nats://u:p@a:4222", "nats://a/path", "a:4222"]
bucket = "two--dashes"
[[kv]]
name = "c"
kind = "nats"
url = []
token = { file = "token" }
user = "u"
[[kv]]
name = "d"
kind = "nats"
url = "nats://a"
credentials = { file = "creds", env = "CREDS" }
"#,
        r#"
error: this is no name for a bucket at a NATS server
 --> tidegate.toml:3:8
  |
3 | name = "a.b"
  |        ^^^^^ expected 1 to 64 of the characters a-z A-Z 0-9 - _
hint: give it another name there with `bucket = ".."`

error: this server cannot be used
 --> tidegate.toml:5:7
  |
5 | url = "redis://a:1"
  |       ^^^^^^^^^^^^^ expected the scheme nats or tls
hint: for example "nats://127.0.0.1:4222"

error: this server cannot be used
 --> tidegate.toml:9:8
  |
9 | url = ["nats://u:p@a:4222", "nats://a/path", "a:4222"]
  |        ^^^^^^^^^^^^^^^^^^^ a user name or password cannot be given here; use `user` and `password`
hint: for example "nats://127.0.0.1:4222"

error: this server cannot be used
 --> tidegate.toml:9:29
  |
9 | url = ["nats://u:p@a:4222", "nats://a/path", "a:4222"]
  |                             ^^^^^^^^^^^^^^^ a server is a host and a port, without a path
hint: for example "nats://127.0.0.1:4222"

error: this server cannot be used
 --> tidegate.toml:9:46
  |
9 | url = ["nats://u:p@a:4222", "nats://a/path", "a:4222"]
  |                                              ^^^^^^^^ expected the scheme nats or tls
hint: for example "nats://127.0.0.1:4222"

error: this is no name for a bucket at a NATS server
  --> tidegate.toml:10:10
   |
10 | bucket = "two--dashes"
   |          ^^^^^^^^^^^^^ a bucket of which each plugin has its own has no `--`, and no dash at its end
hint: give it another name there with `bucket = ".."`

error: `url` is empty
  --> tidegate.toml:14:7
   |
14 | url = []
   |       ^^ expected at least one server

error: there are two ways to log in
  --> tidegate.toml:16:8
   |
15 | token = { file = "token" }
   |         ------------------
16 | user = "u"
   |        ^^^ one of them has to go

error: `user` has no `password`
  --> tidegate.toml:16:8
   |
16 | user = "u"
   |        ^^^
hint: add `password = { file = ".." }`

error: this secret has both `file` and `env`
  --> tidegate.toml:21:39
   |
21 | credentials = { file = "creds", env = "CREDS" }
   |                        -------        ^^^^^^^ take one of them out
"#,
    );
}

#[test]
fn grants_name_what_is_there() {
    check(
        &plugin(
            "[[kv]]\nname = \"sessions\"\nkind = \"memory\"",
            r#"
[plugin.config]
region = "north"
[plugin.grants]
kv = ["session", "sessions", "sessions"]
config = ["regoin", "zone", "region", "region"]
"#,
        ),
        r#"
error: there is no kv named `session`
  --> tidegate.toml:11:7
   |
11 | kv = ["session", "sessions", "sessions"]
   |       ^^^^^^^^^
hint: did you mean "sessions"?

error: `kv` has `sessions` twice
  --> tidegate.toml:11:30
   |
11 | kv = ["session", "sessions", "sessions"]
   |                              ^^^^^^^^^^

error: [plugin.config] has no `regoin`
  --> tidegate.toml:12:11
   |
12 | config = ["regoin", "zone", "region", "region"]
   |           ^^^^^^^^
hint: did you mean "region"?

error: [plugin.config] has no `zone`
  --> tidegate.toml:12:21
   |
12 | config = ["regoin", "zone", "region", "region"]
   |                     ^^^^^^
hint: add `zone = ..` under [plugin.config]

error: `config` has `region` twice
  --> tidegate.toml:12:39
   |
12 | config = ["regoin", "zone", "region", "region"]
   |                                       ^^^^^^^^
"#,
    );
}

#[test]
fn a_secret_has_a_name_and_one_place() {
    check(
        &plugin(
            "",
            r#"
[plugin.config]
token = "t"
[plugin.grants]
config = ["token"]
secrets = [
    { name = "token", file = "a" },
    { name = "both", file = "a", env = "A" },
    { name = "none" },
    { file = "a" },
    { name = "twice", env = "A" },
    { name = "twice", env = "B" },
    { name = "odd", env = "A=B" },
    "token",
]
"#,
        ),
        r#"
error: `token` is both a value of `config` and a secret
  --> tidegate.toml:10:11
   |
10 | secrets = [
   |           ^
hint: give one of them another name

error: this secret has both `file` and `env`
  --> tidegate.toml:12:40
   |
12 |     { name = "both", file = "a", env = "A" },
   |                             ---        ^^^ take one of them out

error: this secret has neither `file` nor `env`
  --> tidegate.toml:13:5
   |
13 |     { name = "none" },
   |     ^^^^^^^^^^^^^^^^^
hint: for example `file = "/run/secrets/token"` or `env = "TOKEN"`

error: a secret has no `name`
  --> tidegate.toml:14:5
   |
14 |     { file = "a" },
   |     ^^^^^^^^^^^^^^
hint: add `name = ".."`

error: there are two secrets named `twice`
  --> tidegate.toml:16:5
   |
16 |     { name = "twice", env = "B" },
   |     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^

error: `env` is no name of a variable
  --> tidegate.toml:17:27
   |
17 |     { name = "odd", env = "A=B" },
   |                           ^^^^^

error: `secrets` has the wrong type
  --> tidegate.toml:18:5
   |
18 |     "token",
   |     ^^^^^^^ expected a list of { name = .., file = .. } or { name = .., env = .. }, found a string
"#,
    );
    check(
        &plugin("", "[plugin.grants]\nsecrets = { name = \"token\", file = \"a\" }"),
        r#"
error: `secrets` has the wrong type
 --> tidegate.toml:6:11
  |
6 | secrets = { name = "token", file = "a" }
  |           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ expected a list of { name = .., file = .. } or { name = .., env = .. }, found a table
"#,
    );
}
