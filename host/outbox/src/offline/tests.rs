#![expect(clippy::indexing_slicing, reason = "a missing element fails the test")]

use bytes::Bytes;

use super::*;
use crate::event::Draft;
use crate::{Backoff, Limits, Options, Outbox, SinkSpec};

struct Refuses;

impl crate::sink::Sink for Refuses {
    fn deliver(&self, _: Vec<Arc<Event>>) -> futures_util::future::BoxFuture<'_, Result<(), crate::sink::SinkError>> {
        let problem = crate::sink::Problem::Refused("no".to_owned());
        Box::pin(std::future::ready(Err(crate::sink::SinkError { delivered: 0, problem })))
    }

    fn batch(&self) -> usize {
        1
    }
}

fn options(path: &Path) -> Options {
    Options { path: path.to_owned(), durability: Durability::Process, limits: Limits::default() }
}

fn sink(name: &str, topic: &str) -> SinkSpec {
    SinkSpec {
        name: Arc::from(name),
        topics: vec![Pattern::parse(topic).expect("a pattern")],
        attempts: 1,
        backoff: Backoff::default(),
        timeout: Duration::from_secs(60),
        sink: Arc::new(Refuses),
    }
}

/// An outbox with two dead letters of topic `a`, and events of topic `b` that wait.
async fn filled(path: &Path, waiting: usize) -> Vec<Uuid> {
    let (outbox, delivery) = Outbox::open(&options(path), vec![sink("s", ">")]).expect("it opens");
    let publisher = outbox.publisher("p", vec![Pattern::parse(">").expect("a pattern")]);
    let draft = |body: &str| Draft { body: Bytes::copy_from_slice(body.as_bytes()), ..Draft::default() };
    let ids = publisher.publish("a", vec![draft("one"), draft("two")]).await.expect("accepted");
    outbox.start(delivery);
    outbox.flush().await;
    outbox.close().await;
    drop(outbox);
    let (outbox, _) = Outbox::open(&options(path), vec![sink("s", ">")]).expect("it opens");
    let publisher = outbox.publisher("p", vec![Pattern::parse(">").expect("a pattern")]);
    if waiting > 0 {
        publisher.publish("b", vec![draft(&"x".repeat(500)); waiting]).await.expect("accepted");
    }
    outbox.close().await;
    ids
}

fn of(state: State) -> Filter {
    Filter { state: Some(state), ..Filter::default() }
}

fn total(path: &Path, filter: &Filter) -> usize {
    list(path, filter, 0).expect("a list").total
}

#[tokio::test]
async fn deliveries_are_listed_by_state_topic_sink_and_id() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = &folder.path().join("outbox.db");
    let ids = filled(path, 3).await;
    let listing = list(path, &of(State::Dead), 1).expect("a list");
    assert_eq!((listing.total, listing.rows.len()), (2, 1));
    assert_eq!((listing.rows[0].problem.as_deref(), listing.rows[0].attempts), (Some("no"), 1));
    assert_eq!(total(path, &Filter::default()), 5);
    assert_eq!(total(path, &Filter { topic: Pattern::parse("b").ok(), ..Filter::default() }), 3);
    assert_eq!(total(path, &Filter { ids: vec![ids[1]], ..Filter::default() }), 1);
    assert_eq!(total(path, &Filter { sink: Some("other".to_owned()), ..Filter::default() }), 0);
    assert!(list(&folder.path().join("none.db"), &Filter::default(), 1).is_err(), "looking makes no file");
    assert!(!folder.path().join("none.db").exists());
    assert_eq!(orphans(path, &[]).expect("orphans"), [("s".to_owned(), 5)]);
    assert_eq!(orphans(path, &[Arc::from("s")]).expect("orphans"), []);
}

#[tokio::test]
async fn dead_letters_become_pending_again_and_nothing_else_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = &folder.path().join("outbox.db");
    let ids = filled(path, 1).await;
    assert_eq!(replay(path, &Filter { ids: vec![ids[0]], ..Filter::default() }).expect("replayed"), 1);
    assert_eq!((total(path, &of(State::Dead)), total(path, &of(State::Pending))), (1, 2));
    assert_eq!(replay(path, &Filter::default()).expect("replayed"), 1);
    assert_eq!((total(path, &of(State::Dead)), total(path, &of(State::Pending))), (0, 3));
}

#[tokio::test]
async fn what_is_purged_is_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = &folder.path().join("outbox.db");
    filled(path, 1).await;
    assert_eq!(purge(path, &of(State::Dead)).expect("purged"), 2);
    assert_eq!(total(path, &Filter::default()), 1);
    let (outbox, _) = Outbox::open(&options(path), vec![sink("s", ">")]).expect("it opens");
    assert_eq!((outbox.status().events, outbox.status().dead), (1, 0));
    let busy = purge(path, &of(State::Dead)).expect_err("in use");
    assert!(matches!(busy, OfflineError::Open(OpenError::InUse { .. })), "{busy}");
    assert_eq!(total(path, &Filter::default()), 1, "looking is possible beside it");
    outbox.close().await;
}

#[tokio::test]
async fn a_repair_saves_what_can_be_read_and_keeps_the_damaged_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = &folder.path().join("outbox.db");
    filled(path, 400).await;
    let mut bytes = std::fs::read(path).expect("the file");
    // A page in the middle.
    bytes[4096 * 20..4096 * 20 + 100].fill(0xa5);
    std::fs::write(path, &bytes).expect("written");
    assert!(matches!(Outbox::open(&options(path), Vec::new()), Err(OpenError::Damaged { .. })));
    let repaired = repair(path).expect("repaired");
    assert!(repaired.saved > 380 && repaired.saved < 402 && repaired.damaged > 0, "{repaired:?}");
    assert_eq!(std::fs::read(&repaired.aside).expect("the damaged file"), bytes);
    let (outbox, _) = Outbox::open(&options(path), vec![sink("s", ">")]).expect("it opens");
    assert_eq!(outbox.status().pending, repaired.saved);
    outbox.close().await;
}

#[tokio::test]
async fn a_file_of_which_nothing_can_be_read_is_put_aside_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = &folder.path().join("outbox.db");
    std::fs::write(path, vec![0x5a; 40_000]).expect("written");
    let repaired = repair(path).expect("repaired");
    assert_eq!((repaired.saved, std::fs::metadata(&repaired.aside).expect("there").len()), (0, 40_000));
    let (outbox, _) = Outbox::open(&options(path), Vec::new()).expect("it opens");
    outbox.close().await;
}
