//! A web server that events are sent to. It keeps all that it was sent, and behaves as it is told.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use sha2::Sha256;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// Nothing takes longer, on however busy a machine.
const HANGS: Duration = Duration::from_secs(60);

/// A request, whole.
#[derive(Debug, Clone)]
pub struct Received {
    /// Path and query.
    pub target: String,
    /// The fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Received {
    /// A field, or nothing.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Whether one of its signatures is that of Standard Webhooks with this key (base64).
    ///
    /// # Panics
    /// If the key is none.
    #[must_use]
    pub fn is_signed_with(&self, key: &str) -> bool {
        let key = STANDARD.decode(key).unwrap_or_else(|error| panic!("{key:?}: {error}"));
        self.header("webhook-signature").split(' ').filter_map(|signature| signature.strip_prefix("v1,")).any(
            |signature| {
                let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap_or_else(|error| panic!("{error}"));
                mac.update(format!("{}.{}.", self.header("webhook-id"), self.header("webhook-timestamp")).as_bytes());
                mac.update(&self.body);
                STANDARD.decode(signature).is_ok_and(|signature| mac.verify_slice(&signature).is_ok())
            },
        )
    }
}

/// What a receiver does with a request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// Answer with a status.
    Status(u16),
    /// Answer with a status, a field and a body.
    With(u16, (&'static str, String), String),
    /// Do something else, later.
    After(Duration, Box<Reply>),
    /// Close the connection without an answer.
    Close,
    /// Say nothing.
    Never,
    /// Answer with a status and a body that has no end.
    Endless(u16),
    /// Answer with a status, and never with the body that was announced.
    Stall(u16),
}

type Behaviour = Arc<dyn Fn(usize, &Received) -> Reply + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A running receiver. Dropping it ends it.
pub struct Receiver {
    address: SocketAddr,
    authority: Option<String>,
    shared: Arc<Shared>,
    _server: JoinSet<()>,
}

struct Shared {
    behaviour: Mutex<Behaviour>,
    received: Mutex<Vec<Received>>,
    counts: watch::Sender<Counts>,
}

/// What a receiver counts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Requests, whatever the answer.
    pub requests: usize,
    /// Requests that are being answered.
    pub under_way: usize,
    /// The most at a time.
    pub most_under_way: usize,
    /// Connections.
    pub connections: usize,
}

impl Receiver {
    /// One that takes everything.
    ///
    /// # Panics
    /// If it cannot be started.
    pub async fn start() -> Self {
        Self::listen(None, None).await
    }

    /// The same with TLS, by a certificate for `localhost` of an authority that nobody else knows.
    ///
    /// # Panics
    /// If it cannot be started.
    pub async fn start_tls() -> Self {
        let (authority, acceptor) = certificate();
        Self::listen(Some(acceptor), Some(authority)).await
    }

    async fn listen(tls: Option<TlsAcceptor>, authority: Option<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap_or_else(|error| panic!("no receiver: {error}"));
        let address = listener.local_addr().unwrap_or_else(|error| panic!("no receiver: {error}"));
        let shared = Arc::new(Shared {
            behaviour: Mutex::new(Arc::new(|_, _| Reply::Status(204))),
            received: Mutex::default(),
            counts: watch::Sender::default(),
        });
        let (mut server, served) = (JoinSet::new(), Arc::clone(&shared));
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                served.counts.send_modify(|counts| counts.connections += 1);
                let (shared, tls) = (Arc::clone(&served), tls.clone());
                connections.spawn(async move {
                    match tls {
                        None => serve(TokioIo::new(stream), shared).await,
                        // Whoever does not trust the certificate goes away.
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(TokioIo::new(stream), shared).await;
                            }
                        }
                    }
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, authority, shared, _server: server }
    }

    /// Behave like this from now on. It is told how many requests came before, and the request.
    pub fn behave(&self, behaviour: impl Fn(usize, &Received) -> Reply + Send + Sync + 'static) {
        *lock(&self.shared.behaviour) = Arc::new(behaviour);
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL, with the path `/events`.
    #[must_use]
    pub fn url(&self) -> String {
        match self.authority {
            None => format!("http://{}/events", self.address),
            Some(_) => format!("https://localhost:{}/events", self.address.port()),
        }
    }

    /// The certificate of its authority (PEM).
    ///
    /// # Panics
    /// If it has none.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.authority.as_deref().unwrap_or_else(|| panic!("it speaks no TLS"))
    }

    /// Everything it was sent.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        lock(&self.shared.received).clone()
    }

    /// What it has counted.
    #[must_use]
    pub fn counts(&self) -> Counts {
        *self.shared.counts.borrow()
    }

    /// Wait until it was sent so many requests.
    ///
    /// # Panics
    /// If they never come.
    pub async fn has(&self, requests: usize) -> Vec<Received> {
        let mut counts = self.shared.counts.subscribe();
        let come = tokio::time::timeout(HANGS, counts.wait_for(|counts| counts.requests >= requests)).await;
        assert!(come.is_ok(), "{requests} requests should come: {:?}", self.counts());
        self.received()
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Receiver").field(&self.address).finish()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve<I>(io: I, shared: Arc<Shared>)
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
{
    let service = service_fn(move |request| answer(request, Arc::clone(&shared)));
    // A connection that breaks is the sender's to report.
    let _ = auto::Builder::new(TokioExecutor::new()).http1_only().serve_connection(io, service).await;
}

/// Closes the connection.
#[derive(Debug)]
struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("closed as it was told")
    }
}

impl std::error::Error for Closed {}

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Response<Body>, Closed> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Closed)?.to_bytes();
    let target = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let received = Received { target, headers: head.headers, body };
    let behaviour = Arc::clone(&lock(&shared.behaviour));
    let before = {
        let mut all = lock(&shared.received);
        all.push(received.clone());
        all.len() - 1
    };
    let _busy = Busy::new(&shared.counts);
    let mut reply = behaviour(before, &received);
    while let Reply::After(time, next) = reply {
        tokio::time::sleep(time).await;
        reply = *next;
    }
    let (status, body) = match reply {
        Reply::Status(status) => (status, Full::default().boxed_unsync()),
        Reply::With(status, (name, value), body) => {
            let mut response = response(status, Full::from(body).boxed_unsync());
            let value = value.parse().unwrap_or_else(|error| panic!("{value:?}: {error}"));
            response.headers_mut().insert(name, value);
            return Ok(response);
        }
        Reply::Close => return Err(Closed),
        Reply::Never | Reply::After(..) => std::future::pending().await,
        Reply::Endless(status) => {
            let part = Bytes::from_static(&[b'x'; 4096]);
            let parts = stream::repeat(part).map(|part| Ok(Frame::data(part)));
            (status, StreamBody::new(parts).boxed_unsync())
        }
        Reply::Stall(status) => (status, StreamBody::new(stream::pending()).boxed_unsync()),
    };
    Ok(response(status, body))
}

fn response(status: u16, body: Body) -> Response<Body> {
    let response = Response::builder().status(status).body(body);
    response.unwrap_or_else(|error| panic!("{status}: {error}"))
}

/// A request that is being answered.
struct Busy(watch::Sender<Counts>);

impl Busy {
    fn new(counts: &watch::Sender<Counts>) -> Self {
        counts.send_modify(|counts| {
            counts.requests += 1;
            counts.under_way += 1;
            counts.most_under_way = counts.most_under_way.max(counts.under_way);
        });
        Self(counts.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.send_modify(|counts| counts.under_way -= 1);
    }
}

/// An authority's certificate (PEM), and TLS with a certificate for `localhost` that it has signed.
///
/// # Panics
/// If there can be none.
#[must_use]
pub fn certificate() -> (String, TlsAcceptor) {
    let Certificates { authority, certificate, key, .. } = certificates();
    let provider = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = provider
        .with_safe_default_protocol_versions()
        .and_then(|config| config.with_no_client_auth().with_single_cert(vec![certificate], key))
        .unwrap_or_else(|error| panic!("no TLS: {error}"));
    (authority, TlsAcceptor::from(Arc::new(config)))
}

/// What a server with TLS needs, and those who trust it.
pub struct Certificates {
    /// The authority's certificate (PEM).
    pub authority: String,
    /// The server's certificate (PEM): for `localhost` and 127.0.0.1.
    pub certificate_pem: String,
    /// The server's key (PEM).
    pub key_pem: String,
    certificate: tokio_rustls::rustls::pki_types::CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

/// An authority that nobody else knows, and a certificate that it has signed.
///
/// # Panics
/// If there can be none.
#[must_use]
pub fn certificates() -> Certificates {
    let make = || -> Result<Certificates, rcgen::Error> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        let authority = params.self_signed(&key)?;
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate()?;
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let certificate = CertificateParams::new(names)?.signed_by(&key, &issuer)?;
        Ok(Certificates {
            authority: authority.pem(),
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            certificate: certificate.der().clone(),
            key: key.into(),
        })
    };
    make().unwrap_or_else(|error| panic!("no certificate: {error}"))
}
