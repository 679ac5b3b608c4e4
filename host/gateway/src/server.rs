//! What clients connect to: listeners, and the connections they accept.
//!
//! It follows the phase by itself: from lame-duck on responses ask for the connection to be closed (the proxy adds
//! that), and from draining on no connection comes in and those that are there end, without losing a request that has
//! arrived. How long that may take is not decided here: [`Serving::cut`] ends what is left.
//!
//! A reload opens and closes listeners one by one: [`Serving::prepare`] binds what is new, [`Serving::apply`] makes it so.
//! A listener that goes drains as all of them do at the end. Connections keep the time-outs they began with.

mod bind;
mod connection;
mod io;
mod listener;
mod room;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use hyper_util::rt::TokioTimer;
use hyper_util::server::conn::auto;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::bind::BindError;
pub(crate) use self::bind::bind;

use self::connection::Timeouts;
use self::listener::Listener;
use self::room::Room;
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
    listeners: Vec<Bound>,
    shared: Arc<Shared>,
}

/// A listener and what the configuration calls it.
#[derive(Debug)]
struct Bound {
    configured: SocketAddr,
    listener: Listener,
}

/// What listeners and connections have in common.
struct Shared {
    proxy: Arc<Proxy>,
    phase: PhaseView,
    settings: ArcSwap<Settings>,
    room: Room,
    tasks: TaskTracker,
    /// Ends every task at once.
    cut: CancellationToken,
}

/// What a connection keeps from its beginning to its end.
struct Settings {
    http: auto::Builder<connection::Tracked>,
    timeouts: Timeouts,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("room", &self.room).finish_non_exhaustive()
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
        let listeners = config.listen.iter().map(|address| Bound::bind(*address, sockets)).collect::<Result<_, _>>()?;
        let (tasks, cut) = (TaskTracker::new(), CancellationToken::new());
        let shared = Shared {
            proxy,
            phase,
            settings: ArcSwap::from_pointee(Settings::new(config, &tasks, &cut)),
            room: Room::new(config.max_connections, &tasks),
            tasks,
            cut,
        };
        Ok(Self { listeners, shared: Arc::new(shared) })
    }

    /// The bound addresses, in the order of the configuration, ports filled in.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(|bound| bound.listener.address()).collect()
    }

    /// Accept connections, until the phase says otherwise.
    #[must_use]
    pub fn start(self) -> Serving {
        let serving = Serving { shared: self.shared, open: Mutex::default() };
        serving.open().extend(self.listeners.into_iter().map(|bound| bound.start(&serving.shared)));
        serving
    }
}

impl Bound {
    fn bind(configured: SocketAddr, sockets: &mut InheritedSockets) -> Result<Self, BindError> {
        Ok(Self { configured, listener: Listener::bind(configured, sockets)? })
    }

    fn start(self, shared: &Arc<Shared>) -> Open {
        let (configured, address, closing) = (self.configured, self.listener.address(), CancellationToken::new());
        shared.tasks.spawn(self.listener.run(Arc::clone(shared), closing.clone()));
        Open { configured, address, closing }
    }
}

impl Settings {
    fn new(config: &config::Server, tasks: &TaskTracker, cut: &CancellationToken) -> Self {
        let tracked = connection::Tracked::new(tasks.clone(), cut.clone());
        Self {
            http: http(config, tracked),
            timeouts: Timeouts { head: config.header_timeout, idle: config.idle_timeout, body: config.body_timeout },
        }
    }
}

/// A listener that accepts.
#[derive(Debug)]
struct Open {
    configured: SocketAddr,
    address: SocketAddr,
    /// Cancelled to close it, and to drain its connections.
    closing: CancellationToken,
}

/// Listeners of a new configuration, bound and not yet accepting.
#[derive(Debug)]
pub struct Prepared {
    new: Vec<Bound>,
}

/// A server at work.
#[derive(Debug)]
pub struct Serving {
    shared: Arc<Shared>,
    /// In the order of the configuration.
    open: Mutex<Vec<Open>>,
}

impl Serving {
    fn open(&self) -> MutexGuard<'_, Vec<Open>> {
        // Listeners come and go whole.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The addresses it listens on, in the order of the configuration.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.open().iter().map(|open| open.address).collect()
    }

    /// Bind what `config` listens on and this server does not. Nothing is accepted there yet.
    ///
    /// # Errors
    /// The first address that cannot be bound; nothing has changed then.
    pub fn prepare(&self, config: &config::Server) -> Result<Prepared, BindError> {
        let mut have: Vec<SocketAddr> = self.open().iter().map(|open| open.configured).collect();
        let mut new = Vec::new();
        for address in &config.listen {
            match have.iter().position(|had| had == address) {
                Some(place) => drop(have.swap_remove(place)),
                // What was handed over when the process was started has been taken then.
                None => new.push(Bound::bind(*address, &mut InheritedSockets::default())?),
            }
        }
        Ok(Prepared { new })
    }

    /// Serve as `config` says from now on, with what has been prepared for it.
    pub fn apply(&self, config: &config::Server, prepared: Prepared) {
        let shared = &self.shared;
        shared.settings.store(Arc::new(Settings::new(config, &shared.tasks, &shared.cut)));
        shared.room.resize(config.max_connections);
        let mut open = self.open();
        let (mut had, mut new) = (std::mem::take(&mut *open), prepared.new);
        for address in &config.listen {
            if let Some(place) = had.iter().position(|had| had.configured == *address) {
                open.push(had.swap_remove(place));
            } else if let Some(place) = new.iter().position(|new| new.configured == *address) {
                open.push(new.swap_remove(place).start(shared));
            }
        }
        for gone in had {
            tracing::info!(address = %gone.address, "listener is being closed");
            gone.closing.cancel();
        }
    }

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
