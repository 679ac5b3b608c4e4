//! What is not accepted.

use super::*;

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
