//! What the proxy knows of a client's connection, and what it tells the connection about the exchanges on it.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

use http::HeaderValue;
use tokio::time::Instant;

/// A client's connection.
#[derive(Debug)]
pub struct ConnectionInfo {
    peer: SocketAddr,
    forwarded_for: HeaderValue,
    activity: Activity,
}

impl ConnectionInfo {
    /// A connection that has just been accepted.
    #[must_use]
    pub fn new(peer: SocketAddr) -> Self {
        // An IPv4 client of a dual-stack socket is shown as what it is.
        let address = peer.ip().to_canonical();
        let forwarded_for = HeaderValue::try_from(address.to_string());
        Self {
            peer: SocketAddr::new(address, peer.port()),
            forwarded_for: forwarded_for.unwrap_or_else(|_| HeaderValue::from_static("unknown")),
            activity: Activity::new(),
        }
    }

    /// Address and port of the client.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The client's address as a member of `x-forwarded-for`.
    pub(crate) fn forwarded_for(&self) -> &HeaderValue {
        &self.forwarded_for
    }

    pub(crate) fn activity(&self) -> &Activity {
        &self.activity
    }
}

/// What happens on a connection, for those who watch its time-outs. Written on the request's path, so: plain stores
/// and adds, relaxed; the watcher runs in the same task (HTTP/1) or can live with a stale look (HTTP/2).
#[derive(Debug)]
pub(crate) struct Activity {
    in_flight: AtomicU32,
    idle_since: AtomicU64,
    /// When the first byte of a request head came in; 0 while none has.
    head_since: AtomicU64,
    /// Bodies of which a piece was handed over and no further one has been asked for.
    held_back: AtomicU32,
    moved_at: AtomicU64,
    protocol: AtomicU8,
    probe: AtomicBool,
}

/// What a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Not enough bytes have come in.
    Unknown,
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2 by prior knowledge.
    Http2,
}

impl Activity {
    fn new() -> Self {
        Self {
            in_flight: AtomicU32::new(0),
            idle_since: AtomicU64::new(millis()),
            head_since: AtomicU64::new(0),
            held_back: AtomicU32::new(0),
            moved_at: AtomicU64::new(0),
            protocol: AtomicU8::new(0),
            probe: AtomicBool::new(false),
        }
    }

    /// An exchange begins: its head is complete.
    pub(crate) fn began(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.head_since.store(0, Ordering::Relaxed);
    }

    /// An exchange is over.
    pub(crate) fn ended(&self) {
        self.idle_since.store(millis(), Ordering::Relaxed);
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Exchanges that have begun and are not over.
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Since when there is no exchange, in [`millis`]; meaningful while none is in flight.
    pub(crate) fn idle_since(&self) -> u64 {
        self.idle_since.load(Ordering::Relaxed)
    }

    /// Bytes came in. Between two exchanges of an HTTP/1 connection they can only be the next request's head.
    pub(crate) fn received(&self) {
        if self.in_flight() == 0 && self.head_since.load(Ordering::Relaxed) == 0 && self.protocol() != Protocol::Http2 {
            self.head_since.store(millis().max(1), Ordering::Relaxed);
        }
    }

    /// When the request head that is being received began, in [`millis`].
    pub(crate) fn head_since(&self) -> Option<u64> {
        match self.head_since.load(Ordering::Relaxed) {
            0 => None,
            since => Some(since),
        }
    }

    /// The first bytes have shown what the connection speaks.
    pub(crate) fn speaks(&self, protocol: Protocol) {
        self.protocol.store(protocol as u8, Ordering::Relaxed);
        if protocol == Protocol::Http2 {
            self.head_since.store(0, Ordering::Relaxed);
        }
    }

    pub(crate) fn protocol(&self) -> Protocol {
        match self.protocol.load(Ordering::Relaxed) {
            1 => Protocol::Http1,
            2 => Protocol::Http2,
            _ => Protocol::Unknown,
        }
    }

    /// A body has handed a piece over and waits to be asked for the next.
    pub(crate) fn holds_back(&self) {
        self.moved_at.store(millis(), Ordering::Relaxed);
        self.held_back.fetch_add(1, Ordering::Relaxed);
    }

    /// The next piece of such a body was asked for, or the body is gone.
    pub(crate) fn moves_on(&self) {
        self.moved_at.store(millis(), Ordering::Relaxed);
        self.held_back.fetch_sub(1, Ordering::Relaxed);
    }

    /// Since when the client has taken nothing of what is ready for it, in [`millis`].
    pub(crate) fn stalled_since(&self) -> Option<u64> {
        (self.held_back.load(Ordering::Relaxed) > 0).then(|| self.moved_at.load(Ordering::Relaxed))
    }

    /// Ask the next read to look into the kernel's buffer, past the readiness that the reactor has seen.
    pub(crate) fn probe(&self, on: bool) {
        self.probe.store(on, Ordering::Relaxed);
    }

    pub(crate) fn probes(&self) -> bool {
        self.probe.load(Ordering::Relaxed)
    }
}

/// Milliseconds on a clock of this process, for timestamps that fit an atomic.
pub(crate) fn millis() -> u64 {
    u64::try_from(base().elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// The moment at which [`millis`] is `millis`.
pub(crate) fn at(millis: u64) -> Instant {
    base() + std::time::Duration::from_millis(millis)
}

fn base() -> Instant {
    static BASE: OnceLock<Instant> = OnceLock::new();
    *BASE.get_or_init(Instant::now)
}
