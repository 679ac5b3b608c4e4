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
        r#"
error: [outbox] has no `path`
 --> tidegate.toml:1:1
  |
1 | [outbox]
  | ^^^^^^^^
hint: add `path = "outbox.db"`

error: `durability` has no such value
 --> tidegate.toml:2:14
  |
2 | durability = "powre"
  |              ^^^^^^^ expected "process" or "power"
hint: did you mean "power"?

error: `max_events` is out of range
 --> tidegate.toml:3:14
  |
3 | max_events = 0
  |              ^ must be from 1 to 100000000

error: unknown key `sinks` in [outbox]
 --> tidegate.toml:4:1
  |
4 | sinks = 1
  | ^^^^^
hint: did you mean `sink`?

error: [[outbox.sink]] has no `path`
 --> tidegate.toml:5:1
  |
5 | [[outbox.sink]]
  | ^^^^^^^^^^^^^^^
hint: add `path = "events.ndjson"`

error: `topic` has something that is no pattern of topics
 --> tidegate.toml:6:9
  |
6 | topic = "audit.**"
  |         ^^^^^^^^^^ a pattern is words of letters, digits, - and _, or `*`, separated by dots
hint: for example "audit.login", "audit.*" or "audit.>"

error: `topic` has the wrong type
 --> tidegate.toml:9:9
  |
9 | topic = []
  |         ^^ expected a pattern such as "audit.*", or a list of 1 to 64, found a list

error: `kind` has no such value
  --> tidegate.toml:10:8
   |
10 | kind = "fiel"
   |        ^^^^^^ expected "file", "stdout", "webhook" or "nats"
hint: did you mean "file"?

error: `backoff` is greater than `max_backoff`
  --> tidegate.toml:11:11
   |
11 | backoff = "2m"
   |           ^^^^
hint: raise `max_backoff` or lower `backoff`
"#,
    );
}

#[test]
fn sinks_that_cannot_be_told_apart() {
    check_with(
        "[outbox]\npath = \"o\"\n[[outbox.sink]]\ntopic = \"a\"\nkind = \"file\"\npath = \"y/x\"\n\
         [[outbox.sink]]\ntopic = \"a\"\nkind = \"file\"\npath = \"y/./x\"\n",
        r#"
error: there are two sinks named `file:a`
 --> tidegate.toml:7:1
  |
3 | [[outbox.sink]]
  | --------------- first here
...
7 | [[outbox.sink]]
  | ^^^^^^^^^^^^^^^ again here
hint: give each a `name`: their deliveries are known by it

error: two sinks write to y/x
 --> tidegate.toml:7:1
  |
3 | [[outbox.sink]]
  | --------------- first here
...
7 | [[outbox.sink]]
  | ^^^^^^^^^^^^^^^ again here
hint: give one sink both topics
"#,
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
}

#[test]
fn topics_that_are_granted_without_an_outbox() {
    check_with(
        &format!("{PLUGIN}[plugin.grants]\noutbox = [\"audit.*\"]\n"),
        r#"
error: events are granted, but there is no outbox
 --> tidegate.toml:5:10
  |
5 | outbox = ["audit.*"]
  |          ^^^^^^^^^^^
hint: add `[outbox]` with a `path`, and an [[outbox.sink]] for each topic
"#,
    );
}

#[test]
fn topics_that_no_sink_takes() {
    check_with(
        &format!(
            "[outbox]\npath = \"o\"\n[[outbox.sink]]\ntopic = \"audit.*\"\nkind = \"stdout\"\n\
             {PLUGIN}[plugin.grants]\noutbox = [\"audits.*\", \"billing\", \"a b\"]\n"
        ),
        r#"
error: no sink takes anything of `audits.*`
  --> tidegate.toml:10:11
   |
10 | outbox = ["audits.*", "billing", "a b"]
   |           ^^^^^^^^^^
hint: did you mean "audit.*"?

error: no sink takes anything of `billing`
  --> tidegate.toml:10:23
   |
10 | outbox = ["audits.*", "billing", "a b"]
   |                       ^^^^^^^^^
hint: the sinks take audit.*; add an [[outbox.sink]] with this topic

error: `outbox` has something that is no pattern of topics
  --> tidegate.toml:10:34
   |
10 | outbox = ["audits.*", "billing", "a b"]
   |                                  ^^^^^ a pattern is words of letters, digits, - and _, or `*`, separated by dots
hint: for example "audit.login", "audit.*" or "audit.>"
"#,
    );
}
