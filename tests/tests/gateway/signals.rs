//! A second signal in each phase, and a signal before there is anything to stop.

use std::time::Duration;

use tidegate_tests::client::get;
use tidegate_tests::gateway::{ConfigFile, Ended, PluginTable, Signal, TestGateway};
use tidegate_tests::origin::Origin;

/// Each of the waits that a second signal cuts short would be longer.
const PROMPTLY: Duration = Duration::from_secs(20);

/// With a drain delay, a drain and a shutdown that are all longer than [`PROMPTLY`].
fn config(origin: &Origin) -> ConfigFile {
    let plugin = |name: &str, shutdown: &str| {
        let told = format!("shutdown = '{shutdown}'");
        PluginTable::hostile(name).config("on_request = 'from-header'").config(&told).limit("shutdown = '40s'")
    };
    ConfigFile::before(origin.address())
        .shutdown("grace = '160s'")
        .shutdown("drain = '40s'")
        .plugin(plugin("spins", "spin"))
        .plugin(plugin("sleeps", "sleep"))
        .plugin(plugin("stops", "ok").limit("wall = '40s'"))
        .route("/", &["stops"])
}

/// What holds after any second signal.
fn cut_short(ended: &Ended, signal: &str, code: i32) {
    assert_eq!(ended.code, Some(code), "{}", ended.log.text());
    assert_eq!(ended.report().number("/exit_code"), u64::from(code.unsigned_abs()));
    assert!(ended.took < PROMPTLY, "{:?}\n{:#}", ended.took, ended.report().0);
    assert_eq!(ended.report().at("/signal"), "SIGTERM", "the first one");
    assert_eq!(ended.log.with(&[("signal", signal), ("level", "WARN")]).len(), 1, "{}", ended.log.text());
}

#[tokio::test]
async fn in_lame_duck() {
    let origin = Origin::start().await;
    let mut gateway = TestGateway::start(&config(&origin).shutdown("drain_delay = '40s'")).await;
    gateway.terminate();
    gateway.reaches("lame-duck").await;
    gateway.signal(Signal::INT);
    let ended = gateway.wait().await;
    cut_short(&ended, "SIGINT", 130);
    for plugin in ["spins", "sleeps", "stops"] {
        assert_eq!(ended.report().outcomes(plugin), ["abandoned"], "{:#}", ended.report().0);
    }
}

#[tokio::test]
async fn while_a_request_waits_for_its_upstream() {
    let origin = Origin::start().await;
    let mut gateway = TestGateway::start(&config(&origin)).await;
    let client = gateway.client();
    let request = client.try_send(get("/", &[("x-origin", "hold")]));
    let stop = async {
        origin.holds(1).await;
        gateway.terminate();
        gateway.reaches("draining").await;
        gateway.terminate();
        gateway.wait().await
    };
    let (request, ended) = tokio::join!(request, stop);
    assert!(request.is_err());
    cut_short(&ended, "SIGTERM", 143);
    assert_eq!((ended.report().number("/requests/cut"), ended.report().outcomes("stops")), (1, vec!["abandoned"]));
}

#[tokio::test]
async fn while_a_request_is_in_a_guest() {
    for how in ["spin", "sleep"] {
        let origin = Origin::start().await;
        let mut gateway = TestGateway::start(&config(&origin)).await;
        let client = gateway.client();
        let request = client.try_send(get("/", &[("x-misbehave", how)]));
        let stop = async {
            gateway
                .until("the request is in the guest", async || {
                    gateway.metric("tidegate_plugin_instances{plugin=\"stops\",generation=\"1\",state=\"busy\"}").await
                        >= 1.0
                })
                .await;
            gateway.terminate();
            gateway.reaches("draining").await;
            gateway.terminate();
            gateway.wait().await
        };
        let (_, ended) = tokio::join!(request, stop);
        cut_short(&ended, "SIGTERM", 143);
        assert_eq!(ended.report().outcomes("stops"), ["abandoned"], "{how}: {:#}", ended.report().0);
        let [completed, cut] = ["/requests/completed", "/requests/cut"].map(|pointer| ended.report().number(pointer));
        assert_eq!(completed + cut, 1, "it is one or the other");
    }
}

#[tokio::test]
async fn while_plugins_spin_and_sleep_in_their_shutdown() {
    let origin = Origin::start().await;
    let mut gateway = TestGateway::start(&config(&origin)).await;
    gateway.terminate();
    gateway.reaches("stopping").await;
    // `stops` has ended by itself; what is known by then stays known.
    gateway.until("one plugin has stopped", async || !gateway.log().with(&[("outcome", "completed")]).is_empty()).await;
    gateway.signal(Signal::TERM);
    let ended = gateway.wait().await;
    cut_short(&ended, "SIGTERM", 143);
    assert_eq!(ended.report().outcomes("stops"), ["completed"], "{:#}", ended.report().0);
    for plugin in ["spins", "sleeps"] {
        assert_eq!(ended.report().outcomes(plugin), ["abandoned"], "{:#}", ended.report().0);
    }
}

#[tokio::test]
async fn while_the_process_is_held_up_for_min_drain() {
    let origin = Origin::start().await;
    let config = ConfigFile::before(origin.address())
        .shutdown("grace = '60s'")
        .shutdown("min_drain = '40s'")
        .plugin(PluginTable::example("journal"))
        .route("/", &["journal"]);
    let mut gateway = TestGateway::start(&config).await;
    gateway.terminate();
    gateway.reaches("flushing").await;
    gateway.terminate();
    let ended = gateway.wait().await;
    cut_short(&ended, "SIGTERM", 143);
    assert_eq!(ended.report().outcomes("journal"), ["completed"], "it had ended before");
}

#[tokio::test]
async fn a_signal_before_the_gateway_is_ready_ends_it_at_once() {
    let origin = Origin::start().await;
    let slow = |name: &str, how: &str| PluginTable::hostile(name).config(&format!("configure = '{how}'"));
    for (how, signal) in [("sleep=500", Signal::TERM), ("sleep=15000", Signal::INT), ("busy=15000", Signal::TERM)] {
        let config = ConfigFile::before(origin.address())
            .plugin(PluginTable::example("stamp"))
            .plugin(slow("slow", how))
            .route("/", &["stamp", "slow"]);
        let mut starting = TestGateway::spawn(&config);
        // The first plugin is there, so the other one is being loaded.
        starting.says("plugin loaded").await;
        starting.signal(signal);
        let ended = starting.wait().await;
        assert_eq!(ended.code, Some(0), "{how}: {}", ended.log.text());
        assert_eq!(ended.log.with(&[("message", "stopped before it was ready")]).len(), 1, "{}", ended.log.text());
        // Its own, whatever an earlier run has left there.
        assert!(ended.report.is_some(), "{how}: no report");
        assert!(ended.took < Duration::from_secs(12), "{how}: {:?}", ended.took);
    }
}
