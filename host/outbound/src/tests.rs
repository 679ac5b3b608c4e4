//! A client of one plugin against real servers, with names whose addresses the test decides.
#![expect(clippy::indexing_slicing, reason = "in a test a panic is a failure")]

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;

use super::*;

/// One answer for each time that somebody asks; the last one stays.
struct Scripted(Mutex<VecDeque<Vec<IpAddr>>>);

impl Names for Scripted {
    fn look_up(
        &self,
        _name: String,
        _place: OwnedSemaphorePermit,
    ) -> BoxFuture<'static, Result<Vec<IpAddr>, OutboundError>> {
        let mut answers = self.0.lock().expect("nobody panicked");
        let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        Box::pin(async { Ok(answer.unwrap_or_default()) })
    }
}

fn client(answers: &[&[&str]], limits: Limits) -> Client {
    let addresses = |texts: &&[&str]| texts.iter().map(|text| text.parse().expect("an address")).collect();
    let names = Scripted(Mutex::new(answers.iter().map(addresses).collect()));
    Client::with(Arc::new(names), RootCertStore::empty(), limits).expect("TLS can be set up")
}

/// Granted an origin, and the addresses of these ranges.
fn granted(origin: &str, ranges: &[&str]) -> Vec<Granted> {
    let addresses = ranges.iter().map(|range| range.parse().expect("a range")).collect();
    vec![Granted { origin: Origin::parse(origin).expect("an origin"), addresses }]
}

/// A server that answers every request with these bytes, and counts its connections.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Server {
    async fn start(answer: impl Into<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (connections, open) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let answer: Arc<[u8]> = answer.into().into();
        let mut tasks = JoinSet::new();
        let counts = (Arc::clone(&connections), Arc::clone(&open));
        tasks.spawn(async move {
            let mut all = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                counts.0.fetch_add(1, Ordering::SeqCst);
                counts.1.fetch_add(1, Ordering::SeqCst);
                let (answer, open) = (Arc::clone(&answer), Arc::clone(&counts.1));
                all.spawn(async move {
                    serve(stream, &answer).await;
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, connections, open, _tasks: tasks }
    }

    fn url(&self, host: &str) -> String {
        format!("http://{host}:{}", self.address.port())
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    async fn until_open(&self, count: usize) {
        while self.open.load(Ordering::SeqCst) != count {
            tokio::task::yield_now().await;
        }
    }
}

/// Until the client closes the connection.
async fn serve(mut stream: TcpStream, answer: &[u8]) {
    let mut head = Vec::new();
    let mut some = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut some).await {
        head.extend_from_slice(&some[..read]);
        while let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            head.drain(..end + 4);
            if stream.write_all(answer).await.is_err() {
                return;
            }
        }
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

async fn send(plugin: &PluginClient, url: &str) -> Result<http::Response<Body>, OutboundError> {
    let body = Empty::<Bytes>::new().map_err(|never| match never {}).boxed_unsync();
    let request = Request::get(url).body(body).expect("a request");
    plugin.send(request, Caller::default(), Timeouts::default()).await
}

async fn get(plugin: &PluginClient, url: &str) -> Result<(StatusCode, Bytes), OutboundError> {
    let answer = send(plugin, url).await?;
    Ok((answer.status(), answer.into_body().collect().await?.to_bytes()))
}

#[tokio::test]
async fn a_name_that_moves_to_a_private_address_is_refused_at_the_next_connection() {
    let closing = Server::start("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok").await;
    let url = closing.url("rebind.test");
    // The first address stands for a public one: there is none of those that a test could serve.
    let client = client(&[&["127.0.0.1"], &["127.0.0.2"]], Limits::default());
    let plugin = client.plugin("p".into(), granted(&url, &["127.0.0.1/32"]));
    assert_eq!(get(&plugin, &url).await.expect("reached").0, 200);
    // Something listens there as well (the whole of 127/8 is this machine), and is not asked.
    let elsewhere = TcpListener::bind(("127.0.0.2", closing.address.port())).await.expect("the other address");
    assert_eq!(get(&plugin, &url).await, Err(OutboundError::AddressProhibited));
    let nobody = std::future::poll_fn(|cx| std::task::Poll::Ready(elsewhere.poll_accept(cx).is_pending())).await;
    assert!(nobody, "somebody connected to the private address");
    let counted = client.stats();
    assert_eq!(counted[0].1.outcomes[Outcome::AddressProhibited as usize], 1);
}

#[tokio::test]
async fn of_many_addresses_only_those_that_may_be_reached_are_tried() {
    let server = Server::start(OK).await;
    let url = server.url("many.test");
    let client = client(&[&["127.0.0.2", "::1", "169.254.169.254", "127.0.0.1"]], Limits::default());
    let plugin = client.plugin("p".into(), granted(&url, &["127.0.0.1/32"]));
    assert_eq!(get(&plugin, &url).await.expect("reached").1, "ok");
    let nothing = client.plugin("q".into(), granted(&url, &[]));
    assert_eq!(get(&nothing, &url).await, Err(OutboundError::AddressProhibited));
}

#[tokio::test]
async fn a_host_that_is_an_address_goes_through_the_same_check_however_it_is_written() {
    let server = Server::start(OK).await;
    let port = server.address.port();
    let client = client(&[], Limits::default());
    let granted_without_ranges = client.plugin("p".into(), granted(&server.url("127.0.0.1"), &[]));
    for host in ["127.0.0.1", "2130706433", "0x7f.1", "0177.0.0.1", "127.1"] {
        let url = format!("http://{host}:{port}/");
        assert_eq!(get(&granted_without_ranges, &url).await, Err(OutboundError::AddressProhibited), "{host}");
    }
    let mapped = client.plugin("q".into(), granted(&server.url("[::ffff:127.0.0.1]"), &[]));
    let url = server.url("[::ffff:127.0.0.1]");
    assert_eq!(get(&mapped, &url).await, Err(OutboundError::AddressProhibited));
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_name_without_an_address_is_an_error_of_the_look_up() {
    let client = client(&[&[]], Limits::default());
    let plugin = client.plugin("p".into(), granted("http://nowhere.test", &[]));
    assert!(matches!(get(&plugin, "http://nowhere.test/").await, Err(OutboundError::Dns(_))));
}

#[tokio::test]
async fn connections_are_reused_within_a_plugin_and_never_by_another() {
    let server = Server::start(OK).await;
    let url = server.url("127.0.0.1");
    let client = client(&[], Limits::default());
    let one = client.plugin("one".into(), granted(&url, &["127.0.0.1/32"]));
    for _ in 0..5 {
        get(&one, &url).await.expect("reached");
    }
    assert_eq!(server.connections(), 1);
    let other = client.plugin("other".into(), granted(&url, &["127.0.0.1/32"]));
    get(&other, &url).await.expect("reached");
    // Another version of the same plugin is another one.
    let reloaded = client.plugin("one".into(), granted(&url, &["127.0.0.1/32"]));
    get(&reloaded, &url).await.expect("reached");
    assert_eq!(server.connections(), 3);
    drop((one, other, reloaded));
    server.until_open(0).await;
}

#[tokio::test]
async fn an_idle_connection_makes_room_and_one_in_use_does_not() {
    let (first, second) = (Server::start(OK).await, Server::start(OK).await);
    let limits = Limits { max_connections: 1, ..Limits::default() };
    let client = client(&[], limits);
    let mut all = granted(&first.url("127.0.0.1"), &["127.0.0.1/32"]);
    all.extend(granted(&second.url("127.0.0.1"), &["127.0.0.1/32"]));
    let plugin = client.plugin("p".into(), all);
    let (to_first, to_second) = (first.url("127.0.0.1"), second.url("127.0.0.1"));
    get(&plugin, &to_first).await.expect("reached");
    get(&plugin, &to_second).await.expect("the idle one has made room");
    first.until_open(0).await;
    let unread = send(&plugin, &to_second).await.expect("the one that is there");
    assert!(matches!(send(&plugin, &to_first).await, Err(OutboundError::Limit)));
    drop(unread);
    get(&plugin, &to_first).await.expect("there is room again");
}

#[tokio::test]
async fn an_answer_that_is_too_long_ends_with_an_error_and_its_connection() {
    let body = "x".repeat(2_000_000);
    let server = Server::start(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())).await;
    let url = server.url("127.0.0.1");
    let client = client(&[], Limits { max_response: 100_000, ..Limits::default() });
    let plugin = client.plugin("p".into(), granted(&url, &["127.0.0.1/32"]));
    assert_eq!(get(&plugin, &url).await, Err(OutboundError::ResponseBody(100_000)));
    server.until_open(0).await;
}

#[tokio::test]
async fn an_answer_of_just_the_limit_is_read() {
    let server = Server::start(OK).await;
    let url = server.url("127.0.0.1");
    let client = client(&[], Limits { max_response: 2, ..Limits::default() });
    let plugin = client.plugin("p".into(), granted(&url, &["127.0.0.1/32"]));
    assert_eq!(get(&plugin, &url).await.expect("as long as it may be").1, "ok");
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let many = "x-field: some value or other\r\n".repeat(400);
    let large = format!("x-large: {}\r\n", "x".repeat(70_000));
    for fields in [many, large] {
        let server = Server::start(format!("HTTP/1.1 200 OK\r\n{fields}content-length: 0\r\n\r\n")).await;
        let url = server.url("127.0.0.1");
        let client = client(&[], Limits::default());
        let plugin = client.plugin("p".into(), granted(&url, &["127.0.0.1/32"]));
        assert_eq!(get(&plugin, &url).await, Err(OutboundError::ResponseHead(64 << 10)));
        server.until_open(0).await;
    }
}

#[tokio::test]
async fn what_is_not_http_is_an_error() {
    for (answer, error) in [
        ("SSH-2.0-OpenSSH_9.6\r\n", "not HTTP"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok", "not HTTP"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "broken off"),
    ] {
        let server = Server::start(answer).await;
        let url = server.url("127.0.0.1");
        let client = client(&[], Limits::default());
        let plugin = client.plugin("p".into(), granted(&url, &["127.0.0.1/32"]));
        let came = get(&plugin, &url).await.expect_err("it is not HTTP");
        assert!(came.to_string().contains(error), "{answer:?}: {came}");
    }
}

#[tokio::test]
async fn a_server_that_has_closed_an_idle_connection_is_connected_to_again() {
    let server = Server::start("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok").await;
    let url = server.url("127.0.0.1");
    let client = client(&[], Limits::default());
    let plugin = client.plugin("p".into(), granted(&url, &["127.0.0.1/32"]));
    for connections in 1..=3 {
        get(&plugin, &url).await.expect("reached");
        assert_eq!(server.connections(), connections);
    }
}

/// A name server that never answers, and a resolver that cannot be interrupted: it holds its place for ever.
#[derive(Default)]
struct Silent(Arc<Mutex<Vec<OwnedSemaphorePermit>>>);

impl Names for Silent {
    fn look_up(
        &self,
        _name: String,
        place: OwnedSemaphorePermit,
    ) -> BoxFuture<'static, Result<Vec<IpAddr>, OutboundError>> {
        self.0.lock().expect("nobody panicked").push(place);
        Box::pin(std::future::pending())
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_name_server_is_asked_so_often_and_no_more() {
    let silent = Silent::default();
    let places = Arc::clone(&silent.0);
    let client = Client::with(Arc::new(silent), RootCertStore::empty(), Limits::default()).expect("TLS can be set up");
    let plugin = client.plugin("p".into(), granted("https://a.test", &[]));
    for _ in 0..3 * names::LOOKUPS {
        assert_eq!(get(&plugin, "https://a.test/").await, Err(OutboundError::ConnectionTimeout));
    }
    assert_eq!(places.lock().expect("nobody panicked").len(), names::LOOKUPS);
    // Those who gave up hold no connection.
    assert!(matches!(client.stats()[0].1.outcomes[Outcome::Timeout as usize], 24));
}

#[tokio::test]
async fn a_handshake_without_end_is_given_up_in_time() {
    let server = Server::start("").await;
    let url = server.url("127.0.0.1").replace("http:", "https:");
    let limits = Limits { connect_timeout: Duration::from_millis(50), ..Limits::default() };
    let client = client(&[], limits);
    let plugin = client.plugin("p".into(), granted(&url, &["127.0.0.1/32"]));
    assert_eq!(get(&plugin, &url).await, Err(OutboundError::ConnectionTimeout));
    server.until_open(0).await;
}

#[tokio::test]
async fn a_connection_that_nobody_uses_is_closed() {
    let server = Server::start(OK).await;
    let url = server.url("127.0.0.1");
    let client = client(&[], Limits::default());
    let plugin = client.plugin("p".into(), granted(&url, &["127.0.0.1/32"]));
    get(&plugin, &url).await.expect("reached");
    tokio::time::pause();
    tokio::time::sleep(pool::IDLE / 2).await;
    assert_eq!(server.open.load(Ordering::SeqCst), 1);
    tokio::time::sleep(pool::IDLE).await;
    server.until_open(0).await;
}

#[tokio::test]
async fn what_is_closed_refuses_everything() {
    let body = Empty::<Bytes>::new().map_err(|never| match never {}).boxed_unsync();
    let request = Request::get("https://example.com/").body(body).expect("a request");
    let answer = Closed.send(request, Caller::default(), Timeouts::default()).await;
    assert!(matches!(answer, Err(OutboundError::Denied)));
}

#[tokio::test]
async fn what_no_request_can_have_is_refused() {
    let server = Server::start(OK).await;
    let url = server.url("127.0.0.1");
    let client = client(&[], Limits::default());
    let plugin = client.plugin("p".into(), granted(&url, &["127.0.0.1/32"]));
    let with_user = url.replace("http://", "http://user:password@");
    assert!(matches!(get(&plugin, &with_user).await, Err(OutboundError::Uri(_))));
    let long = "X".repeat(65);
    for method in ["CONNECT", &long] {
        let body = Empty::<Bytes>::new().map_err(|never| match never {}).boxed_unsync();
        let request = Request::builder().method(method).uri(&url).body(body).expect("a request");
        let answer = plugin.send(request, Caller::default(), Timeouts::default()).await;
        assert!(matches!(answer, Err(OutboundError::Method)), "{method}");
    }
    let long = format!("http://{}/", ["a".repeat(60).as_str(); 5].join("."));
    assert!(matches!(get(&plugin, &long).await, Err(OutboundError::Uri(_))));
    assert_eq!(server.connections(), 0);
}
