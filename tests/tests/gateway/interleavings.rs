//! Two things at once: signals, reloads and switches in the middle of each other. Nothing hangs, nothing is lost, and the
//! report has every instance once, with its reason.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use tidegate_tests::client::{Answer, Client, Crowd, get, post};
use tidegate_tests::gateway::{ConfigFile, Ended, PluginTable, Signal, TestGateway};
use tidegate_tests::origin::Origin;
use tokio::task::JoinHandle;

/// What must not be waited for takes longer.
const PROMPTLY: Duration = Duration::from_secs(20);

/// `steady` and `other`, two instances each, `other` with this behaviour in its hooks.
fn config(origin: &Origin, other: PluginTable) -> ConfigFile {
    ConfigFile::before(origin.address())
        .plugin(PluginTable::guest("counter").named("steady").set("instances = 2"))
        .plugin(other.set("instances = 2"))
        .route("/", &["steady", "other"])
}

fn other() -> PluginTable {
    PluginTable::hostile("other")
}

/// Wait until the log has a line with these fields.
async fn said(gateway: &TestGateway, fields: &[(&str, &str)]) {
    gateway.until(&format!("the log says {fields:?}"), async || !gateway.log().with(fields).is_empty()).await;
}

/// POST to the admin API, and go on.
fn asked(gateway: &TestGateway, path: &str) -> JoinHandle<Result<Answer, String>> {
    let (admin, request) = (Client::http1(gateway.admin()), post(path, &[], ""));
    tokio::spawn(async move { admin.try_send(request).await })
}

/// Stores of a plugin, whatever their generation.
async fn stores(gateway: &TestGateway, plugin: &str) -> f64 {
    of_plugin(&gateway.series("tidegate_stores_live").await, plugin)
}

/// Instances of a plugin that have been stopped.
async fn stops(gateway: &TestGateway, plugin: &str) -> f64 {
    of_plugin(&gateway.series("tidegate_plugin_stops_total").await, plugin)
}

fn of_plugin(series: &[(String, f64)], plugin: &str) -> f64 {
    let label = format!("plugin=\"{plugin}\"");
    series.iter().filter(|(labels, _)| labels.contains(&label)).map(|(_, value)| value).sum()
}

/// The report has these instances and no others, each of them once: name, generation, number, reason, outcome.
fn exactly(ended: &Ended, expected: &[(&str, u64, u64, &str, &str)]) {
    let entries = ended.report().at("/plugins").as_array().cloned().unwrap_or_default();
    let text = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    let number = |entry: &Value, key: &str| entry[key].as_u64().unwrap_or(u64::MAX);
    let found: BTreeSet<_> = entries
        .iter()
        .map(|entry| {
            let (name, reason, outcome) = (text(entry, "name"), text(entry, "reason"), text(entry, "outcome"));
            (name, number(entry, "generation"), number(entry, "instance"), reason, outcome)
        })
        .collect();
    let expected: BTreeSet<_> = expected
        .iter()
        .map(|(name, generation, instance, reason, outcome)| {
            ((*name).to_owned(), *generation, *instance, (*reason).to_owned(), (*outcome).to_owned())
        })
        .collect();
    assert_eq!(found, expected, "{:#}\n{}", ended.report().0, ended.log.text());
    assert_eq!(entries.len(), found.len(), "one of them is there twice: {:#}", ended.report().0);
}

/// Both instances of a plugin.
fn both<'a>(
    name: &'a str,
    generation: u64,
    reason: &'a str,
    outcome: &'a str,
) -> [(&'a str, u64, u64, &'a str, &'a str); 2] {
    [0, 1].map(|instance| (name, generation, instance, reason, outcome))
}

/// However many lives the plugins have had: nothing is in the report twice, all that were stopped ended well, and
/// nothing is missing that was alive at the end.
fn once_each(ended: &Ended) {
    let entries = ended.report().at("/plugins").as_array().cloned().unwrap_or_default();
    let key = |entry: &Value, name: &str| {
        format!("{}, generation {}, instance {}", entry[name], entry["generation"], entry["instance"])
    };
    let reported: BTreeSet<String> = entries.iter().map(|entry| key(entry, "name")).collect();
    assert_eq!(reported.len(), entries.len(), "one of them is there twice: {:#}", ended.report().0);
    let logged = ended.log.with(&[("message", "plugin instance stopped")]);
    let stopped: BTreeSet<String> = logged.iter().map(|line| key(line, "plugin")).collect();
    assert_eq!(stopped.len(), logged.len(), "one was stopped twice: {}", ended.log.text());
    assert!(logged.iter().all(|line| line["outcome"] == "completed"), "{}", ended.log.text());
    assert!(reported.is_subset(&stopped), "reported without having stopped: {:#}", ended.report().0);
    for name in ["steady", "other"] {
        let terminated = ended.log.with(&[("plugin", name), ("reason", "terminate")]);
        assert_eq!(terminated.len(), 2, "{name}: {}", ended.log.text());
    }
}

#[tokio::test]
async fn sigterm_while_plugins_are_compiled_at_start_up() {
    let origin = Origin::start().await;
    let config = config(&origin, other()).without_cache();
    let mut starting = TestGateway::spawn(&config);
    starting.hears(Signal::TERM).await;
    // Compiling takes a second and more, in a process that has just begun with it.
    starting.signal(Signal::TERM);
    let ended = starting.wait().await;
    assert_eq!(ended.code, Some(0), "{}", ended.log.text());
    assert_eq!(ended.log.with(&[("message", "stopped before it was ready")]).len(), 1, "{}", ended.log.text());
    exactly(&ended, &[]);
}

#[tokio::test]
async fn sigterm_in_the_middle_of_a_reload_gives_it_up_and_stops_what_serves() {
    for how in ["sleep=40000", "busy=40000"] {
        let origin = Origin::start().await;
        let mut gateway = TestGateway::start(&config(&origin, other())).await;
        let slow = other().config(&format!("configure = '{how}'")).limit("configure = '60s'");
        gateway.rewrite(&config(&origin, slow).plugin(PluginTable::example("stamp").named("new")));
        let reload = asked(&gateway, "/v1/reload?wait=true");
        // One new plugin is there, so the other one is being configured.
        said(&gateway, &[("message", "plugin loaded"), ("plugin", "new")]).await;
        assert_eq!(gateway.get("/").await.status, 200);
        gateway.terminate();
        let ended = gateway.wait().await;
        assert_eq!(ended.code, Some(0), "{how}: {}", ended.log.text());
        assert!(ended.took < PROMPTLY, "{how}: {:?}", ended.took);
        let kept = [both("steady", 1, "terminate", "completed"), both("other", 1, "terminate", "completed")];
        exactly(&ended, kept.as_flattened());
        // It is told so, unless the process was faster.
        assert!(reload.await.is_ok_and(|answer| answer.is_err() || answer.is_ok_and(|answer| answer.status == 503)));
        assert_eq!(ended.log.with(&[("message", "reload applied")]).len(), 0, "{how}");
    }
}

#[tokio::test]
async fn sigterm_while_exchanges_of_a_disabled_plugin_are_under_way_lets_them_end() {
    let origin = Origin::start().await;
    let mut gateway = TestGateway::start(&config(&origin, other())).await;
    let client = gateway.client();
    let held = tokio::spawn(async move { client.try_send(get("/", &[("x-origin", "hold")])).await });
    origin.holds(1).await;
    let disable = asked(&gateway, "/v1/plugins/other/disable?wait=true");
    said(&gateway, &[("message", "plugin taken out")]).await;
    gateway.terminate();
    gateway.reaches("draining").await;
    origin.release();
    let ended = gateway.wait().await;
    assert!(held.await.is_ok_and(|answer| answer.is_ok_and(|answer| answer.status == 200)), "it could finish");
    assert!(disable.await.is_ok_and(|answer| answer.is_err() || answer.is_ok_and(|answer| answer.status == 200)));
    assert_eq!((ended.code, ended.report().number("/requests/cut")), (Some(0), 0), "{}", ended.log.text());
    // With the last exchange both ends begin, that of the plugin and that of the process; one of them is first.
    let reason = ended.report().at("/plugins/2/reason").as_str().unwrap_or_default().to_owned();
    assert!(["disable", "terminate"].contains(&&*reason), "{:#}", ended.report().0);
    exactly(
        &ended,
        [both("steady", 1, "terminate", "completed"), both("other", 1, &reason, "completed")].as_flattened(),
    );
}

#[tokio::test]
async fn sigterm_while_a_disabled_plugin_shuts_down_waits_for_it_within_its_budget() {
    for (how, outcome, code) in [("sleep=1000", "completed", 0), ("spin", "overran", 11)] {
        let origin = Origin::start().await;
        let hostile = other().config(&format!("shutdown = '{how}'")).limit("shutdown = '3s'");
        let mut gateway = TestGateway::start(&config(&origin, hostile)).await;
        gateway.post("/v1/plugins/other/disable").await;
        gateway.terminate();
        let ended = gateway.wait().await;
        let reasons = [both("steady", 1, "terminate", "completed"), both("other", 1, "disable", outcome)];
        exactly(&ended, reasons.as_flattened());
        assert_eq!(ended.code, Some(code), "{how}: {:#}", ended.report().0);
    }
}

#[tokio::test]
async fn a_second_signal_while_a_reload_retires_a_plugin_ends_it_at_once() {
    let origin = Origin::start().await;
    let slow = |how: &str| {
        let plugin = other().config(&format!("shutdown = '{how}'")).limit("shutdown = '40s'");
        config(&origin, plugin).shutdown("grace = '160s'").shutdown("drain = '40s'")
    };
    let mut gateway = TestGateway::start(&slow("spin")).await;
    gateway.rewrite(&slow("sleep"));
    gateway.post("/v1/reload").await;
    gateway.terminate();
    gateway.reaches("stopping").await;
    gateway.until("a plugin has stopped", async || stops(&gateway, "steady").await == 2.0).await;
    gateway.signal(Signal::INT);
    let ended = gateway.wait().await;
    assert_eq!(ended.code, Some(130), "{}", ended.log.text());
    assert!(ended.took < PROMPTLY, "{:?}", ended.took);
    let reasons = [
        both("steady", 1, "terminate", "completed"),
        both("other", 1, "reload", "abandoned"),
        both("other", 2, "terminate", "abandoned"),
    ];
    exactly(&ended, reasons.as_flattened());
}

#[tokio::test]
async fn two_reloads_at_once_make_two_generations_and_lose_nothing() {
    let origin = Origin::start().await;
    let gateway = TestGateway::start(&config(&origin, other())).await;
    let crowd = Crowd::of(gateway.address());
    let reloads = async {
        gateway.until("requests come in", async || origin.requests() > 20).await;
        for round in 0..10_u64 {
            gateway.rewrite(&config(&origin, other().config(&format!("count = {round}"))));
            let reload = || gateway.post("/v1/reload?wait=true");
            let (one, two) = tokio::join!(reload(), reload());
            let generations = BTreeSet::from([&one, &two].map(|answer| answer["generation"].as_u64()));
            assert_eq!(generations, BTreeSet::from([Some(2 + round * 2), Some(3 + round * 2)]));
        }
        crowd.over.now();
    };
    let (tally, ()) = tokio::join!(crowd.ask(0), reloads);
    assert!(tally.lost.is_empty() && tally.elsewhere == 0 && tally.answered > 20, "{tally:#?}");
    let ended = gateway.stop().await;
    assert_eq!(ended.code, Some(0), "{}", ended.log.text());
    // Of each two reloads, the second one found nothing that had changed.
    exactly(
        &ended,
        [both("steady", 1, "terminate", "completed"), both("other", 20, "terminate", "completed")].as_flattened(),
    );
}

#[tokio::test]
async fn a_reload_and_a_disable_at_once_are_both_done_and_lose_nothing() {
    let origin = Origin::start().await;
    let open = || other().set("on_failure = 'open'");
    let gateway = TestGateway::start(&config(&origin, open())).await;
    let crowd = Crowd::of(gateway.address());
    let changes = async {
        gateway.until("requests come in", async || origin.requests() > 20).await;
        for round in 0..10_u64 {
            gateway.rewrite(&config(&origin, open().config(&format!("count = {round}"))));
            tokio::join!(gateway.post("/v1/reload?wait=true"), gateway.post("/v1/plugins/other/disable?wait=true"));
            assert_eq!(stores(&gateway, "other").await, 0.0, "round {round}");
            let enabled = gateway.post("/v1/plugins/other/enable").await;
            assert_eq!((&enabled["changed"], &enabled["state"]), (&true.into(), &"serving".into()), "{enabled}");
            assert_eq!(stores(&gateway, "other").await, 2.0, "round {round}");
        }
        crowd.over.now();
    };
    let (tally, ()) = tokio::join!(crowd.ask(0), changes);
    assert!(tally.lost.is_empty() && tally.elsewhere == 0 && tally.answered > 20, "{tally:#?}");
    let ended = gateway.stop().await;
    let last = ended.report().at("/plugins/2/generation").as_u64().unwrap_or_default();
    assert_eq!((ended.code, last), (Some(0), 31), "three changes a round: {}", ended.log.text());
    exactly(
        &ended,
        [both("steady", 1, "terminate", "completed"), both("other", 31, "terminate", "completed")].as_flattened(),
    );
}

#[tokio::test]
async fn sighup_during_start_up_is_a_reload_once_there_is_something_to_reload() {
    let origin = Origin::start().await;
    let mut starting = TestGateway::spawn(&config(&origin, other().config("configure = 'sleep=500'")));
    starting.hears(Signal::HUP).await;
    for _ in 0..3 {
        starting.signal(Signal::HUP);
    }
    let gateway = starting.ready().await;
    said(&gateway, &[("message", "reload applied")]).await;
    assert_eq!(gateway.metric("tidegate_generation").await, 2.0, "three signals that nobody waits for count as one");
    assert_eq!(gateway.get("/").await.status, 200);
    let ended = gateway.stop().await;
    assert_eq!(ended.code, Some(0), "{}", ended.log.text());
    exactly(
        &ended,
        [both("steady", 1, "terminate", "completed"), both("other", 1, "terminate", "completed")].as_flattened(),
    );
}

#[tokio::test]
async fn a_storm_of_sighup_ends_with_the_last_config_and_loses_nothing() {
    let origin = Origin::start().await;
    let count = |number: u64| config(&origin, other().config(&format!("count = {number}")));
    let mut gateway = TestGateway::start(&count(0)).await;
    let crowd = Crowd::of(gateway.address());
    let storm = async {
        gateway.until("requests come in", async || origin.requests() > 20).await;
        for burst in 1..=10 {
            let applied = async || gateway.metric("tidegate_reloads_total{outcome=\"applied\"}").await;
            let before = applied().await;
            for nth in 1..=20 {
                gateway.rewrite(&count(burst * 100 + nth));
                gateway.hang_up();
            }
            gateway.until("another reload", async || applied().await > before).await;
        }
        let last = count(9_999);
        gateway.rewrite(&last.plugin(PluginTable::guest("counter").named("last")));
        gateway.hang_up();
        gateway.until("the last config is there", async || stores(&gateway, "last").await == 1.0).await;
        crowd.over.now();
        crowd.signal.now();
        gateway.terminate();
        gateway.wait().await
    };
    let (tally, ended) = tokio::join!(crowd.ask(0), storm);
    assert!(tally.lost.is_empty() && tally.answered > 20, "{tally:#?}\n{}", ended.log.text());
    assert_eq!(ended.code, Some(0), "{}", ended.log.text());
    once_each(&ended);
}

#[tokio::test]
async fn sigterm_in_a_storm_of_sighup_is_the_end_of_it() {
    let origin = Origin::start().await;
    for round in 0..10 {
        let count = |number: u64| config(&origin, other().config(&format!("count = {number}")));
        let mut gateway = TestGateway::start(&count(0)).await;
        let (crowd, before) = (Crowd::of(gateway.address()), origin.requests());
        let storm = async {
            gateway.until("requests come in", async || origin.requests() > before + 20).await;
            // Another number in each round, so that the end falls into another moment of a reload.
            for number in 1..=20 + round * 3 {
                gateway.rewrite(&count(number));
                gateway.hang_up();
            }
            crowd.signal.now();
            gateway.terminate();
            gateway.hang_up();
            gateway.wait().await
        };
        let (tally, ended) = tokio::join!(crowd.ask(round), storm);
        assert!(tally.lost.is_empty(), "round {round}: {tally:#?}");
        assert_eq!((ended.code, ended.report().number("/requests/cut")), (Some(0), 0), "{}", ended.log.text());
        once_each(&ended);
    }
}
