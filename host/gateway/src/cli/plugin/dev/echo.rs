//! An upstream that tells what it was asked: the request as it came out of the plugin.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Bytes of a body that are told.
const LONGEST_BODY: usize = 1 << 20;

/// It, as long as this lives.
pub(super) struct Echo {
    address: SocketAddr,
    _server: JoinSet<()>,
}

impl Echo {
    /// Listen on a free port of this machine.
    pub(super) async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => match accepted {
                        Ok((stream, _)) => drop(connections.spawn(serve(stream))),
                        Err(_) => break,
                    },
                    // Those that are over are forgotten.
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Ok(Self { address, _server: server })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn serve(stream: TcpStream) {
    let answer = service_fn(|request: Request<Incoming>| async move {
        let (head, body) = request.into_parts();
        let mut text = format!("{} {}\n", head.method, head.uri);
        for (name, value) in &head.headers {
            let _ = writeln!(text, "{name}: {}", String::from_utf8_lossy(value.as_bytes()));
        }
        if let Ok(body) = Limited::new(body, LONGEST_BODY).collect().await
            && let body = body.to_bytes()
            && !body.is_empty()
        {
            let _ = write!(text, "\n{}", String::from_utf8_lossy(&body));
        }
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(text))))
    });
    // A connection that breaks is the gateway's to report.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
}
