//! Snapshots of what an operator reads, and the values that come out of files that are fine.
#![expect(clippy::indexing_slicing, reason = "a missing element fails the test")]

mod background;
mod changes;
mod keyvalue;
mod outbound;
mod outbox;
mod plugins_alone;
mod sinks;
mod telling;

use std::path::Path;
use std::time::Duration;

use tidegate_runtime::{Instances, Isolation, Limits, Recycle};

use super::*;

/// Compare the whole text of what is wrong with `input`.
#[track_caller]
fn check(input: &str, expected: &str) {
    let shown = match Config::parse(input, Path::new("tidegate.toml")) {
        Ok(_) => "no problem".to_owned(),
        Err(diagnostics) => diagnostics.to_string(),
    };
    same(&shown, expected);
}

#[track_caller]
fn same(shown: &str, expected: &str) {
    let trim = |text: &str| text.trim_matches('\n').lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    assert!(trim(shown) == trim(expected), "got:\n<<<{shown}>>>\nexpected:\n{expected}");
}

/// What is wrong with a file that serves one route and has this at its top.
#[track_caller]
fn check_with(top: &str, expected: &str) {
    check(&with(top), expected);
}

fn with(top: &str) -> String {
    const REST: &str = r#"
[[upstream]]
name = "api"
targets = ["http://127.0.0.1:9000"]
[[route]]
path = "/"
upstream = "api"
"#;
    format!("{top}{REST}")
}

fn parse(input: &str) -> Config {
    Config::parse(input, Path::new("/etc/tidegate/tidegate.toml")).expect("the file is fine")
}

#[test]
fn a_minimal_file_gets_the_documented_defaults() {
    let config = parse(&with(""));
    assert_eq!(config.server.listen, ["127.0.0.1:8080".parse().expect("an address")]);
    assert_eq!(config.admin.listen, "127.0.0.1:9901".parse().expect("an address"));
    assert_eq!(config.server.max_header_bytes, 32 << 10);
    assert_eq!(config.shutdown.grace, Duration::from_secs(30));
    assert_eq!(config.log.level, "info");
    assert_eq!(config.upstreams[0].targets, ["127.0.0.1:9000"]);
    assert_eq!((config.routes[0].upstream, config.routes[0].host.as_deref()), (0, None));
}

#[test]
fn every_key_of_the_reference_is_read() {
    let config = parse(
        r#"
cache = "compiled"
[server]
listen = ["127.0.0.1:0", "[::1]:8081"]
max_connections = 5
max_header_bytes = 8192
max_headers = 7
header_timeout = "1s"
idle_timeout = "2s"
body_timeout = "3s"
[admin]
listen = "127.0.0.1:0"
[shutdown]
grace = "1m"
drain_delay = "1s"
drain = "10s"
flush = "2s"
min_drain = "5s"
exit_zero = true
[log]
level = "warn,tidegate=debug"
format = "json"
access = false
[[upstream]]
name = "api"
targets = ["http://origin:9000", "http://[::1]/"]
connect_timeout = "1s"
response_timeout = "2s"
idle_timeout = "3s"
max_idle = 4
[[plugin]]
name = "audit"
path = "plugins/audit.wasm"
sha256 = "sha256:ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef0123456789"
instances = { min = 2, max = 3 }
isolation = "fresh"
on_failure = "open"
[plugin.config]
limit = 3
ratio = 0.5
since = 2026-01-01
tags = ["a", { b = true }]
[plugin.grants]
[plugin.limits]
configure = "2s"
cpu = "20ms"
wall = "200ms"
shutdown = "4s"
memory = "64MiB"
queue = 0
body = "2MB"
[[plugin]]
name = "stamp"
path = "/opt/stamp.wasm"
instances = { min = 2, max = 4, idle = "5s" }
recycle = { calls = 100000, memory = "24MiB" }
[[plugin]]
name = "old"
path = "old.wasm"
instances = 2
[[route]]
path = "/api/"
host = "API.example.com"
upstream = "api"
plugins = ["stamp", "audit"]
"#,
    );
    assert_eq!(config.cache.as_deref(), Some(Path::new("/etc/tidegate/compiled")));
    assert_eq!(config.server.listen.len(), 2);
    assert_eq!((config.server.max_connections, config.server.max_headers), (5, 7));
    assert_eq!(config.server.body_timeout, Duration::from_secs(3));
    assert!(config.shutdown.exit_zero && !config.log.access);
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.upstreams[0].targets, ["origin:9000", "[::1]:80"]);
    let [audit, stamp, old] = &config.plugins[..] else { panic!("three plugins") };
    assert_eq!(audit.path, Path::new("/etc/tidegate/plugins/audit.wasm"));
    assert_eq!(audit.sha256.as_deref(), Some("abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789"));
    assert_eq!((audit.instances, audit.isolation), (Instances { max: 3, ..Instances::fixed(2) }, Isolation::Fresh));
    assert_eq!(audit.on_failure, OnFailure::Open);
    assert_eq!(audit.config, r#"{"limit":3,"ratio":0.5,"since":"2026-01-01","tags":["a",{"b":true}]}"#);
    assert_eq!((audit.limits.memory, audit.limits.queue, audit.limits.body), (64 << 20, 0, 2_000_000));
    assert_eq!(stamp.path, Path::new("/opt/stamp.wasm"));
    assert_eq!(stamp.instances, Instances { min: 2, max: 4, idle: Duration::from_secs(5) });
    assert_eq!(stamp.recycle, Recycle { calls: Some(100_000), memory: Some(24 << 20) });
    assert_eq!((old.instances, old.recycle), (Instances::fixed(2), Recycle::default()));
    assert_eq!((&*old.config, old.limits), ("{}", Limits::default()));
    let [route] = &config.routes[..] else { panic!("one route") };
    assert_eq!((&*route.path, route.host.as_deref()), ("/api", Some("api.example.com")));
    assert_eq!((route.upstream, &route.plugins[..]), (0, &[1, 0][..]));
}

#[test]
fn the_examples_of_the_reference_are_fine() {
    let reference = include_str!("../../../../docs/configuration.md");
    let examples: Vec<&str> =
        reference.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(examples.len() >= 2);
    for example in examples {
        check(example, "no problem");
    }
}

#[test]
fn half_of_instances_may_be_left_out() {
    let instances = |text: &str| {
        parse(&with(&format!("[[plugin]]\nname = \"a\"\npath = \"a\"\ninstances = {text}\n"))).plugins[0].instances
    };
    assert_eq!(instances("{ max = 1 }"), Instances::fixed(1));
    assert_eq!(instances("{ min = 900 }"), Instances::fixed(900));
}

#[test]
fn the_cache_can_be_switched_off() {
    assert_eq!(parse(&with("cache = false\n")).cache, None);
}

#[test]
fn all_problems_are_shown_at_once_in_the_order_of_the_file() {
    check(
        r#"
[server]
listen = "localhost:8080"
max_hedaers = 4

[shutdown]
grace = "10s"

[[upstream]]
name = "api"
targets = ["https://api.internal"]

[[plugin]]
name = "audit"
path = "audit.wasm"
tack = "1s"

[[route]]
path = "/"
upstream = "app"
plugins = ["audti"]
"#,
        r#"
error: `listen` is not an address
 --> tidegate.toml:3:10
  |
3 | listen = "localhost:8080"
  |          ^^^^^^^^^^^^^^^^ expected an IP address and a port
hint: write "127.0.0.1:8080"

error: unknown key `max_hedaers` in [server]
 --> tidegate.toml:4:1
  |
4 | max_hedaers = 4
  | ^^^^^^^^^^^
hint: did you mean `max_headers`?

error: the shutdown needs 23.25s, but `grace` is 10s
 --> tidegate.toml:7:9
  |
7 | grace = "10s"
  |         ^^^^^ 13.25s too short
  |
  = note: drain_delay 0s + drain 15s + shutdown of plugin `audit` 5s + flush 3s + margin 250ms = 23.25s
hint: raise `grace` to 24s or more (and the supervisor's own limit above it), or shorten one of the parts

error: this target cannot be used
  --> tidegate.toml:11:12
   |
11 | targets = ["https://api.internal"]
   |            ^^^^^^^^^^^^^^^^^^^^^^ https to an upstream is not supported in this version
hint: put a TLS-terminating proxy in between, or use the upstream's cleartext port

error: unknown key `tack` in [[plugin]]
  --> tidegate.toml:16:1
   |
16 | tack = "1s"
   | ^^^^
hint: did you mean `tick`?

error: there is no upstream named `app`
  --> tidegate.toml:20:12
   |
20 | upstream = "app"
   |            ^^^^^
hint: did you mean "api"?

error: there is no plugin named `audti`
  --> tidegate.toml:21:12
   |
21 | plugins = ["audti"]
   |            ^^^^^^^
hint: did you mean "audit"?
"#,
    );
}

#[test]
fn a_syntax_error_is_reported_alone() {
    check(
        "[server\nlisten = 5\nbogus = 1\n",
        r#"
error: the file is not valid TOML
 --> tidegate.toml:1:8
  |
1 | [server
  |        ^ unclosed table, expected `]`
"#,
    );
    check(
        "[log]\nlevel = \"info\"\nlevel = \"warn\"\n",
        r#"
error: the file is not valid TOML
 --> tidegate.toml:3:1
  |
3 | level = "warn"
  | ^^^^^ duplicate key
"#,
    );
}

#[test]
fn an_empty_file_says_how_to_begin() {
    check(
        "",
        r#"
error: there is no [[route]], so nothing would be served
--> tidegate.toml
hint: add a [[route]] with `path = "/"` and `upstream = ".."`
"#,
    );
}

#[test]
fn the_ledger_says_what_does_not_fit_and_by_how_much() {
    check_with(
        r#"
[shutdown]
grace = "30s"
drain_delay = "5s"
drain = "20s"
[[plugin]]
name = "audit"
path = "audit.wasm"
limits = { shutdown = "8s" }
"#,
        r#"
error: the shutdown needs 36.25s, but `grace` is 30s
 --> tidegate.toml:3:9
  |
3 | grace = "30s"
  |         ^^^^^ 6.25s too short
4 | drain_delay = "5s"
  |               ----
5 | drain = "20s"
  |         -----
  |
  = note: drain_delay 5s + drain 20s + shutdown of plugin `audit` 8s + flush 3s + margin 250ms = 36.25s
hint: raise `grace` to 37s or more (and the supervisor's own limit above it), or shorten one of the parts
"#,
    );
    check_with(
        "[[plugin]]\nname = \"slow\"\npath = \"slow.wasm\"\nlimits.shutdown = \"1m\"\n",
        r#"
error: the shutdown needs 1m18.25s, but `grace` is 30s
--> tidegate.toml
 = note: drain_delay 0s + drain 15s + shutdown of plugin `slow` 1m + flush 3s + margin 250ms = 1m18.25s
hint: raise `grace` to 1m19s or more (and the supervisor's own limit above it), or shorten one of the parts
"#,
    );
    check_with(
        "[shutdown]\nmin_drain = \"30s\"\n",
        r#"
error: `min_drain` is 30s, but `grace` leaves 29.75s
 --> tidegate.toml:2:13
  |
2 | min_drain = "30s"
  |             ^^^^^ 250ms too long
"#,
    );
}

#[test]
fn a_wrong_type_says_what_was_expected() {
    check_with(
        "[server]\nlisten = 8080\nmax_headers = \"many\"\nidle_timeout = true\nmax_header_bytes = 1.5\n",
        r#"
error: `listen` has the wrong type
 --> tidegate.toml:2:10
  |
2 | listen = 8080
  |          ^^^^ expected an address such as "127.0.0.1:8080", or a list of them, found a whole number

error: `max_headers` has the wrong type
 --> tidegate.toml:3:15
  |
3 | max_headers = "many"
  |               ^^^^^^ expected a whole number, found a string

error: `idle_timeout` has the wrong type
 --> tidegate.toml:4:16
  |
4 | idle_timeout = true
  |                ^^^^ expected a duration such as "5s", found true

error: `max_header_bytes` has the wrong type
 --> tidegate.toml:5:20
  |
5 | max_header_bytes = 1.5
  |                    ^^^ expected a size such as "64MiB", found a number with a fraction
"#,
    );
    check_with(
        "log = \"debug\"\n[shutdown]\ngrace = 30\nexit_zero = 1\n",
        r#"
error: `log` has the wrong type
 --> tidegate.toml:1:7
  |
1 | log = "debug"
  |       ^^^^^^^ expected a table; write it under [log], found a string

error: `grace` has no unit
 --> tidegate.toml:3:9
  |
3 | grace = 30
  |         ^^ expected a duration such as "5s"
hint: write "30s" or "30ms"

error: `exit_zero` has the wrong type
 --> tidegate.toml:4:13
  |
4 | exit_zero = 1
  |             ^ expected true or false, found a whole number
"#,
    );
    check(
        "[upstream]\nname = \"api\"\n[[route]]\npath = 1\nupstream = []\nplugins = \"audit\"\n",
        r#"
error: `upstream` can be there several times
 --> tidegate.toml:1:1
  |
1 | [upstream]
  | ^^^^^^^^^^ expected double brackets
hint: write [[upstream]]

error: `path` has the wrong type
 --> tidegate.toml:4:8
  |
4 | path = 1
  |        ^ expected a string, found a whole number

error: `upstream` has the wrong type
 --> tidegate.toml:5:12
  |
5 | upstream = []
  |            ^^ expected a string, found a list

error: `plugins` has the wrong type
 --> tidegate.toml:6:11
  |
6 | plugins = "audit"
  |           ^^^^^^^ expected a list of strings, found a string
"#,
    );
}

#[test]
fn a_value_out_of_range_says_the_range() {
    check_with(
        r#"
[server]
max_connections = 0
max_header_bytes = "1KiB"
header_timeout = "0s"
idle_timeout = "48h"
body_timeout = "-1s"
[[plugin]]
name = "big"
path = "big.wasm"
instances = 1001
limits = { memory = "5GiB", queue = -1, body = "10 potatoes", cpu = "1.5ms" }
"#,
        r#"
error: `max_connections` is out of range
 --> tidegate.toml:3:19
  |
3 | max_connections = 0
  |                   ^ must be from 1 to 1000000

error: `max_header_bytes` is out of range
 --> tidegate.toml:4:20
  |
4 | max_header_bytes = "1KiB"
  |                    ^^^^^^ must be from 8KiB to 1MiB

error: `header_timeout` is out of range
 --> tidegate.toml:5:18
  |
5 | header_timeout = "0s"
  |                  ^^^^ must be from 1ms to 24h

error: `idle_timeout` is out of range
 --> tidegate.toml:6:16
  |
6 | idle_timeout = "48h"
  |                ^^^^^ must be from 1ms to 24h

error: `body_timeout` is not a duration
 --> tidegate.toml:7:16
  |
7 | body_timeout = "-1s"
  |                ^^^^^ a duration is a whole number and a unit
hint: for example "250ms", "5s" or "2m"

error: `instances` is out of range
  --> tidegate.toml:11:13
   |
11 | instances = 1001
   |             ^^^^ must be from 1 to 1000

error: `memory` is out of range
  --> tidegate.toml:12:21
   |
12 | limits = { memory = "5GiB", queue = -1, body = "10 potatoes", cpu = "1.5ms" }
   |                     ^^^^^^ must be from 64KiB to 4GiB

error: `queue` is out of range
  --> tidegate.toml:12:37
   |
12 | limits = { memory = "5GiB", queue = -1, body = "10 potatoes", cpu = "1.5ms" }
   |                                     ^^ must be from 0 to 1000000

error: `body` is not a size
  --> tidegate.toml:12:48
   |
12 | limits = { memory = "5GiB", queue = -1, body = "10 potatoes", cpu = "1.5ms" }
   |                                                ^^^^^^^^^^^^^ the units of a size are B, KiB, MiB, GiB, KB, MB and GB
hint: for example "64MiB"

error: `cpu` is not a duration
  --> tidegate.toml:12:69
   |
12 | limits = { memory = "5GiB", queue = -1, body = "10 potatoes", cpu = "1.5ms" }
   |                                                                     ^^^^^^^ a duration is a whole number and a unit
hint: for example "250ms", "5s" or "2m"
"#,
    );
}

#[test]
fn a_limit_that_another_one_makes_unreachable_is_refused() {
    check_with(
        "[[plugin]]\nname = \"a\"\npath = \"a.wasm\"\n[plugin.limits]\ncpu = \"200ms\"\n",
        r#"
error: `cpu` is greater than `wall`
 --> tidegate.toml:5:7
  |
5 | cpu = "200ms"
  |       ^^^^^^^ a call ends after 100ms, before it can use 200ms of CPU time
hint: raise `wall` or lower `cpu`
"#,
    );
    check_with(
        "[[plugin]]\nname = \"a\"\npath = \"a.wasm\"\n[plugin.limits]\nmemory = \"1MiB\"\nbody = \"2MiB\"\n",
        r#"
error: `body` is greater than `memory`
 --> tidegate.toml:6:8
  |
5 | memory = "1MiB"
  |          ------
6 | body = "2MiB"
  |        ^^^^^^ a body of 2MiB does not fit into 1MiB of memory
hint: raise `memory` or lower `body`
"#,
    );
}

#[test]
fn an_instance_can_be_recycled_within_its_limits_only() {
    let plugin = |keys: &str| format!("[[plugin]]\nname = \"a\"\npath = \"a.wasm\"\n{keys}\n");
    check_with(
        &plugin("recycle = { memory = \"48MiB\" }"),
        r#"
error: `recycle.memory` is greater than `limits.memory`
 --> tidegate.toml:4:22
  |
4 | recycle = { memory = "48MiB" }
  |                      ^^^^^^^ a plugin that may use 32MiB never reaches 48MiB
hint: raise `limits.memory` or lower `recycle.memory`
"#,
    );
    check_with(
        &plugin("recycle = { memory = \"64MiB\", call = 1 }\nlimits.memory = \"48MiB\""),
        r#"
error: `recycle.memory` is greater than `limits.memory`
 --> tidegate.toml:4:22
  |
4 | recycle = { memory = "64MiB", call = 1 }
  |                      ^^^^^^^ a plugin that may use 48MiB never reaches 64MiB
5 | limits.memory = "48MiB"
  |                 ------- 
hint: raise `limits.memory` or lower `recycle.memory`

error: unknown key `call` in `recycle`
 --> tidegate.toml:4:31
  |
4 | recycle = { memory = "64MiB", call = 1 }
  |                               ^^^^
hint: did you mean `calls`?
"#,
    );
    check_with(
        &plugin("recycle = { calls = 0, memory = \"1KiB\" }"),
        r#"
error: `calls` is out of range
 --> tidegate.toml:4:21
  |
4 | recycle = { calls = 0, memory = "1KiB" }
  |                     ^ must be from 1 to 1000000000000

error: `memory` is out of range
 --> tidegate.toml:4:33
  |
4 | recycle = { calls = 0, memory = "1KiB" }
  |                                 ^^^^^^ must be from 64KiB to 4GiB
"#,
    );
    check_with(
        &plugin("recycle = {}"),
        r#"
error: `recycle` says neither `calls` nor `memory`
 --> tidegate.toml:4:11
  |
4 | recycle = {}
  |           ^^
hint: for example `recycle = { calls = 100000, memory = "48MiB" }`
"#,
    );
    check_with(
        &plugin("recycle = 1000"),
        r#"
error: `recycle` has the wrong type
 --> tidegate.toml:4:11
  |
4 | recycle = 1000
  |           ^^^^ expected { calls = .., memory = .. }, found a whole number
"#,
    );
    assert!(parse(&with(&plugin("recycle = { memory = \"32MiB\" }"))).plugins[0].recycle.calls.is_none());
}

#[test]
fn what_other_keys_make_pointless_is_refused() {
    let plugin = |keys: &str| format!("[[plugin]]\nname = \"a\"\npath = \"a.wasm\"\n{keys}\n");
    check_with(
        &plugin("instances = { min = 2, max = 2, idle = \"5s\" }"),
        r#"
error: `idle` has no effect
 --> tidegate.toml:4:40
  |
4 | instances = { min = 2, max = 2, idle = "5s" }
  |                                        ^^^^ `min` and `max` are the same: there is never an instance too many
hint: take it out, or raise `max`
"#,
    );
    check_with(
        &plugin(
            "instances = { min = 2, max = 4, idle = \"0s\" }\nrecycle = { calls = 10 }\nisolation = \"fresh\"\n\
             hand_over = true",
        ),
        r#"
error: `idle` is out of range
 --> tidegate.toml:4:40
  |
4 | instances = { min = 2, max = 4, idle = "0s" }
  |                                        ^^^^ must be from 1ms to 24h

error: `idle` has no effect
 --> tidegate.toml:4:40
  |
4 | instances = { min = 2, max = 4, idle = "0s" }
  |                                        ^^^^ with `isolation = "fresh"` no instance outlives its call
hint: take `idle` out, or `isolation`

error: `recycle` has no effect
 --> tidegate.toml:5:11
  |
5 | recycle = { calls = 10 }
  |           ^^^^^^^^^^^^^^ with `isolation = "fresh"` no instance outlives its call
hint: take `recycle` out, or `isolation`

error: `hand_over` has no effect
 --> tidegate.toml:7:13
  |
7 | hand_over = true
  |             ^^^^ with `isolation = "fresh"` no instance outlives its call
hint: take `hand_over` out, or `isolation`
"#,
    );
    parse(&with(&plugin("isolation = \"fresh\"\nhand_over = false")));
    // Whether these have a surplus depends on the machine: `max`, or `min`, is its default.
    for keys in ["{ max = 1, idle = \"5s\" }", "{ min = 900, idle = \"5s\" }"] {
        parse(&with(&plugin(&format!("instances = {keys}"))));
    }
}

#[test]
fn state_is_handed_over_when_the_file_says_so() {
    let plugin = |keys: &str| format!("[[plugin]]\nname = \"a\"\npath = \"a.wasm\"\n{keys}\n");
    let read = |keys: &str| parse(&with(&plugin(keys))).plugins.remove(0);
    assert!(!read("").hand_over);
    let asked = read("hand_over = true\nlimits.snapshot = \"2MiB\"");
    assert_eq!((asked.hand_over, asked.limits.snapshot), (true, 2 << 20));
    // The default is no promise of so much memory.
    assert_eq!(read("limits = { memory = \"512KiB\", body = \"1KiB\" }").limits.snapshot, 1 << 20);
    check_with(
        &plugin("[plugin.limits]\nmemory = \"2MiB\"\nsnapshot = \"3MiB\""),
        r#"
error: `snapshot` is greater than `memory`
 --> tidegate.toml:6:12
  |
5 | memory = "2MiB"
  |          ------
6 | snapshot = "3MiB"
  |            ^^^^^^ a snapshot of 3MiB does not fit into 2MiB of memory
hint: raise `memory` or lower `snapshot`
"#,
    );
    check_with(
        &plugin("hand_over = \"yes\"\nlimits.snapshot = \"65MiB\""),
        r#"
error: `hand_over` has the wrong type
 --> tidegate.toml:4:13
  |
4 | hand_over = "yes"
  |             ^^^^^ expected true or false, found a string

error: `snapshot` is out of range
 --> tidegate.toml:5:19
  |
5 | limits.snapshot = "65MiB"
  |                   ^^^^^^^ must be from 1B to 64MiB
"#,
    );
}

#[test]
fn addresses_are_used_once() {
    check_with(
        "[server]\nlisten = [\"127.0.0.1:9901\", \"0.0.0.0:80\"]\n[admin]\nlisten = \"127.0.0.1:80\"\n",
        r#"
error: [server] and [admin] cannot both listen on port 80
 --> tidegate.toml:4:10
  |
2 | listen = ["127.0.0.1:9901", "0.0.0.0:80"]
  |                             ------------ first here
3 | [admin]
4 | listen = "127.0.0.1:80"
  |          ^^^^^^^^^^^^^^ this address is taken twice
"#,
    );
    check_with(
        "[server]\nlisten = \"127.0.0.1:9901\"\n",
        r#"
error: [server] and [admin] cannot both listen on port 9901
 --> tidegate.toml:2:10
  |
2 | listen = "127.0.0.1:9901"
  |          ^^^^^^^^^^^^^^^^ this address is taken twice
  |
  = note: the other one is a default, 127.0.0.1:9901
"#,
    );
    check_with(
        "[server]\nlisten = []\n",
        r#"
error: `listen` is empty
 --> tidegate.toml:2:10
  |
2 | listen = []
  |          ^^ expected at least one address
"#,
    );
}

#[test]
fn an_address_is_not_listed_twice() {
    check_with(
        "[server]\nlisten = [\"0.0.0.0:80\", \"127.0.0.1:80\", \"[::1]:80\"]\n",
        r#"
error: [server] cannot listen twice on port 80
 --> tidegate.toml:2:25
  |
2 | listen = ["0.0.0.0:80", "127.0.0.1:80", "[::1]:80"]
  |           ------------  ^^^^^^^^^^^^^^ this address is taken twice
  |           |
  |           first here
"#,
    );
}

#[test]
fn addresses_are_numbers() {
    check_with(
        "[server]\nlisten = [\":8080\", \"example.com:80\", \"8080\"]\n",
        r#"
error: `listen` is not an address
 --> tidegate.toml:2:11
  |
2 | listen = [":8080", "example.com:80", "8080"]
  |           ^^^^^^^ expected an IP address and a port
hint: write "0.0.0.0:8080" for every IPv4 address of this machine

error: `listen` is not an address
 --> tidegate.toml:2:20
  |
2 | listen = [":8080", "example.com:80", "8080"]
  |                    ^^^^^^^^^^^^^^^^ expected an IP address and a port
hint: names are not looked up; write the IP address

error: `listen` is not an address
 --> tidegate.toml:2:38
  |
2 | listen = [":8080", "example.com:80", "8080"]
  |                                      ^^^^^^ expected an IP address and a port
hint: for example "127.0.0.1:8080" or "[::1]:8080"
"#,
    );
}

#[test]
fn a_log_level_is_not_guessed() {
    check_with(
        "[log]\nlevel = \"wran\"\nformat = \"jsn\"\n",
        r#"
error: `level` is not a log level
 --> tidegate.toml:2:9
  |
2 | level = "wran"
  |         ^^^^^^ expected off, error, warn, info, debug or trace
hint: did you mean "warn"?

error: `format` has no such value
 --> tidegate.toml:3:10
  |
3 | format = "jsn"
  |          ^^^^^ expected "text" or "json"
hint: did you mean "json"?
"#,
    );
}

#[test]
fn plugins_and_upstreams_have_names_of_their_own() {
    check(
        r#"
[[upstream]]
name = "api"
targets = []
[[upstream]]
name = "api"
[[plugin]]
name = "a b"
path = ""
sha256 = "1234"
[[plugin]]
path = "b.wasm"
[plugin.grants]
http = ["api.example.com"]
[[route]]
path = "/x/"
upstream = "api"
[[route]]
path = "/x"
upstream = "api"
"#,
        r#"
error: `targets` is empty
 --> tidegate.toml:4:11
  |
4 | targets = []
  |           ^^ expected at least one target

error: [[upstream]] has no `targets`
 --> tidegate.toml:5:1
  |
5 | [[upstream]]
  | ^^^^^^^^^^^^
hint: add `targets = ["http://127.0.0.1:9000"]`

error: there are two upstreams named `api`
 --> tidegate.toml:6:8
  |
3 | name = "api"
  |        ----- first here
...
6 | name = "api"
  |        ^^^^^ again here

error: this name cannot be used
 --> tidegate.toml:8:8
  |
8 | name = "a b"
  |        ^^^^^ expected 1 to 64 of the characters a-z A-Z 0-9 - _ .

error: `path` is empty
 --> tidegate.toml:9:8
  |
9 | path = ""
  |        ^^

error: `sha256` is not a SHA-256 digest
  --> tidegate.toml:10:10
   |
10 | sha256 = "1234"
   |          ^^^^^^ expected 64 hexadecimal digits, found 4 characters
hint: `tidegate inspect` prints it

error: [[plugin]] has no `name`
  --> tidegate.toml:11:1
   |
11 | [[plugin]]
   | ^^^^^^^^^^
hint: add `name = ".."`

error: this origin cannot be granted
  --> tidegate.toml:14:9
   |
14 | http = ["api.example.com"]
   |         ^^^^^^^^^^^^^^^^^ expected a URL
hint: write "https://api.example.com"

error: there are two routes for `/x`
  --> tidegate.toml:19:8
   |
16 | path = "/x/"
   |        ----- first here
...
19 | path = "/x"
   |        ^^^^ again here
"#,
    );
}

#[test]
fn routes_are_literal() {
    let route = |path: &str, more: &str| {
        format!(
            "[[upstream]]\nname = \"a\"\ntargets = [\"http://a:1\"]\n[[route]]\npath = \"{path}\"\nupstream = \"a\"\n{more}\n"
        )
    };
    check(
        &route("api", ""),
        r#"
error: this path cannot be used
 --> tidegate.toml:5:8
  |
5 | path = "api"
  |        ^^^^^ a path begins with a slash
hint: write "/api"
"#,
    );
    check(
        &route("/api/*", ""),
        r#"
error: this path cannot be used
 --> tidegate.toml:5:8
  |
5 | path = "/api/*"
  |        ^^^^^^^^ there are no patterns
hint: a path is a prefix: "/api" matches "/api/x" as well
"#,
    );
    check(
        &route("/a/../b", "host = \"*.example.com\""),
        r#"
error: this path cannot be used
 --> tidegate.toml:5:8
  |
5 | path = "/a/../b"
  |        ^^^^^^^^^ a segment is empty or made of dots

error: this host cannot be used
 --> tidegate.toml:7:8
  |
7 | host = "*.example.com"
  |        ^^^^^^^^^^^^^^^ there are no patterns
hint: without `host`, a route matches every host
"#,
    );
    check(
        &route("/caf\u{e9}", "host = \"example.com:80\""),
        r#"
error: this path cannot be used
 --> tidegate.toml:5:8
  |
5 | path = "/café"
  |        ^^^^^^^ no request has such a path
hint: write other characters as %XX

error: this host cannot be used
 --> tidegate.toml:7:8
  |
7 | host = "example.com:80"
  |        ^^^^^^^^^^^^^^^^ the port is not looked at
hint: write "example.com"
"#,
    );
}

#[test]
fn a_plugin_config_must_fit_json() {
    check_with(
        "[[plugin]]\nname = \"a\"\npath = \"a.wasm\"\n[plugin.config]\nratio = nan\nbig = 99999999999999999999\n",
        r#"
error: this value cannot be handed to the plugin as JSON
 --> tidegate.toml:5:9
  |
5 | ratio = nan
  |         ^^^ JSON has no such number

error: this value cannot be handed to the plugin as JSON
 --> tidegate.toml:6:7
  |
6 | big = 99999999999999999999
  |       ^^^^^^^^^^^^^^^^^^^^ does not fit into 64 bits
"#,
    );
}

#[test]
fn a_misplaced_cache_is_pointed_out() {
    check_with(
        "[log]\ncache = false\n",
        r#"
error: unknown key `cache` in [log]
 --> tidegate.toml:2:1
  |
2 | cache = false
  | ^^^^^
hint: `cache` stands above the first table of the file
"#,
    );
}

#[test]
fn files_that_cannot_be_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let shown = |path: &Path| {
        let diagnostics = Config::load(path).expect_err("cannot be read");
        diagnostics.to_string().replace(&folder.path().display().to_string(), "FOLDER")
    };
    let file = folder.path().join("tidegate.toml");
    same(
        &shown(&file),
        r#"
error: cannot read the config file: no such file or directory
--> FOLDER/tidegate.toml
hint: name the file with `--config FILE`
"#,
    );
    same(
        &shown(folder.path()),
        r#"
error: cannot read the config file: is a directory
--> FOLDER
hint: name the file in it, for example with `--config tidegate.toml`
"#,
    );
    std::fs::write(&file, b"[log]\nlevel = \"\xff\"\n").expect("written");
    same(
        &shown(&file),
        r#"
error: the config file is not UTF-8 text: the first bad byte is in line 2
--> FOLDER/tidegate.toml
"#,
    );
    std::fs::write(&file, vec![b'#'; 2 << 20]).expect("written");
    same(
        &shown(&file),
        r#"
error: the config file is longer than 1MiB
--> FOLDER/tidegate.toml
hint: is it the right file?
"#,
    );
}

#[test]
fn a_plugin_file_must_be_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tidegate.toml");
    std::fs::write(&file, with("[[plugin]]\nname = \"audit\"\npath = \"audit.wasm\"\n")).expect("written");
    let diagnostics = Config::load(&file).expect_err("the plugin is missing").to_string();
    same(
        &diagnostics.replace(&folder.path().display().to_string(), "FOLDER"),
        r#"
error: the file of plugin `audit` cannot be read
 --> FOLDER/tidegate.toml:3:8
  |
3 | path = "audit.wasm"
  |        ^^^^^^^^^^^^ there is no such file
  |
  = note: looked for it at FOLDER/audit.wasm
hint: a path is relative to the folder of the config file
"#,
    );
    std::fs::write(folder.path().join("audit.wasm"), "").expect("written");
    assert!(Config::load(&file).is_ok());
}

mod any_file {
    use proptest::prelude::*;

    use super::*;

    /// A value as somebody might write it, fitting or not.
    fn value() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<i64>().prop_map(|n| n.to_string()),
            any::<bool>().prop_map(|yes| yes.to_string()),
            "[a-z0-9:/.*-]{0,12}".prop_map(|text| format!("{text:?}")),
            Just("[]".to_owned()),
            Just("{}".to_owned()),
            Just("[\"127.0.0.1:80\", 5]".to_owned()),
            Just("nan".to_owned()),
            "[0-9]{1,20}(ms|s|h|MiB|GB)".prop_map(|text| format!("{text:?}")),
        ]
    }

    proptest! {
        #[test]
        fn is_a_config_or_says_why(lines in prop::collection::vec((
            prop::sample::select(vec![
                "[server]", "[shutdown]", "[[plugin]]", "[[route]]", "[[upstream]]", "[plugin.limits]", "[plugin.config]", "[log]",
            ]),
            prop::sample::select(vec![
                "listen", "grace", "drain", "min_drain", "name", "path", "instances", "memory", "cpu", "host", "targets",
                "upstream", "plugins", "level", "sha256", "cache", "limits", "recycle", "calls", "idle", "x",
            ]),
            value(),
        ), 0..6)) {
            let source: String = lines.iter().map(|(table, key, value)| format!("{table}\n{key} = {value}\n")).collect();
            if let Err(diagnostics) = Config::parse(&source, Path::new("tidegate.toml")) {
                prop_assert!(diagnostics.count() > 0);
                prop_assert!(diagnostics.to_string().starts_with("error: "));
                prop_assert!(!diagnostics.render().is_empty());
            }
        }

        #[test]
        fn of_any_text_is_answered(source in "\\PC*") {
            let _ = Config::parse(&source, Path::new("x"));
        }
    }
}
