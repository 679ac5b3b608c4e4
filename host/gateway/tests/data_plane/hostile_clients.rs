//! What a broken or malicious client can do, and what it cannot.

use std::time::Duration;

use crate::client::{Client, GET};
use crate::gateway::{TestGateway, config, within};
use crate::origin;

#[tokio::test]
async fn malformed_requests_are_refused() {
    let gateway = TestGateway::before(origin::echo().await);
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a/b\r\n\r\n", 400),
        ("GET http://a/ HTTP/1.1\r\nhost: b\r\n\r\n", 400),
        ("GET /x/../api HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n", 501),
        ("TRACE / HTTP/1.1\r\nhost: a\r\n\r\n", 501),
        ("GET / HTTP/1.1\r\nhost: a\r\nbad name: x\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\nx: a\x01b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\nx: y\r\n folded\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd", 400),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: -3\r\n\r\nabcd", 400),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +3\r\n\r\nabcd", 400),
        ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, gzip\r\n\r\n", 400),
        ("POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n", 400),
        ("nonsense\r\n\r\n", 400),
    ] {
        let mut client = gateway.client().await;
        client.send(request).await;
        let reply = within(request, client.try_reply(true)).await;
        assert_eq!(reply.map(|reply| reply.status), Some(status), "{request:?}");
    }
}

#[tokio::test]
async fn a_refusal_names_the_exchange_and_no_internals() {
    let gateway = TestGateway::before(origin::nobody().await);
    let reply = gateway.client().await.request(GET).await;
    assert_eq!(reply.status, 502);
    assert_eq!(reply.header("content-type"), "application/problem+json");
    let problem: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
    assert_eq!(problem["request_id"], reply.header("x-request-id"));
    assert_eq!(problem["status"], 502);
    assert!(!reply.body.contains("127.0.0.1"), "{}", reply.body);
}

/// Both lengths given: the chunks count, the length is not passed on, and the connection is not trusted any further.
#[tokio::test]
async fn two_framings_cannot_smuggle_a_request() {
    let gateway = TestGateway::before(origin::echo().await);
    for lengths in
        ["content-length: 4\r\ntransfer-encoding: chunked\r\n", "transfer-encoding: chunked\r\ncontent-length: 4\r\n"]
    {
        let mut client = gateway.client().await;
        let request = format!(
            "POST /first HTTP/1.1\r\nhost: a\r\n{lengths}\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"
        );
        let reply = client.request(request).await;
        assert_eq!(reply.status, 200);
        assert!(reply.body.starts_with("POST /first\n"));
        assert!(!reply.body.contains("content-length"), "{}", reply.body);
        assert!(within("the end", client.try_reply(true)).await.is_none());
    }
}

#[tokio::test]
async fn heads_over_the_limits_are_refused_and_memory_stays_bounded() {
    let gateway = TestGateway::before(origin::echo().await);
    let many: String = (0..101).map(|n| format!("x-{n}: 1\r\n")).collect();
    let reply = gateway.client().await.request(format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n")).await;
    assert_eq!(reply.status, 431);
    let long = "x".repeat(17 * 1024);
    let reply = gateway.client().await.request(format!("GET / HTTP/1.1\r\nhost: a\r\nx: {long}\r\n\r\n")).await;
    assert_eq!(reply.status, 431);

    // One that never ends is refused as soon as the buffer is full.
    let mut client = gateway.client().await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\nx: ").await;
    let mut sent = 0;
    while sent < 64 << 20 && tokio::io::AsyncWriteExt::write_all(&mut client.stream, &[b'x'; 65536]).await.is_ok() {
        sent += 65536;
    }
    assert!(sent < 64 << 20);
}

#[tokio::test]
async fn fewer_fields_can_be_configured() {
    let mut config = config(origin::echo().await);
    config.server.max_headers = 3;
    let gateway = TestGateway::start(&config);
    let reply = gateway.client().await.request("GET / HTTP/1.1\r\nhost: a\r\na: 1\r\nb: 2\r\n\r\n").await;
    assert_eq!(reply.status, 200);
    let reply = gateway.client().await.request("GET / HTTP/1.1\r\nhost: a\r\na: 1\r\nb: 2\r\nc: 3\r\n\r\n").await;
    assert_eq!(reply.status, 431);
}

#[tokio::test]
async fn a_head_that_comes_too_slowly_ends_the_connection() {
    let mut config = config(origin::echo().await);
    config.server.header_timeout = Duration::from_millis(200);
    let gateway = TestGateway::start(&config);
    for beginning in ["G", "GET / HTTP/1.1\r\nhost: a\r\nx: ", "PRI"] {
        let mut client = gateway.client().await;
        client.send(beginning).await;
        assert!(client.is_closed().await, "{beginning}");
    }
    // Also on a connection that has served a request.
    let mut client = gateway.client().await;
    assert_eq!(client.get("/").await.status, 200);
    client.send("GET / HT").await;
    assert!(client.is_closed().await);
    // A trickle does not extend the time.
    let mut client = gateway.client().await;
    let trickle = async {
        loop {
            if tokio::io::AsyncWriteExt::write_all(&mut client.stream, b"x").await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within("the end of a trickle", trickle).await;
    assert_eq!(gateway.metric("tidegate_connections_evicted_total{cause=\"slow-head\"}"), 5);
}

#[tokio::test]
async fn the_head_timeout_does_not_end_idle_connections() {
    let mut config = config(origin::echo().await);
    config.server.header_timeout = Duration::from_millis(50);
    let gateway = TestGateway::start(&config);
    let mut client = gateway.client().await;
    assert_eq!(client.get("/").await.status, 200);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(client.get("/").await.status, 200);
}

#[tokio::test]
async fn idle_connections_end() {
    let mut config = config(origin::echo().await);
    config.server.idle_timeout = Duration::from_millis(150);
    let gateway = TestGateway::start(&config);
    let mut silent = gateway.client().await;
    let mut used = gateway.client().await;
    assert_eq!(used.get("/").await.status, 200);
    assert!(silent.is_closed().await);
    assert!(used.is_closed().await);
    gateway.until("nothing open", |gateway| gateway.metric("tidegate_connections_open") == 0).await;
    assert_eq!(gateway.metric("tidegate_connections_evicted_total{cause=\"idle\"}"), 2);
}

#[tokio::test]
async fn a_body_that_stalls_is_answered_with_408() {
    let mut config = config(origin::echo().await);
    config.server.body_timeout = Duration::from_millis(150);
    // The upstream's patience is not what ends it.
    config.upstreams[0].response_timeout = Duration::from_millis(50);
    let gateway = TestGateway::start(&config);
    let mut client = gateway.client().await;
    let reply = client.request("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf").await;
    assert_eq!(reply.status, 408);
    assert!(client.is_closed().await);
    assert_eq!(gateway.metric("tidegate_upstream_failures_total{kind=\"response-timeout\"}"), 0);
}

#[tokio::test]
async fn a_slow_body_that_keeps_moving_goes_through() {
    let mut config = config(origin::echo().await);
    config.server.body_timeout = Duration::from_millis(300);
    config.upstreams[0].response_timeout = Duration::from_millis(100);
    let gateway = TestGateway::start(&config);
    let mut client = gateway.client().await;
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 8\r\n\r\n").await;
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(60)).await;
        client.send("x").await;
    }
    let reply = client.reply().await;
    assert_eq!(reply.status, 200);
    assert!(reply.body.ends_with("\n\nxxxxxxxx"));
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off() {
    let big = "x".repeat(16 << 20);
    let origin = origin::serve(move |_| {
        let body = bytes::Bytes::from(big.clone());
        async move { http::Response::new(http_body_util::Full::from(body)) }
    })
    .await;
    let mut config = config(origin);
    config.server.body_timeout = Duration::from_millis(300);
    let gateway = TestGateway::start(&config);
    let mut client = gateway.client().await;
    client.send(GET).await;
    gateway
        .until("it is cut off", |gateway| {
            gateway.metric("tidegate_connections_evicted_total{cause=\"slow-reader\"}") == 1
        })
        .await;
    gateway.until("nothing in flight", |gateway| gateway.serving.in_flight() == 0).await;
    assert_eq!(gateway.serving.completed(), 0);
}

#[tokio::test]
async fn a_client_that_goes_away_ends_its_exchange_upstream_too() {
    let gone = origin::Count::default();
    let seen = gone.clone();
    let origin = origin::raw(move |mut stream| {
        let seen = seen.clone();
        async move {
            origin::read_head(&mut stream).await;
            let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut Vec::new()).await;
            seen.add();
        }
    })
    .await;
    let gateway = TestGateway::before(origin);
    let mut client = gateway.client().await;
    client.send(GET).await;
    gateway.until("it is in flight", |gateway| gateway.serving.in_flight() == 1).await;
    drop(client);
    gateway.until("it is over", |gateway| gateway.serving.in_flight() == 0).await;
    within("the upstream hears of it", async {
        while gone.get() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    assert_eq!(gateway.metric("tidegate_responses_aborted_total{cause=\"client-gone\"}"), 1);
    assert_eq!(gateway.serving.completed(), 0);
}

#[tokio::test]
async fn connections_over_the_limit_wait_until_there_is_room() {
    let mut config = config(origin::echo().await);
    config.server.max_connections = 2;
    let gateway = TestGateway::start(&config);
    let (mut one, mut two) = (gateway.client().await, gateway.client().await);
    assert_eq!(one.get("/").await.status, 200);
    assert_eq!(two.get("/").await.status, 200);
    let mut three = gateway.client().await;
    three.send(GET).await;
    assert!(tokio::time::timeout(Duration::from_millis(100), three.reply()).await.is_err());
    drop(one);
    assert_eq!(three.reply().await.status, 200);
    assert_eq!(two.get("/").await.status, 200);
}

#[tokio::test]
async fn a_refused_upload_still_gets_its_answer() {
    let mut config = config(origin::nobody().await);
    config.routes[0].path = "/only".into();
    let gateway = TestGateway::start(&config);
    let mut client = gateway.client().await;
    client.send("POST /other HTTP/1.1\r\nhost: a\r\ncontent-length: 3000000\r\n\r\n").await;
    // The answer comes while the client is still sending; it must not be lost to a reset.
    let _ = tokio::io::AsyncWriteExt::write_all(&mut client.stream, &vec![b'x'; 3_000_000]).await;
    assert_eq!(client.reply().await.status, 404);
}

#[tokio::test]
async fn connecting_and_leaving_costs_nothing() {
    let gateway = TestGateway::before(origin::echo().await);
    for _ in 0..50 {
        drop(Client::connect(gateway.address).await);
    }
    assert_eq!(gateway.client().await.get("/").await.status, 200);
    gateway.until("one or none open", |gateway| gateway.metric("tidegate_connections_open") <= 1).await;
}
