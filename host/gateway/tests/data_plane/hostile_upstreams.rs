//! Upstreams that refuse, reset, stall, or answer garbage: one status each, and nothing truncated passes for whole.

use std::time::Duration;

use crate::client::GET;
use crate::gateway::{TestGateway, config, upstream};
use crate::origin::{self, Count};

#[tokio::test]
async fn an_upstream_that_refuses_is_a_502() {
    let gateway = TestGateway::before(origin::nobody().await);
    assert_eq!(gateway.client().await.request(GET).await.status, 502);
    assert_eq!(gateway.metric("tidegate_upstream_failures_total{kind=\"connect\"}"), 1);
}

#[tokio::test]
async fn an_upstream_that_closes_without_an_answer_is_a_502() {
    let gateway = TestGateway::before(origin::says(b"").await);
    assert_eq!(gateway.client().await.request(GET).await.status, 502);
    assert_eq!(gateway.metric("tidegate_upstream_failures_total{kind=\"reset\"}"), 1);
    let gateway = TestGateway::before(origin::says(b"HTTP/1.1 200 OK\r\ncontent-le").await);
    assert_eq!(gateway.client().await.request(GET).await.status, 502);
}

#[tokio::test]
async fn an_upstream_that_answers_garbage_is_a_502() {
    for garbage in [
        b"\x16\x03\x01\x02\x00\x01\x00\x01".as_slice(),
        b"HTTP/9.9 hello\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
        b"HTTP/1.1 200 OK\r\ncontent-length: nonsense\r\n\r\nabcd",
        b"HTTP/1.1 200 OK\r\nbad name: x\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
    ] {
        let gateway = TestGateway::before(origin::says(garbage).await);
        assert_eq!(gateway.client().await.request(GET).await.status, 502, "{}", garbage.escape_ascii());
    }
}

#[tokio::test]
async fn an_endless_response_head_is_a_502() {
    let origin = origin::raw(|mut stream| async move {
        origin::read_head(&mut stream).await;
        let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 200 OK\r\n").await;
        while tokio::io::AsyncWriteExt::write_all(&mut stream, &b"x: yyyyyyyyyyyyyyy\r\n".repeat(1000)).await.is_ok() {}
    })
    .await;
    let gateway = TestGateway::before(origin);
    assert_eq!(gateway.client().await.request(GET).await.status, 502);
}

#[tokio::test]
async fn an_upstream_that_stalls_is_a_504() {
    for beginning in [b"".as_slice(), b"HTTP/1.1 200 OK\r\nx: "] {
        let mut config = config(origin::says_and_stalls(beginning).await);
        config.upstreams[0].response_timeout = Duration::from_millis(150);
        let gateway = TestGateway::start(&config);
        let mut client = gateway.client().await;
        assert_eq!(client.request(GET).await.status, 504);
        assert_eq!(gateway.metric("tidegate_upstream_failures_total{kind=\"response-timeout\"}"), 1);
        // The client's connection is none the worse for it.
        assert_eq!(client.request(GET).await.status, 504);
    }
}

#[tokio::test]
async fn an_upstream_that_takes_no_body_is_a_504() {
    let origin = origin::raw(|stream| async move {
        let _stream = stream;
        std::future::pending::<()>().await;
    })
    .await;
    let mut config = config(origin);
    config.upstreams[0].response_timeout = Duration::from_millis(200);
    let gateway = TestGateway::start(&config);
    let mut client = gateway.client().await;
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000000\r\n\r\n").await;
    let (mut read, mut write) = client.stream.split();
    let send = async { while tokio::io::AsyncWriteExt::write_all(&mut write, &[0; 65536]).await.is_ok() {} };
    let mut head = [0; 12];
    let receive = tokio::io::AsyncReadExt::read_exact(&mut read, &mut head);
    tokio::select! {
        () = send => panic!("the connection ended without an answer"),
        result = receive => drop(result.unwrap()),
    }
    assert_eq!(&head, b"HTTP/1.1 504");
}

#[tokio::test]
async fn a_truncated_body_never_looks_whole() {
    for truncated in [
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf".as_slice(),
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\nnonsense\r\n",
    ] {
        let gateway = TestGateway::before(origin::says(truncated).await);
        let reply = gateway.client().await.request(GET).await;
        assert_eq!((reply.status, reply.whole), (200, false), "{}", truncated.escape_ascii());
        gateway
            .until("it is counted", |gateway| {
                gateway.metric("tidegate_responses_aborted_total{cause=\"upstream-broke\"}") == 1
            })
            .await;
        assert_eq!(gateway.metric("tidegate_upstream_failures_total{kind=\"body-broken\"}"), 1);
    }
}

#[tokio::test]
async fn a_body_that_stalls_aborts_the_response() {
    let origin = origin::says_and_stalls(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
    let mut config = config(origin);
    config.server.body_timeout = Duration::from_millis(150);
    let gateway = TestGateway::start(&config);
    let reply = gateway.client().await.request(GET).await;
    assert_eq!((reply.status, reply.whole), (200, false));
    assert_eq!(gateway.metric("tidegate_upstream_failures_total{kind=\"body-stalled\"}"), 1);
}

#[tokio::test]
async fn a_target_that_refuses_passes_the_request_on() {
    let (dead, alive) = (origin::nobody().await, origin::echo().await);
    let mut config = config(alive);
    config.upstreams = vec![upstream("both", &[dead, alive])];
    let gateway = TestGateway::start(&config);
    let mut client = gateway.client().await;
    for _ in 0..4 {
        let reply = client.request("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello").await;
        assert_eq!(reply.status, 200);
        assert!(reply.body.ends_with("hello"));
    }
}

/// The upstream may have acted on it: a second try could do it twice.
#[tokio::test]
async fn a_request_that_was_sent_is_not_sent_again() {
    let requests = Count::default();
    let counted = requests.clone();
    let breaking = origin::raw(move |mut stream| {
        let counted = counted.clone();
        async move {
            if origin::read_head(&mut stream).await.ends_with("\r\n\r\n") {
                counted.add();
            }
        }
    })
    .await;
    let mut config = config(breaking);
    config.upstreams = vec![upstream("both", &[breaking, breaking])];
    let gateway = TestGateway::start(&config);
    let reply = gateway.client().await.request("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(reply.status, 502);
    assert_eq!(requests.get(), 1);
}

#[tokio::test]
async fn an_upstream_that_closes_idle_connections_costs_no_request() {
    // Says nothing of closing, and closes.
    let gateway = TestGateway::before(origin::says(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await);
    let mut client = gateway.client().await;
    for _ in 0..20 {
        let reply = client.request("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!((reply.status, reply.body.as_str()), (200, "ok"));
        // Time for the close to arrive: a request that meets it on its way cannot be helped.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_request_is_passed_on() {
    let origin = origin::says_and_stalls(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno").await;
    let gateway = TestGateway::before(origin);
    let mut client = gateway.client().await;
    let reply = client.request("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\nbegin").await;
    assert_eq!((reply.status, reply.body.as_str()), (403, "no"));
}
