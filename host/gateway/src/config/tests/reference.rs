//! The reference, and what files that are fine become.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use tidegate_runtime::{Instances, Isolation, Limits, Recycle};

use super::*;

#[test]
fn a_minimal_file_gets_the_documented_defaults() {
    let config = parse(&with(""));
    assert_eq!(config.server.listen, ["127.0.0.1:8080".parse().expect("an address")]);
    assert_eq!(config.admin.listen, "127.0.0.1:9901".parse().expect("an address"));
    assert_eq!(config.server.max_header_bytes, 32 << 10);
    assert_eq!(config.shutdown.grace, Duration::from_secs(30));
    assert_eq!(config.log.level, "info,async_nats=error");
    assert_eq!(parse(&with("[log]\nlevel = \"info\"\n")).log.level, "info", "what the operator says is not changed");
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
    let reference = include_str!("../../../../../docs/configuration.md");
    assert!(check_examples(reference) >= 2);
}

#[test]
fn the_cache_can_be_switched_off() {
    assert_eq!(parse(&with("cache = false\n")).cache, None);
}

/// The keys that a section of the reference lists.
fn documented(heading: &str) -> BTreeSet<&'static str> {
    let reference = include_str!("../../../../../docs/configuration.md");
    let (_, section) = reference.split_once(&format!("# `{heading}`")).expect("there is such a section");
    let section = section.split("\n#").next().expect("there is always a first part");
    let cells = section.lines().filter_map(|line| line.strip_prefix("| ")?.split('|').next());
    // There may be several in one cell, each as code. A table within this one stands there as it is written.
    let keys = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    keys.map(|key| key.trim_matches(['[', ']'])).map(|key| key.rsplit('.').next().unwrap_or(key)).collect()
}

/// The keys that the gateway knows in a table, as it says when it finds another one.
fn known(table: &str) -> BTreeSet<String> {
    let problems = Config::parse(&format!("{table}\nqqqqqq = 1\n"), Path::new("tidegate.toml")).expect_err("unknown");
    let problems = problems.to_string();
    let (_, problem) = problems.split_once("unknown key `qqqqqq`").expect("it is unknown");
    let (_, keys) = problem.split_once(" are `").expect("the hint lists the keys");
    keys.lines().next().unwrap_or_default().split(", ").map(|key| key.trim_matches('`').to_owned()).collect()
}

#[test]
fn the_reference_lists_the_keys_that_there_are() {
    for (heading, table, in_sections_of_their_own) in [
        ("[server]", "[server]", &[][..]),
        ("[admin]", "[admin]", &[]),
        ("[reload]", "[reload]", &[]),
        ("[shutdown]", "[shutdown]", &[]),
        ("[outbox]", "[outbox]", &["sink"]),
        ("[log]", "[log]", &[]),
        ("[[upstream]]", "[[upstream]]", &[]),
        ("[[kv]]", "[[kv]]\nname = \"a\"\nkind = \"memory\"", &[]),
        ("[[kv]]", "[[kv]]\nname = \"a\"\nkind = \"sqlite\"", &[]),
        ("[[kv]]", "[[kv]]\nname = \"a\"\nkind = \"nats\"", &[]),
        ("[[plugin]]", "[[plugin]]", &["deferred", "limits"]),
        ("[plugin.grants]", "[[plugin]]\n[plugin.grants]", &[]),
        ("[plugin.deferred]", "[[plugin]]\n[plugin.deferred]", &[]),
        ("[plugin.limits]", "[[plugin]]\n[plugin.limits]", &[]),
        ("[outbound]", "[outbound]", &[]),
        ("[[route]]", "[[route]]", &[]),
    ] {
        let known = known(table);
        let mut known: BTreeSet<&str> = known.iter().map(String::as_str).collect();
        for key in in_sections_of_their_own {
            assert!(known.remove(key), "{table}: {key}");
        }
        let documented = documented(heading);
        if heading == "[[kv]]" {
            // Its section is for all kinds, each of which has some of the keys.
            assert!(known.is_subset(&documented), "{table}: {known:?}, {documented:?}");
        } else {
            assert_eq!(known, documented, "{table}");
        }
    }
}
