//! The outbox from outside: what plugins publish arrives, or is kept for later, whatever happens in between.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tidegate_tests::client::{Answer, Client, get};
use tidegate_tests::gateway::{ConfigFile, HANGS, PluginTable, TestGateway, tidegate};
use tidegate_tests::origin::Origin;

/// A gateway's config with a publisher on `/`, and its outbox and its sink's file in a folder.
struct Outbox {
    folder: TempDir,
    config: ConfigFile,
}

impl Outbox {
    /// `keys` are more lines of `[outbox]`.
    fn new(origin: &Origin, keys: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let config = ConfigFile::before(origin.address())
            .plugin(PluginTable::guest("publisher").grant("outbox = ['audit.*']"))
            .route("/", &["publisher"]);
        let config = config.section(&format!("[outbox]\npath = '{}/outbox.db'\n{keys}", folder.path().display()));
        let sink = format!(
            "[[outbox.sink]]\nname = 'audit'\ntopic = 'audit.*'\nkind = 'file'\npath = '{}/events.ndjson'\nmax_backoff = '200ms'",
            folder.path().display()
        );
        Self { folder, config: config.section(&sink) }
    }

    fn events(&self) -> PathBuf {
        self.folder.path().join("events.ndjson")
    }

    /// The sink is out of reach until [`Outbox::let_through`].
    fn block(&self) {
        std::fs::create_dir(self.events()).expect("a folder in its place");
    }

    fn let_through(&self) {
        std::fs::remove_dir(self.events()).expect("the folder goes");
    }

    fn delivered(&self) -> Vec<Value> {
        lines(&self.events())
    }

    fn database(&self) -> String {
        self.folder.path().join("outbox.db").display().to_string()
    }

    async fn command(&self, line: &[&str]) -> tidegate_tests::gateway::Output {
        let path = self.database();
        let (verb, rest) = line.split_first().expect("a verb");
        let all: Vec<&str> =
            ["outbox", *verb, "--path", path.as_str()].into_iter().chain(rest.iter().copied()).collect();
        tidegate(&all).await
    }
}

fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

async fn publish(gateway: &TestGateway, headers: &[(&str, &str)]) -> Answer {
    let headers: Vec<_> = [("x-publish", "audit.login")].into_iter().chain(headers.iter().copied()).collect();
    gateway.client().send(get("/", &headers)).await
}

fn result(answer: &Answer) -> String {
    header(answer, "x-published")
}

fn header(answer: &Answer, name: &str) -> String {
    answer.header(name).to_owned()
}

async fn until(mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < HANGS, "it never came to that");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn what_a_plugin_publishes_is_a_line_in_the_sinks_file() {
    let origin = Origin::start().await;
    let outbox = Outbox::new(&origin, "");
    let gateway = TestGateway::start(&outbox.config).await;
    let body = r#"{"user": "alice"}"#;
    let answer =
        publish(&gateway, &[("x-body", body), ("x-key", "alice"), ("x-content-type", "application/json")]).await;
    assert_eq!(result(&answer), "ok");
    until(|| outbox.delivered().len() == 1).await;
    let line = outbox.delivered().remove(0);
    let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
    assert_eq!((text("id"), text("source")), (header(&answer, "x-ids"), "/plugins/publisher".to_owned()));
    assert_eq!((text("type"), text("subject")), ("audit.login".to_owned(), "alice".to_owned()));
    assert_eq!(line["data"]["user"], "alice");
    let many = publish(&gateway, &[("x-body", "n"), ("x-count", "20"), ("x-at-once", "1"), ("x-key", "k")]).await;
    assert_eq!(result(&many), "ok");
    until(|| outbox.delivered().len() == 21).await;
    let bodies: Vec<String> = outbox.delivered().iter().skip(1).map(|line| line["data"].to_string()).collect();
    assert_eq!(bodies, (0..20).map(|n| format!("\"n{n}\"")).collect::<Vec<_>>(), "in their order");
    let ended = gateway.stop().await;
    assert_eq!(
        (ended.code, ended.report().at("/outbox")),
        (Some(0), &serde_json::json!({"pending": 0, "delivered": 0, "dead": 0}))
    );
}

#[tokio::test]
async fn what_is_not_granted_too_large_or_malformed_is_refused_with_its_reason() {
    let origin = Origin::start().await;
    let outbox = Outbox::new(&origin, "max_event = '1KiB'");
    let gateway = TestGateway::start(&outbox.config).await;
    let told = async |headers: &[(&str, &str)]| result(&gateway.client().send(get("/", headers)).await);
    assert_eq!(told(&[("x-publish", "billing.paid")]).await, "not-granted");
    assert_eq!(told(&[("x-publish", "audit.a.b")]).await, "not-granted");
    assert_eq!(told(&[("x-publish", "audit.x"), ("x-size", "1025")]).await, "too-large");
    assert_eq!(told(&[("x-publish", "audit.x"), ("x-count", "1001"), ("x-at-once", "1")]).await, "too-large");
    assert!(told(&[("x-publish", "audit. x")]).await.starts_with("invalid: a topic is words"));
    assert_eq!(told(&[("x-publish", "audit.x"), ("x-size", "1024")]).await, "ok");
    until(|| outbox.delivered().len() == 1).await;
    // It is written down a little later.
    gateway.until("nothing waits", async || gateway.metric("tidegate_outbox_pending").await == 0.0).await;
    let metrics = Client::http1(gateway.admin()).get("/metrics").await.text();
    for line in [
        "tidegate_outbox_events_total{topic=\"audit.*\",outcome=\"accepted\"} 1",
        "tidegate_outbox_events_total{topic=\"audit.*\",outcome=\"refused-too-large\"} 1002",
        "tidegate_outbox_events_total{topic=\"(none)\",outcome=\"refused-not-granted\"} 2",
        "tidegate_outbox_pending 0",
        "tidegate_outbox_sink_delivered_total{sink=\"audit\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test]
async fn a_flush_delivers_what_waits_before_the_exit() {
    let origin = Origin::start().await;
    let outbox = Outbox::new(&origin, "");
    outbox.block();
    // Its first attempt has failed, and the next one is a long way off.
    let config = outbox.config.clone();
    let gateway = TestGateway::start(&config).await;
    assert_eq!(result(&publish(&gateway, &[("x-count", "3"), ("x-body", "b")]).await), "ok");
    let mut gateway = gateway;
    until(|| !gateway.log().with(&[("message", "the sink is out of reach; its events wait")]).is_empty()).await;
    outbox.let_through();
    gateway.terminate();
    let ended = gateway.wait().await;
    assert_eq!((ended.code, outbox.delivered().len()), (Some(0), 3));
    assert_eq!(ended.report().number("/outbox/pending"), 0);
}

#[tokio::test]
async fn events_that_are_left_make_exit_code_12_and_are_delivered_by_the_next_start() {
    let origin = Origin::start().await;
    let outbox = Outbox::new(&origin, "");
    outbox.block();
    let config = outbox.config.clone().shutdown("flush = '300ms'");
    let gateway = TestGateway::start(&config).await;
    let answer = publish(&gateway, &[("x-count", "5"), ("x-body", "b"), ("x-key", "k")]).await;
    assert_eq!(result(&answer), "ok");
    let shown = Client::http1(gateway.admin()).get("/v1/outbox").await.json();
    assert_eq!(
        (&shown["pending"], &shown["state"], &shown["sinks"][0]["name"]),
        (&5.into(), &"good".into(), &"audit".into())
    );
    let ended = gateway.stop().await;
    assert_eq!(ended.code, Some(12));
    assert_eq!((ended.report().number("/outbox/pending"), ended.report().number("/outbox/delivered")), (5, 0));
    assert_eq!(ended.report().number("/exit_code"), 12);
    let file = ended.report_file().display().to_string();
    let drawn = tidegate(&["report", &file]).await.stdout;
    assert!(drawn.contains("outbox    0 delivered since the signal, 5 left, 0 dead letters"), "{drawn}");
    outbox.let_through();
    let gateway = TestGateway::start(&config).await;
    until(|| outbox.delivered().len() == 5).await;
    let ids: Vec<String> =
        outbox.delivered().iter().map(|line| line["id"].as_str().unwrap_or_default().to_owned()).collect();
    assert_eq!(ids.join(" "), header(&answer, "x-ids"));
    assert_eq!(gateway.stop().await.code, Some(0));
}

#[tokio::test]
async fn exit_zero_covers_events_that_are_left() {
    let origin = Origin::start().await;
    let outbox = Outbox::new(&origin, "");
    outbox.block();
    let config = outbox.config.clone().shutdown("flush = '100ms'").shutdown("exit_zero = true");
    let gateway = TestGateway::start(&config).await;
    assert_eq!(result(&publish(&gateway, &[]).await), "ok");
    let ended = gateway.stop().await;
    assert_eq!((ended.code, ended.report().number("/outbox/pending")), (Some(0), 1));
}

#[tokio::test]
async fn after_a_second_signal_what_was_accepted_is_still_there() {
    let origin = Origin::start().await;
    let outbox = Outbox::new(&origin, "");
    outbox.block();
    let mut gateway =
        TestGateway::start(&outbox.config.clone().shutdown("flush = '9s'").shutdown("grace = '60s'")).await;
    assert_eq!(result(&publish(&gateway, &[("x-count", "4")]).await), "ok");
    gateway.terminate();
    until(|| !gateway.log().with(&[("message", "phase begins"), ("phase", "flushing")]).is_empty()).await;
    gateway.terminate();
    let ended = gateway.wait().await;
    assert_eq!((ended.code, ended.report().number("/outbox/pending")), (Some(143), 4));
    let listed = outbox.command(&["ls", "--json"]).await;
    assert_eq!((listed.code, listed.stdout.lines().count()), (Some(0), 4), "{}", listed.stderr);
}

#[tokio::test]
async fn a_flood_is_bounded_and_leaves_other_plugins_their_part() {
    let origin = Origin::start().await;
    let outbox = Outbox::new(&origin, "max_events = 40");
    outbox.block();
    let config = outbox
        .config
        .clone()
        .plugin(PluginTable::guest("publisher").named("other").grant("outbox = ['audit.*']"))
        .route("/other", &["other"]);
    let gateway = TestGateway::start(&config).await;
    let flood = publish(&gateway, &[("x-count", "500")]).await;
    assert_eq!((result(&flood).as_str(), header(&flood, "x-ids").split(' ').count()), ("full", 30));
    let other = gateway.client().send(get("/other", &[("x-publish", "audit.x"), ("x-count", "10")])).await;
    assert_eq!(result(&other), "ok");
    outbox.let_through();
    until(|| outbox.delivered().len() == 40).await;
    until_async(async || result(&publish(&gateway, &[]).await) == "ok").await;
    assert_eq!(gateway.stop().await.code, Some(0));
}

async fn until_async(mut done: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !done().await {
        assert!(begun.elapsed() < HANGS, "it never came to that");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn events_are_listed_beside_a_gateway_and_purged_without_one() {
    let origin = Origin::start().await;
    let outbox = Outbox::new(&origin, "");
    outbox.block();
    let gateway = TestGateway::start(&outbox.config.clone().shutdown("flush = '100ms'")).await;
    assert_eq!(result(&publish(&gateway, &[("x-count", "3"), ("x-key", "k")]).await), "ok");
    let listed = outbox.command(&["ls"]).await;
    assert_eq!((listed.code, listed.stdout.matches("audit.login").count()), (Some(0), 3), "{}", listed.stderr);
    let refused = outbox.command(&["purge", "--sink", "audit", "--yes"]).await;
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stderr.contains("is in use by process") && refused.stderr.contains("hint: stop the gateway"),
        "{}",
        refused.stderr
    );
    gateway.stop().await;
    let careful = outbox.command(&["purge", "--sink", "audit"]).await;
    assert_eq!(careful.code, Some(2));
    assert!(careful.stderr.contains("3 events would be gone"), "{}", careful.stderr);
    let purged = outbox.command(&["purge", "--sink", "audit", "--yes"]).await;
    assert_eq!((purged.code, purged.stdout.as_str()), (Some(0), "3 events are gone\n"), "{}", purged.stderr);
    assert_eq!(outbox.command(&["ls"]).await.stdout, "0 events\n");
}

#[tokio::test]
async fn a_second_gateway_on_the_same_outbox_does_not_start() {
    let origin = Origin::start().await;
    let outbox = Outbox::new(&origin, "");
    let gateway = TestGateway::start(&outbox.config).await;
    let second = outbox.config.written(outbox.folder.path()).display().to_string();
    let refused = tidegate(&["run", "--config", &second]).await;
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("is in use by process") && refused.stderr.contains("hint:"), "{}", refused.stderr);
    drop(gateway);
}

#[tokio::test]
async fn a_damaged_outbox_stops_the_start_until_it_is_repaired() {
    let origin = Origin::start().await;
    let outbox = Outbox::new(&origin, "");
    std::fs::write(outbox.database(), vec![0x5a; 20_000]).expect("written");
    let config = outbox.config.written(outbox.folder.path()).display().to_string();
    let checked = tidegate(&["check", "--config", &config]).await;
    assert_eq!(checked.code, Some(0), "a check opens nothing: {}", checked.stderr);
    let refused = tidegate(&["run", "--config", &config]).await;
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stderr.contains("is damaged") && refused.stderr.contains("tidegate outbox repair"),
        "{}",
        refused.stderr
    );
    let repaired = tidegate(&["outbox", "repair", "--config", &config, "--yes"]).await;
    assert_eq!(repaired.code, Some(0), "{}", repaired.stderr);
    let gateway = TestGateway::start(&outbox.config).await;
    assert_eq!(result(&publish(&gateway, &[]).await), "ok");
    assert_eq!(gateway.stop().await.code, Some(0));
}

/// A sink that wants nothing.
struct Refuses;

impl tidegate_outbox::sink::Sink for Refuses {
    fn deliver(
        &self,
        _: Vec<std::sync::Arc<tidegate_outbox::event::Event>>,
    ) -> futures_util::future::BoxFuture<'_, Result<(), tidegate_outbox::sink::SinkError>> {
        let problem = tidegate_outbox::sink::Problem::Refused("not wanted".to_owned());
        Box::pin(std::future::ready(Err(tidegate_outbox::sink::SinkError { delivered: 0, problem })))
    }

    fn batch(&self) -> usize {
        1
    }
}

#[tokio::test]
async fn dead_letters_are_listed_and_replayed_by_the_command_and_delivered_by_the_next_start() {
    use tidegate_outbox::topic::Pattern;
    use tidegate_outbox::{Backoff, Durability, Limits, Options, SinkSpec};

    let origin = Origin::start().await;
    let outbox = Outbox::new(&origin, "");
    let options =
        Options { path: outbox.database().into(), durability: Durability::Process, limits: Limits::default() };
    let topics = vec![Pattern::parse("audit.*").expect("a pattern")];
    let sink = SinkSpec {
        name: "audit".into(),
        topics: topics.clone(),
        attempts: 1,
        backoff: Backoff::default(),
        timeout: HANGS,
        sink: std::sync::Arc::new(Refuses),
    };
    let (open, delivery) = tidegate_outbox::Outbox::open(&options, vec![sink]).expect("it opens");
    open.start(delivery);
    let draft = tidegate_outbox::event::Draft { body: "late".into(), ..Default::default() };
    let ids = open.publisher("earlier", topics).publish("audit.x", vec![draft; 2]).await.expect("accepted");
    open.flush().await;
    open.close().await;
    drop(open);

    let gateway = TestGateway::start(&outbox.config).await;
    assert_eq!(
        gateway.stop().await.report().at("/outbox"),
        &serde_json::json!({"pending": 0, "delivered": 0, "dead": 2})
    );
    let listed = outbox.command(&["ls", "--dead"]).await;
    assert_eq!(listed.stdout.matches("not wanted").count(), 2, "{}", listed.stdout);
    let one = ids[0].to_string();
    let replayed = outbox.command(&["replay", &one]).await;
    assert_eq!(replayed.stdout, "1 dead letters are pending again\n", "{}", replayed.stderr);
    assert_eq!(outbox.command(&["purge", "--dead", "--yes"]).await.stdout, "1 events are gone\n");
    let gateway = TestGateway::start(&outbox.config).await;
    until(|| outbox.delivered().len() == 1).await;
    assert_eq!(outbox.delivered()[0]["id"], one);
    assert_eq!(gateway.stop().await.code, Some(0));
}
