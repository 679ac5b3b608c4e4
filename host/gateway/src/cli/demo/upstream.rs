//! The demo's upstream: says what it was asked, and with which stamp.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A running upstream. Dropping it ends it.
pub(super) struct DemoUpstream {
    address: SocketAddr,
    slow: watch::Receiver<usize>,
    _server: JoinSet<()>,
}

impl DemoUpstream {
    /// `slow` is how long `/slow` takes.
    pub(super) async fn start(slow: Duration) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (sender, receiver) = watch::channel(0);
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, slow, sender.clone()));
            }
        });
        Ok(Self { address, slow: receiver, _server: server })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Wait until so many requests for `/slow` have come in.
    pub(super) async fn slow_requests(&self, count: usize) {
        // The sender lives as long as the server does.
        let _ = self.slow.clone().wait_for(|seen| *seen >= count).await;
    }
}

async fn serve(stream: TcpStream, slow: Duration, seen: watch::Sender<usize>) {
    let answer = service_fn(|request: Request<Incoming>| {
        let seen = seen.clone();
        async move {
            if request.uri().path() == "/slow" {
                seen.send_modify(|seen| *seen += 1);
                tokio::time::sleep(slow).await;
            }
            let stamp = request.headers().get("x-stamped-by").and_then(|stamp| stamp.to_str().ok()).unwrap_or("nobody");
            let text = format!("upstream: {} {}, stamped by {stamp}\n", request.method(), request.uri().path());
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(text))))
        }
    });
    // A connection that breaks is the gateway's to report.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
}
