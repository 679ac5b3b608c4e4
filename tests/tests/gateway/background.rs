//! Work after the response, end to end: no response waits for it, a flood of it is bounded, and what was taken is done or
//! named in the report, whatever ends the plugin.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::Value;
use tidegate_tests::client::{Client, get};
use tidegate_tests::gateway::{ConfigFile, Ended, PluginTable, TestGateway};
use tidegate_tests::origin::Origin;

/// A plugin that puts off what a request says; its limits are not met by chance.
fn later() -> PluginTable {
    PluginTable::guest("later").grant("background = true").limit("deferred = '20s'")
}

fn serving(origin: &Origin, plugin: PluginTable) -> ConfigFile {
    ConfigFile::before(origin.address()).plugin(plugin).route("/", &["later"])
}

/// Have this put off, and be told by the plugin how many were taken.
async fn put_off(client: &Client, what: &str) -> u64 {
    let answer = client.send(get("/", &[("x-defer", what), ("x-reply", "1")])).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let taken = answer.text().split([' ', ',']).nth(1).and_then(|taken| taken.parse().ok());
    taken.unwrap_or_else(|| panic!("{}", answer.text()))
}

async fn done(gateway: &TestGateway, outcome: &str) -> f64 {
    gateway.metric(&format!("tidegate_plugin_deferred_total{{plugin=\"later\",outcome=\"{outcome}\"}}")).await
}

fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_else(|| panic!("no number {key} in {value:#}"))
}

/// What the report says of the plugin's work: accepted, completed, failed, left. They add up, and stand in the rows of the
/// instances, too.
fn accounted(ended: &Ended) -> (u64, u64, u64, u64) {
    let report = ended.report();
    let [row] = &report.at("/deferred").as_array().expect("a list")[..] else { panic!("{:#}", report.0) };
    let (accepted, completed) = (number(row, "accepted"), number(row, "completed"));
    let (failed, left) = (number(row, "failed"), number(row, "left"));
    assert_eq!(accepted, completed + failed + left + number(row, "handed_over"), "{row:#}");
    let in_rows: u64 = report.plugin("later").into_iter().map(|row| number(row, "deferred_left")).sum();
    assert_eq!(in_rows, left, "{:#}", report.0);
    (accepted, completed, failed, left)
}

#[tokio::test]
async fn a_response_does_not_wait_for_the_work_it_leaves_behind() {
    let origin = Origin::start().await;
    let gateway = TestGateway::start(&serving(&origin, later().set("instances = 2"))).await;
    // It never ends; the response is there all the same.
    let answer = gateway.client().send(get("/", &[("x-defer", "hang"), ("x-request-id", "who-asked")])).await;
    assert_eq!(answer.status, 200);
    let running = async || gateway.plugin("later").await["deferred"]["running"] == 1;
    gateway.until("it is being worked on", running).await;
    assert_eq!(put_off(&gateway.client(), "1 ok").await, 1);
    assert_eq!(gateway.metric("tidegate_plugin_deferred_waiting{plugin=\"later\"}").await, 1.0);
    let line = &[("hook", "on-deferred"), ("message", "deferred hang")];
    gateway.until("it is logged", async || !gateway.log().with(line).is_empty()).await;
    let [line] = &gateway.log().with(line)[..] else { panic!("{}", gateway.log().text()) };
    assert!(line["request"].as_str().is_some_and(|id| !id.is_empty()), "the request it is for: {line}");
}

#[tokio::test]
async fn a_burst_at_sigterm_is_done_before_the_shutdown_and_the_numbers_add_up() {
    let origin = Origin::start().await;
    let plugin =
        later().set("instances = 2").deferred("concurrency = 2").deferred("drain = '7s'").limit("shutdown = '1s'");
    let mut gateway = TestGateway::start(&serving(&origin, plugin)).await;
    let client = gateway.client();
    let taken: u64 = join_all((0..20).map(|_| put_off(&client, "10 sleep=1"))).await.into_iter().sum();
    gateway.terminate();
    let ended = gateway.wait().await;
    assert_eq!((taken, accounted(&ended)), (200, (200, 200, 0, 0)));
    assert_eq!((ended.code, ended.report().outcomes("later")), (Some(0), vec!["completed"; 2]));
    let said = |text: &str| ended.log.text().contains(text);
    assert!(said("Some(Stopping)"), "in `shutdown` nothing is put off any more\n{}", ended.log.text());
}

#[tokio::test]
async fn what_there_is_no_time_for_is_named_in_the_report_and_in_the_exit_code() {
    let origin = Origin::start().await;
    let plugin = later().deferred("drain = '100ms'").limit("deferred = '300ms'");
    let gateway = TestGateway::start(&serving(&origin, plugin)).await;
    assert_eq!(put_off(&gateway.client(), "50 hang").await, 50);
    let ended = gateway.stop().await;
    let (accepted, completed, failed, left) = accounted(&ended);
    assert_eq!((accepted, completed), (50, 0));
    assert!(failed >= 1 && left >= 40, "{failed} failed, {left} left");
    assert_eq!(ended.code, Some(11));
    let line = &[("message", "work that was put off is dropped: there is no time for it")];
    assert_eq!(ended.log.with(line).len(), 1, "{}", ended.log.text());
}

#[tokio::test]
async fn work_that_outlasts_its_share_is_cut_at_the_end_of_the_stop_and_not_later() {
    let origin = Origin::start().await;
    let plugin = later().deferred("drain = '100ms'").limit("shutdown = '200ms'");
    let gateway = TestGateway::start(&serving(&origin, plugin)).await;
    assert_eq!(put_off(&gateway.client(), "3 spin").await, 3);
    let running = async || gateway.plugin("later").await["deferred"]["running"] == 1;
    gateway.until("it is being worked on", running).await;
    let ended = gateway.stop().await;
    assert_eq!(accounted(&ended), (3, 0, 1, 2));
    assert_eq!((ended.code, ended.report().outcomes("later")), (Some(11), vec!["overran"]));
    assert!(ended.took < Duration::from_secs(10), "{:?}", ended.took);
}

#[tokio::test]
async fn a_second_signal_ends_the_work_and_names_what_is_left() {
    let origin = Origin::start().await;
    let plugin = later().deferred("drain = '5s'").limit("shutdown = '1s'");
    let mut gateway = TestGateway::start(&serving(&origin, plugin)).await;
    assert_eq!(put_off(&gateway.client(), "10 hang").await, 10);
    let running = async || gateway.plugin("later").await["deferred"]["running"] == 1;
    gateway.until("it is being worked on", running).await;
    gateway.terminate();
    gateway.reaches("stopping").await;
    gateway.terminate();
    let ended = gateway.wait().await;
    assert_eq!((ended.code, accounted(&ended)), (Some(143), (10, 0, 1, 9)));
}

#[tokio::test]
async fn a_flood_is_bounded_and_other_plugins_do_not_notice() {
    let origin = Origin::start().await;
    let plugin = later()
        .deferred("queue = 100")
        .deferred("bytes = '64KiB'")
        .deferred("drain = '0s'")
        .limit("shutdown = '300ms'");
    let config = ConfigFile::before(origin.address())
        .plugin(plugin)
        .plugin(PluginTable::guest("counter"))
        .route("/", &["later"])
        .route("/count", &["counter"]);
    let gateway = TestGateway::start(&config).await;
    let client = gateway.client();
    assert_eq!(put_off(&client, "hang").await, 1);
    let before = gateway.resident();
    // The instance is not there for a while: the requests wait for it, and each asks for 32 MiB.
    let running = async || gateway.plugin("later").await["deferred"]["running"] == 1;
    gateway.until("the one instance is being used", running).await;
    let held = tokio::time::timeout(Duration::from_millis(200), put_off(&client, "1000 size=32768")).await;
    assert!(held.is_err(), "a plugin with one instance has none for requests meanwhile");
    for count in 1..=20 {
        let answer = gateway.get("/count").await;
        assert_eq!((answer.status, answer.header("x-count")), (200, count.to_string().as_str()));
    }
    let ended = gateway.order("/v1/plugins/later/disable?wait=true").await;
    assert_eq!(ended.status, 200, "{}", ended.text());
    assert_eq!(gateway.order("/v1/plugins/later/enable").await.status, 200);
    let taken = put_off(&gateway.client(), "1000 size=32768").await;
    assert_eq!(taken, 2, "as many as there are bytes for");
    assert!(done(&gateway, "refused").await >= 998.0);
    assert!(gateway.resident().saturating_sub(before) < 64 << 20, "{before} bytes before, {} now", gateway.resident());
}

#[tokio::test]
async fn a_reload_lets_the_old_version_work_off_its_own_queue_while_the_new_one_serves() {
    let origin = Origin::start().await;
    let version = |told: &str| {
        serving(&origin, later().config(told).deferred("queue = 30").deferred("drain = '7s'").limit("shutdown = '1s'"))
    };
    let gateway = TestGateway::start(&version("on_tick = 'ok'")).await;
    let taken = put_off(&gateway.client(), "40 sleep=10").await;
    assert_eq!(taken, 30, "its queue is full");
    let answer = gateway.reload(&version("on_tick = 'error'")).await;
    assert_eq!(answer["stopped"], serde_json::json!(["later"]));
    assert_eq!((done(&gateway, "completed").await, done(&gateway, "left").await), (30.0, 0.0));
    assert_eq!(put_off(&gateway.client(), "5 ok").await, 5);
    gateway.until("the new one's is done", async || done(&gateway, "completed").await == 35.0).await;
}

#[tokio::test]
async fn a_plugin_that_a_reload_keeps_keeps_its_queue() {
    let origin = Origin::start().await;
    let config = serving(&origin, later());
    let gateway = TestGateway::start(&config).await;
    assert_eq!(put_off(&gateway.client(), "20 sleep=5").await, 20);
    let answer = gateway.reload(&config.clone().route("/more", &[])).await;
    assert_eq!(answer["kept"], serde_json::json!(["later"]));
    gateway.until("all of it is done", async || done(&gateway, "completed").await == 20.0).await;
    assert_eq!(accounted(&gateway.stop().await), (20, 20, 0, 0));
}

#[tokio::test]
async fn a_plugin_that_is_disabled_works_off_its_queue_first() {
    let origin = Origin::start().await;
    let plugin = later().deferred("drain = '7s'").limit("shutdown = '1s'");
    let gateway = TestGateway::start(&serving(&origin, plugin)).await;
    assert_eq!(put_off(&gateway.client(), "20 sleep=5").await, 20);
    let answer = gateway.order("/v1/plugins/later/disable?wait=true").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    gateway
        .until("nothing is left of it", async || {
            gateway.metric("tidegate_stores_live{plugin=\"later\",generation=\"1\"}").await == 0.0
        })
        .await;
    assert_eq!((done(&gateway, "completed").await, done(&gateway, "left").await), (20.0, 0.0));
}

#[tokio::test]
async fn ticks_go_on_under_load_and_end_with_the_plugin() {
    let origin = Origin::start().await;
    let plugin = later().set("instances = 2").set("tick = '20ms'").config("on_tick = 'sleep=1'");
    let gateway = TestGateway::start(&serving(&origin, plugin)).await;
    let client = gateway.client();
    let ticks = async || gateway.calls("later", "on-tick", "ok").await;
    let load = join_all((0..8).map(|_| async {
        while ticks().await < 10.0 {
            put_off(&client, "1 ok").await;
        }
    }));
    tokio::time::timeout(Duration::from_secs(60), load).await.expect("it is ticked");
    // In the middle of ticks.
    let ended = gateway.stop().await;
    assert_eq!((ended.code, ended.report().outcomes("later")), (Some(0), vec!["completed"; 2]));
    let (accepted, completed, ..) = accounted(&ended);
    assert_eq!(accepted, completed);
}
