//! A new configuration while requests come in: all of it or nothing, and nobody notices but those it is for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use tidegate_tests::client::{Client, get};
use tidegate_tests::components;
use tidegate_tests::gateway::{ConfigFile, PluginTable, TestGateway};
use tidegate_tests::origin::{Origin, X_ORIGIN};

/// A plugin that counts the exchanges it has seen, and one that does what its config says.
fn config(origin: &Origin, told: &str) -> ConfigFile {
    ConfigFile::before(origin.address())
        .plugin(PluginTable::guest("counter"))
        .plugin(PluginTable::hostile("told").config(told))
        .route("/", &["counter", "told"])
}

async fn count(gateway: &TestGateway) -> u64 {
    let answer = gateway.get("/").await;
    answer.header("x-count").parse().unwrap_or_else(|_| panic!("{} {}", answer.status, answer.text()))
}

#[tokio::test]
async fn what_has_not_changed_keeps_its_state_and_what_has_is_replaced_and_stopped() {
    let origin = Origin::start().await;
    let gateway = TestGateway::start(&config(&origin, "shutdown = 'ok'")).await;
    assert_eq!((count(&gateway).await, count(&gateway).await), (1, 2));
    let answer = gateway.reload(&config(&origin, "shutdown = 'report'")).await;
    let expected = json!({
        "generation": 2, "kept": ["counter"], "started": ["told"], "stopped": ["told"], "needs_restart": [], "complete": true
    });
    assert_eq!(answer, expected);
    assert_eq!(count(&gateway).await, 3, "the counter has gone on counting");
    assert_eq!(gateway.metric("tidegate_stores_live{plugin=\"told\",generation=\"1\"}").await, 0.0);
    assert_eq!(gateway.metric("tidegate_stores_live{plugin=\"told\",generation=\"2\"}").await, 1.0);
    assert_eq!(gateway.metric("tidegate_stores_live{plugin=\"counter\",generation=\"1\"}").await, 1.0);
    let stops = "tidegate_plugin_stops_total{plugin=\"told\",reason=\"reload\",outcome=\"completed\"}";
    assert_eq!(gateway.metric(stops).await, 1.0);
    // The guest that is stopped last says why.
    gateway.reload(&config(&origin, "shutdown = 'ok'")).await;
    gateway.until("the guest says why", async || gateway.log().text().contains("reason Some(Reload)")).await;
}

#[tokio::test]
async fn a_config_that_cannot_serve_changes_nothing_and_the_answer_says_why() {
    let origin = Origin::start().await;
    let sound = config(&origin, "shutdown = 'ok'");
    let gateway = TestGateway::start(&sound).await;
    assert_eq!(count(&gateway).await, 1);
    let refused = async |text: &str, expected: &str| {
        gateway.rewrite_text(text);
        let answer = gateway.order("/v1/reload").await;
        assert_eq!((answer.status, answer.header("content-type")), (409, "application/problem+json"), "{text}");
        assert!(answer.text().contains(expected), "{expected} is not in {}", answer.text());
    };
    refused("listen = [", "not valid TOML").await;
    let taken = origin.address();
    refused(&sound.clone().server(&format!("listen = ['127.0.0.1:0', '{taken}']")).text(), "already in use").await;
    refused(&sound.clone().route("/x", &["ghost"]).text(), "there is no plugin named `ghost`").await;
    refused(&config(&origin, "configure = 'error'").text(), "returned an error").await;
    refused(&config(&origin, "configure = 'trap'").text(), "trapped").await;
    let garbage = PluginTable::file("garbage", gateway.folder().join("tidegate.toml"));
    refused(&sound.clone().plugin(garbage).text(), "not a valid WebAssembly component").await;
    assert_eq!(count(&gateway).await, 2, "the same instance as before");
    assert_eq!(gateway.metric("tidegate_generation").await, 1.0);
    assert!(gateway.metric("tidegate_reloads_total{outcome=\"refused\"}").await >= 5.0);
    // A plugin that was fine beside one that was not has been told to go.
    gateway
        .until("no store is left over", async || {
            gateway.metric("tidegate_stores_live{plugin=\"told\",generation=\"1\"}").await == 1.0
        })
        .await;
    assert_eq!(gateway.stop().await.code, Some(0));
}

#[tokio::test]
async fn requests_under_way_finish_on_the_generation_they_began_with() {
    let origin = Origin::start().await;
    let gateway = TestGateway::start(&config(&origin, "on_response = 'forward'")).await;
    let client = gateway.client();
    let held = tokio::spawn(async move { client.send(get("/", &[(X_ORIGIN, "hold")])).await });
    origin.holds(1).await;
    // The new version of `told` fails every response.
    gateway.rewrite(&config(&origin, "on_response = 'trap'"));
    assert_eq!(gateway.order("/v1/reload").await.status, 200);
    assert_eq!(gateway.get("/").await.status, 503, "the new generation");
    assert_eq!(gateway.metric("tidegate_stores_live{plugin=\"told\",generation=\"1\"}").await, 1.0, "still needed");
    origin.release();
    assert_eq!(held.await.expect("answered").status, 200, "the old generation");
    gateway
        .until("the old generation is gone", async || {
            gateway.metric("tidegate_generations_retiring").await == 0.0
                && gateway.metric("tidegate_stores_live{plugin=\"told\",generation=\"1\"}").await == 0.0
        })
        .await;
}

#[tokio::test]
async fn a_request_keeps_its_plugins_whatever_number_of_generations_came_after_its_own() {
    let origin = Origin::start().await;
    let gateway = TestGateway::start(&config(&origin, "count = 1")).await;
    let client = gateway.client();
    let held = tokio::spawn(async move { client.send(get("/", &[(X_ORIGIN, "hold")])).await });
    origin.holds(1).await;
    // The second generation has both plugins of the first one, and no exchange. The third one replaces `told`.
    assert_eq!(gateway.order("/v1/reload").await.json()["kept"], json!(["counter", "told"]));
    gateway.rewrite(&config(&origin, "count = 2"));
    assert_eq!(gateway.order("/v1/reload").await.json()["stopped"], json!(["told"]));
    // Nobody needs what comes in between.
    gateway
        .until("one generation is left", async || gateway.metric("tidegate_generations_retiring").await <= 2.0)
        .await;
    assert_eq!(gateway.get("/").await.status, 200);
    assert!(gateway.log().with(&[("message", "plugin instance stopped")]).is_empty(), "{}", gateway.log().text());
    origin.release();
    assert_eq!(held.await.expect("answered").status, 200, "{}", gateway.log().text());
    gateway
        .until("the first `told` is gone", async || {
            gateway.metric("tidegate_stores_live{plugin=\"told\",generation=\"1\"}").await == 0.0
        })
        .await;
}

#[tokio::test]
async fn listeners_routes_upstreams_and_limits_reload_and_the_rest_says_so() {
    let (first, second) = (Origin::start().await, Origin::start().await);
    let gateway = TestGateway::start(&ConfigFile::before(first.address()).route("/", &[])).await;
    let kept_alive = gateway.client();
    assert_eq!(kept_alive.get("/").await.status, 200);

    // Another upstream, another limit, one more listener.
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port");
    let next = ConfigFile::before(second.address())
        .server("max_headers = 5")
        .server(&format!("listen = ['127.0.0.1:0', '{free}']"))
        .admin("listen = '127.0.0.1:1'")
        .route("/api", &[]);
    let answer = gateway.reload(&next).await;
    assert_eq!(answer.get("needs_restart"), Some(&json!(["admin.listen"])));
    assert_eq!(kept_alive.get("/").await.status, 404, "the route is gone, on a connection from before");
    assert_eq!(kept_alive.get("/api").await.status, 200);
    assert_eq!(second.requests(), 1);
    let many: Vec<(String, &str)> = (0..6).map(|number| (format!("x-{number}"), "1")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let newcomer = Client::http1(free);
    assert_eq!(newcomer.send(get("/api", &many)).await.status, 431);
    assert_eq!(newcomer.get("/api").await.status, 200);

    // The new listener goes again: its connection drains, the others stay.
    gateway.reload(&next.server("listen = '127.0.0.1:0'")).await;
    gateway.until("the listener is closed", async || Client::http1(free).try_get("/api").await.is_err()).await;
    assert_eq!(kept_alive.get("/api").await.status, 200);
}

#[tokio::test]
async fn sighup_reloads() {
    let origin = Origin::start().await;
    let gateway = TestGateway::start(&config(&origin, "shutdown = 'ok'")).await;
    gateway.rewrite(&config(&origin, "shutdown = 'error'"));
    gateway.hang_up();
    gateway.until("generation 2", async || gateway.metric("tidegate_generation").await == 2.0).await;
    let ended = gateway.stop().await;
    assert_eq!(ended.code, Some(11), "the new version's shutdown fails");
    let entry: Vec<&Value> = ended.report().plugin("told");
    assert_eq!(entry.iter().map(|entry| &entry["generation"]).collect::<Vec<_>>(), [&json!(2)]);
}

#[tokio::test]
async fn watched_files_reload_by_themselves_once_they_are_whole() {
    let origin = Origin::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("plugin.wasm");
    std::fs::write(&file, components::read(&components::guest("counter"))).expect("written");
    let config = ConfigFile::before(origin.address())
        .reload("watch = '100ms'")
        .plugin(PluginTable::file("watched", file.clone()))
        .route("/", &["watched"]);
    let gateway = TestGateway::start(&config).await;
    let digest = async || gateway.plugin("watched").await["digest"].clone();
    let counter = digest().await;
    // Half of another component is refused, the whole of it is taken.
    let other = components::read(&components::plugin("stamp"));
    std::fs::write(&file, &other[..other.len() / 2]).expect("written");
    gateway
        .until("the half is refused", async || {
            gateway.metric("tidegate_reloads_total{outcome=\"refused\"}").await == 1.0
        })
        .await;
    assert_eq!(digest().await, counter);
    std::fs::write(&file, &other).expect("written");
    gateway.until("the whole is taken", async || digest().await != counter).await;
    assert_eq!(gateway.get("/").await.header("x-stamped-by"), "tidegate");
    assert_eq!(gateway.metric("tidegate_reloads_total{outcome=\"refused\"}").await, 1.0, "not tried again and again");

    // A plugin that is new in the config is watched, too, also while the config that names it is refused.
    let second = folder.path().join("second.wasm");
    std::fs::write(&second, "not a component").expect("written");
    gateway.rewrite(&config.plugin(PluginTable::file("second", second.clone())));
    gateway
        .until("the config is refused", async || {
            gateway.metric("tidegate_reloads_total{outcome=\"refused\"}").await == 2.0
        })
        .await;
    let applied = gateway.metric("tidegate_reloads_total{outcome=\"applied\"}").await;
    std::fs::write(&second, &other).expect("written");
    gateway
        .until("the plugin is there", async || {
            gateway.metric("tidegate_reloads_total{outcome=\"applied\"}").await == applied + 1.0
        })
        .await;
    assert_eq!(gateway.plugin("second").await["state"], json!("serving"));
}

#[tokio::test]
async fn state_is_handed_to_the_next_version_while_requests_come_in_and_none_is_lost() {
    let origin = Origin::start().await;
    let config = |version: usize| {
        let heir = PluginTable::guest("heir").set("hand_over = true");
        // What differs makes it another version.
        let heir = heir.limit(&format!("queue = {}", 1_000 + version));
        ConfigFile::before(origin.address()).plugin(heir).route("/", &["heir"])
    };
    let gateway = TestGateway::start(&config(0)).await;
    let asking = Arc::new(AtomicBool::new(true));
    let crowd: Vec<_> = (0..4)
        .map(|_| {
            let (client, over) = (gateway.client(), Arc::clone(&asking));
            tokio::spawn(async move {
                let mut asked = 0_u64;
                while over.load(Ordering::Relaxed) {
                    assert_eq!(client.get("/").await.status, 200);
                    asked += 1;
                }
                asked
            })
        })
        .collect();
    for version in 1..=10 {
        gateway.reload(&config(version)).await;
    }
    asking.store(false, Ordering::Relaxed);
    let mut asked = 0;
    for one in crowd {
        asked += one.await.expect("every request is answered");
    }
    let last = gateway.get("/").await;
    assert_eq!(last.header("x-count"), (asked + 1).to_string(), "every request has been counted once");
    let handed_over = "tidegate_plugin_snapshots_total{plugin=\"heir\",outcome=\"handed-over\"}";
    assert_eq!(gateway.metric(handed_over).await, 10.0);
    assert_eq!(gateway.metric("tidegate_stores_live{plugin=\"heir\",generation=\"11\"}").await, 1.0);
    // Who is switched off leaves nothing: there is nobody to leave it to.
    gateway.order("/v1/plugins/heir/disable?wait=true").await;
    gateway.order("/v1/plugins/heir/enable").await;
    assert_eq!(gateway.get("/").await.header("x-count"), "1");
}
