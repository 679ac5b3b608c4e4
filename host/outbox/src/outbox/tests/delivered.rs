//! What becomes of events that have been accepted.

use super::*;

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

#[tokio::test]
async fn a_sink_that_is_behind_catches_up_and_gets_each_event_once_in_order() {
    let (folder, memory) = (tempfile::tempdir().expect("a folder"), Arc::new(Memory::default()));
    memory.away.store(true, Ordering::Relaxed);
    let outbox = open(&options(folder.path()), vec![spec("m", ">", &memory), spec("other", "other", &memory)]);
    let publisher = outbox.publisher("p", vec![pattern(">")]);
    let mut ids = Vec::new();
    // More than is kept in memory, by events and by bytes; then what is, while it catches up.
    for round in 0..6 {
        ids.extend(publisher.publish("t", vec![keyed("k", "small"); 1_000]).await.expect("accepted"));
        let large = Draft { body: Bytes::from(vec![0; 200 << 10]), ..keyed("k", "") };
        ids.extend(publisher.publish("t", vec![large; 5]).await.expect("accepted"));
        memory.away.store(round < 2, Ordering::Relaxed);
    }
    for _ in 0..200 {
        ids.extend(publisher.publish("t", vec![keyed("k", "one")]).await.expect("accepted"));
    }
    outbox.flush().await;
    let got: Vec<Uuid> = memory.got().iter().map(|event| event.id).collect();
    assert!(got == ids, "{} of {}", got.len(), ids.len());
    assert_eq!(outbox.status().events, 0);
    outbox.close().await;
}
