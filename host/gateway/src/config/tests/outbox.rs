//! `[outbox]`, `[[outbox.sink]]`, and the grant of topics.

use tidegate_outbox::sink::file::FileOptions;
use tidegate_outbox::{Backoff, Durability, Limits};

use super::*;

const PLUGIN: &str = "[[plugin]]\nname = \"a\"\npath = \"a.wasm\"\n";

#[test]
fn an_outbox_has_the_documented_defaults() {
    let outbox = parse(&with(
        "[outbox]\npath = \"data/outbox.db\"\n[[outbox.sink]]\ntopic = \"audit.*\"\nkind = \"file\"\npath = \"audit.ndjson\"\n",
    ))
    .outbox
    .expect("an outbox");
    assert_eq!(outbox.path, Path::new("/etc/tidegate/data/outbox.db"));
    assert_eq!((outbox.durability, outbox.limits), (Durability::Process, Limits::default()));
    assert_eq!(outbox.limits, Limits { max_events: 100_000, max_bytes: 256 << 20, max_event: 256 << 10 });
    let sink = &outbox.sinks[0];
    assert_eq!((&*sink.name, sink.attempts, sink.timeout), ("file:audit.*", 20, Duration::from_secs(30)));
    assert_eq!(sink.backoff, Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(60) });
    let path = "/etc/tidegate/audit.ndjson".into();
    let file = FileOptions { path, rotate: 64 << 20, keep: 8, durability: Durability::Process };
    assert_eq!(sink.kind, SinkKind::File(file));
    assert_eq!(parse(&with("")).outbox, None);
}

#[test]
fn every_key_of_an_outbox_is_read() {
    let outbox = parse(&with(
        "[outbox]\npath = \"o\"\ndurability = \"power\"\nmax_events = 5\nmax_bytes = \"1MiB\"\nmax_event = \"1KiB\"\n\
         [[outbox.sink]]\nname = \"all\"\ntopic = [\"a.>\", \"b\"]\nkind = \"stdout\"\nattempts = 1\nbackoff = \"1s\"\n\
         max_backoff = \"2s\"\ntimeout = \"3s\"\n\
         [[outbox.sink]]\ntopic = \"c\"\nkind = \"file\"\npath = \"/var/c\"\nrotate = \"1KiB\"\nkeep = 0\n",
    ))
    .outbox
    .expect("an outbox");
    assert_eq!(outbox.durability, Durability::Power);
    assert_eq!(outbox.limits, Limits { max_events: 5, max_bytes: 1 << 20, max_event: 1 << 10 });
    let OutboxSink { name, topics, attempts, backoff, timeout, kind } = &outbox.sinks[0];
    let topics: Vec<&str> = topics.iter().map(|topic| topic.as_str()).collect();
    assert_eq!((&**name, topics, *attempts, kind), ("all", vec!["a.>", "b"], 1, &SinkKind::Stdout));
    assert_eq!((backoff.first, backoff.longest), (Duration::from_secs(1), Duration::from_secs(2)));
    assert_eq!(*timeout, Duration::from_secs(3));
    let file = FileOptions { path: "/var/c".into(), rotate: 1 << 10, keep: 0, durability: Durability::Power };
    assert_eq!(outbox.sinks[1].kind, SinkKind::File(file));
}

#[test]
fn what_an_outbox_cannot_be() {
    check_with(
        "[outbox]\ndurability = \"powre\"\nmax_events = 0\nsinks = 1\n\
         [[outbox.sink]]\ntopic = \"audit.**\"\nkind = \"file\"\n\
         [[outbox.sink]]\ntopic = []\nkind = \"fiel\"\nbackoff = \"2m\"\n",
        "",
    );
}

#[test]
fn sinks_that_cannot_be_told_apart() {
    check_with(
        "[outbox]\npath = \"o\"\n[[outbox.sink]]\ntopic = \"a\"\nkind = \"file\"\npath = \"x\"\n\
         [[outbox.sink]]\ntopic = \"a\"\nkind = \"file\"\npath = \"./x\"\n",
        "",
    );
}

#[test]
fn topics_are_granted_that_some_sink_takes() {
    let granted = parse(&with(&format!(
        "[outbox]\npath = \"o\"\n[[outbox.sink]]\ntopic = \"audit.*\"\nkind = \"stdout\"\n\
         {PLUGIN}[plugin.grants]\noutbox = [\"audit.login\", \">\"]\n"
    )));
    let topics: Vec<&str> = granted.plugins[0].grants.outbox.iter().map(|topic| topic.as_str()).collect();
    assert_eq!(topics, ["audit.login", ">"]);
    check_with(&format!("{PLUGIN}[plugin.grants]\noutbox = [\"audit.*\"]\n"), "");
    check_with(
        &format!(
            "[outbox]\npath = \"o\"\n[[outbox.sink]]\ntopic = \"audit.*\"\nkind = \"stdout\"\n\
             {PLUGIN}[plugin.grants]\noutbox = [\"audits.*\", \"billing\", \"a b\"]\n"
        ),
        "",
    );
}
