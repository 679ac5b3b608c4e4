//! Upstreams: their targets, and the HTTP/1.1 connections kept to them.
//!
//! The pool is our own because of what it makes plain: which failures came before a byte of the request was sent
//! (only those are tried again), how many idle connections there are and for how long, and that a connection goes back
//! only when its response has been read to the end. A request never waits for somebody else's connection.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::HOST;
use http::uri::Authority;
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::connection::at;
use super::content::{Content, Upload, UploadFailure, UploadState};
use crate::config;

/// The longest wait for a connection whose response has been read to be ready for the next request. It takes longer
/// only if the upstream answered early and still has to read the request; such a connection is not worth keeping.
const SETTLE: Duration = Duration::from_secs(1);

/// Why there is no response from an upstream.
#[derive(Debug, thiserror::Error)]
pub(super) enum UpstreamError {
    /// No connection came about.
    #[error("cannot connect to {target}: {error}")]
    Connect {
        /// The target.
        target: Authority,
        /// Refused, unreachable, not resolved.
        error: io::Error,
    },
    /// No connection came about in time.
    #[error("no connection to {target} within {limit:?}")]
    ConnectTimeout {
        /// The target.
        target: Authority,
        /// The upstream's `connect_timeout`.
        limit: Duration,
    },
    /// The request was sent, and no head of a response came in time.
    #[error("no response from {target} within {limit:?}")]
    ResponseTimeout {
        /// The target.
        target: Authority,
        /// The upstream's `response_timeout`.
        limit: Duration,
    },
    /// The connection broke before the head of a response was complete.
    #[error("{target} closed the connection without a response: {error}")]
    Reset {
        /// The target.
        target: Authority,
        /// What the connection said.
        error: hyper::Error,
    },
    /// What came is not HTTP, or over the limits for a response's head.
    #[error("{target} sent a malformed response: {error}")]
    Garbage {
        /// The target.
        target: Authority,
        /// What is wrong with it.
        error: hyper::Error,
    },
    /// It switched protocols although nobody had asked for that.
    #[error("{target} switched protocols unasked")]
    Switched {
        /// The target.
        target: Authority,
    },
    /// The client did not send its body on.
    #[error("the request's body did not come in whole")]
    Upload(UploadFailure),
}

/// All upstreams of a configuration. One that nobody has any more closes its connections.
#[derive(Debug)]
pub(super) struct Upstreams(Vec<Arc<Upstream>>);

impl Upstreams {
    /// Needs a tokio runtime, for the tasks that drive and expire connections.
    /// One that is configured as it was `before` is the same one, with its connections.
    pub(super) fn new(upstreams: &[config::Upstream], before: Option<&Self>) -> Self {
        let kept = |config: &config::Upstream| {
            before.and_then(|before| before.0.iter().find(|upstream| upstream.config == *config)).map(Arc::clone)
        };
        Self(upstreams.iter().map(|config| kept(config).unwrap_or_else(|| Upstream::new(config))).collect())
    }

    /// The upstream at this place of the configuration.
    pub(super) fn at(&self, index: usize) -> Option<&Arc<Upstream>> {
        self.0.get(index)
    }

    /// The upstream of this name.
    pub(super) fn named(&self, name: &str) -> Option<&Arc<Upstream>> {
        self.0.iter().find(|upstream| &*upstream.config.name == name)
    }
}

/// Runs the tasks that belong to upstream connections, and ends them.
#[derive(Debug, Clone)]
struct Tasks {
    tracker: TaskTracker,
    closed: CancellationToken,
}

impl Tasks {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let closed = self.closed.clone();
        self.tracker.spawn(async move {
            closed.run_until_cancelled(task).await;
        });
    }
}

/// One upstream: targets that are as good as each other.
#[derive(Debug)]
pub(super) struct Upstream {
    config: config::Upstream,
    targets: Vec<Arc<Target>>,
    next: AtomicUsize,
    _closes: DropGuard,
}

impl Upstream {
    fn new(config: &config::Upstream) -> Arc<Self> {
        let tasks = Tasks { tracker: TaskTracker::new(), closed: CancellationToken::new() };
        let targets = config.targets.iter().map(|authority| Target::start(authority, config, &tasks)).collect();
        let _closes = tasks.closed.drop_guard();
        Arc::new(Self { config: config.clone(), targets, next: AtomicUsize::new(0), _closes })
    }

    /// Send a request and wait for the head of the response. The targets take turns. One that cannot be connected to
    /// passes the turn on: nothing has been sent. Once a byte may have been sent there is no second try.
    pub(super) async fn send(
        self: &Arc<Self>,
        head: http::request::Parts,
        content: Content,
    ) -> Result<(Response<Incoming>, Lease), UpstreamError> {
        let (upload, state) = Upload::new(content);
        let mut request = Request::from_parts(head, upload);
        let adds_host = !request.headers().contains_key(HOST);
        let first = self.next.fetch_add(1, Ordering::Relaxed) % self.targets.len().max(1);
        let (before, from) = self.targets.split_at_checked(first).unwrap_or((&[], &self.targets));
        let mut failure = None;
        for target in from.iter().chain(before) {
            if adds_host {
                request.headers_mut().insert(HOST, target.host.clone());
            }
            // A connection that was closed while it was idle gives the request back unsent: on to the next one.
            while let Some(sender) = target.take_idle() {
                match self.exchange(target, sender, request, state.as_deref()).await {
                    Ok(answer) => return Ok(answer),
                    Err(Failure::Unsent(unsent, _)) => request = *unsent,
                    Err(Failure::Final(error)) => return Err(error),
                }
            }
            match target.connect().await {
                Ok(sender) => match self.exchange(target, sender, request, state.as_deref()).await {
                    Ok(answer) => return Ok(answer),
                    Err(Failure::Unsent(unsent, error)) => {
                        request = *unsent;
                        failure = Some(error);
                    }
                    Err(Failure::Final(error)) => return Err(error),
                },
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.unwrap_or_else(|| UpstreamError::Connect {
            target: Authority::from_static("none"),
            error: io::Error::new(io::ErrorKind::NotFound, "the upstream has no targets"),
        }))
    }

    async fn exchange(
        self: &Arc<Self>,
        target: &Arc<Target>,
        mut sender: SendRequest<Upload>,
        request: Request<Upload>,
        upload: Option<&UploadState>,
    ) -> Result<(Response<Incoming>, Lease), Failure> {
        let sent = sender.try_send_request(request);
        let Some(result) = until_late(self.config.response_timeout, upload, sent).await else {
            let (target, limit) = (target.authority.clone(), self.config.response_timeout);
            return Err(Failure::Final(UpstreamError::ResponseTimeout { target, limit }));
        };
        match result {
            Ok(response) if response.status() == http::StatusCode::SWITCHING_PROTOCOLS => {
                Err(Failure::Final(UpstreamError::Switched { target: target.authority.clone() }))
            }
            Ok(response) => Ok((response, Lease { sender, target: Arc::clone(target), _upstream: Arc::clone(self) })),
            Err(mut failed) => {
                let unsent = failed.take_message();
                let error = classify(&target.authority, failed.into_error(), upload);
                Err(match unsent {
                    Some(request) => Failure::Unsent(Box::new(request), error),
                    None => Failure::Final(error),
                })
            }
        }
    }
}

enum Failure {
    /// No byte of the request has left.
    Unsent(Box<Request<Upload>>, UpstreamError),
    /// The upstream may have seen the request.
    Final(UpstreamError),
}

fn classify(target: &Authority, error: hyper::Error, upload: Option<&UploadState>) -> UpstreamError {
    let target = target.clone();
    if let Some(failure) = upload.and_then(UploadState::failure) {
        UpstreamError::Upload(failure)
    } else if error.is_parse() {
        UpstreamError::Garbage { target, error }
    } else {
        UpstreamError::Reset { target, error }
    }
}

/// Wait for the response, but not longer than `limit` after the request's body was taken completely, or after its
/// last piece was taken if the upstream stops taking any. While the client owes a piece, the client's own time-out
/// runs instead.
async fn until_late<T>(limit: Duration, upload: Option<&UploadState>, sent: impl Future<Output = T>) -> Option<T> {
    let mut sent = std::pin::pin!(sent);
    let mut deadline = Instant::now() + limit;
    loop {
        match tokio::time::timeout_at(deadline, sent.as_mut()).await {
            Ok(result) => return Some(result),
            Err(_late) => {
                let upload = upload?;
                deadline =
                    if upload.waits_for_client() { Instant::now() + limit } else { at(upload.moved_at()) + limit };
                if deadline <= Instant::now() {
                    return None;
                }
            }
        }
    }
}

/// One host and port of an upstream, with the idle connections to it.
#[derive(Debug)]
struct Target {
    authority: Authority,
    /// For requests that came without a host.
    host: HeaderValue,
    /// If the host is an address there is nothing to resolve.
    address: Option<SocketAddr>,
    connect_timeout: Duration,
    idle_timeout: Duration,
    max_idle: usize,
    /// Most recently used at the back, which is where they are taken.
    idle: Mutex<VecDeque<Idle>>,
    tasks: Tasks,
}

#[derive(Debug)]
struct Idle {
    sender: SendRequest<Upload>,
    since: Instant,
}

impl Target {
    fn start(authority: &Authority, config: &config::Upstream, tasks: &Tasks) -> Arc<Self> {
        let port = authority.port_u16().unwrap_or(80);
        let bare = authority.host().trim_start_matches('[').trim_end_matches(']');
        let target = Arc::new(Self {
            authority: authority.clone(),
            host: HeaderValue::from_str(authority.as_str()).unwrap_or_else(|_| HeaderValue::from_static("")),
            address: bare.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, port)),
            connect_timeout: config.connect_timeout,
            idle_timeout: config.idle_timeout,
            max_idle: config.max_idle,
            idle: Mutex::new(VecDeque::new()),
            tasks: tasks.clone(),
        });
        let expiring = Arc::clone(&target);
        tasks.spawn(async move { expiring.expire().await });
        target
    }

    /// Close idle connections whose time is over, for as long as the upstream exists.
    async fn expire(&self) {
        loop {
            let oldest = self.lock().front().map(|idle| idle.since);
            let now = Instant::now();
            let next = oldest.unwrap_or(now) + self.idle_timeout;
            // At least a millisecond apart, so that a tiny time-out does not become a busy loop.
            tokio::time::sleep_until(next.max(now + Duration::from_millis(1))).await;
            let now = Instant::now();
            self.lock().retain(|idle| !idle.sender.is_closed() && now < idle.since + self.idle_timeout);
        }
    }

    fn take_idle(&self) -> Option<SendRequest<Upload>> {
        let mut idle = self.lock();
        while let Some(Idle { sender, since }) = idle.pop_back() {
            if sender.is_ready() && since.elapsed() < self.idle_timeout {
                return Some(sender);
            }
        }
        None
    }

    fn put_idle(&self, sender: SendRequest<Upload>) {
        if self.max_idle == 0 || sender.is_closed() {
            return;
        }
        let mut idle = self.lock();
        if idle.len() >= self.max_idle {
            idle.pop_front();
        }
        idle.push_back(Idle { sender, since: Instant::now() });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Idle>> {
        // Nothing panics while it holds the lock, and a queue is valid whatever happened to it.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connect(&self) -> Result<SendRequest<Upload>, UpstreamError> {
        let refused = |error| UpstreamError::Connect { target: self.authority.clone(), error };
        let stream = tokio::time::timeout(self.connect_timeout, self.dial())
            .await
            .map_err(|_late| UpstreamError::ConnectTimeout {
                target: self.authority.clone(),
                limit: self.connect_timeout,
            })?
            .map_err(refused)?;
        // A proxy forwards what it has; waiting to fill segments would only add delay.
        stream.set_nodelay(true).map_err(refused)?;
        let (sender, connection) = http1::Builder::new()
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| UpstreamError::Reset { target: self.authority.clone(), error })?;
        self.tasks.spawn(async move {
            if let Err(error) = connection.await {
                // Who waits for a response hears of it; what happens to an idle connection matters to nobody.
                tracing::debug!(error = %error, "upstream connection ended");
            }
        });
        Ok(sender)
    }

    async fn dial(&self) -> io::Result<TcpStream> {
        match self.address {
            Some(address) => TcpStream::connect(address).await,
            None => TcpStream::connect((self.authority.host(), self.authority.port_u16().unwrap_or(80))).await,
        }
    }
}

/// A connection that is serving a response. Dropped, it closes; given back, it serves another.
#[derive(Debug)]
pub(super) struct Lease {
    sender: SendRequest<Upload>,
    target: Arc<Target>,
    /// Keeps the connection up, also when no configuration has the upstream any more.
    _upstream: Arc<Upstream>,
}

impl Lease {
    /// The response has been read to its end.
    pub(super) fn give_back(self) {
        let Self { mut sender, target, _upstream } = self;
        if sender.is_ready() {
            target.put_idle(sender);
        } else if !sender.is_closed() {
            // The task that drives the connection runs on another thread and is not quite there yet.
            let tasks = target.tasks.clone();
            tasks.spawn(async move {
                if let Ok(Ok(())) = tokio::time::timeout(SETTLE, sender.ready()).await {
                    target.put_idle(sender);
                }
            });
        }
    }
}
