//! The service behind a gateway under test. It says what it was sent, and how it behaves can be told by the request.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The request field that tells the origin what to do: `slow=MS` to take so long, `hold` to wait until it is released,
/// `body=TEXT` to answer with just that text.
pub const X_ORIGIN: &str = "x-origin";

/// More fields than a gateway lets plugins add: what is too much is for the gateway to say.
pub(crate) const MAX_FIELDS: usize = 1_000;

/// A running origin. Dropping it ends it.
#[derive(Debug)]
pub struct Origin {
    address: SocketAddr,
    state: watch::Sender<State>,
    _server: JoinSet<()>,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    requests: usize,
    held: usize,
    released: bool,
}

/// What an origin does to every connection, once it has read something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Reset it.
    Reset,
    /// Send bytes that are not HTTP.
    Garbage,
    /// Stay silent.
    Stall,
}

impl Origin {
    /// One that answers every request with JSON: `method`, `target`, `headers` and `body` of the request.
    ///
    /// # Panics
    /// If it cannot be started.
    pub async fn start() -> Self {
        Self::serve(|stream, state| async move {
            let service = service_fn(|request| answer(request, state.clone()));
            let mut http = hyper::server::conn::http1::Builder::new();
            // A connection that breaks is the gateway's to report.
            let _ = http.max_headers(MAX_FIELDS).serve_connection(TokioIo::new(stream), service).await;
        })
        .await
    }

    /// One that has a fault.
    ///
    /// # Panics
    /// If it cannot be started.
    pub async fn with(fault: Fault) -> Self {
        Self::serve(move |mut stream, _| async move {
            let mut some = [0; 1024];
            let _ = stream.read(&mut some).await;
            match fault {
                Fault::Reset => {
                    let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                }
                Fault::Garbage => {
                    let _ = stream.write_all(b"\x16\x03\x01 this is not HTTP\r\n\r\n").await;
                }
                Fault::Stall => std::future::pending().await,
            }
        })
        .await
    }

    async fn serve<F, R>(serve: F) -> Self
    where
        F: Fn(TcpStream, watch::Sender<State>) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap_or_else(|error| panic!("no origin: {error}"));
        let address = listener.local_addr().unwrap_or_else(|error| panic!("no origin: {error}"));
        let state = watch::Sender::new(State::default());
        let mut server = JoinSet::new();
        let shared = state.clone();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                connections.spawn(serve(stream, shared.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, state, _server: server }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests that have come in.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.state.borrow().requests
    }

    /// Wait until so many requests are held.
    ///
    /// # Panics
    /// If they never come.
    pub async fn holds(&self, count: usize) {
        let mut state = self.state.subscribe();
        let held = tokio::time::timeout(Duration::from_secs(60), state.wait_for(|state| state.held >= count)).await;
        assert!(held.is_ok(), "{count} requests should be held, but {} are", self.state.borrow().held);
    }

    /// Answer what is held, and hold nothing from now on.
    pub fn release(&self) {
        self.state.send_modify(|state| state.released = true);
    }
}

/// An address on which nobody listens.
///
/// # Panics
/// If there is no port.
pub async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap_or_else(|error| panic!("no port: {error}"));
    listener.local_addr().unwrap_or_else(|error| panic!("no port: {error}"))
}

async fn answer(request: Request<Incoming>, state: watch::Sender<State>) -> Result<Response<Full<Bytes>>, Infallible> {
    state.send_modify(|state| state.requests += 1);
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let told = head.headers.get(X_ORIGIN).and_then(|told| told.to_str().ok()).unwrap_or_default();
    match told.split_once('=').unwrap_or((told, "")) {
        ("slow", millis) => tokio::time::sleep(Duration::from_millis(millis.parse().unwrap_or(0))).await,
        ("hold", _) => {
            state.send_modify(|state| state.held += 1);
            // The sender is held by this very function.
            let _ = state.subscribe().wait_for(|state| state.released).await;
        }
        ("body", text) => return Ok(Response::new(Full::from(text.to_owned()))),
        _ => {}
    }
    let mut headers = serde_json::Map::new();
    for (name, value) in &head.headers {
        let value = Value::from(String::from_utf8_lossy(value.as_bytes()));
        headers.insert(name.as_str().to_owned(), value);
    }
    let said = json!({
        "method": head.method.as_str(),
        "target": head.uri.to_string(),
        "headers": headers,
        "body": String::from_utf8_lossy(&body),
    });
    Ok(Response::new(Full::from(said.to_string())))
}
