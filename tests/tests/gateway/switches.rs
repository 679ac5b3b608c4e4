//! Plugins that are switched off and on, by an operator or because they fail.

use serde_json::json;
use tidegate_tests::client::{get, post};
use tidegate_tests::gateway::{ConfigFile, PluginTable, TestGateway};
use tidegate_tests::origin::{Origin, X_ORIGIN};

fn told(config: &str) -> PluginTable {
    PluginTable::hostile("told").config(config)
}

fn config(origin: &Origin, plugin: PluginTable) -> ConfigFile {
    ConfigFile::before(origin.address()).plugin(plugin).route("/", &["told"])
}

#[tokio::test]
async fn a_disabled_plugin_is_stopped_and_comes_back_when_it_is_enabled() {
    let origin = Origin::start().await;
    let gateway = TestGateway::start(&config(&origin, told("shutdown = 'report'"))).await;
    let answer = gateway.order("/v1/plugins/told/disable?wait=true").await.json();
    let expected = json!({ "name": "told", "state": "disabled", "changed": true, "generation": 2, "complete": true });
    assert_eq!(answer, expected);
    assert_eq!(gateway.get("/").await.status, 503, "it fails closed");
    let stopped = "tidegate_plugin_stops_total{plugin=\"told\",reason=\"disable\",outcome=\"completed\"}";
    assert_eq!(gateway.metric(stopped).await, 1.0);
    assert_eq!(gateway.metric("tidegate_stores_live{plugin=\"told\",generation=\"1\"}").await, 0.0);
    assert_eq!(gateway.order("/v1/plugins/told/disable").await.json()["changed"], json!(false));
    // What an operator has switched off stays off, whatever a reload brings.
    gateway.reload(&config(&origin, told("shutdown = 'ok'"))).await;
    assert_eq!(gateway.plugin("told").await["state"], json!("disabled"));
    assert_eq!(gateway.get("/").await.status, 503);
    assert_eq!(gateway.order("/v1/plugins/told/enable").await.json()["state"], json!("serving"));
    assert_eq!(gateway.get("/").await.status, 200);
    let ended = gateway.stop().await;
    assert_eq!((ended.code, ended.report().outcomes("told")), (Some(0), vec!["completed"]));
}

#[tokio::test]
async fn routes_skip_a_disabled_plugin_that_fails_open() {
    let origin = Origin::start().await;
    let gateway = TestGateway::start(&config(&origin, told("on_request = 'reply'").set("on_failure = 'open'"))).await;
    assert_eq!(origin.requests(), 0);
    gateway.order("/v1/plugins/told/disable").await;
    assert_eq!(gateway.get("/").await.status, 200);
    assert_eq!(origin.requests(), 1, "it went on without the plugin");
    assert_eq!(gateway.calls("told", "on-request", "unavailable").await, 1.0);
}

#[tokio::test]
async fn a_request_under_way_keeps_the_plugin_it_began_with() {
    let origin = Origin::start().await;
    let gateway = TestGateway::start(&config(&origin, told("shutdown = 'ok'"))).await;
    let client = gateway.client();
    let held = tokio::spawn(async move { client.send(get("/", &[(X_ORIGIN, "hold")])).await });
    origin.holds(1).await;
    assert_eq!(gateway.order("/v1/plugins/told/disable").await.status, 200);
    assert_eq!(gateway.get("/").await.status, 503);
    origin.release();
    assert_eq!(held.await.expect("answered").status, 200);
}

#[tokio::test]
async fn a_plugin_that_never_stops_failing_is_quarantined_and_a_new_version_lifts_that() {
    let origin = Origin::start().await;
    let gateway = TestGateway::start(&config(&origin, told("on_request = 'trap'").set("quarantine = 10"))).await;
    let client = gateway.client();
    gateway
        .until("quarantined", async || {
            client.get("/").await;
            gateway.plugin("told").await["state"] == json!("quarantined")
        })
        .await;
    let said = [("message", "plugin has been quarantined: it kept failing")];
    gateway.until("the log says so", async || gateway.log().with(&said).len() == 1).await;
    assert_eq!(gateway.get("/").await.status, 503);
    gateway.reload(&config(&origin, told("on_request = 'forward'"))).await;
    assert_eq!(gateway.plugin("told").await["state"], json!("serving"));
    assert_eq!(gateway.get("/").await.status, 200);
    // By hand, too; and back.
    let answer = gateway.order("/v1/plugins/told/quarantine?wait=true").await.json();
    assert_eq!(answer["state"], json!("quarantined"));
    let stopped = "tidegate_plugin_stops_total{plugin=\"told\",reason=\"quarantine\",outcome=\"completed\"}";
    assert_eq!(gateway.metric(stopped).await, 1.0);
    assert_eq!(gateway.order("/v1/plugins/told/enable").await.status, 200);
    assert_eq!(gateway.get("/").await.status, 200);
}

#[tokio::test]
async fn a_new_version_that_trips_its_breaker_is_rolled_back_once() {
    let origin = Origin::start().await;
    let good = config(&origin, told("on_request = 'from-header'"));
    let gateway = TestGateway::start(&good).await;
    gateway.reload(&config(&origin, told("on_request = 'trap'"))).await;
    let client = gateway.client();
    gateway.until("rolled back", async || client.get("/").await.status == 200).await;
    assert_eq!(gateway.metric("tidegate_rollbacks_total").await, 1.0);
    let plugin = gateway.plugin("told").await;
    assert_eq!((&plugin["state"], &plugin["rolled_back_from"]["generation"]), (&json!("serving"), &json!(2)));
    let said = [("message", "plugin has been rolled back: its new version tripped the breaker"), ("level", "WARN")];
    gateway.until("the log says so", async || gateway.log().with(&said).len() == 1).await;
    // What came back has nothing to go back to: it is left to its breaker.
    for _ in 0..12 {
        client.send(get("/", &[("x-misbehave", "trap")])).await;
    }
    assert_eq!(gateway.metric("tidegate_rollbacks_total").await, 1.0);
    assert_eq!(gateway.plugin("told").await["health"], json!("tripped"));
}

#[tokio::test]
async fn without_a_window_for_it_nothing_is_rolled_back() {
    let origin = Origin::start().await;
    let with = |plugin| config(&origin, plugin).reload("rollback = '0s'");
    let gateway = TestGateway::start(&with(told("on_request = 'forward'"))).await;
    gateway.reload(&with(told("on_request = 'trap'").set("quarantine = false"))).await;
    for _ in 0..15 {
        assert_eq!(gateway.get("/").await.status, 503);
    }
    let plugin = gateway.plugin("told").await;
    assert_eq!((&plugin["state"], &plugin["health"]), (&json!("serving"), &json!("tripped")));
}

#[tokio::test]
async fn the_admin_api_stops_the_process_and_shows_how_it_goes() {
    let origin = Origin::start().await;
    let gateway = TestGateway::start(&config(&origin, told("shutdown = 'sleep=1000'"))).await;
    let admin = tidegate_tests::client::Client::http1(gateway.admin());
    assert_eq!(admin.get("/v1/shutdown").await.status, 404);
    assert_eq!(gateway.order("/v1/shutdown").await.status, 202);
    gateway.reaches("stopping").await;
    let so_far = admin.get("/v1/shutdown").await.json();
    assert_eq!((&so_far["complete"], &so_far["signal"]), (&json!(false), &json!(null)));
    assert_eq!(so_far["phases"].as_array().map(Vec::len), Some(3), "{so_far:#}");
    for path in ["/v1/reload", "/v1/plugins/told/disable", "/v1/plugins/told/enable"] {
        let refused = gateway.order(path).await;
        assert_eq!((refused.status, refused.header("content-type")), (503, "application/problem+json"), "{path}");
    }
    assert_eq!(gateway.order("/v1/shutdown").await.status, 409);
    let ended = gateway.wait().await;
    assert_eq!((ended.code, ended.report().at("/complete")), (Some(0), &json!(true)));
    assert_eq!(ended.report().outcomes("told"), ["completed"]);
}

#[tokio::test]
async fn bad_requests_to_the_admin_api_get_problem_documents() {
    let origin = Origin::start().await;
    let gateway = TestGateway::start(&config(&origin, told("shutdown = 'ok'"))).await;
    let admin = tidegate_tests::client::Client::http1(gateway.admin());
    for (request, status) in [
        (get("/v2", &[]), 404),
        (get("/v1/plugins/tlod", &[]), 404),
        (get("/v1/plugins/%ff", &[]), 400),
        (get("/v1/reload", &[]), 405),
        (get("/v1/plugins/told/disable", &[]), 405),
        (get("/v1/shutdown", &[]), 404),
        (post("/metrics", &[], ""), 405),
        (post("/v1/plugins/tlod/enable", &[], ""), 404),
        (post("/v1/plugins/told/explode", &[], ""), 404),
        (post("/v1/plugins/%ff/enable", &[], ""), 400),
        (post("/v1/reload?wait", &[], ""), 400),
        (post("/v1/reload?wait=yes", &[], ""), 400),
        (post("/v1/reload?now=true", &[], ""), 400),
        (post("/v1/shutdown?wait=true", &[], ""), 400),
        (post("/v1/reload", &[("origin", "https://elsewhere.example")], ""), 403),
    ] {
        let what = format!("{} {}", request.method(), request.uri());
        let answer = admin.send(request).await;
        assert_eq!((answer.status, answer.header("content-type")), (status, "application/problem+json"), "{what}");
        let problem = answer.json();
        assert_eq!(problem["status"], json!(status), "{what}");
        assert!(problem["title"].is_string() && problem["detail"].is_string() && problem["type"].is_string(), "{what}");
    }
    assert_eq!(gateway.metric("tidegate_generation").await, 1.0, "nothing has changed");
}

#[tokio::test]
async fn a_token_guards_everything_but_health_and_a_reload_can_change_it() {
    let origin = Origin::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    std::fs::write(&file, "first-token-of-this-test\n").expect("written");
    let config = config(&origin, told("shutdown = 'ok'")).admin(&format!("token_file = '{}'", file.display()));
    let gateway = TestGateway::start(&config).await;
    let admin = tidegate_tests::client::Client::http1(gateway.admin());
    let with =
        async |path: &str, authorization: &str| admin.send(post(path, &[("authorization", authorization)], "")).await;
    for path in ["/metrics", "/v1/plugins", "/v1/shutdown"] {
        let answer = admin.get(path).await;
        assert_eq!(answer.status, 401, "{path}");
        assert!(answer.header("www-authenticate").starts_with("Bearer"), "{path}");
    }
    assert_eq!(gateway.order("/v1/shutdown").await.status, 401);
    assert_eq!(with("/v1/reload", "Bearer first-token-of-this-tes").await.status, 401);
    assert_eq!((admin.get("/livez").await.status, admin.get("/readyz").await.status), (200, 200));
    assert_eq!(admin.get("/").await.status, 200, "the page has no secrets");
    std::fs::write(&file, "second-token-of-this-test\n").expect("written");
    assert_eq!(with("/v1/reload", "bearer first-token-of-this-test").await.status, 200);
    assert_eq!(with("/v1/reload", "Bearer first-token-of-this-test").await.status, 401);
    assert_eq!(with("/v1/reload", "Bearer second-token-of-this-test").await.status, 200);
    assert!(!gateway.log().text().contains("token-of-this-test"), "secrets are not logged");
}
