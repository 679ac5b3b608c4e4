//! Exchanges on their way through plugins: order, replies, bodies, failures. The plugin is the guest that does what it
//! is told; `cargo xtask plugins` builds it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::Response;
use http_body_util::Full;
use tidegate::config::{self, Config, OnFailure};
use tidegate_runtime::{Deferred, Instances, Isolation, Limits, Plugin, PluginSpec, Recycle, Runtime, RuntimeConfig};

use crate::client::GET;
use crate::gateway::{TestGateway, config};
use crate::origin::{self, Count};

/// A plugin that does this in its hooks.
struct Told {
    behaviour: &'static str,
    on_failure: OnFailure,
    limits: Limits,
}

fn told(behaviour: &'static str) -> Told {
    Told {
        behaviour,
        on_failure: OnFailure::Closed,
        limits: Limits { wall: Duration::from_secs(2), ..Limits::default() },
    }
}

fn open(behaviour: &'static str) -> Told {
    Told { on_failure: OnFailure::Open, ..told(behaviour) }
}

fn capped(body: usize, told: Told) -> Told {
    Told { limits: Limits { body, ..told.limits }, ..told }
}

/// A gateway whose one route has these plugins, named `p0`, `p1` and so on.
async fn gateway(mut config: Config, told: &[Told]) -> TestGateway {
    let guest = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/guests/hostile.wasm"));
    let component = std::fs::read(&guest).unwrap_or_else(|error| panic!("{error}; run `cargo xtask plugins` first"));
    let runtime = Runtime::new(RuntimeConfig {
        slots: 32,
        cache: Some(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("data-plane-cache")),
        environment: tidegate_runtime::environment::Environment::real(Duration::from_millis(1)),
    })
    .unwrap();
    let mut plugins: Vec<Plugin> = Vec::new();
    for (index, told) in told.iter().enumerate() {
        let instances = Instances::fixed(1);
        let name: Arc<str> = format!("p{index}").into();
        let spec =
            PluginSpec { config: told.behaviour.into(), limits: told.limits, ..PluginSpec::new(Arc::clone(&name)) };
        plugins.push(runtime.load(spec, component.clone()).await.unwrap());
        config.plugins.push(config::Plugin {
            name,
            path: guest.clone(),
            sha256: None,
            instances,
            recycle: Recycle::default(),
            isolation: Isolation::Warm,
            on_failure: told.on_failure,
            quarantine: None,
            hand_over: false,
            config: told.behaviour.into(),
            grants: config::Grants::default(),
            limits: told.limits,
            deferred: Deferred::default(),
            tick: None,
        });
        config.routes[0].plugins.push(index);
    }
    TestGateway::with_plugins(&config, &plugins)
}

#[tokio::test]
async fn a_plugin_that_forwards_changes_nothing() {
    let gateway = gateway(config(origin::echo().await), &[told("{}"), told("{}")]).await;
    let mut client = gateway.client().await;
    let reply = client.request("POST /x?y HTTP/1.1\r\nhost: test\r\ncontent-length: 5\r\n\r\nhello").await;
    assert_eq!(reply.status, 200);
    assert!(reply.body.starts_with("POST /x?y\n") && reply.body.ends_with("\n\nhello"), "{}", reply.body);
    let calls = |hook| format!("tidegate_plugin_calls_total{{plugin=\"p1\",hook=\"{hook}\",outcome=\"ok\"}}");
    assert_eq!(gateway.metric(&calls("on-request")), 1);
    assert_eq!(gateway.metric(&calls("on-response")), 1);
    assert_eq!(gateway.metric(&calls("on-request-body")), 0);
}

#[tokio::test]
async fn a_reply_stops_the_request_and_the_plugins_before_it_see_the_response() {
    let requests = Count::default();
    let counted = requests.clone();
    let origin = origin::serve(move |_| {
        counted.add();
        async { Response::new(Full::from("upstream")) }
    })
    .await;
    let plugins = [
        told(r#"{ "on_response": "read-body", "on_response_body": "upper" }"#),
        told(r#"{ "on_request": "reply", "on_response": "trap" }"#),
        told(r#"{ "on_request": "trap", "on_response": "trap" }"#),
    ];
    let gateway = gateway(config(origin), &plugins).await;
    let mut client = gateway.client().await;
    let reply = client.request(GET).await;
    assert_eq!((reply.status, reply.body.as_str()), (200, "HELLO FROM THE HOSTILE PLUGIN\n"));
    assert_eq!(reply.header("x-request-id").len(), 32);
    assert_eq!(requests.get(), 0);
    client.send("HEAD / HTTP/1.1\r\nhost: test\r\n\r\n").await;
    let reply = client.reply_to_head().await;
    assert_eq!((reply.status, reply.header("content-length")), (200, "30"));
}

#[tokio::test]
async fn a_reply_to_a_response_takes_its_place() {
    let plugins =
        [told(r#"{ "on_response": "read-body", "on_response_body": "upper" }"#), told(r#"{ "on_response": "reply" }"#)];
    let gateway = gateway(config(origin::echo().await), &plugins).await;
    let mut client = gateway.client().await;
    for _ in 0..3 {
        assert_eq!(client.request(GET).await.body, "HELLO FROM THE HOSTILE PLUGIN\n");
    }
}

#[tokio::test]
async fn bodies_are_replaced_and_framed_anew() {
    let plugins = [
        told(r#"{ "on_request": "read-body", "on_request_body": "upper" }"#),
        told(r#"{ "on_request": "read-body", "on_request_body": "echo-length" }"#),
    ];
    let gateway = gateway(config(origin::echo().await), &plugins).await;
    let mut client = gateway.client().await;
    let chunked =
        "POST / HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n9\r\nlo, world\r\n0\r\n\r\n";
    let reply = client.request(chunked).await;
    assert!(reply.body.contains("content-length: 2\n") && reply.body.ends_with("\n\n12"), "{}", reply.body);
    assert!(!reply.body.contains("transfer-encoding"));
    // A request without a body has an empty one.
    let reply = client.request(GET).await;
    assert!(reply.body.ends_with("\n\n0"), "{}", reply.body);

    let plugins = [told(r#"{ "on_response": "read-body", "on_response_body": "echo-length" }"#)];
    let origin = origin::says(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n").await;
    let gateway = self::gateway(config(origin), &plugins).await;
    let reply = gateway.client().await.request(GET).await;
    assert_eq!((reply.body.as_str(), reply.header("content-length")), ("5", "1"));
}

#[tokio::test]
async fn a_failure_closes_or_opens_as_configured() {
    for behaviour in [r#"{ "on_request": "trap" }"#, r#"{ "on_response": "error" }"#] {
        let gateway = gateway(config(origin::echo().await), &[told(behaviour)]).await;
        let reply = gateway.client().await.request(GET).await;
        assert_eq!(reply.status, 503);
        let problem: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
        assert_eq!(problem["request_id"], reply.header("x-request-id"));
        for internal in ["p0", "hostile", "trap", "plugin", "on-re", "unreachable"] {
            assert!(!reply.body.contains(internal), "{}", reply.body);
        }
    }
    for behaviour in [r#"{ "on_request": "trap" }"#, r#"{ "on_response": "error" }"#] {
        let gateway = gateway(config(origin::echo().await), &[open(behaviour), told("{}")]).await;
        let reply = gateway.client().await.request(GET).await;
        assert_eq!(reply.status, 200, "{behaviour}");
        assert!(reply.body.starts_with("GET /\n"));
    }
}

#[tokio::test]
async fn a_request_body_over_the_limit_is_refused_even_by_a_plugin_that_fails_open() {
    let plugins = [capped(8, open(r#"{ "on_request": "read-body" }"#))];
    let gateway = gateway(config(origin::echo().await), &plugins).await;
    for request in [
        "POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 9\r\n\r\n123456789",
        "POST / HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n9\r\n123456789\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: test\r\nexpect: 100-continue\r\ncontent-length: 9\r\n\r\n",
    ] {
        let reply = gateway.client().await.request(request).await;
        assert_eq!(reply.status, 413, "{request:?}");
        assert!(reply.body.contains("at most 8 bytes"), "{}", reply.body);
    }
    let request = "POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 8\r\n\r\n12345678";
    assert_eq!(gateway.client().await.request(request).await.status, 200);
}

#[tokio::test]
async fn a_response_body_over_the_limit_is_a_failure_of_the_plugin() {
    let response = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n";
    let behaviour = r#"{ "on_response": "read-body", "on_response_body": "upper" }"#;
    let closed = gateway(config(origin::says(response).await), &[capped(8, told(behaviour))]).await;
    assert_eq!(closed.client().await.request(GET).await.status, 503);
    // Open: the response streams on, with what has been read of it.
    let opened = gateway(config(origin::says(response).await), &[capped(8, open(behaviour))]).await;
    let reply = opened.client().await.request(GET).await;
    assert_eq!((reply.status, reply.body.as_str()), (200, "helloworld"));
}

#[tokio::test]
async fn a_slow_body_holds_no_instance() {
    let mut config = config(origin::echo().await);
    config.server.body_timeout = Duration::from_millis(300);
    let gateway = gateway(config, &[told(r#"{ "on_request": "read-body" }"#)]).await;
    let mut slow = gateway.client().await;
    slow.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 10\r\n\r\nx").await;
    gateway.until("it waits", |gateway| gateway.serving.in_flight() == 1).await;
    // There is one instance, and it serves others meanwhile.
    let mut client = gateway.client().await;
    for _ in 0..20 {
        assert_eq!(client.request(GET).await.status, 200);
    }
    assert_eq!(slow.reply().await.status, 408);
}

#[tokio::test]
async fn a_stalled_response_body_that_a_plugin_waits_for_is_a_504() {
    let mut config = config(origin::says_and_stalls(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await);
    config.server.body_timeout = Duration::from_millis(150);
    let gateway = gateway(config, &[told(r#"{ "on_response": "read-body" }"#)]).await;
    assert_eq!(gateway.client().await.request(GET).await.status, 504);
    assert_eq!(gateway.metric("tidegate_upstream_failures_total{kind=\"body-stalled\"}"), 1);
}
