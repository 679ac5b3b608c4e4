//! Lame-duck, draining, and the cut at its end.

use std::sync::Arc;
use std::time::Duration;

use http::Response;
use http_body_util::Full;
use tidegate::stop::phase::Phase;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::client::{Client, GET};
use crate::gateway::{TestGateway, within};
use crate::origin;

/// An origin that answers when it is released.
async fn held() -> (std::net::SocketAddr, Arc<Semaphore>) {
    let release = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&release);
    let origin = origin::serve(move |_| {
        let held = Arc::clone(&held);
        async move {
            held.acquire().await.unwrap().forget();
            Response::new(Full::from("done"))
        }
    })
    .await;
    (origin, release)
}

#[tokio::test]
async fn a_lame_duck_still_serves_and_asks_clients_to_leave() {
    let gateway = TestGateway::before(origin::echo().await);
    let mut old = gateway.client().await;
    assert_eq!(old.get("/").await.header("connection"), "");
    gateway.phase.enter(Phase::LameDuck);
    let reply = old.get("/").await;
    assert_eq!((reply.status, reply.header("connection")), (200, "close"));
    assert!(old.is_closed().await);
    let reply = gateway.client().await.get("/").await;
    assert_eq!((reply.status, reply.header("connection")), (200, "close"));
}

#[tokio::test]
async fn what_is_in_flight_is_finished() {
    let (origin, release) = held().await;
    let gateway = TestGateway::before(origin);
    let mut client = gateway.client().await;
    client.send(GET).await;
    gateway.until("it is in flight", |gateway| gateway.serving.in_flight() == 1).await;
    gateway.phase.enter(Phase::Draining);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(gateway.serving.in_flight(), 1);
    release.add_permits(1);
    let reply = client.reply().await;
    assert_eq!((reply.body.as_str(), reply.header("connection")), ("done", "close"));
    within("the drain", gateway.serving.drained()).await;
    assert_eq!(gateway.serving.completed(), 1);
    assert!(TcpStream::connect(gateway.address).await.is_err());
}

#[tokio::test]
async fn idle_connections_linger_and_then_end() {
    let gateway = TestGateway::before(origin::echo().await);
    let mut used = gateway.client().await;
    assert_eq!(used.get("/").await.status, 200);
    let mut fresh = gateway.client().await;
    gateway.until("both are accepted", |gateway| gateway.metric("tidegate_connections_open") == 2).await;
    gateway.phase.enter(Phase::Draining);
    // A request that comes in while they linger is served.
    let reply = used.get("/").await;
    assert_eq!((reply.status, reply.header("connection")), (200, "close"));
    assert!(fresh.is_closed().await);
    within("the drain", gateway.serving.drained()).await;
}

#[tokio::test]
async fn a_request_whose_head_has_begun_is_served() {
    let gateway = TestGateway::before(origin::echo().await);
    let mut used = gateway.client().await;
    assert_eq!(used.get("/").await.status, 200);
    let mut fresh = gateway.client().await;
    let (beginning, rest) = GET.split_at(10);
    used.send(beginning).await;
    fresh.send(beginning).await;
    gateway.until("both are accepted", |gateway| gateway.metric("tidegate_connections_open") == 2).await;
    gateway.phase.enter(Phase::Draining);
    tokio::time::sleep(Duration::from_millis(250)).await;
    for mut client in [used, fresh] {
        client.send(rest).await;
        assert_eq!(client.reply().await.status, 200);
    }
    within("the drain", gateway.serving.drained()).await;
}

#[tokio::test]
async fn connections_that_nobody_has_accepted_yet_are_served() {
    // One thread, and nothing awaited in between: the gateway cannot have accepted any of them when the drain begins.
    let gateway = TestGateway::before(origin::echo().await);
    let clients: Vec<std::net::TcpStream> = (0..50)
        .map(|_| {
            let mut stream = std::net::TcpStream::connect(gateway.address).unwrap();
            std::io::Write::write_all(&mut stream, GET.as_bytes()).unwrap();
            stream
        })
        .collect();
    gateway.phase.enter(Phase::Draining);
    for mut stream in clients {
        let mut text = String::new();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let text = within(
            "a response",
            tokio::task::spawn_blocking(move || {
                std::io::Read::read_to_string(&mut stream, &mut text).unwrap();
                text
            }),
        )
        .await
        .unwrap();
        assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
    }
    within("the drain", gateway.serving.drained()).await;
}

#[tokio::test]
async fn what_is_left_at_the_end_is_cut_and_counted() {
    let (origin, _release) = held().await;
    let gateway = TestGateway::before(origin);
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = gateway.client().await;
        client.send(GET).await;
        clients.push(client);
    }
    gateway.until("all are in flight", |gateway| gateway.serving.in_flight() == 3).await;
    gateway.phase.enter(Phase::Draining);
    assert!(tokio::time::timeout(Duration::from_millis(250), gateway.serving.drained()).await.is_err());
    assert_eq!(gateway.serving.cut(), 3);
    within("the end", gateway.serving.drained()).await;
    assert_eq!((gateway.serving.in_flight(), gateway.serving.completed()), (0, 0));
    for mut client in clients {
        assert!(client.is_closed().await);
    }
}

#[tokio::test]
async fn an_idle_gateway_drains_at_once_but_for_the_linger() {
    let gateway = TestGateway::before(origin::echo().await);
    let began = std::time::Instant::now();
    gateway.phase.enter(Phase::Draining);
    within("the drain", gateway.serving.drained()).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

/// Clients of two kinds ask without a pause, and the drain begins at a random moment. A client may see its connection
/// closed between two requests, if it has been told so or has been idle; it must never lose a request it has sent on a
/// connection that was not announced to be closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "the seed, should a run fail")]
async fn no_request_is_lost_when_the_drain_begins_at_a_random_moment() {
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos();
    println!("seed {seed}");
    let origin = origin::echo().await;
    let mut random = u64::from(seed);
    for round in 0..20 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let moment = Duration::from_micros(random >> 33 & 0x7fff);
        let gateway = TestGateway::before(origin);
        let address = gateway.address;
        let clients: Vec<_> = (0..16)
            .map(|n| {
                tokio::spawn(async move {
                    let mut served = 0;
                    loop {
                        // Refused, or (while the listener closes) not answered: the client goes elsewhere.
                        let connecting = TcpStream::connect(address);
                        let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_millis(200), connecting).await else {
                            return Ok(served);
                        };
                        let mut client = Client::over(stream);
                        let keeps = n % 2 == 0;
                        loop {
                            if tokio::io::AsyncWriteExt::write_all(&mut client.stream, GET.as_bytes()).await.is_err() {
                                return Err(format!("client {n}: cannot send after {served}"));
                            }
                            match client.try_reply(true).await {
                                Some(reply) if reply.status == 200 && reply.whole => served += 1,
                                other => return Err(format!("client {n}: {other:?} after {served}")),
                            }
                            if !keeps || client.closes() {
                                break;
                            }
                        }
                    }
                })
            })
            .collect();
        tokio::time::sleep(moment).await;
        gateway.phase.enter(Phase::Draining);
        within("the drain", gateway.serving.drained()).await;
        for client in clients {
            let served = within("a client", client).await.unwrap();
            assert!(served.is_ok(), "round {round}, after {moment:?}: {served:?}");
        }
    }
}
