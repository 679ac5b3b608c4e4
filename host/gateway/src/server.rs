//! What clients connect to: listeners, and the connections they accept.
//!
//! It follows the phase by itself: from lame-duck on responses ask for the connection to be closed (the proxy adds
//! that), and from draining on no connection comes in and those that are there end, without losing a request that has
//! arrived. How long that may take is not decided here: [`Serving::cut`] ends what is left.

mod connection;
mod io;
mod listener;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioTimer;
use hyper_util::server::conn::auto;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::listener::BindError;
pub(crate) use self::listener::bind;

use self::connection::Timeouts;
use self::listener::Listener;
use crate::config;
use crate::proxy::Proxy;
use crate::stop::phase::PhaseView;
use crate::supervisor::sockets::InheritedSockets;

/// For how long connections are still accepted, and idle ones kept, once draining has begun: a request or a connection
/// that was on its way at that moment has arrived by then. Enough for a round trip on one continent; a load balancer
/// that needs longer has `drain_delay`.
const LINGER: Duration = Duration::from_millis(100);

/// Streams that a client may have open on an HTTP/2 connection at a time.
const MAX_STREAMS: u32 = 128;

/// Streams a client may reset before they were accepted, and streams that may be reset for the client's errors, until
/// the connection is closed (rapid reset, CVE-2023-44487 and its relatives).
const MAX_RESETS: usize = 32;
const MAX_ERROR_RESETS: usize = 128;

/// An HTTP/2 connection whose client does not answer a ping is gone.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes buffered per HTTP/2 stream for a client that reads slowly.
const STREAM_BUFFER: usize = 128 * 1024;

/// The smallest buffer that hyper takes for an HTTP/1 connection.
const SMALLEST_BUFFER: usize = 8 * 1024;

/// hyper keeps the fields of a head on the stack if there may be at most this many.
const FIELDS_ON_STACK: usize = 100;

/// Bound listeners. Clients can connect, and wait to be accepted.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<Listener>,
    shared: Arc<Shared>,
}

/// What listeners and connections have in common.
struct Shared {
    proxy: Arc<Proxy>,
    phase: PhaseView,
    http: auto::Builder<connection::Tracked>,
    timeouts: Timeouts,
    /// One permit for each connection.
    room: Arc<Semaphore>,
    tasks: TaskTracker,
    /// Ends every task at once.
    cut: CancellationToken,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("timeouts", &self.timeouts).finish_non_exhaustive()
    }
}

impl Server {
    /// Listen on every address, on those of `sockets` that have one of them. Call it inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// The first address that cannot be bound; none stays bound then.
    pub fn bind(
        config: &config::Server,
        proxy: Arc<Proxy>,
        phase: PhaseView,
        sockets: &mut InheritedSockets,
    ) -> Result<Self, BindError> {
        let listeners =
            config.listen.iter().map(|address| Listener::bind(*address, sockets)).collect::<Result<_, _>>()?;
        let tasks = TaskTracker::new();
        let cut = CancellationToken::new();
        let tracked = connection::Tracked::new(tasks.clone(), cut.clone());
        let shared = Shared {
            proxy,
            phase,
            http: http(config, tracked),
            timeouts: Timeouts { head: config.header_timeout, idle: config.idle_timeout, body: config.body_timeout },
            room: Arc::new(Semaphore::new(config.max_connections.min(Semaphore::MAX_PERMITS))),
            tasks,
            cut,
        };
        Ok(Self { listeners, shared: Arc::new(shared) })
    }

    /// The bound addresses, in the order of the configuration, ports filled in.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(Listener::address).collect()
    }

    /// Accept connections, until the phase says otherwise.
    #[must_use]
    pub fn start(self) -> Serving {
        for listener in self.listeners {
            let shared = Arc::clone(&self.shared);
            self.shared.tasks.spawn(listener.run(shared));
        }
        Serving { shared: self.shared }
    }
}

/// A server at work.
#[derive(Debug)]
pub struct Serving {
    shared: Arc<Shared>,
}

impl Serving {
    /// Exchanges that have begun and whose response is not yet handed over.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.shared.proxy.telemetry().metrics.exchanges.in_flight()
    }

    /// Exchanges since the start whose response was handed over completely.
    #[must_use]
    pub fn completed(&self) -> u64 {
        self.shared.proxy.telemetry().metrics.exchanges.completed()
    }

    /// Wait until the listeners are closed and every connection has ended. The phase must have reached draining, or
    /// [`Serving::cut`] been called, for that to come about.
    pub async fn drained(&self) {
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    /// End what is left, now. Returns the number of exchanges that are cut off by it. [`Serving::drained`] tells when
    /// the last task is gone.
    #[must_use]
    pub fn cut(&self) -> usize {
        let in_flight = self.in_flight();
        self.shared.cut.cancel();
        in_flight
    }
}

fn http(config: &config::Server, tracked: connection::Tracked) -> auto::Builder<connection::Tracked> {
    let mut http = auto::Builder::new(tracked);
    let mut http1 = http.http1();
    http1
        .timer(TokioTimer::new())
        // It would count idle time as time of the next head. `connection` tells the two apart.
        .header_read_timeout(None)
        // A head that does not fit is answered with 431; the proxy checks the exact sum.
        .max_buf_size(SMALLEST_BUFFER.max(config.max_header_bytes));
    if config.max_headers != FIELDS_ON_STACK {
        http1.max_headers(config.max_headers);
    }
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(config.max_header_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(MAX_RESETS)
        .max_local_error_reset_streams(MAX_ERROR_RESETS)
        .max_send_buf_size(STREAM_BUFFER)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    http
}
