//! What plugins tell: their own numbers in the metrics, and their lines in the log.

use tidegate_tests::client::{Client, get};
use tidegate_tests::gateway::{ConfigFile, PluginTable, TestGateway};
use tidegate_tests::origin::Origin;

fn teller(name: &str) -> PluginTable {
    PluginTable::guest("teller").named(name).grant("metrics = true")
}

/// Plugins, each on a route of its name.
fn config(origin: &Origin, plugins: Vec<PluginTable>, names: &[&str]) -> ConfigFile {
    let config = plugins.into_iter().fold(ConfigFile::before(origin.address()), ConfigFile::plugin);
    names.iter().fold(config, |config, name| config.route(&format!("/{name}"), &[name]))
}

async fn tell(client: &Client, plugin: &str, what: &str) -> String {
    let answer = client.send(get(&format!("/{plugin}"), &[("x-tell", what)])).await;
    assert_eq!(answer.status, 200, "{what}: {}", answer.text());
    answer.header("x-told").to_owned()
}

async fn exposition(gateway: &TestGateway) -> String {
    Client::http1(gateway.admin()).get("/metrics").await.text()
}

#[tokio::test]
async fn numbers_of_plugins_stand_in_the_metrics_under_their_names() {
    let origin = Origin::start().await;
    let gateway = TestGateway::start(&config(&origin, vec![teller("a"), teller("b")], &["a", "b"])).await;
    let client = gateway.client();
    assert_eq!(tell(&client, "a", "count sent 2 sink=x; count sent_total 0.5 sink=x").await, "ok ok");
    assert_eq!(tell(&client, "b", "count sent 1; set load 0.25; add load -1; observe took 0.02").await, "ok ok ok ok");
    let sample = async |series: &str| gateway.metric(series).await;
    assert_eq!(sample("tidegate_guest_sent_total{plugin=\"a\",sink=\"x\"}").await, 2.5);
    assert_eq!(sample("tidegate_guest_sent_total{plugin=\"b\"}").await, 1.0);
    assert_eq!(sample("tidegate_guest_load{plugin=\"b\"}").await, -0.75);
    assert_eq!(sample("tidegate_guest_took_bucket{le=\"0.025\",plugin=\"b\"}").await, 1.0);
    assert_eq!(sample("tidegate_guest_took_bucket{le=\"0.01\",plugin=\"b\"}").await, 0.0);
    assert_eq!(sample("tidegate_guest_took_count{plugin=\"b\"}").await, 1.0);
    let text = exposition(&gateway).await;
    assert_eq!(text.matches("# TYPE tidegate_guest_sent counter\n").count(), 1, "{text}");
    gateway.stop().await;
}

#[tokio::test]
async fn values_of_labels_are_escaped() {
    let origin = Origin::start().await;
    let gateway = TestGateway::start(&config(&origin, vec![teller("a")], &["a"])).await;
    // A quote, a backslash, a line break and something that looks like another sample.
    let forged = r#"count sent 1 sink="q\"\\\n}\u0020666\ntidegate_up\u00201""#;
    assert_eq!(tell(&gateway.client(), "a", forged).await, "ok");
    let text = exposition(&gateway).await;
    let expected = r#"tidegate_guest_sent_total{plugin="a",sink="q\"\\\n} 666\ntidegate_up 1"} 1.0"#;
    assert!(text.lines().any(|line| line == expected), "{text}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_plugin_that_makes_more_series_than_it_may_is_refused_them_and_no_other_is() {
    let origin = Origin::start().await;
    let few = teller("a").grant("metrics = { series = 3 }");
    let gateway = TestGateway::start(&config(&origin, vec![few, teller("b")], &["a", "b"])).await;
    let client = gateway.client();
    let many: Vec<String> = (0..10).map(|n| format!("count sent 1 id={n}")).collect();
    let told = tell(&client, "a", &many.join(";")).await;
    assert_eq!((told.matches("ok").count(), told.matches("TooManySeries").count()), (3, 7), "{told}");
    assert_eq!(tell(&client, "a", "count sent 1 id=0").await, "ok", "those that are there go on");
    assert_eq!(tell(&client, "b", "count sent 1 id=9").await, "ok");
    assert_eq!(gateway.metric("tidegate_plugin_metrics_refused_total{plugin=\"a\"}").await, 7.0);
    assert_eq!(gateway.metric("tidegate_plugin_metrics_refused_total{plugin=\"b\"}").await, 0.0);
    let refused = "count sent -1; count sent 1 plugin=b; set sent 1; set x_total 1; set x NaN";
    assert_eq!(tell(&client, "b", refused).await, "Invalid Invalid OtherKind Invalid Invalid");
    let ended = gateway.stop().await;
    let complaints = ended.log.with(&[("plugin", "a"), ("name", "sent")]);
    assert_eq!(complaints.len(), 1, "said once: {}", ended.log.text());
}

#[tokio::test]
async fn a_name_has_one_kind_whichever_plugin_uses_it() {
    let origin = Origin::start().await;
    let gateway = TestGateway::start(&config(&origin, vec![teller("a"), teller("b")], &["a", "b"])).await;
    let client = gateway.client();
    assert_eq!(tell(&client, "a", "count queue 1").await, "ok");
    assert_eq!(tell(&client, "b", "set queue 1; observe queue 1; count queue 1").await, "OtherKind OtherKind ok");
    let text = exposition(&gateway).await;
    assert_eq!(text.matches("# TYPE tidegate_guest_queue ").count(), 1, "{text}");
    gateway.stop().await;
}

#[tokio::test]
async fn numbers_outlive_a_reload_of_their_plugin_and_go_with_it() {
    let origin = Origin::start().await;
    let gateway = TestGateway::start(&config(&origin, vec![teller("a"), teller("b")], &["a", "b"])).await;
    let client = gateway.client();
    let sent = "tidegate_guest_sent_total{plugin=\"a\"}";
    tell(&client, "a", "count sent 2; set load 1").await;
    let changed = teller("a").limit("memory = '16MiB'");
    gateway.reload(&config(&origin, vec![changed, teller("b")], &["a", "b"])).await;
    assert_eq!(tell(&client, "a", "count sent 1; count load 1").await, "ok ok", "a new version, a new kind");
    assert_eq!(gateway.metric(sent).await, 3.0);
    assert_eq!(gateway.metric("tidegate_guest_load_total{plugin=\"a\"}").await, 1.0);
    gateway.reload(&config(&origin, vec![teller("b")], &["b"])).await;
    gateway.until("the numbers of a plugin that is gone go", async || gateway.metric(sent).await == 0.0).await;
    assert_eq!(tell(&client, "b", "set sent 1").await, "ok", "the name is free again");
    gateway.stop().await;
}

#[tokio::test]
async fn without_the_grant_the_plugin_is_refused_and_the_key_is_named() {
    let origin = Origin::start().await;
    let refused = config(&origin, vec![PluginTable::guest("teller")], &["teller"]);
    let folder = tempfile::tempdir().expect("a folder");
    let file = refused.written(folder.path()).display().to_string();
    let checked = tidegate_tests::gateway::tidegate(&["check", "--config", &file]).await;
    assert_eq!(checked.code, Some(2), "{}", checked.stderr);
    assert!(checked.stderr.contains("metrics = true"), "{}", checked.stderr);
}

#[tokio::test]
async fn more_lines_than_the_limit_are_dropped_counted_and_said_once_a_second() {
    let origin = Origin::start().await;
    let quiet = teller("a").limit("log_lines = 50");
    let gateway = TestGateway::start(&config(&origin, vec![quiet, teller("b")], &["a", "b"])).await;
    let client = gateway.client();
    for _ in 0..10 {
        tell(&client, "a", "log 300").await;
    }
    tell(&client, "b", "log 300").await;
    let dropped = gateway.metric("tidegate_plugin_log_dropped_total{plugin=\"a\"}").await;
    assert!(dropped > 0.0, "3000 lines do not come at 50 a second");
    assert_eq!(gateway.metric("tidegate_plugin_log_dropped_total{plugin=\"b\"}").await, 0.0);
    let ended = gateway.stop().await;
    let lines = |plugin| ended.log.with(&[("plugin", plugin), ("hook", "on-request")]).len();
    assert_eq!(lines("a") as f64 + dropped, 3000.0, "each line is there or counted");
    assert_eq!(lines("b"), 300);
    // Each dropped line is in one of the notices.
    let notices = ended.log.with(&[("plugin", "a"), ("level", "WARN")]);
    let said: u64 = notices.iter().filter_map(|notice| notice["dropped"].as_u64()).sum();
    assert_eq!(said as f64, dropped, "{notices:#?}");
}

#[tokio::test]
async fn stdout_and_stderr_come_line_by_line_and_an_unfinished_one_when_its_call_ends() {
    let origin = Origin::start().await;
    let gateway = TestGateway::start(&config(&origin, vec![teller("a")], &["a"])).await;
    let client = gateway.client();
    let send =
        async |id: &str, what: &str| client.send(get("/a", &[("x-tell", what), ("x-request-id", id)])).await.status;
    assert_eq!(send("one", "outln first; out second; err third").await, 200);
    let lines = |log: &tidegate_tests::gateway::Log, id: &str| {
        let lines = log.with(&[("plugin", "a"), ("hook", "on-request"), ("request", id)]);
        let text = |key: &str, line: &serde_json::Value| line[key].as_str().unwrap_or_default().to_owned();
        lines.iter().map(|line| (text("context", line), text("message", line))).collect::<Vec<_>>()
    };
    let pair = |(context, message): (&str, &str)| (context.to_owned(), message.to_owned());
    let expected = [("stdout", "first"), ("stdout", "second"), ("stderr", "third")].map(pair);
    // Before another call begins.
    gateway.until("the lines of the call are there", async || lines(&gateway.log(), "one") == expected).await;
    assert_eq!(send("two", "out last words; trap").await, 503);
    let ended = gateway.stop().await;
    assert!(lines(&ended.log, "two").contains(&pair(("stdout", "last words"))), "{}", ended.log.text());
}
