//! What goes through, and in which form it arrives.

use bytes::Bytes;
use http::Response;
use http_body_util::Full;

use crate::client::{Client, GET};
use crate::gateway::{TestGateway, config, route, upstream};
use crate::origin::{self, Count};

#[tokio::test]
async fn a_request_goes_through_and_the_connection_stays() {
    let gateway = TestGateway::before(origin::echo().await);
    let mut client = gateway.client().await;
    for path in ["/", "/a/b?c=d&e", "/%E2%82%AC"] {
        let reply = client.get(path).await;
        assert_eq!(reply.status, 200);
        assert!(reply.body.starts_with(&format!("GET {path}\n")), "{}", reply.body);
        assert!(reply.body.contains("host: test\n"));
        assert_eq!(reply.header("x-request-id").len(), 32);
    }
    gateway.until("all counted", |gateway| gateway.serving.completed() == 3).await;
    assert_eq!(gateway.serving.in_flight(), 0);
}

#[tokio::test]
async fn the_upstream_learns_who_asks_and_the_client_which_id() {
    let gateway = TestGateway::before(origin::echo().await);
    let mut client = gateway.client().await;
    let reply = client
        .request("GET / HTTP/1.1\r\nhost: test:80\r\nx-forwarded-for: 10.9.8.7\r\nx-request-id: me-1\r\n\r\n")
        .await;
    assert!(reply.body.contains("x-forwarded-for: 10.9.8.7, 127.0.0.1\n"), "{}", reply.body);
    assert!(reply.body.contains("x-forwarded-host: test:80\n"));
    assert!(reply.body.contains("x-forwarded-proto: http\n"));
    assert!(reply.body.contains("x-request-id: me-1\n"));
    assert!(reply.body.contains("via: 1.1 tidegate\n"));
    assert_eq!(reply.header("x-request-id"), "me-1");
}

#[tokio::test]
async fn fields_of_the_connection_stay_on_their_side() {
    let origin = origin::says(
        b"HTTP/1.1 200 OK\r\nconnection: x-hop, close\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\nx-end: 2\r\n\
          upgrade: h2c\r\ncontent-length: 2\r\n\r\nok",
    )
    .await;
    let gateway = TestGateway::before(origin);
    let reply = gateway.client().await.request(GET).await;
    assert_eq!((reply.status, reply.body.as_str()), (200, "ok"));
    for name in ["connection", "x-hop", "keep-alive", "upgrade"] {
        assert_eq!(reply.header(name), "", "{name}");
    }
    assert_eq!(reply.header("x-end"), "2");

    let gateway = TestGateway::before(origin::echo().await);
    let reply = gateway
        .client()
        .await
        .request("GET / HTTP/1.1\r\nhost: test\r\nconnection: upgrade, x-hop\r\nupgrade: websocket\r\nx-hop: 1\r\n\r\n")
        .await;
    for name in ["connection:", "upgrade:", "x-hop:"] {
        assert!(!reply.body.contains(name), "{}", reply.body);
    }
}

#[tokio::test]
async fn bodies_of_either_framing_go_through_both_ways() {
    let gateway = TestGateway::before(origin::echo().await);
    let mut client = gateway.client().await;
    let reply = client.request("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 5\r\n\r\nhello").await;
    assert!(reply.body.ends_with("\n\nhello"));
    assert!(reply.body.contains("content-length: 5\n"));
    let chunked = "POST / HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n";
    let reply = client.request(chunked).await;
    assert!(reply.body.ends_with("\n\nhello"), "{}", reply.body);
    assert!(reply.body.contains("transfer-encoding: chunked\n"));

    let origin =
        origin::says(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n").await;
    let gateway = TestGateway::before(origin);
    let reply = gateway.client().await.request(GET).await;
    assert_eq!((reply.body.as_str(), reply.whole), ("abc", true));

    // hyper alone would drop the body of a GET whose length is unknown.
    let reply = client.request(chunked.replace("POST", "GET")).await;
    assert!(reply.body.ends_with("\n\nhello"), "{}", reply.body);

    let origin = origin::says(b"HTTP/1.0 200 OK\r\n\r\nuntil the end").await;
    let gateway = TestGateway::before(origin);
    let reply = gateway.client().await.request(GET).await;
    assert_eq!((reply.body.as_str(), reply.whole), ("until the end", true));
}

#[tokio::test]
async fn a_response_with_two_framings_is_framed_by_its_chunks() {
    let origin = origin::says(
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    )
    .await;
    let gateway = TestGateway::before(origin);
    let reply = gateway.client().await.request(GET).await;
    assert_eq!((reply.body.as_str(), reply.whole), ("hello", true));
    assert_eq!(reply.header("content-length"), "");
}

#[tokio::test]
async fn a_large_body_streams_through_unchanged() {
    let gateway = TestGateway::before(origin::echo().await);
    let body = "0123456789abcdef".repeat(512 * 1024);
    let mut client = gateway.client().await;
    let (mut read, mut write) = client.stream.split();
    let head = format!("POST / HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    let mut received = Vec::new();
    let send = async {
        tokio::io::AsyncWriteExt::write_all(&mut write, head.as_bytes()).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut write, body.as_bytes()).await.unwrap();
    };
    let receive = tokio::io::AsyncReadExt::read_to_end(&mut read, &mut received);
    let ((), received_length) = tokio::join!(send, receive);
    received_length.unwrap();
    assert!(received.ends_with(body.as_bytes()));
}

#[tokio::test]
async fn a_response_without_a_body_has_none() {
    let origin = origin::serve(|request| async move {
        let status = request.uri().path().trim_start_matches('/').parse().unwrap_or(200);
        let body = if status == 200 { "body" } else { "" };
        Response::builder().status(status).body(Full::<Bytes>::from(body)).unwrap()
    })
    .await;
    let gateway = TestGateway::before(origin);
    let mut client = gateway.client().await;
    client.send("HEAD /200 HTTP/1.1\r\nhost: test\r\n\r\n").await;
    let reply = client.reply_to_head().await;
    assert_eq!((reply.status, reply.header("content-length")), (200, "4"));
    for path in ["/204", "/304"] {
        let reply = client.get(path).await;
        assert_eq!(format!("/{}", reply.status), path);
        assert_eq!(reply.header("transfer-encoding"), "");
    }
    // The connection is still in step.
    assert_eq!(client.get("/200").await.body, "body");
    gateway.until("all complete", |gateway| gateway.serving.completed() == 4).await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let gateway = TestGateway::before(origin::echo().await);
    let mut client = gateway.client().await;
    client.send((0..20).map(|n| format!("GET /{n} HTTP/1.1\r\nhost: test\r\n\r\n")).collect::<String>()).await;
    for n in 0..20 {
        let reply = client.reply().await;
        assert!(reply.body.starts_with(&format!("GET /{n}\n")));
    }
}

#[tokio::test]
async fn an_expectation_is_met_before_the_body_is_sent() {
    let gateway = TestGateway::before(origin::echo().await);
    let mut client = gateway.client().await;
    let head = "POST / HTTP/1.1\r\nhost: test\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    assert_eq!(client.request(head).await.status, 100);
    let reply = client.request("hello").await;
    assert_eq!(reply.status, 200);
    assert!(reply.body.ends_with("\n\nhello"));
    assert!(!reply.body.contains("expect:"));
}

#[tokio::test]
async fn a_client_of_http_1_0_is_served() {
    let gateway = TestGateway::before(origin::echo().await);
    let mut client = gateway.client().await;
    let reply = client.request("GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!(reply.status, 200);
    // The upstream needs a host, and the client named none.
    assert!(reply.body.contains("host: 127.0.0.1:"), "{}", reply.body);
    assert!(reply.body.contains("via: 1.0 tidegate\n"));
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn routes_lead_to_their_upstreams() {
    let (one, other) = (origin::says(ok("one")).await, origin::says(ok("other")).await);
    let mut config = config(one);
    config.upstreams.push(upstream("other", &[other]));
    config.routes = vec![route("/a", 0), route("/a/b", 1)];
    let gateway = TestGateway::start(&config);
    for (path, expected) in [("/a", "one"), ("/a/x", "one"), ("/a/b/c", "other")] {
        assert_eq!(gateway.client().await.get(path).await.body, expected, "{path}");
    }
    assert_eq!(gateway.client().await.get("/b").await.status, 404);
    assert_eq!(gateway.client().await.get("/a/../a/b").await.status, 400);
    assert_eq!(gateway.client().await.get("/a//b").await.status, 400);
}

#[tokio::test]
async fn upstream_connections_are_used_again_and_only_while_they_are_young() {
    let connections = Count::default();
    let counted = connections.clone();
    let origin = origin::raw(move |stream| {
        counted.add();
        async move {
            let service = hyper::service::service_fn(|_request| async {
                Ok::<_, std::convert::Infallible>(Response::new(Full::<Bytes>::from("ok")))
            });
            let io = hyper_util::rt::TokioIo::new(stream);
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
        }
    })
    .await;
    let mut config = config(origin);
    config.upstreams[0].idle_timeout = std::time::Duration::from_millis(300);
    let gateway = TestGateway::start(&config);
    let mut client = gateway.client().await;
    for _ in 0..10 {
        assert_eq!(client.get("/").await.body, "ok");
    }
    assert_eq!(connections.get(), 1);
    tokio::time::sleep(std::time::Duration::from_millis(400)).await;
    assert_eq!(client.get("/").await.body, "ok");
    assert_eq!(connections.get(), 2);
}

#[tokio::test]
async fn targets_take_turns() {
    let (one, other) = (origin::says(ok("one")).await, origin::says(ok("other")).await);
    let mut config = config(one);
    config.upstreams = vec![upstream("both", &[one, other])];
    let gateway = TestGateway::start(&config);
    let mut client = gateway.client().await;
    let mut bodies = Vec::new();
    for _ in 0..4 {
        bodies.push(client.get("/").await.body);
    }
    assert_eq!(bodies, ["one", "other", "one", "other"]);
}

#[tokio::test]
async fn options_with_no_forwards_left_is_answered_here() {
    let gateway = TestGateway::before(origin::nobody().await);
    let reply = gateway.client().await.request("OPTIONS * HTTP/1.1\r\nhost: t\r\nmax-forwards: 0\r\n\r\n").await;
    assert_eq!((reply.status, reply.body.as_str()), (200, ""));
}

#[tokio::test]
async fn a_second_gateway_on_the_same_port_says_so() {
    let gateway = TestGateway::before(origin::nobody().await);
    let mut config = config(gateway.address);
    config.server.listen = vec![gateway.address];
    let phase = tidegate::stop::phase::PhaseOwner::default();
    let (telemetry, _log) = tidegate::telemetry::Telemetry::start(
        &config.log,
        Default::default(),
        Default::default(),
        Default::default(),
        phase.view(),
        None,
    );
    let (table, _drained) = tidegate::proxy::Table::new(&config, &[], &telemetry, None);
    let proxy = tidegate::proxy::Proxy::new(table, telemetry, phase.view());
    let error =
        tidegate::server::Server::bind(&config.server, proxy, phase.view(), &mut Default::default()).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot listen on {}: address already in use", gateway.address));
    assert!(error.hint().is_some());
}

fn ok(body: &str) -> &'static [u8] {
    let text = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    Box::leak(text.into_bytes().into_boxed_slice())
}

#[tokio::test]
async fn clients_do_not_wait_for_each_other() {
    let gateway = TestGateway::before(origin::echo().await);
    let replies = futures_util::future::join_all((0..50).map(|n| {
        let address = gateway.address;
        async move { Client::connect(address).await.get(&format!("/{n}")).await.status }
    }))
    .await;
    assert_eq!(replies, vec![200; 50]);
}
