//! One client's connection: served until it ends, is found idle or abusive, or the gateway drains.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::io::Watched;
use super::{LINGER, Shared};
use crate::proxy::{Activity, ConnectionInfo, Protocol, at};
use crate::stop::phase::Phase;
use crate::telemetry::metrics::Eviction;

/// What a connection may take its time for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timeouts {
    /// From the first byte of a request head to its last.
    pub(super) head: Duration,
    /// Without a request.
    pub(super) idle: Duration,
    /// Between two pieces of a response that the client takes.
    pub(super) body: Duration,
}

/// Where a connection is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Requests come and go.
    Serving,
    /// The gateway drains. The connection is closed as soon as it has been idle for [`LINGER`].
    Draining,
    /// hyper has been told to close it after what is in flight.
    Closing,
}

/// Serve a connection to its end.
pub(super) async fn serve(
    shared: Arc<Shared>,
    stream: TcpStream,
    peer: SocketAddr,
    _permit: Option<OwnedSemaphorePermit>,
    closing: CancellationToken,
) {
    // A response in two segments must not wait for the acknowledgement of the first.
    if stream.set_nodelay(true).is_err() {
        // The client has gone already.
        return;
    }
    let _open = Open::new(&shared);
    let info = Arc::new(ConnectionInfo::new(peer));
    if shared.cut.run_until_cancelled(drive(&shared, stream, &info, &closing)).await.is_none() {
        shared.proxy.telemetry().metrics.connections.evicted(Eviction::Cut);
    }
}

async fn drive(shared: &Shared, stream: TcpStream, info: &Arc<ConnectionInfo>, closing: &CancellationToken) {
    let (activity, settings) = (info.activity(), shared.settings.load_full());
    let timeouts = &settings.timeouts;
    let service = service_fn(|request| {
        let (proxy, info) = (Arc::clone(&shared.proxy), Arc::clone(info));
        async move { Ok::<_, Infallible>(proxy.handle(&info, request).await) }
    });
    let watched = TokioIo::new(Watched::new(stream, Arc::clone(info)));
    let mut connection = pin!(settings.http.serve_connection(watched, service));
    let mut phase = shared.phase.clone();
    // At the end of the process, or when a reload takes the listener away.
    let mut draining = pin!(closing.run_until_cancelled(phase.reached(Phase::Draining)));
    let mut stage = Stage::Serving;
    let mut timer = pin!(tokio::time::sleep_until(Instant::now() + timeouts.shortest()));
    let mut drain_began = None;

    loop {
        tokio::select! {
            biased;
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(client = %info.peer(), %error, "connection ended");
                }
                return;
            }
            _ = draining.as_mut(), if drain_began.is_none() => {
                drain_began = Some(Instant::now());
                if activity.protocol() == Protocol::Http2 {
                    // GOAWAY tells the client which streams will be served; none that it has sent is lost.
                    connection.as_mut().graceful_shutdown();
                    stage = Stage::Closing;
                } else if stage == Stage::Serving {
                    stage = Stage::Draining;
                }
                timer.as_mut().reset(Instant::now());
            }
            () = timer.as_mut() => {
                let verdict = match judge(activity, timeouts, stage, drain_began) {
                    Verdict::Close(why) if activity.protocol() != Protocol::Http2 => {
                        // The last look: bytes that the kernel has and the reactor has not told of are a request.
                        activity.probe(true);
                        if futures_util::poll!(connection.as_mut()).is_ready() {
                            return;
                        }
                        activity.probe(false);
                        if is_idle(activity) {
                            Verdict::Close(why)
                        } else {
                            Verdict::Wait(Instant::now() + timeouts.shortest())
                        }
                    }
                    verdict => verdict,
                };
                match verdict {
                    Verdict::Wait(until) => timer.as_mut().reset(until),
                    Verdict::Close(why) => {
                        if let Some(why) = why {
                            shared.proxy.telemetry().metrics.connections.evicted(why);
                        }
                        connection.as_mut().graceful_shutdown();
                        stage = Stage::Closing;
                        timer.as_mut().reset(Instant::now() + timeouts.shortest());
                    }
                    Verdict::Evict(why) => {
                        shared.proxy.telemetry().metrics.connections.evicted(why);
                        tracing::debug!(client = %info.peer(), cause = ?why, "connection evicted");
                        return;
                    }
                }
            }
        }
    }
}

/// What the time-outs say about a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// Nothing before this moment.
    Wait(Instant),
    /// Let it end in order. With a cause if its client would have kept it.
    Close(Option<Eviction>),
    /// End it on the spot.
    Evict(Eviction),
}

fn is_idle(activity: &Activity) -> bool {
    activity.in_flight() == 0 && activity.head_since().is_none()
}

fn judge(activity: &Activity, timeouts: &Timeouts, stage: Stage, drain_began: Option<Instant>) -> Verdict {
    let now = Instant::now();
    if stage == Stage::Draining && activity.protocol() == Protocol::Http2 {
        // It had not said what it speaks when the drain began. A busy one is never idle, and GOAWAY loses nothing.
        return Verdict::Close(None);
    }
    // Nothing can have begun and be over its time before that.
    let next_look = now + timeouts.shortest();
    if activity.in_flight() > 0 {
        return match activity.stalled_since().map(|since| at(since) + timeouts.body) {
            Some(deadline) if deadline <= now => Verdict::Evict(Eviction::SlowReader),
            Some(deadline) => Verdict::Wait(deadline.min(next_look)),
            None if stage == Stage::Draining => Verdict::Wait(now + LINGER.min(timeouts.shortest())),
            None => Verdict::Wait(next_look),
        };
    }
    if let Some(since) = activity.head_since() {
        let deadline = at(since) + timeouts.head;
        return if deadline <= now { Verdict::Evict(Eviction::SlowHead) } else { Verdict::Wait(deadline) };
    }
    let idle_since = at(activity.idle_since());
    match stage {
        Stage::Serving => {
            let deadline = idle_since + timeouts.idle;
            if deadline <= now { Verdict::Close(Some(Eviction::Idle)) } else { Verdict::Wait(deadline.min(next_look)) }
        }
        Stage::Draining => {
            // Also for one whose response went out before the drain: its client does not know yet.
            let deadline = drain_began.unwrap_or(now).max(idle_since) + LINGER;
            if deadline <= now { Verdict::Close(None) } else { Verdict::Wait(deadline) }
        }
        // Nothing in flight and told to close: what is left is the client taking the last bytes.
        Stage::Closing => {
            let deadline = idle_since + timeouts.idle.max(timeouts.body);
            if deadline <= now { Verdict::Evict(Eviction::SlowReader) } else { Verdict::Wait(deadline.min(next_look)) }
        }
    }
}

impl Timeouts {
    fn shortest(&self) -> Duration {
        // Not shorter than a timer can tell.
        self.head.min(self.idle).min(self.body).max(Duration::from_millis(1))
    }
}

/// Counts a connection as open until it is dropped.
struct Open<'a>(&'a Shared);

impl<'a> Open<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.proxy.telemetry().metrics.connections.open.fetch_add(1, Ordering::Relaxed);
        Self(shared)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.proxy.telemetry().metrics.connections.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Runs the streams of HTTP/2 connections as tasks that are waited for, and cut with everything else.
#[derive(Debug, Clone)]
pub(super) struct Tracked {
    tasks: TaskTracker,
    cut: CancellationToken,
}

impl Tracked {
    pub(super) fn new(tasks: TaskTracker, cut: CancellationToken) -> Self {
        Self { tasks, cut }
    }
}

impl<F> hyper::rt::Executor<F> for Tracked
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let cut = self.cut.clone();
        self.tasks.spawn(async move {
            cut.run_until_cancelled(stream).await;
        });
    }
}
