//! `webhook-events`: batches at a real receiver, no client that waits for them, and no event that is lost at the end.

use std::path::Path;

use serde_json::Value;
use tidegate_tests::client::Client;
use tidegate_tests::gateway::{ConfigFile, PluginTable, TestGateway};
use tidegate_tests::origin::Origin;
use tidegate_tests::receiver::{Received, Receiver, Reply};

use super::local;

const EXCHANGES: usize = 25;

/// One that is ticked all the time. An event waits for its batch to be full or for the end.
fn teller(receiver: &Receiver) -> PluginTable {
    PluginTable::example("webhook-events")
        .set("tick = '10ms'")
        .limit("deferred = '20s'")
        .grant(&local(receiver.address()))
        .grant("outbox = ['webhook.*']")
        .config(&format!("url = '{}'", receiver.url()))
        .config("batch = 10")
        .config("age_ms = 3600000")
        .config("missed = 'webhook.missed'")
}

/// What goes to the outbox is in `missed.ndjson` of this folder.
fn telling(origin: &Origin, folder: &Path, teller: PluginTable) -> ConfigFile {
    let at = |name: &str| folder.join(name).display().to_string();
    ConfigFile::before(origin.address())
        .shutdown("flush = '4s'")
        .plugin(teller)
        .route("/", &["webhook-events"])
        .section(&format!("[outbox]\npath = '{}'", at("outbox.db")))
        .section(&format!("[[outbox.sink]]\ntopic = 'webhook.*'\nkind = 'file'\npath = '{}'", at("missed.ndjson")))
}

async fn exchanges(client: &Client, count: usize) {
    for n in 0..count {
        assert_eq!(client.get(&format!("/{n}?token=hidden")).await.status, 200);
    }
}

/// The events of a batch.
fn events(batch: &Received) -> Vec<Value> {
    assert_eq!(batch.header("content-type"), "application/json");
    serde_json::from_slice(&batch.body).unwrap_or_else(|error| panic!("{error}: {batch:?}"))
}

/// The events that came to the sink of the outbox.
fn missed(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("missed.ndjson")).unwrap_or_default();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    lines.map(|event| event["data"].clone()).collect()
}

fn paths(events: &[Value]) -> Vec<&str> {
    events.iter().filter_map(|event| event["path"].as_str()).collect()
}

fn numbered(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|n| format!("/{n}")).collect()
}

#[tokio::test]
async fn full_batches_arrive_at_once_and_the_rest_at_sigterm() {
    let (origin, receiver) = (Origin::start().await, Receiver::start().await);
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = TestGateway::start(&telling(&origin, folder.path(), teller(&receiver))).await;
    exchanges(&gateway.client(), EXCHANGES).await;
    let batches: Vec<Vec<Value>> = receiver.has(2).await.iter().map(events).collect();
    assert_eq!(paths(&batches[0]), numbered(0..10));
    assert_eq!(paths(&batches[1]), numbered(10..20));
    let first = &batches[0][0];
    assert_eq!((&first["method"], &first["status"]), (&Value::from("GET"), &Value::from(200)));
    assert!(first["request"].as_str().is_some_and(|id| !id.is_empty()), "{first}");

    let ended = gateway.stop().await;
    assert_eq!((ended.code, ended.report().outcomes("webhook-events")), (Some(0), vec!["completed"]));
    let received = receiver.received();
    assert_eq!(received.len(), 3, "the rest");
    assert_eq!(paths(&events(&received[2])), numbered(20..25));
    assert!(missed(folder.path()).is_empty());
}

#[tokio::test]
async fn what_is_old_is_sent_without_a_full_batch() {
    let (origin, receiver) = (Origin::start().await, Receiver::start().await);
    let folder = tempfile::tempdir().expect("a folder");
    let config = telling(&origin, folder.path(), teller(&receiver).config("age_ms = 1"));
    let gateway = TestGateway::start(&config).await;
    exchanges(&gateway.client(), 1).await;
    assert_eq!(paths(&events(&receiver.has(1).await[0])), ["/0"]);
}

#[tokio::test]
async fn no_client_waits_for_a_webhook_that_does_not_answer() {
    let (origin, receiver) = (Origin::start().await, Receiver::start().await);
    receiver.behave(|_, _| Reply::Never);
    let folder = tempfile::tempdir().expect("a folder");
    let patient = teller(&receiver).set("instances = 2").config("batch = 1").config("timeout_ms = 60000");
    let gateway = TestGateway::start(&telling(&origin, folder.path(), patient)).await;
    let client = gateway.client();
    exchanges(&client, 1).await;
    receiver.has(1).await;
    exchanges(&client, EXCHANGES).await;
    // All this while the first is waiting for its answer.
    assert_eq!((receiver.counts().requests, receiver.counts().under_way), (1, 1));
}

#[tokio::test]
async fn what_the_webhook_does_not_take_in_the_end_arrives_at_the_sink_of_the_outbox() {
    for reply in [Reply::Status(503), Reply::Close, Reply::Never, Reply::Stall(200)] {
        let (origin, receiver) = (Origin::start().await, Receiver::start().await);
        let folder = tempfile::tempdir().expect("a folder");
        receiver.behave({
            let reply = reply.clone();
            move |_, _| reply.clone()
        });
        // The end is near long before the webhook has had all of its time.
        let teller = teller(&receiver).config("batch = 1000").config("timeout_ms = 60000").limit("shutdown = '3s'");
        let gateway = TestGateway::start(&telling(&origin, folder.path(), teller)).await;
        exchanges(&gateway.client(), EXCHANGES).await;
        let ended = gateway.stop().await;
        let log = ended.log.text();
        assert_eq!(ended.report().outcomes("webhook-events"), ["completed"], "{reply:?}\n{log}");
        assert_eq!(ended.code, Some(0), "{reply:?}\n{log}");
        assert!(log.contains("25 items of `webhook` went to the outbox"), "{reply:?}\n{log}");
        assert_eq!(paths(&missed(folder.path())), numbered(0..EXCHANGES), "{reply:?}");
        assert!(!receiver.received().is_empty(), "it was asked first");
    }
}

#[tokio::test]
async fn a_webhook_that_is_down_costs_no_answer_and_no_more_than_capacity() {
    let (origin, receiver) = (Origin::start().await, Receiver::start().await);
    receiver.behave(|_, _| Reply::Status(503));
    let folder = tempfile::tempdir().expect("a folder");
    let small = teller(&receiver).config("batch = 5").config("capacity = 10");
    let gateway = TestGateway::start(&telling(&origin, folder.path(), small)).await;
    exchanges(&gateway.client(), 100).await;
    let ended = gateway.stop().await;
    let log = ended.log.text();
    assert_eq!(ended.code, Some(0), "{log}");
    assert!(log.contains("events are being dropped: 10 wait for the webhook"), "{log}");
    assert!(log.contains("90 items of `webhook` were dropped"), "{log}");
    assert_eq!(paths(&missed(folder.path())), numbered(0..10));
}

#[tokio::test]
async fn without_a_topic_the_report_says_how_many_are_lost() {
    let (origin, receiver) = (Origin::start().await, Receiver::start().await);
    receiver.behave(|_, _| Reply::Status(503));
    let table = PluginTable::example("webhook-events")
        .set("tick = '10ms'")
        .grant(&local(receiver.address()))
        .grant("outbox = ['webhook.*']")
        .config(&format!("url = '{}'", receiver.url()));
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = TestGateway::start(&telling(&origin, folder.path(), table)).await;
    exchanges(&gateway.client(), EXCHANGES).await;
    let ended = gateway.stop().await;
    let report = ended.report();
    let [row] = &report.plugin("webhook-events")[..] else { panic!("{:#}", report.0) };
    let error = row["error"].as_str().unwrap_or_default();
    assert!(error.contains("25 items of `webhook` were not sent"), "{row:#}");
    assert!(error.contains("the webhook says 503"), "{row:#}");
    assert_eq!(ended.code, Some(11));
}
