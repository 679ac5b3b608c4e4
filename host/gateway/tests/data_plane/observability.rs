//! The admin listener and the metrics.

use tidegate::stop::phase::Phase;

use crate::client::Client;
use crate::gateway::TestGateway;
use crate::origin;

#[tokio::test]
async fn readiness_follows_the_phase_and_liveness_does_not() {
    let gateway = TestGateway::before(origin::nobody().await);
    let mut client = Client::connect(gateway.admin).await;
    assert_eq!(client.get("/readyz").await.status, 200);
    for (phase, body) in [(Phase::LameDuck, "lame-duck\n"), (Phase::Draining, "draining\n")] {
        gateway.phase.enter(phase);
        let reply = client.get("/readyz").await;
        assert_eq!((reply.status, reply.body.as_str()), (503, body));
        assert_eq!(client.get("/livez").await.status, 200);
    }
}

#[tokio::test]
async fn the_admin_listener_answers_problems_in_json() {
    let gateway = TestGateway::before(origin::nobody().await);
    let mut client = Client::connect(gateway.admin).await;
    let reply = client.get("/nothing").await;
    assert_eq!((reply.status, reply.header("content-type")), (404, "application/problem+json"));
    let reply = client.request("POST /livez HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!((reply.status, reply.header("content-type")), (405, "application/problem+json"));
    assert_eq!(reply.header("allow"), "GET, HEAD");
}

#[tokio::test]
async fn metrics_count_what_happened() {
    let gateway = TestGateway::before(origin::echo().await);
    let mut client = gateway.client().await;
    for _ in 0..3 {
        assert_eq!(client.get("/").await.status, 200);
    }
    assert_eq!(client.get("/x/..").await.status, 400);
    gateway.until("all are over", |gateway| gateway.serving.in_flight() == 0).await;
    let text = Client::connect(gateway.admin).await.get("/metrics").await.body;
    for line in [
        "tidegate_requests_total{route=\"/\",status=\"200\"} 3",
        "tidegate_requests_total{route=\"none\",status=\"400\"} 1",
        "tidegate_request_duration_seconds_count{route=\"/\"} 3",
        "tidegate_requests_in_flight 0",
        "tidegate_requests_completed_total 4",
        "tidegate_connections_open 1",
        "tidegate_connections_accepted_total 1",
        "tidegate_phase{phase=\"ready\"} 1",
        "tidegate_phase{phase=\"draining\"} 0",
        "tidegate_upstream_failures_total{kind=\"connect\"} 0",
        "# EOF",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn stops_of_plugins_are_counted() {
    use tidegate_runtime::{Snapshot, StopOutcome, StopReason, StopRecord};
    let gateway = TestGateway::before(origin::nobody().await);
    let record = StopRecord {
        plugin: "audit".into(),
        digest: "sha256:0".into(),
        instance: 0,
        reason: StopReason::Terminate,
        outcome: StopOutcome::Overran,
        budget: std::time::Duration::from_secs(1),
        took: std::time::Duration::from_millis(1001),
        cpu: std::time::Duration::ZERO,
        overshoot: std::time::Duration::from_millis(1),
        snapshot: Snapshot::None,
        deferred_left: 0,
        error: None,
    };
    gateway.stops.observer(1)(&record);
    let stops = "tidegate_plugin_stops_total{plugin=\"audit\",reason=\"terminate\",outcome=\"overran\"}";
    assert_eq!(gateway.metric(stops), 1);
    assert_eq!(gateway.metric("tidegate_plugin_stop_overshoot_seconds_count"), 1);
    assert_eq!(gateway.metric("tidegate_plugin_stop_overshoot_seconds_bucket{le=\"0.0005\"}"), 0);
    assert_eq!(gateway.metric("tidegate_plugin_stop_overshoot_seconds_bucket{le=\"0.001\"}"), 1);
}
