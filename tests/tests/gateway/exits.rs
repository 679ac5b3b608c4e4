//! Exit codes, and that the exit comes in time, whatever plugins and upstreams do.

use std::time::Duration;

use futures_util::future::join_all;
use tidegate_tests::client::{Client, get};
use tidegate_tests::gateway::{ConfigFile, Ended, HANGS, PluginTable, Signal, TestGateway};
use tidegate_tests::origin::Origin;

/// What a busy machine may add between the end of the protocol and the exit that is seen here.
const SLACK: Duration = Duration::from_secs(5);

fn stubborn() -> PluginTable {
    PluginTable::example("stubborn").limit("shutdown = '150ms'")
}

/// The end of a gateway whose drain is too short for three requests that the origin holds for ever.
async fn cut_short(config: ConfigFile, origin: &Origin) -> Ended {
    let mut gateway = TestGateway::start(&config.shutdown("drain = '150ms'").shutdown("grace = '8s'")).await;
    let client = gateway.client();
    let held = join_all((0..3).map(|n| {
        let client = client.clone();
        async move { client.try_send(get(&format!("/{n}"), &[("x-origin", "hold")])).await }
    }));
    let stop = async {
        origin.holds(3).await;
        gateway.terminate();
        gateway.wait().await
    };
    let (held, ended) = tokio::join!(held, stop);
    assert!(held.iter().all(Result::is_err), "{held:?}");
    ended
}

#[tokio::test]
async fn a_plugin_without_the_hook_is_let_go_and_the_exit_is_clean() {
    let origin = Origin::start().await;
    let config = ConfigFile::before(origin.address())
        .plugin(PluginTable::guest("no-shutdown").set("instances = 3"))
        .route("/", &["no-shutdown"]);
    let gateway = TestGateway::start(&config).await;
    assert_eq!(gateway.get("/").await.json()["headers"]["x-no-shutdown"], "1");
    let ended = gateway.stop().await;
    assert_eq!(ended.report().outcomes("no-shutdown"), ["no-hook"; 3]);
    assert_eq!(ended.code, Some(0));
}

#[tokio::test]
async fn requests_that_outlast_the_drain_are_cut_and_counted() {
    let origin = Origin::start().await;
    let ended = cut_short(ConfigFile::before(origin.address()).route("/", &[]), &origin).await;
    let report = ended.report();
    assert_eq!((report.number("/requests/in_flight"), report.number("/requests/cut")), (3, 3));
    assert_eq!(report.number("/requests/completed"), 0);
    assert_eq!(ended.code, Some(10));
    assert_eq!(ended.log.with(&[("message", "exchanges were cut off")]).len(), 1);
}

#[tokio::test]
async fn requests_that_were_cut_and_a_plugin_that_overran_make_the_higher_code() {
    let origin = Origin::start().await;
    let config = ConfigFile::before(origin.address()).plugin(stubborn()).route("/", &["stubborn"]);
    let ended = cut_short(config, &origin).await;
    assert_eq!((ended.report().number("/requests/cut"), ended.report().outcomes("stubborn")), (3, vec!["overran"]));
    assert_eq!(ended.code, Some(11));
}

#[tokio::test]
async fn exit_zero_is_for_supervisors_that_take_any_other_code_for_a_crash() {
    let origin = Origin::start().await;
    let config =
        ConfigFile::before(origin.address()).shutdown("exit_zero = true").plugin(stubborn()).route("/", &["stubborn"]);
    let ended = cut_short(config, &origin).await;
    assert_eq!((ended.report().number("/requests/cut"), ended.report().outcomes("stubborn")), (3, vec!["overran"]));
    assert_eq!((ended.code, ended.report().number("/exit_code")), (Some(0), 0));
}

#[tokio::test]
async fn each_way_to_end_a_shutdown_has_its_outcome() {
    let origin = Origin::start().await;
    let kinds = [
        ("ok", "completed"),
        ("error", "failed"),
        ("trap", "trapped"),
        ("panic", "trapped"),
        ("exit", "trapped"),
        ("recurse", "trapped"),
        ("allocate", "trapped"),
        ("invalid-utf8", "trapped"),
        ("giant-string", "trapped"),
        ("spin", "overran"),
        ("sleep", "overran"),
        ("doze", "overran"),
        ("copy", "overran"),
        ("log-flood", "overran"),
        ("allocate-forever", "overran"),
    ];
    let mut config = ConfigFile::before(origin.address()).route("/", &[]);
    for (kind, _) in kinds {
        let told = format!("shutdown = '{kind}'");
        config = config.plugin(PluginTable::hostile(kind).config(&told).limit("shutdown = '700ms'"));
    }
    let ended = TestGateway::start(&config).await.stop().await;
    for (kind, outcome) in kinds {
        let entries = ended.report().plugin(kind);
        assert_eq!(ended.report().outcomes(kind), [outcome], "{kind}: {entries:#?}");
        assert_eq!(entries[0]["error"].is_null(), outcome == "completed", "{kind}: {entries:#?}");
    }
    assert_eq!(ended.code, Some(11));
    // Side by side: one after the other, the six that overrun would take 4.2 s.
    let stopping = ended.report().phase("stopping")["took_ms"].as_u64();
    assert!(stopping < Some(4_000), "{:#}", ended.report().0);
}

#[tokio::test]
async fn the_exit_comes_before_the_grace_period_is_over_whatever_goes_wrong() {
    let origin = Origin::start().await;
    let mut config = ConfigFile::before(origin.address())
        .shutdown("grace = '3s'")
        .shutdown("drain_delay = '300ms'")
        .shutdown("drain = '500ms'")
        .shutdown("flush = '100ms'");
    let kinds = ["spin", "sleep", "copy", "log-flood", "allocate-forever"];
    for kind in kinds {
        let told = format!("shutdown = '{kind}'");
        let plugin = PluginTable::hostile(kind).set("instances = 2").config(&told).config("on_request = 'from-header'");
        config = config.plugin(plugin.limit("shutdown = '800ms'"));
    }
    let mut gateway = TestGateway::start(&config.route("/", &kinds)).await;
    let client = gateway.client();
    // One request at the origin, and one that keeps an instance of the first plugin busy.
    let at_origin = client.try_send(get("/", &[("x-origin", "hold")]));
    let in_guest = client.try_send(get("/", &[("x-misbehave", "spin")]));
    let stop = async {
        origin.holds(1).await;
        gateway
            .until("a request is in a guest", async || {
                gateway.metric("tidegate_plugin_instances{plugin=\"spin\",generation=\"1\",state=\"busy\"}").await
                    >= 1.0
            })
            .await;
        gateway.terminate();
        gateway.wait().await
    };
    let (_, _, ended) = tokio::join!(at_origin, in_guest, stop);
    for kind in kinds {
        assert_eq!(ended.report().outcomes(kind), ["overran", "overran"], "{:#}", ended.report().0);
    }
    assert_eq!((ended.code, ended.report().number("/requests/cut")), (Some(11), 2));
    assert!(ended.report().number("/took_ms") <= 3_000, "{:#}", ended.report().0);
    assert!(ended.took < Duration::from_secs(3) + SLACK, "{:?}", ended.took);
}

#[tokio::test]
async fn min_drain_holds_the_process_up_when_there_is_nothing_to_do() {
    let origin = Origin::start().await;
    let config = ConfigFile::before(origin.address()).shutdown("min_drain = '1500ms'").route("/", &[]);
    let ended = TestGateway::start(&config).await.stop().await;
    assert!(ended.took >= Duration::from_millis(1_500), "{:?}", ended.took);
    assert!(ended.took < Duration::from_millis(1_500) + SLACK, "{:?}", ended.took);
    assert_eq!(ended.code, Some(0));
}

#[tokio::test]
async fn a_lame_duck_serves_is_not_ready_and_asks_its_clients_to_leave() {
    let origin = Origin::start().await;
    let config = ConfigFile::before(origin.address()).shutdown("drain_delay = '2s'").route("/", &[]);
    let mut gateway = TestGateway::start(&config).await;
    let admin = Client::http1(gateway.admin());
    assert_eq!(admin.get("/readyz").await.status, 200);
    assert_eq!(gateway.get("/").await.header("connection"), "");
    gateway.terminate();
    gateway.reaches("lame-duck").await;
    assert_eq!((admin.get("/readyz").await.status, admin.get("/livez").await.status), (503, 200));
    let answer = gateway.get("/").await;
    assert_eq!((answer.status, answer.header("connection")), (200, "close"));
    let ended = gateway.wait().await;
    assert_eq!(ended.code, Some(0));
    assert!(ended.report().phase("lame-duck")["took_ms"].as_u64() >= Some(1_999), "{:#}", ended.report().0);
    assert!(ended.took < HANGS);
}

#[tokio::test]
async fn what_ends_well_in_lame_duck_is_counted_as_completed() {
    let origin = Origin::start().await;
    let config = ConfigFile::before(origin.address()).shutdown("drain_delay = '1s'").route("/", &[]);
    let mut gateway = TestGateway::start(&config).await;
    let client = gateway.client();
    let request = client.send(get("/", &[("x-origin", "hold")]));
    let stop = async {
        origin.holds(1).await;
        gateway.terminate();
        gateway.reaches("lame-duck").await;
        origin.release();
        gateway.wait().await
    };
    let (answer, ended) = tokio::join!(request, stop);
    assert_eq!((answer.status, ended.code), (200, Some(0)));
    let requests = ["in_flight", "completed", "cut"].map(|name| ended.report().number(&format!("/requests/{name}")));
    assert_eq!(requests, [1, 1, 0]);
}

#[tokio::test]
async fn sigint_from_a_terminal_ends_as_orderly_as_sigterm() {
    let origin = Origin::start().await;
    let config = ConfigFile::before(origin.address()).plugin(PluginTable::example("journal")).route("/", &["journal"]);
    let mut gateway = TestGateway::start(&config).await;
    assert_eq!(gateway.get("/").await.status, 200);
    gateway.signal(Signal::INT);
    let ended = gateway.wait().await;
    assert_eq!(ended.report().at("/signal"), "SIGINT");
    assert_eq!((ended.code, ended.report().outcomes("journal")), (Some(0), vec!["completed"]));
}
