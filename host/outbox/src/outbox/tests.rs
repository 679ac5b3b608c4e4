#![expect(clippy::indexing_slicing, reason = "a missing element fails the test")]

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::Notify;

use super::*;
use crate::event::Event;
use crate::sink::{Problem, SinkError};
use crate::status::Health;

/// Remembers what it got, and fails as it is told.
#[derive(Default)]
struct Memory {
    got: Mutex<Vec<Arc<Event>>>,
    changed: Notify,
    away: AtomicBool,
    /// Bodies that it refuses.
    refuses: Mutex<Vec<Bytes>>,
    calls: AtomicUsize,
}

impl Memory {
    fn got(&self) -> Vec<Arc<Event>> {
        self.got.lock().expect("sound").clone()
    }

    fn bodies(&self) -> Vec<String> {
        self.got().iter().map(|event| String::from_utf8_lossy(&event.body).into_owned()).collect()
    }

    async fn has(&self, events: usize) {
        loop {
            let changed = self.changed.notified();
            if self.got.lock().expect("sound").len() >= events {
                return;
            }
            changed.await;
        }
    }
}

struct Remembers(Arc<Memory>);

impl Sink for Remembers {
    fn deliver(&self, events: Vec<Arc<Event>>) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async move {
            let memory = &self.0;
            memory.calls.fetch_add(1, Ordering::Relaxed);
            for (delivered, event) in events.into_iter().enumerate() {
                if memory.away.load(Ordering::Relaxed) {
                    return Err(SinkError { delivered, problem: Problem::Unreachable("away".to_owned()) });
                }
                if memory.refuses.lock().expect("sound").contains(&event.body) {
                    return Err(SinkError { delivered, problem: Problem::Refused("not this".to_owned()) });
                }
                memory.got.lock().expect("sound").push(event);
                memory.changed.notify_waiters();
            }
            Ok(())
        })
    }

    fn batch(&self) -> usize {
        16
    }
}

fn options(folder: &Path) -> Options {
    Options { path: folder.join("outbox.db"), durability: Durability::Process, limits: Limits::default() }
}

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).expect("a pattern")
}

fn spec(name: &str, topic: &str, memory: &Arc<Memory>) -> SinkSpec {
    SinkSpec {
        name: Arc::from(name),
        topics: vec![pattern(topic)],
        attempts: 2,
        backoff: Backoff { first: Duration::from_millis(5), longest: Duration::from_millis(20) },
        timeout: Duration::from_secs(60),
        sink: Arc::new(Remembers(Arc::clone(memory))),
    }
}

fn open(options: &Options, sinks: Vec<SinkSpec>) -> Outbox {
    let (outbox, delivery) = Outbox::open(options, sinks).expect("it opens");
    outbox.start(delivery);
    outbox
}

/// Takes events and delivers none.
fn open_idle(options: &Options, sinks: Vec<SinkSpec>) -> Outbox {
    Outbox::open(options, sinks).expect("it opens").0
}

fn draft(body: &str) -> Draft {
    Draft { body: Bytes::copy_from_slice(body.as_bytes()), ..Draft::default() }
}

fn keyed(key: &str, body: &str) -> Draft {
    Draft { key: Some(key.to_owned()), ..draft(body) }
}

async fn until(mut done: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(std::time::Instant::now() < deadline, "it never came to that");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Change bytes of a file behind everybody's back.
fn overwrite(path: &Path, find: &[u8], with: &[u8]) -> usize {
    let mut bytes = std::fs::read(path).expect("the file");
    let places: Vec<usize> =
        bytes.windows(find.len()).enumerate().filter(|(_, window)| *window == find).map(|(at, _)| at).collect();
    for at in &places {
        bytes[*at..at + with.len()].copy_from_slice(with);
    }
    std::fs::write(path, bytes).expect("written");
    places.len()
}

#[tokio::test]
async fn what_is_published_is_delivered_with_everything_it_had() {
    let (folder, memory) = (tempfile::tempdir().expect("a folder"), Arc::new(Memory::default()));
    let outbox = open(&options(folder.path()), vec![spec("m", "audit.*", &memory)]);
    let publisher = outbox.publisher("audit", vec![pattern(">")]);
    let draft = Draft {
        key: Some("key".to_owned()),
        content_type: Some("text/plain".to_owned()),
        attributes: vec![("a".to_owned(), "1".to_owned()), ("b".to_owned(), String::new())],
        body: Bytes::from_static(b"body"),
    };
    let ids = publisher.publish("audit.login", vec![draft.clone()]).await.expect("accepted");
    memory.has(1).await;
    let got = memory.got();
    let Event { id, source, topic, key, content_type, attributes, body, accepted: _ } = &*got[0];
    assert_eq!((&vec![*id], &**source, &**topic), (&ids, "audit", "audit.login"));
    assert_eq!(
        (key, content_type, attributes, body),
        (&draft.key, &draft.content_type, &draft.attributes, &draft.body)
    );
    assert_eq!(id.get_version_num(), 7);
    outbox.flush().await;
    let status = outbox.status();
    assert_eq!((status.events, status.bytes, status.pending, status.delivered), (0, 0, 0, 1));
    outbox.close().await;
}

#[tokio::test]
async fn what_was_accepted_is_delivered_by_the_next_process_in_its_order_under_its_id() {
    let (folder, memory) = (tempfile::tempdir().expect("a folder"), Arc::new(Memory::default()));
    let options = options(folder.path());
    let mut ids = Vec::new();
    for round in 0..3 {
        let outbox = open_idle(&options, vec![spec("m", ">", &memory)]);
        let publisher = outbox.publisher("p", vec![pattern(">")]);
        let drafts = (0..5).map(|n| draft(&format!("{round}.{n}"))).collect();
        ids.extend(publisher.publish("t", drafts).await.expect("accepted"));
        outbox.close().await;
        // Two processes do not share the counter of a millisecond.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let outbox = open(&options, vec![spec("m", ">", &memory)]);
    assert_eq!(outbox.status().pending, 15);
    outbox.flush().await;
    assert_eq!(memory.got().iter().map(|event| event.id).collect::<Vec<_>>(), ids);
    assert!(ids.is_sorted(), "ids are in the order of time");
    outbox.close().await;
}

#[tokio::test]
async fn each_sink_gets_an_event_and_it_is_gone_when_all_have_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let (one, two) = (Arc::new(Memory::default()), Arc::new(Memory::default()));
    two.away.store(true, Ordering::Relaxed);
    let sinks = vec![spec("one", "a.>", &one), spec("two", "*.b", &two), spec("three", "c", &two)];
    let outbox = open(&options(folder.path()), sinks);
    let publisher = outbox.publisher("p", vec![pattern(">")]);
    publisher.publish("a.b", vec![draft("both")]).await.expect("accepted");
    publisher.publish("a.c", vec![draft("one")]).await.expect("accepted");
    one.has(2).await;
    until(|| outbox.status().events == 1).await;
    two.away.store(false, Ordering::Relaxed);
    outbox.flush().await;
    assert_eq!((one.bodies(), two.bodies()), (vec!["both".to_owned(), "one".to_owned()], vec!["both".to_owned()]));
    assert_eq!(outbox.status().events, 0);
    outbox.close().await;
}

#[tokio::test]
async fn a_refused_event_is_a_dead_letter_after_its_attempts_and_stays() {
    let (folder, memory) = (tempfile::tempdir().expect("a folder"), Arc::new(Memory::default()));
    memory.refuses.lock().expect("sound").push(Bytes::from_static(b"bad"));
    let options = options(folder.path());
    let outbox = open(&options, vec![spec("m", ">", &memory)]);
    let publisher = outbox.publisher("p", vec![pattern(">")]);
    let drafts = vec![keyed("k", "bad"), keyed("k", "good"), draft("other")];
    publisher.publish("t", drafts).await.expect("accepted");
    outbox.flush().await;
    let status = outbox.status();
    assert_eq!((status.pending, status.dead, status.events, status.delivered), (0, 1, 1, 2));
    assert_eq!(status.sinks[0].last_error.as_deref(), Some("refused: not this"));
    let mut bodies = memory.bodies();
    bodies.sort();
    assert_eq!(bodies, ["good", "other"]);
    outbox.close().await;
    let outbox = open(&options, vec![spec("m", ">", &memory)]);
    assert_eq!((outbox.status().dead, outbox.status().pending), (1, 0));
    outbox.close().await;
}

#[tokio::test]
async fn a_sink_that_is_no_more_keeps_its_deliveries() {
    let (folder, memory) = (tempfile::tempdir().expect("a folder"), Arc::new(Memory::default()));
    let options = options(folder.path());
    let outbox = open_idle(&options, vec![spec("old", ">", &memory)]);
    outbox.publisher("p", vec![pattern(">")]).publish("t", vec![draft("kept")]).await.expect("accepted");
    outbox.close().await;
    let outbox = open(&options, vec![spec("new", ">", &memory)]);
    let status = outbox.status();
    assert_eq!(status.orphans, [Orphan { name: "old".to_owned(), pending: 1, dead: 0, damaged: 0 }]);
    assert_eq!((status.pending, status.events), (0, 1));
    outbox.close().await;
    let outbox = open(&options, vec![spec("old", "other", &memory)]);
    outbox.flush().await;
    assert_eq!(memory.bodies(), ["kept"], "by its name, whatever it takes now");
    outbox.close().await;
}

#[tokio::test]
async fn more_than_a_thousand_at_once_or_one_that_is_too_long_are_too_large() {
    let (folder, memory) = (tempfile::tempdir().expect("a folder"), Arc::new(Memory::default()));
    let outbox = open_idle(&options(folder.path()), vec![spec("m", ">", &memory)]);
    let publisher = outbox.publisher("p", vec![pattern(">")]);
    let many = |n: usize| vec![draft("x"); n];
    let too_large = |result| matches!(result, Err(PublishError::TooLarge(_)));
    assert!(too_large(publisher.publish("t", many(1_001)).await));
    assert_eq!(publisher.publish("t", many(1_000)).await.map(|ids| ids.len()), Ok(1_000));
    let long = |length| Draft { body: Bytes::from(vec![0; length]), ..Draft::default() };
    assert!(too_large(publisher.publish("t", vec![draft("x"), long((256 << 10) + 1)]).await));
    assert!(publisher.publish("t", vec![long(256 << 10)]).await.is_ok());
    assert_eq!(outbox.status().events, 1_001, "all or nothing");
    outbox.close().await;
}

#[tokio::test]
async fn a_full_outbox_refuses_by_events_and_by_bytes_and_has_room_again() {
    for limits in [Limits { max_events: 3, ..Limits::default() }, Limits { max_bytes: 30, ..Limits::default() }] {
        let (folder, memory) = (tempfile::tempdir().expect("a folder"), Arc::new(Memory::default()));
        memory.away.store(true, Ordering::Relaxed);
        let options = Options { limits, ..options(folder.path()) };
        let outbox = open(&options, vec![spec("m", ">", &memory)]);
        let publisher = outbox.publisher("p", vec![pattern(">")]);
        let ten = || draft("0123456789");
        assert!(publisher.publish("t", vec![ten(), ten()]).await.is_ok());
        assert_eq!(publisher.publish("t", vec![ten(), ten()]).await, Err(PublishError::Full), "none of the two");
        assert!(publisher.publish("t", vec![ten()]).await.is_ok());
        assert_eq!(publisher.publish("t", vec![ten()]).await, Err(PublishError::Full));
        outbox.close().await;
        // What is in the file counts as well.
        let outbox = open(&options, vec![spec("m", ">", &memory)]);
        let publisher = outbox.publisher("p", vec![pattern(">")]);
        assert_eq!(publisher.publish("t", vec![ten()]).await, Err(PublishError::Full));
        memory.away.store(false, Ordering::Relaxed);
        outbox.flush().await;
        assert!(publisher.publish("t", vec![ten()]).await.is_ok());
        let counts: HashMap<_, _> = outbox.counts().into_iter().map(|(_, outcome, n)| (outcome.as_str(), n)).collect();
        assert_eq!((counts["refused-full"], counts["accepted"]), (1, 1));
        outbox.close().await;
    }
}

#[tokio::test]
async fn topics_that_are_not_the_publishers_or_no_sinks_are_not_granted() {
    let (folder, memory) = (tempfile::tempdir().expect("a folder"), Arc::new(Memory::default()));
    let outbox = open_idle(&options(folder.path()), vec![spec("m", "a.*", &memory)]);
    let publisher = outbox.publisher("p", vec![pattern("a.b"), pattern("c")]);
    assert!(publisher.publish("a.b", vec![draft("x")]).await.is_ok());
    assert_eq!(publisher.publish("a.c", vec![draft("x")]).await, Err(PublishError::NotGranted));
    assert_eq!(publisher.publish("c", vec![draft("x")]).await, Err(PublishError::NotGranted), "no sink");
    assert!(matches!(publisher.publish("a b", vec![draft("x")]).await, Err(PublishError::Invalid(_))));
    assert!(matches!(publisher.publish("a.b", vec![keyed("", "x")]).await, Err(PublishError::Invalid(_))));
    assert_eq!(publisher.publish("a.b", Vec::new()).await, Ok(Vec::new()));
    outbox.close().await;
    assert!(matches!(publisher.publish("a.b", vec![draft("x")]).await, Err(PublishError::Unavailable(_))));
}

#[tokio::test]
async fn two_gateways_cannot_have_one_file() {
    let (folder, memory) = (tempfile::tempdir().expect("a folder"), Arc::new(Memory::default()));
    let options = options(folder.path());
    let outbox = open_idle(&options, vec![spec("m", ">", &memory)]);
    let link = folder.path().join("link.db");
    std::os::unix::fs::symlink(&options.path, &link).expect("a link");
    for path in [options.path.clone(), link] {
        let error = Outbox::open(&Options { path, ..options.clone() }, Vec::new()).expect_err("in use");
        assert!(matches!(error, OpenError::InUse { owner: Some(pid), .. } if pid == std::process::id()), "{error}");
    }
    outbox.close().await;
    drop(outbox);
    open_idle(&options, Vec::new()).close().await;
}

#[tokio::test]
async fn files_that_are_no_outbox_of_this_version_are_refused_and_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = options(folder.path());
    let path = &options.path;
    let refused = || Outbox::open(&options, Vec::new()).expect_err("refused");
    let connection = rusqlite::Connection::open(path).expect("a database");
    connection.execute_batch("CREATE TABLE precious (a); INSERT INTO precious VALUES (1)").expect("made");
    assert!(matches!(refused(), OpenError::Foreign { .. }));
    drop(connection);
    std::fs::remove_file(path).expect("removed");
    open_idle(&options, Vec::new()).close().await;
    let connection = rusqlite::Connection::open(path).expect("a database");
    connection.pragma_update(None, "user_version", 2).expect("set");
    drop(connection);
    assert!(matches!(refused(), OpenError::Newer { found: 2, .. }));
    std::fs::write(path, "a letter of more than a hundred bytes. ".repeat(40)).expect("written");
    assert!(matches!(refused(), OpenError::Damaged { .. }));
    let nowhere = Options { path: folder.path().join("no/outbox.db"), ..options.clone() };
    assert!(matches!(Outbox::open(&nowhere, Vec::new()).expect_err("refused"), OpenError::Unusable { .. }));
    let a_folder = Options { path: folder.path().to_owned(), ..options.clone() };
    assert!(matches!(Outbox::open(&a_folder, Vec::new()).expect_err("refused"), OpenError::Unusable { .. }));
}

#[tokio::test]
async fn a_flipped_byte_in_a_stored_event_is_found_and_the_event_never_delivered_as_good() {
    let (folder, memory) = (tempfile::tempdir().expect("a folder"), Arc::new(Memory::default()));
    let options = options(folder.path());
    let outbox = open_idle(&options, vec![spec("m", ">", &memory)]);
    let publisher = outbox.publisher("p", vec![pattern(">")]);
    let drafts = vec![keyed("k", "first"), keyed("k", "precious cargo"), keyed("k", "third")];
    publisher.publish("t", drafts).await.expect("accepted");
    outbox.close().await;
    drop(outbox);
    assert_eq!(overwrite(&options.path, b"precious cargo", b"PRECIOUS"), 1);
    let outbox = open(&options, vec![spec("m", ">", &memory)]);
    outbox.flush().await;
    assert_eq!(memory.bodies(), ["first", "third"]);
    let status = outbox.status();
    assert_eq!((status.damaged, status.pending, status.events), (1, 0, 1), "it is kept");
    outbox.close().await;
    let outbox = open(&options, vec![spec("m", ">", &memory)]);
    assert_eq!((outbox.status().damaged, memory.got().len()), (1, 2));
    outbox.close().await;
}

#[tokio::test]
async fn a_flipped_byte_in_a_page_is_found_when_the_file_is_opened() {
    let (folder, memory) = (tempfile::tempdir().expect("a folder"), Arc::new(Memory::default()));
    let options = options(folder.path());
    let outbox = open_idle(&options, vec![spec("m", ">", &memory)]);
    let publisher = outbox.publisher("p", vec![pattern(">")]);
    publisher.publish("t", vec![draft(&"x".repeat(100)); 500]).await.expect("accepted");
    outbox.close().await;
    drop(outbox);
    let mut bytes = std::fs::read(&options.path).expect("the file");
    // Every page begins with its kind; the first one with the file's own head.
    let page = 4096 * 5;
    bytes[page] ^= 0x55;
    std::fs::write(&options.path, &bytes).expect("written");
    let error = Outbox::open(&options, vec![spec("m", ">", &memory)]).expect_err("damaged");
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    assert!(error.hint().contains("repair"));
    assert_eq!(std::fs::read(&options.path).expect("the file"), bytes, "left as it is");
}

#[tokio::test]
async fn a_torn_end_of_the_log_costs_what_it_held_and_nothing_before() {
    let (folder, memory) = (tempfile::tempdir().expect("a folder"), Arc::new(Memory::default()));
    let options = options(folder.path());
    let outbox = open_idle(&options, vec![spec("m", ">", &memory)]);
    let publisher = outbox.publisher("p", vec![pattern(">")]);
    publisher.publish("t", vec![draft("first")]).await.expect("accepted");
    publisher.publish("t", vec![draft("second")]).await.expect("accepted");
    // As a power cut may leave it: the log without its last page.
    let elsewhere = tempfile::tempdir().expect("a folder");
    for name in ["outbox.db", "outbox.db-wal"] {
        std::fs::copy(folder.path().join(name), elsewhere.path().join(name)).expect("copied");
    }
    outbox.close().await;
    let log = elsewhere.path().join("outbox.db-wal");
    let length = std::fs::metadata(&log).expect("the log").len();
    let file = std::fs::OpenOptions::new().write(true).open(&log).expect("the log");
    file.set_len(length - 100).expect("torn");
    let outbox = open(&Options { path: elsewhere.path().join("outbox.db"), ..options }, vec![spec("m", ">", &memory)]);
    outbox.flush().await;
    assert_eq!(memory.bodies(), ["first"]);
    outbox.close().await;
}

#[tokio::test]
async fn a_publish_that_nobody_waits_for_any_more_takes_no_room() {
    let (folder, memory) = (tempfile::tempdir().expect("a folder"), Arc::new(Memory::default()));
    let outbox = open_idle(&options(folder.path()), vec![spec("m", ">", &memory)]);
    let publisher = outbox.publisher("p", vec![pattern(">")]);
    for _ in 0..100 {
        let mut publish = Box::pin(publisher.publish("t", vec![draft("x")]));
        // Begun, and dropped.
        let _ = futures_util::poll!(&mut publish);
    }
    outbox.close().await;
    let status = outbox.status();
    assert_eq!(status.events, status.pending, "each is in the file, or nowhere");
}

#[tokio::test]
async fn a_sink_that_panics_or_never_answers_is_out_of_reach_and_the_others_go_on() {
    struct Panics;
    impl Sink for Panics {
        fn deliver(&self, _: Vec<Arc<Event>>) -> BoxFuture<'_, Result<(), SinkError>> {
            panic!("as it does")
        }
        fn batch(&self) -> usize {
            0
        }
    }
    struct Hangs;
    impl Sink for Hangs {
        fn deliver(&self, _: Vec<Arc<Event>>) -> BoxFuture<'_, Result<(), SinkError>> {
            Box::pin(std::future::pending())
        }
        fn batch(&self) -> usize {
            1
        }
    }
    let (folder, memory) = (tempfile::tempdir().expect("a folder"), Arc::new(Memory::default()));
    let with = |name: &str, sink: Arc<dyn Sink>| SinkSpec {
        timeout: Duration::from_millis(5),
        sink,
        ..spec(name, ">", &memory)
    };
    let sinks = vec![with("panics", Arc::new(Panics)), with("hangs", Arc::new(Hangs)), spec("m", ">", &memory)];
    let outbox = open(&options(folder.path()), sinks);
    let publisher = outbox.publisher("p", vec![pattern(">")]);
    publisher.publish("t", vec![draft("x")]).await.expect("accepted");
    memory.has(1).await;
    let error = |at: usize| outbox.status().sinks[at].last_error.clone();
    until(|| error(0).is_some() && error(1).is_some()).await;
    assert_eq!(error(0).as_deref(), Some("unreachable: the sink panicked"));
    assert_eq!(error(1).as_deref(), Some("unreachable: no answer within 5ms"));
    outbox.close().await;
    assert_eq!(outbox.status().pending, 2);
}

/// A file system of its own with so many pages of 4 KiB; `None`, with a reason on stdout, where there can be none.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new(kib: usize) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let size = format!("size={kib}k");
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tidegate-test"])
            .arg(folder.path())
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(folder)),
            other => {
                skipped(&format!("no small disk can be mounted here: {other:?}"));
                None
            }
        }
    }

    fn remount(&self, options: &str) -> bool {
        let options = format!("remount,{options}");
        let status = std::process::Command::new("mount").args(["-o", &options]).arg(self.0.path()).status();
        status.is_ok_and(|status| status.success())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[expect(clippy::print_stdout, reason = "a test that does not run says so")]
fn skipped(reason: &str) {
    println!("skipped: {reason}");
}

#[tokio::test]
async fn on_a_full_disk_new_events_are_refused_what_is_there_goes_on_and_then_all_is_well_again() {
    let Some(disk) = SmallDisk::new(512) else { return };
    let memory = Arc::new(Memory::default());
    memory.away.store(true, Ordering::Relaxed);
    let options = options(disk.0.path());
    let outbox = open(&options, vec![spec("m", ">", &memory)]);
    let publisher = outbox.publisher("p", vec![pattern(">")]);
    let mut accepted = Vec::new();
    let error = loop {
        let body = format!("{:08}{}", accepted.len(), "x".repeat(4_000));
        match publisher.publish("t", vec![draft(&body)]).await {
            Ok(ids) => accepted.extend(ids),
            Err(error) => break error,
        }
        assert!(accepted.len() < 1_000, "it never was full");
    };
    assert!(matches!(&error, PublishError::Unavailable(reason) if reason.contains("disk is full")), "{error}");
    assert!(matches!(outbox.status().health, Health::Failing { .. }));
    assert!(accepted.len() > 10, "{}", accepted.len());
    // Delivery goes on, whether it can be written down or not.
    memory.away.store(false, Ordering::Relaxed);
    memory.has(accepted.len()).await;
    assert_eq!(memory.got().iter().map(|event| event.id).collect::<Vec<_>>().len(), accepted.len());
    assert!(disk.remount("size=8m"));
    outbox.flush().await;
    let published = loop {
        match publisher.publish("t", vec![draft("again")]).await {
            Ok(ids) => break ids,
            Err(PublishError::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(10)).await,
            Err(error) => panic!("{error}"),
        }
    };
    memory.has(accepted.len() + 1).await;
    accepted.extend(published);
    let got: Vec<_> = memory.got().iter().map(|event| event.id).collect();
    let mut sorted = got.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, accepted, "each once");
    until(|| outbox.status().events == 0).await;
    assert_eq!(outbox.status().health, Health::Good);
    outbox.close().await;
}

#[tokio::test]
async fn a_disk_that_can_only_be_read_refuses_and_loses_nothing() {
    let Some(disk) = SmallDisk::new(4_096) else { return };
    let memory = Arc::new(Memory::default());
    let options = options(disk.0.path());
    let outbox = open_idle(&options, vec![spec("m", ">", &memory)]);
    outbox.publisher("p", vec![pattern(">")]).publish("t", vec![draft("kept")]).await.expect("accepted");
    outbox.close().await;
    drop(outbox);
    if !disk.remount("ro") {
        return skipped("the disk cannot be made read-only");
    }
    let error = Outbox::open(&options, vec![spec("m", ">", &memory)]).expect_err("read-only");
    assert!(matches!(&error, OpenError::Unusable { .. }), "{error}");
    assert!(error.to_string().to_lowercase().contains("read-only"), "{error}");
    assert!(disk.remount("rw"));
    let outbox = open(&options, vec![spec("m", ">", &memory)]);
    outbox.flush().await;
    assert_eq!(memory.bodies(), ["kept"]);
    outbox.close().await;
}

mod histories {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        /// Publish so many events with this key, 0 for none.
        Publish {
            key: u8,
            events: usize,
        },
        /// The sink refuses this event from now on, if there is one.
        Poison(usize),
        Away(bool),
        /// The process ends without a word, and another one opens the file.
        Crash,
        Pause,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            5 => (0..3_u8, 1..8_usize).prop_map(|(key, events)| Step::Publish { key, events }),
            1 => (0..50_usize).prop_map(Step::Poison),
            1 => any::<bool>().prop_map(Step::Away),
            1 => Just(Step::Crash),
            2 => Just(Step::Pause),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        /// Whatever happens: every event that was accepted is delivered at least once or is a dead letter, none is that was
        /// not accepted, and first deliveries of a key are in order.
        #[test]
        fn no_history_loses_an_event_or_the_order_of_a_key(steps in proptest::collection::vec(step(), 1..40)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(run(steps))?;
        }
    }

    async fn run(steps: Vec<Step>) -> Result<(), TestCaseError> {
        let (folder, memory) = (tempfile::tempdir().expect("a folder"), Arc::new(Memory::default()));
        // Not more than fit: what is accepted is what the model says.
        let limits = Limits { max_events: 60, ..Limits::default() };
        let mut options = Options { limits, ..options(folder.path()) };
        let mut outbox = open(&options, vec![spec("m", ">", &memory)]);
        let mut accepted: BTreeMap<Uuid, (u8, Bytes)> = BTreeMap::new();
        let (mut number, mut lives) = (0, 0);
        for step in steps {
            match step {
                Step::Publish { key, events } => {
                    let publisher = outbox.publisher("p", vec![pattern(">")]);
                    let mut drafts = Vec::new();
                    for _ in 0..events {
                        let body = number.to_string();
                        number += 1;
                        drafts.push(if key == 0 { draft(&body) } else { keyed(&key.to_string(), &body) });
                    }
                    match publisher.publish("t", drafts.clone()).await {
                        Ok(ids) => {
                            accepted.extend(ids.into_iter().zip(drafts).map(|(id, draft)| (id, (key, draft.body))))
                        }
                        Err(error) => {
                            prop_assert_eq!(error, PublishError::Full);
                            prop_assert!(outbox.status().events as usize + events > 60);
                        }
                    }
                }
                Step::Poison(event) => memory.refuses.lock().expect("sound").push(Bytes::from(event.to_string())),
                Step::Away(away) => memory.away.store(away, Ordering::Relaxed),
                Step::Crash => {
                    // What a killed process leaves: the files as they are at this moment.
                    lives += 1;
                    let next = folder.path().join(lives.to_string());
                    std::fs::create_dir(&next).expect("a folder");
                    for name in ["outbox.db", "outbox.db-wal"] {
                        let from = options.path.with_file_name(name);
                        if from.exists() {
                            std::fs::copy(from, next.join(name)).expect("copied");
                        }
                    }
                    // The copy is torn if somebody writes meanwhile; here nobody publishes, and what is lost of deliveries
                    // is delivered twice.
                    options.path = next.join("outbox.db");
                    drop(std::mem::replace(&mut outbox, open(&options, vec![spec("m", ">", &memory)])));
                }
                Step::Pause => tokio::time::sleep(Duration::from_millis(3)).await,
            }
        }
        memory.away.store(false, Ordering::Relaxed);
        outbox.flush().await;
        let status = outbox.status();
        prop_assert_eq!(status.events, status.dead);
        outbox.close().await;
        drop(outbox);
        let mut seen: Vec<Uuid> = Vec::new();
        for event in memory.got() {
            let (key, body) = accepted.get(&event.id).cloned().unwrap_or((u8::MAX, Bytes::new()));
            prop_assert_eq!(&event.body, &body, "key {}", key);
            if !seen.contains(&event.id) {
                seen.push(event.id);
            }
        }
        for wanted in 1..3 {
            let of_key: Vec<_> =
                seen.iter().filter(|id| accepted.get(*id).is_some_and(|(key, _)| *key == wanted)).collect();
            prop_assert!(of_key.is_sorted(), "key {}", wanted);
        }
        let dead = status.dead as usize;
        let missing = accepted.keys().filter(|id| !seen.contains(*id)).count();
        prop_assert!(missing <= dead, "{} are missing, {} are dead letters", missing, dead);
        Ok(())
    }
}
