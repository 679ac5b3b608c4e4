//! How plugins share a route and an exchange: order, isolation, notes, upstreams.

use futures_util::future::join_all;
use serde_json::Value;
use tidegate_tests::client::{Client, get};
use tidegate_tests::gateway::{ConfigFile, PluginTable, TestGateway};
use tidegate_tests::origin::{Fault, Origin, nobody};

/// `stamp`, which writes this value into the field `x-stamped-by`.
fn stamp(value: &str) -> PluginTable {
    PluginTable::example("stamp").named(value).config(&format!("value = '{value}'"))
}

#[tokio::test]
async fn requests_pass_plugins_in_order_and_responses_in_reverse() {
    let origin = Origin::start().await;
    let config = ConfigFile::before(origin.address())
        .plugin(stamp("first"))
        .plugin(stamp("second"))
        .plugin(stamp("third"))
        .route("/", &["first", "second", "third"])
        .route("/turned", &["third", "second", "first"]);
    let gateway = TestGateway::start(&config).await;
    for (path, last_in, last_out) in [("/", "third", "first"), ("/turned", "first", "third")] {
        let answer = gateway.get(path).await;
        assert_eq!(answer.json()["headers"]["x-stamped-by"], last_in, "the last to see the request");
        assert_eq!(answer.header("x-stamped-by"), last_out, "the last to see the response");
    }
}

#[tokio::test]
async fn a_plugin_that_answers_is_seen_by_those_before_it_and_by_nobody_after_it() {
    let origin = Origin::start().await;
    let named = |name: &str| PluginTable::example("stamp").named(name).config(&format!("name = 'x-{name}'"));
    let config = ConfigFile::before(origin.address())
        .plugin(named("before"))
        .plugin(PluginTable::example("api-key").config("keys = ['sesame']"))
        .plugin(named("after"))
        .plugin(PluginTable::guest("counter"))
        .route("/", &["before", "api-key", "after", "counter"]);
    let gateway = TestGateway::start(&config).await;
    for client in [Client::http1(gateway.address()), Client::http2(gateway.address())] {
        let refused = client.get("/").await;
        assert_eq!((refused.status, refused.header("x-before")), (401, "tidegate"));
        assert_eq!((refused.header("x-after"), refused.header("x-count")), ("", ""));
        let passed = client.send(get("/", &[("x-api-key", "sesame")])).await;
        assert_eq!((passed.status, passed.header("x-before"), passed.header("x-after")), (200, "tidegate", "tidegate"));
    }
    // The counter has seen two responses, not four.
    assert_eq!(gateway.calls("counter", "on-response", "ok").await, 2.0);
    assert_eq!(origin.requests(), 2);
}

#[tokio::test]
async fn warm_instances_keep_their_memory_and_fresh_ones_have_none() {
    let origin = Origin::start().await;
    let config = ConfigFile::before(origin.address())
        .plugin(PluginTable::guest("counter").named("warm"))
        .plugin(PluginTable::guest("counter").named("fresh").set("isolation = 'fresh'").set("instances = 4"))
        .route("/warm", &["warm"])
        .route("/fresh", &["fresh"]);
    let gateway = TestGateway::start(&config).await;
    let client = gateway.client();
    for n in 1..=5 {
        assert_eq!(client.get("/warm").await.header("x-count"), n.to_string());
        assert_eq!(client.get("/fresh").await.header("x-count"), "1");
    }
    let many = join_all((0..40).map(|_| client.get("/fresh"))).await;
    assert!(many.iter().all(|answer| answer.header("x-count") == "1"));
    let ended = gateway.stop().await;
    assert_eq!(ended.report().outcomes("warm"), ["completed"]);
    assert_eq!(ended.report().outcomes("fresh"), [""; 0], "nothing is left of them to be told");
    assert_eq!(ended.log.with(&[("plugin", "warm"), ("message", "counted 5")]).len(), 1);
    assert_eq!(ended.code, Some(0));
}

#[tokio::test]
async fn every_warm_instance_is_told_to_stop_and_together_they_have_seen_everything() {
    let origin = Origin::start().await;
    let config = ConfigFile::before(origin.address())
        .plugin(PluginTable::guest("counter").set("instances = { min = 1, max = 4 }"))
        .route("/", &["counter"]);
    let gateway = TestGateway::start(&config).await;
    let client = gateway.client();
    for _ in 0..5 {
        let all = join_all((0..40).map(|_| client.get("/"))).await;
        assert!(all.iter().all(|answer| answer.status == 200));
    }
    let ended = gateway.stop().await;
    let outcomes = ended.report().outcomes("counter");
    assert!(
        (1..=4).contains(&outcomes.len()) && outcomes.iter().all(|outcome| *outcome == "completed"),
        "{outcomes:?}"
    );
    let lines = ended.log.with(&[("plugin", "counter"), ("hook", "shutdown")]);
    let counted =
        lines.iter().filter_map(|line| line["message"].as_str()?.strip_prefix("counted ")?.parse::<u32>().ok());
    assert_eq!(counted.sum::<u32>(), 200);
}

#[tokio::test]
async fn notes_reach_the_response_hook_of_the_same_exchange_whichever_instance_runs_it() {
    let origin = Origin::start().await;
    let config = ConfigFile::before(origin.address())
        .plugin(PluginTable::guest("notes").set("instances = 4"))
        .plugin(PluginTable::guest("notes").named("fresh").set("instances = 4").set("isolation = 'fresh'"))
        .route("/warm", &["notes"])
        .route("/fresh", &["fresh"]);
    let gateway = TestGateway::start(&config).await;
    for client in [Client::http1(gateway.address()), Client::http2(gateway.address())] {
        for route in ["warm", "fresh"] {
            // The origin takes a while, so that exchanges overlap and change instances on the way.
            let asked = (0..30).map(|n| {
                let client = client.clone();
                async move {
                    let (path, slow) = (format!("/{route}/{n}"), format!("slow={}", n % 7));
                    let answer = client.send(get(&path, &[("x-origin", &slow)])).await;
                    assert_eq!((answer.status, answer.header("x-noted-path")), (200, path.as_str()));
                }
            });
            join_all(asked).await;
        }
    }
}

#[tokio::test]
async fn a_plugin_can_choose_among_the_upstreams_and_no_others() {
    let (origin, other) = (Origin::start().await, Origin::start().await);
    let config = ConfigFile::before(origin.address())
        .upstream("other", other.address())
        .plugin(PluginTable::guest("reroute"))
        .route("/", &["reroute"]);
    let gateway = TestGateway::start(&config).await;
    for client in [Client::http1(gateway.address()), Client::http2(gateway.address())] {
        let (here, there) = (origin.requests(), other.requests());
        assert_eq!(client.get("/").await.status, 200);
        assert_eq!((origin.requests(), other.requests()), (here + 1, there));
        let answer = client.send(get("/old?a=b", &[("x-upstream", "other"), ("x-path", "/new")])).await;
        assert_eq!((answer.status, &answer.json()["target"]), (200, &Value::from("/new?a=b")));
        assert_eq!((origin.requests(), other.requests()), (here + 1, there + 1));
        // The choice is of one exchange.
        assert_eq!(client.get("/").await.status, 200);
        assert_eq!(origin.requests(), here + 2);
        assert_eq!(client.send(get("/", &[("x-upstream", "http://127.0.0.1:1")])).await.status, 503);
    }
}

#[tokio::test]
async fn an_upstream_that_fails_is_named_in_the_log_and_not_to_the_client() {
    let well = Origin::start().await;
    let mut config = ConfigFile::before(well.address())
        .plugin(PluginTable::guest("reroute"))
        .plugin(PluginTable::example("stamp"))
        .upstream("refuses", nobody().await);
    let faulty = [("resets", Fault::Reset), ("garbage", Fault::Garbage)];
    let mut origins = Vec::new();
    for (name, fault) in faulty {
        let origin = Origin::with(fault).await;
        config = config.upstream(name, origin.address());
        origins.push(origin);
    }
    let gateway = TestGateway::start(&config.route("/", &["reroute", "stamp"])).await;
    let client = gateway.client();
    for upstream in ["refuses", "resets", "garbage"] {
        let answer = client.send(get("/", &[("x-upstream", upstream), ("x-request-id", upstream)])).await;
        assert_eq!((answer.status, &answer.json()["request_id"]), (502, &Value::from(upstream)), "{}", answer.text());
        assert!(!answer.text().contains("127.0.0.1"), "{}", answer.text());
        assert_eq!(client.get("/").await.status, 200, "the others go on");
    }
    let ended = gateway.stop().await;
    for upstream in ["refuses", "resets", "garbage"] {
        let lines = ended.log.with(&[("request_id", upstream), ("level", "WARN")]);
        assert!(matches!(&*lines, [line] if line["error"].as_str().is_some_and(|text| text.contains("127.0.0.1"))));
    }
    assert_eq!(ended.code, Some(0));
}

#[tokio::test]
async fn a_plugin_whose_state_is_handed_over_serves_from_the_start_and_its_snapshots_are_counted() {
    let origin = Origin::start().await;
    let heir = PluginTable::guest("heir").set("hand_over = true");
    let gateway = TestGateway::start(&ConfigFile::before(origin.address()).plugin(heir).route("/", &["heir"])).await;
    for count in ["1", "2"] {
        assert_eq!(gateway.get("/").await.header("x-count"), count);
    }
    let metrics = Client::http1(gateway.admin()).get("/metrics").await.text();
    for series in [
        "tidegate_plugin_snapshots_total{plugin=\"heir\",outcome=\"handed-over\"} 0",
        "tidegate_plugin_snapshots_total{plugin=\"heir\",outcome=\"refused\"} 0",
        "tidegate_plugin_snapshots_total{plugin=\"heir\",outcome=\"lost\"} 0",
        "tidegate_plugin_late_total{plugin=\"heir\",kind=\"call\"} 0",
        "tidegate_plugin_late_total{plugin=\"heir\",kind=\"host-call\"} 0",
    ] {
        assert!(metrics.lines().any(|line| line == series), "{series} is not in\n{metrics}");
    }
}
