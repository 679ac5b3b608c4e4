//! Cleartext HTTP/2 by prior knowledge.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use tidegate::stop::phase::Phase;

use crate::gateway::{TestGateway, config, within};
use crate::origin;

type Sender = SendRequest<Full<Bytes>>;

async fn connect(gateway: &TestGateway) -> (Sender, tokio::task::JoinHandle<Result<(), hyper::Error>>) {
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    (sender, tokio::spawn(connection))
}

fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(format!("http://test{path}")).version(Version::HTTP_2).body(Full::default()).unwrap()
}

async fn text(sender: &mut Sender, request: Request<Full<Bytes>>) -> (StatusCode, String) {
    let response = within("a response", sender.send_request(request)).await.unwrap();
    let status = response.status();
    let body = within("a body", response.into_body().collect()).await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn streams_go_through_side_by_side() {
    let gateway = TestGateway::before(origin::echo().await);
    let (sender, _connection) = connect(&gateway).await;
    let replies = futures_util::future::join_all((0..50).map(|n| {
        let mut sender = sender.clone();
        async move { text(&mut sender, get(&format!("/{n}"))).await }
    }))
    .await;
    for (n, (status, body)) in replies.into_iter().enumerate() {
        assert_eq!(status, 200);
        assert!(body.starts_with(&format!("GET /{n}\n")), "{body}");
        assert!(body.contains("host: test\n"));
        assert!(body.contains("via: 2 tidegate\n"));
    }
}

#[tokio::test]
async fn bodies_go_through() {
    let gateway = TestGateway::before(origin::echo().await);
    let (mut sender, _connection) = connect(&gateway).await;
    let body = "0123456789".repeat(300_000);
    let request = Request::post("http://test/").body(Full::from(body.clone())).unwrap();
    let (status, echoed) = text(&mut sender, request).await;
    assert_eq!(status, 200);
    assert!(echoed.ends_with(&body));
}

#[tokio::test]
async fn a_get_may_have_a_body() {
    let gateway = TestGateway::before(origin::echo().await);
    let (mut sender, _connection) = connect(&gateway).await;
    let request = Request::get("http://test/").body(Full::from("unusual")).unwrap();
    let (_, echoed) = text(&mut sender, request).await;
    assert!(echoed.ends_with("\n\nunusual"), "{echoed}");
}

#[tokio::test]
async fn a_host_that_contradicts_the_authority_is_refused() {
    let gateway = TestGateway::before(origin::echo().await);
    let (mut sender, _connection) = connect(&gateway).await;
    let mut request = get("/");
    request.headers_mut().insert("host", "other".parse().unwrap());
    assert_eq!(text(&mut sender, request).await.0, 400);
    // The connection goes on.
    assert_eq!(text(&mut sender, get("/")).await.0, 200);
}

#[tokio::test]
async fn a_truncated_body_resets_the_stream() {
    let gateway = TestGateway::before(origin::says(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await);
    let (mut sender, _connection) = connect(&gateway).await;
    let response = sender.send_request(get("/")).await.unwrap();
    assert!(within("the end of the body", response.into_body().collect()).await.is_err());
}

#[tokio::test]
async fn idle_connections_end() {
    let mut config = config(origin::echo().await);
    config.server.idle_timeout = Duration::from_millis(150);
    let gateway = TestGateway::start(&config);
    let (mut sender, connection) = connect(&gateway).await;
    assert_eq!(text(&mut sender, get("/")).await.0, 200);
    assert!(within("the end of the connection", connection).await.unwrap().is_ok());
}

#[tokio::test]
async fn more_fields_than_configured_are_refused() {
    let gateway = TestGateway::before(origin::echo().await);
    let (mut sender, _connection) = connect(&gateway).await;
    let mut request = get("/");
    for _ in 0..101 {
        request.headers_mut().append("x", "1".parse().unwrap());
    }
    assert_eq!(text(&mut sender, request).await.0, 431);
}

#[tokio::test]
async fn streams_in_flight_end_in_order_when_the_gateway_drains() {
    let release = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let held = std::sync::Arc::clone(&release);
    let origin = origin::serve(move |_| {
        let held = std::sync::Arc::clone(&held);
        async move {
            held.acquire().await.unwrap().forget();
            http::Response::new(Full::from("late"))
        }
    })
    .await;
    let gateway = TestGateway::before(origin);
    let (mut sender, connection) = connect(&gateway).await;
    let response = sender.send_request(get("/"));
    gateway.until("it is in flight", |gateway| gateway.serving.in_flight() == 1).await;
    gateway.phase.enter(Phase::Draining);
    let drained = gateway.serving.drained();
    release.add_permits(1);
    let response = within("the response", response).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "late");
    within("the drain", drained).await;
    assert!(within("the end of the connection", connection).await.unwrap().is_ok());
}

#[tokio::test]
async fn a_connection_that_says_what_it_speaks_only_after_the_drain_began_is_told_to_go() {
    let gateway = TestGateway::before(origin::echo().await);
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    gateway.until("it is accepted", |gateway| gateway.metric("tidegate_connections_open") == 1).await;
    gateway.phase.enter(Phase::Draining);
    // One thread: the connection hears of the drain while this task lets it.
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    // Never idle: only GOAWAY makes an end of it.
    let asking = async {
        let mut answered = 0;
        while sender.ready().await.is_ok() {
            match sender.send_request(get("/")).await {
                Ok(response) => assert_eq!(response.status(), StatusCode::OK),
                Err(_) => break,
            }
            answered += 1;
        }
        answered
    };
    let (answered, ()) = within("the drain", futures_util::future::join(asking, gateway.serving.drained())).await;
    assert!(answered > 0);
    assert!(connection.await.unwrap().is_ok(), "it ended in order");
    assert_eq!(gateway.serving.completed(), answered);
}
