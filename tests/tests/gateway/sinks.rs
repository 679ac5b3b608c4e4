//! Events of a plugin at receivers elsewhere: a web server with TLS and a NATS server, both real.

use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;
use tidegate_tests::client::{Client, get};
use tidegate_tests::gateway::{ConfigFile, PluginTable, TestGateway, tidegate};
use tidegate_tests::nats::{NatsServer, header};
use tidegate_tests::origin::Origin;
use tidegate_tests::receiver::{Receiver, Reply};

const KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz";

/// A gateway's config with a publisher on `/`, an outbox, and these sinks for `audit.>`.
struct Setting {
    folder: TempDir,
    origin: Origin,
    sinks: String,
}

impl Setting {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("no temporary folder: {error}"));
        Self { folder, origin: Origin::start().await, sinks: String::new() }
    }

    fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A file beside the config.
    fn file(&self, name: &str, text: &str) -> String {
        let file = self.folder().join(name);
        std::fs::write(&file, text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        file.display().to_string()
    }

    fn sink(mut self, kind: &str, keys: &str) -> Self {
        self.sinks.push_str(&format!(
            "[[outbox.sink]]\nname = '{kind}'\nkind = '{kind}'\ntopic = 'audit.>'\nbackoff = '20ms'\nmax_backoff = '200ms'\n{keys}\n"
        ));
        self
    }

    fn config(&self) -> ConfigFile {
        let outbox = format!("[outbox]\npath = '{}'\n{}", self.folder().join("outbox.db").display(), self.sinks);
        ConfigFile::before(self.origin.address())
            .plugin(PluginTable::guest("publisher").grant("outbox = ['audit.>']"))
            .route("/", &["publisher"])
            .section(&outbox)
    }
}

/// Publish an event under the key `alice`. Its id.
async fn publish(gateway: &TestGateway, body: &str) -> String {
    let fields =
        [("x-publish", "audit.login"), ("x-key", "alice"), ("x-body", body), ("x-content-type", "application/json")];
    let answer = gateway.client().send(get("/", &fields)).await;
    assert_eq!(answer.header("x-published"), "ok", "{}", gateway.log().text());
    answer.header("x-ids").to_owned()
}

/// What is said of a sink.
async fn sink(gateway: &TestGateway, name: &str) -> Value {
    let shown = Client::http1(gateway.admin()).get("/v1/outbox").await.json();
    let sinks = shown["sinks"].as_array().cloned().unwrap_or_default();
    sinks.into_iter().find(|sink| sink["name"] == name).unwrap_or_else(|| panic!("no sink {name}: {shown}"))
}

#[tokio::test]
async fn an_event_arrives_over_tls_with_a_right_signature() {
    let (receiver, setting) = (Receiver::start_tls().await, Setting::new().await);
    let secret = setting.file("secret", &format!("whsec_{KEY}\n"));
    let authority = setting.file("authority.pem", receiver.authority());
    let authorization = setting.file("authorization", "Bearer s3cr3t\n");
    let url = receiver.url();
    let setting = setting.sink(
        "webhook",
        &format!(
            "url = '{url}'\nsecret_file = '{secret}'\nca_file = '{authority}'\nauthorization_file = '{authorization}'\n\
             headers = {{ x-tenant = 'blue' }}\nsource = 'https://gateway.example'"
        ),
    );
    let gateway = TestGateway::start(&setting.config().log("level = 'trace'")).await;
    let id = publish(&gateway, "{\"user\":\"alice\"}").await;
    let received = receiver.has(1).await.remove(0);
    assert_eq!(received.target, "/events");
    for (name, value) in [
        ("ce-id", &*id),
        ("webhook-id", &*id),
        ("ce-type", "audit.login"),
        ("ce-subject", "alice"),
        ("ce-source", "https://gateway.example/plugins/publisher"),
        ("content-type", "application/json"),
        ("authorization", "Bearer s3cr3t"),
        ("x-tenant", "blue"),
    ] {
        assert_eq!(received.header(name), value, "{name}");
    }
    assert_eq!(received.body, "{\"user\":\"alice\"}");
    assert!(received.is_signed_with(KEY), "{received:?}");
    gateway.until("nothing waits", async || gateway.metric("tidegate_outbox_pending").await == 0.0).await;
    let ended = gateway.stop().await;
    assert_eq!(ended.code, Some(0));
    for secret in [KEY, "s3cr3t", "0123456789"] {
        assert!(!ended.log.text().contains(secret), "{secret} is in the log");
    }
}

#[tokio::test]
async fn a_receiver_that_asks_for_time_gets_it_and_everything_after_that() {
    let (receiver, setting) = (Receiver::start().await, Setting::new().await);
    receiver.behave(|before, _| match before {
        0 => Reply::With(429, ("retry-after", "1".into()), "slow down".into()),
        _ => Reply::Status(200),
    });
    let setting = setting.sink("webhook", &format!("url = '{}'", receiver.url()));
    let gateway = TestGateway::start(&setting.config()).await;
    let first = publish(&gateway, "1").await;
    receiver.has(1).await;
    gateway.until("the sink is stalled", async || sink(&gateway, "webhook").await["state"] == "stalled").await;
    let said = sink(&gateway, "webhook").await["last_error"].to_string();
    assert!(said.contains("429 Too Many Requests: slow down"), "{said}");
    let second = publish(&gateway, "2").await;
    let received = receiver.has(3).await;
    let ids: Vec<_> = received.iter().map(|received| received.header("ce-id")).collect();
    assert_eq!(ids, [&first, &first, &second]);
    assert_eq!(gateway.stop().await.code, Some(0));
}

#[tokio::test]
async fn what_a_receiver_refuses_is_a_dead_letter_and_can_be_sent_again() {
    let (receiver, setting) = (Receiver::start().await, Setting::new().await);
    receiver.behave(|_, _| Reply::With(422, ("x-any", "thing".into()), "no such tenant".into()));
    let setting = setting.sink("webhook", &format!("url = '{}'\nattempts = 2", receiver.url()));
    let gateway = TestGateway::start(&setting.config()).await;
    let id = publish(&gateway, "1").await;
    gateway.until("it is given up", async || sink(&gateway, "webhook").await["dead"] == 1).await;
    gateway.stop().await;
    let file = setting.folder().join("outbox.db").display().to_string();
    let listed = tidegate(&["outbox", "ls", "--path", &file]).await.stdout;
    assert!(listed.contains(&id) && listed.contains("422") && listed.contains("no such tenant"), "{listed}");
    receiver.behave(|_, _| Reply::Status(200));
    let replayed = tidegate(&["outbox", "replay", "--path", &file, &id]).await;
    assert_eq!(replayed.code, Some(0), "{}", replayed.stderr);
    let before = receiver.counts().requests;
    let gateway = TestGateway::start(&setting.config()).await;
    let received = receiver.has(before + 1).await;
    assert_eq!(received.last().map(|received| received.header("ce-id")), Some(&*id));
    gateway.until("nothing waits", async || gateway.metric("tidegate_outbox_pending").await == 0.0).await;
    assert_eq!(gateway.stop().await.code, Some(0));
}

#[tokio::test]
async fn a_broker_that_is_killed_and_comes_back_has_every_event_once_per_id() {
    let Some(mut broker) = NatsServer::start().await else { return };
    let setting = Setting::new().await;
    let keys =
        format!("url = '{}'\nprefix = 'tidegate'\nstream = 'EVENTS'\ncreate = true\ntimeout = '2s'", broker.url());
    let setting = setting.sink("nats", &keys);
    let gateway = TestGateway::start(&setting.config()).await;
    let mut ids = Vec::new();
    for number in 0..20 {
        ids.push(publish(&gateway, &number.to_string()).await);
    }
    broker.kill();
    for number in 20..40 {
        ids.push(publish(&gateway, &number.to_string()).await);
    }
    gateway.until("the sink is stalled", async || sink(&gateway, "nats").await["state"] == "stalled").await;
    broker.restart().await;
    gateway.until("nothing waits", async || gateway.metric("tidegate_outbox_pending").await == 0.0).await;
    let stored = broker.stored("EVENTS").await;
    let there: Vec<_> = stored.iter().map(|message| header(message, "Nats-Msg-Id")).collect();
    assert_eq!(there, ids, "all of them, in their order, each once");
    assert!(stored.iter().all(|message| message.subject.as_str() == "tidegate.audit.login"));
    assert!(stored.iter().all(|message| header(message, "ce-source") == "/plugins/publisher"));
    assert_eq!(gateway.stop().await.code, Some(0));
}

#[tokio::test]
async fn a_gateway_that_is_killed_while_it_delivers_sends_again_under_the_same_id() {
    let (receiver, setting) = (Receiver::start().await, Setting::new().await);
    // It takes the event, and the gateway never hears of it.
    receiver.behave(|before, _| if before == 0 { Reply::Never } else { Reply::Status(200) });
    let setting = setting.sink("webhook", &format!("url = '{}'", receiver.url()));
    let mut gateway = TestGateway::start(&setting.config()).await;
    let id = publish(&gateway, "1").await;
    receiver.has(1).await;
    gateway.signal(tidegate_tests::gateway::Signal::KILL);
    gateway.wait().await;
    let gateway = TestGateway::start(&setting.config()).await;
    let received = receiver.has(2).await;
    for received in &received {
        assert_eq!((received.header("ce-id"), &*received.body), (&*id, &b"1"[..]));
    }
    assert_eq!(gateway.stop().await.code, Some(0));
}

#[tokio::test]
async fn a_gateway_starts_and_stops_whoever_is_not_there_and_keeps_what_they_have_not_got() {
    let setting = Setting::new().await;
    let nobody = tidegate_tests::origin::nobody().await;
    let setting = setting
        .sink("webhook", &format!("url = 'http://{nobody}/'"))
        .sink("nats", &format!("url = 'nats://{nobody}'\nstream = 'EVENTS'\ncreate = true"));
    let config = setting.config().shutdown("grace = '8s'").shutdown("drain = '1s'");
    let gateway = TestGateway::start(&config).await;
    publish(&gateway, "1").await;
    gateway.until("the webhook is stalled", async || sink(&gateway, "webhook").await["state"] == "stalled").await;
    let ended = gateway.stop().await;
    assert_eq!(ended.code, Some(12), "two deliveries are left");
    assert_eq!(ended.report().number("/outbox/pending"), 2);
}
