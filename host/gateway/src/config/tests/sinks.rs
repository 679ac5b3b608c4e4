//! `kind = "webhook"` and `kind = "nats"`: their keys, and their secrets.

use tidegate_outbox::sink::nats::{Credentials, NatsConfig, StreamConfig};
use tidegate_outbox::sink::secret::Secret;
use tidegate_outbox::sink::webhook::{SigningKey, WebhookConfig};

use super::*;

/// An outbox with one sink for `audit.*`.
fn sink(keys: &str) -> String {
    with(&format!("[outbox]\npath = \"o\"\n[[outbox.sink]]\ntopic = \"audit.*\"\n{keys}\n"))
}

fn webhook(config: Config) -> WebhookConfig {
    match config.outbox.expect("an outbox").sinks.remove(0).kind {
        SinkKind::Webhook(webhook) => *webhook,
        other => panic!("no webhook: {other:?}"),
    }
}

fn nats(config: Config) -> NatsConfig {
    match config.outbox.expect("an outbox").sinks.remove(0).kind {
        SinkKind::Nats(nats) => *nats,
        other => panic!("no NATS: {other:?}"),
    }
}

/// What is wrong with a file that is read with the files that it names: `name = text`.
fn load(keys: &str, files: &[(&str, &str)]) -> Result<Config, String> {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).expect("written");
    }
    let file = folder.path().join("tidegate.toml");
    std::fs::write(&file, sink(keys)).expect("written");
    Config::load(&file).map_err(|problems| problems.to_string().replace(&folder.path().display().to_string(), ""))
}

const KEY: &str = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz";

#[test]
fn a_webhook_has_the_documented_defaults() {
    let config = webhook(parse(&sink("kind = \"webhook\"\nurl = \"https://a.example/x?y=z\"")));
    let expected = WebhookConfig {
        url: "https://a.example/x?y=z".parse().expect("a URL"),
        keys: Vec::new(),
        authorization: None,
        headers: http::HeaderMap::new(),
        authorities: None,
        timeout: Duration::from_secs(30),
        concurrency: 8,
        source: String::new(),
    };
    assert_eq!(config, expected);
}

#[test]
fn every_key_of_a_webhook_is_read() {
    let keys = "kind = \"webhook\"\nurl = \"http://127.0.0.1:1/\"\nsecret_file = \"keys\"\nauthorization_file = \"token\"\n\
                headers = { x-tenant = \"blue\", X-Stage = \"test\" }\ntimeout = \"2s\"\nconcurrency = 1\n\
                source = \"urn:gateway:east\"";
    let files = [("keys", &*format!("{KEY}\n\n  whsec_{}\n", "QUJD".repeat(8))), ("token", "Bearer s3cr3t\n")];
    let config = webhook(load(keys, &files).expect("the file is fine"));
    assert_eq!(config.keys.first(), SigningKey::parse(KEY).ok().as_ref());
    assert_eq!(config.keys.len(), 2);
    assert_eq!(config.authorization, Some(Secret::new("Bearer s3cr3t")));
    assert_eq!((config.timeout, config.concurrency), (Duration::from_secs(2), 1));
    assert_eq!(
        (&config.headers["x-tenant"], &config.headers["x-stage"]),
        (&"blue".parse().expect("a value"), &"test".parse().expect("a value"))
    );
    assert_eq!(config.source, "urn:gateway:east");
}

#[test]
fn what_a_webhook_cannot_be() {
    check(
        &sink(
            "kind = \"webhook\"\nurl = \"https://user:pw@a.example/\"\nsecret_file = \"a\"\nsecret_env = \"B\"\n\
             concurrency = 0\nsource = \"east\"\nsecret = \"x\"\n\
             headers = { host = \"a\", authorization = \"b\", \"x y\" = \"c\", x-a = 1, x-b = \"\\n\" }",
        ),
        r#"
error: this URL cannot be used
 --> tidegate.toml:6:7
  |
6 | url = "https://user:pw@a.example/"
  |       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^ it has a user or a password in it, where logs would show them
hint: for example "https://events.example.com/tidegate"; credentials go to `authorization_file`

error: `secret_file` and `secret_env` are both there
 --> tidegate.toml:8:14
  |
7 | secret_file = "a"
  |               --- the other
8 | secret_env = "B"
  |              ^^^ one of them is enough

error: `concurrency` is out of range
 --> tidegate.toml:9:15
  |
9 | concurrency = 0
  |               ^ must be from 1 to 256

error: `source` is not a URI
  --> tidegate.toml:10:10
   |
10 | source = "east"
   |          ^^^^^^ comes before /plugins/NAME in each event's source
hint: for example "https://gateway.example.com", or "urn:gateway:east"

error: unknown key `secret` in [[outbox.sink]]
  --> tidegate.toml:11:1
   |
11 | secret = "x"
   | ^^^^^^
hint: the keys in [[outbox.sink]] are `topic`, `name`, `attempts`, `backoff`, `max_backoff`, `timeout`, `kind`, `url`, `secret_file`, `secret_env`, `authorization_file`, `authorization_env`, `headers`, `ca_file`, `concurrency`, `source`

error: the field `host` cannot be set here
  --> tidegate.toml:12:13
   |
12 | headers = { host = "a", authorization = "b", "x y" = "c", x-a = 1, x-b = "\n" }
   |             ^^^^ the event or the connection sets it

error: a secret does not belong in the config
  --> tidegate.toml:12:25
   |
12 | headers = { host = "a", authorization = "b", "x y" = "c", x-a = 1, x-b = "\n" }
   |                         ^^^^^^^^^^^^^
hint: put the value in a file, and name it with `authorization_file`

error: `x y` is not the name of a header field
  --> tidegate.toml:12:46
   |
12 | headers = { host = "a", authorization = "b", "x y" = "c", x-a = 1, x-b = "\n" }
   |                                              ^^^^^

error: `x-a` has the wrong type
  --> tidegate.toml:12:65
   |
12 | headers = { host = "a", authorization = "b", "x y" = "c", x-a = 1, x-b = "\n" }
   |                                                                 ^ expected a string, found a whole number

error: `x-b` cannot have this value
  --> tidegate.toml:12:74
   |
12 | headers = { host = "a", authorization = "b", "x y" = "c", x-a = 1, x-b = "\n" }
   |                                                                          ^^^^ expected visible ASCII and spaces
"#,
    );
    check(
        &sink("kind = \"webhook\""),
        r#"
error: [[outbox.sink]] has no `url`
 --> tidegate.toml:3:1
  |
3 | [[outbox.sink]]
  | ^^^^^^^^^^^^^^^
hint: add `url = "https://events.example.com/tidegate"`
"#,
    );
}

#[test]
fn secrets_that_cannot_be_read_are_named_without_showing_them() {
    let keys = "kind = \"webhook\"\nurl = \"http://a/\"\nsecret_file = \"keys\"\nauthorization_env = \"TIDEGATE_NO_SUCH\"\n\
                ca_file = \"ca\"";
    let said = load(keys, &[("keys", "whsec_c2VjcmV0\nnot base64"), ("ca", "none")]).expect_err("refused");
    same(
        &said,
        r#"
error: a key for signatures cannot be used
 --> /tidegate.toml:7:15
  |
7 | secret_file = "keys"
  |               ^^^^^^ line 1: the key has 6 bytes, and not 24 to 64
hint: make one with `echo whsec_$(openssl rand -base64 32)`

error: a key for signatures cannot be used
 --> /tidegate.toml:7:15
  |
7 | secret_file = "keys"
  |               ^^^^^^ line 2: it is not `whsec_` and base64
hint: make one with `echo whsec_$(openssl rand -base64 32)`

error: the variable with the secret cannot be used
 --> /tidegate.toml:8:21
  |
8 | authorization_env = "TIDEGATE_NO_SUCH"
  |                     ^^^^^^^^^^^^^^^^^^ it is not set

error: the authorities cannot be used
 --> /tidegate.toml:9:11
  |
9 | ca_file = "ca"
  |           ^^^^ there is no certificate in it
hint: it takes a PEM file with certificates
"#,
    );
    let said = load(keys, &[("keys", " \n")]).expect_err("refused");
    assert!(said.contains("it is empty") && said.contains("/ca: No such file"), "{said}");
}

#[test]
fn a_nats_sink_has_the_documented_defaults() {
    let config = nats(parse(&sink("kind = \"nats\"\nurl = \"nats://127.0.0.1:4222\"")));
    let expected = NatsConfig {
        servers: vec!["nats://127.0.0.1:4222".to_owned()],
        prefix: None,
        credentials: Credentials::None,
        authorities: None,
        stream: None,
        timeout: Duration::from_secs(30),
        source: String::new(),
    };
    assert_eq!(config, expected);
}

#[test]
fn every_key_of_a_nats_sink_is_read() {
    let keys = "kind = \"nats\"\nurl = [\"nats://a:1\", \"tls://b\"]\nprefix = \"tidegate.east\"\nstream = \"EVENTS\"\n\
                create = true\nuser = \"gateway\"\npassword_file = \"pw\"\nsource = \"https://gateway.example/\"";
    let config = nats(load(keys, &[("pw", "s3cr3t\n")]).expect("the file is fine"));
    assert_eq!(config.servers, ["nats://a:1", "tls://b"]);
    assert_eq!(config.prefix.as_deref(), Some("tidegate.east"));
    let create = vec!["tidegate.east.audit.*".to_owned()];
    assert_eq!(config.stream, Some(StreamConfig { name: "EVENTS".to_owned(), create }));
    let password = Secret::new("s3cr3t");
    assert_eq!(config.credentials, Credentials::User { user: "gateway".to_owned(), password });
    assert_eq!(config.source, "https://gateway.example");
    let keys = "kind = \"nats\"\nurl = \"nats://a:1\"\nstream = \"EVENTS\"\ntoken_file = \"token\"";
    let config = nats(load(keys, &[("token", "t0ken")]).expect("the file is fine"));
    assert_eq!(config.credentials, Credentials::Token(Secret::new("t0ken")));
    assert_eq!(config.stream, Some(StreamConfig { name: "EVENTS".to_owned(), create: Vec::new() }));
}

#[test]
fn what_a_nats_sink_cannot_be() {
    check(
        &sink(
            "kind = \"nats\"\nurl = [\"nats://user:pw@a:1\", \"http://a\"]\nprefix = \"tidegate.\"\nstream = \"a.b\"\n\
             user = \"x\"\ntoken_env = \"T\"\nstreams = 1",
        ),
        r#"
error: this sink has more than one way to say who the gateway is
 --> tidegate.toml:3:1
  |
3 | [[outbox.sink]]
  | ^^^^^^^^^^^^^^^
hint: keep one: `credentials_file`, or `user` and `password_file`, or `token_file`

error: this server cannot be used
 --> tidegate.toml:6:8
  |
6 | url = ["nats://user:pw@a:1", "http://a"]
  |        ^^^^^^^^^^^^^^^^^^^^ it has a user or a password in it, where logs would show them
hint: for example "nats://127.0.0.1:4222"; credentials go to `credentials_file`, or `user` and `password_file`

error: this server cannot be used
 --> tidegate.toml:6:30
  |
6 | url = ["nats://user:pw@a:1", "http://a"]
  |                              ^^^^^^^^^^ it is not an address such as nats://127.0.0.1:4222
hint: for example "nats://127.0.0.1:4222"; credentials go to `credentials_file`, or `user` and `password_file`

error: `prefix` cannot come before a topic
 --> tidegate.toml:7:10
  |
7 | prefix = "tidegate."
  |          ^^^^^^^^^^^ expected words of letters, digits, - and _, with dots between them
hint: the dot between the prefix and the topic is added

error: this is not the name of a stream
 --> tidegate.toml:8:10
  |
8 | stream = "a.b"
  |          ^^^^^ expected 1 to 255 of the characters a-z A-Z 0-9 - _

error: unknown key `streams` in [[outbox.sink]]
  --> tidegate.toml:11:1
   |
11 | streams = 1
   | ^^^^^^^
hint: did you mean `stream`?
"#,
    );
    check(
        &sink("kind = \"nats\"\ncreate = true\nuser = \"x\""),
        r#"
error: [[outbox.sink]] has no `url`
 --> tidegate.toml:3:1
  |
3 | [[outbox.sink]]
  | ^^^^^^^^^^^^^^^
hint: add `url = "nats://127.0.0.1:4222"`

error: a stream is to be created, and it has no name
 --> tidegate.toml:6:10
  |
6 | create = true
  |          ^^^^
hint: add `stream = "EVENTS"`

error: this user has no password
 --> tidegate.toml:7:8
  |
7 | user = "x"
  |        ^^^
hint: add `password_file` or `password_env`
"#,
    );
}

#[test]
fn credentials_that_are_none_are_refused_without_showing_them() {
    let keys = "kind = \"nats\"\nurl = \"nats://a:1\"\ncredentials_file = \"creds\"";
    let said = load(keys, &[("creds", "-----BEGIN s3cr3t")]).expect_err("refused");
    assert!(said.contains("this is not a credentials file of NATS") && !said.contains("s3cr3t"), "{said}");
    let keys = "kind = \"nats\"\nurl = \"nats://a:1\"\npassword_file = \"pw\"";
    let said = load(keys, &[("pw", "s3cr3t")]).expect_err("refused");
    assert!(said.contains("there is a password, and nobody whose it is") && !said.contains("s3cr3t"), "{said}");
}
