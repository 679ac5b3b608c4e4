//! The counters behind `/metrics`. Recording is a few relaxed atomic adds on cells that were found when the gateway
//! started; names and labels are put together when somebody scrapes. Every label takes its values from the
//! configuration or from an enum, so the number of series is bounded. (Plugins have numbers of their own, and a cap on them.)

mod buckets;
mod guests;
mod out;
mod outbound;
mod outbox;
mod recording;
mod scrape;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing_appender::non_blocking::ErrorCounter;

use super::access::Ending;
use crate::capabilities::Capabilities;
use crate::config;
use crate::histogram::Histogram;
use crate::roster::Roster;
use crate::stop::log::StopLog;
use crate::stop::phase::PhaseView;

pub(super) use self::scrape::scrape;

/// Upper bounds of the request duration histogram, in microseconds.
const REQUEST_BOUNDS: [u64; 14] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 5_000_000, 30_000_000];

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    pub(crate) exchanges: Exchanges,
    pub(crate) connections: Connections,
    stops: Arc<StopLog>,
    pub(crate) changes: Changes,
    roster: Arc<Roster>,
    capabilities: Arc<Capabilities>,
    phase: PhaseView,
    access_dropped: Option<ErrorCounter>,
}

/// What changed what serves.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// The number of the generation that serves.
    pub(crate) generation: AtomicU64,
    /// Former generations whose last plugins are not gone yet.
    pub(crate) retiring: AtomicUsize,
    pub(crate) reloads_applied: AtomicU64,
    pub(crate) reloads_refused: AtomicU64,
    pub(crate) rollbacks: AtomicU64,
}

impl Metrics {
    pub(super) fn new(
        roster: Arc<Roster>,
        stops: Arc<StopLog>,
        capabilities: Arc<Capabilities>,
        phase: PhaseView,
        access_dropped: Option<ErrorCounter>,
    ) -> Self {
        Self {
            exchanges: Exchanges::new(),
            connections: Connections::default(),
            stops,
            changes: Changes::default(),
            roster,
            capabilities,
            phase,
            access_dropped,
        }
    }
}

/// Requests and their responses.
#[derive(Debug)]
pub(crate) struct Exchanges {
    in_flight: AtomicUsize,
    completed: AtomicU64,
    client_gone: AtomicU64,
    upstream_broke: AtomicU64,
    upstream_failures: [AtomicU64; UpstreamFailure::ALL.len()],
    /// By label. Those of routes that no generation has any more go when somebody looks.
    routes: Mutex<BTreeMap<String, Arc<RouteCounters>>>,
    /// Requests that found no route.
    none: RouteCounters,
}

/// How an upstream can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UpstreamFailure {
    Connect,
    ConnectTimeout,
    ResponseTimeout,
    Reset,
    Garbage,
    BodyStalled,
    BodyBroken,
}

impl UpstreamFailure {
    const ALL: [Self; 7] = [
        Self::Connect,
        Self::ConnectTimeout,
        Self::ResponseTimeout,
        Self::Reset,
        Self::Garbage,
        Self::BodyStalled,
        Self::BodyBroken,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::ConnectTimeout => "connect-timeout",
            Self::ResponseTimeout => "response-timeout",
            Self::Reset => "reset",
            Self::Garbage => "garbage",
            Self::BodyStalled => "body-stalled",
            Self::BodyBroken => "body-broken",
        }
    }
}

impl Exchanges {
    fn new() -> Self {
        Self {
            in_flight: AtomicUsize::new(0),
            completed: AtomicU64::new(0),
            client_gone: AtomicU64::new(0),
            upstream_broke: AtomicU64::new(0),
            upstream_failures: Default::default(),
            routes: Mutex::default(),
            none: RouteCounters::new(),
        }
    }

    /// The counters of a route. A route of the same host and path in another generation is counted in the same.
    pub(crate) fn route(&self, route: &config::Route) -> Arc<RouteCounters> {
        let label = match &route.host {
            Some(host) => format!("{host}{}", route.path),
            None => route.path.clone(),
        };
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(routes.entry(label).or_insert_with(|| Arc::new(RouteCounters::new())))
    }

    /// Every route that is still there.
    fn routes(&self) -> BTreeMap<String, Arc<RouteCounters>> {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        routes.retain(|_, counters| Arc::strong_count(counters) > 1);
        routes.clone()
    }

    /// Exchanges that have begun and are not over.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Exchanges whose response was handed over completely.
    pub(crate) fn completed(&self) -> u64 {
        self.completed.load(Ordering::Relaxed)
    }

    pub(crate) fn began(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn ended(&self, route: Option<&RouteCounters>, status: u16, took: Duration, ending: Ending) {
        route.unwrap_or(&self.none).record(status, took);
        match ending {
            Ending::Complete => &self.completed,
            Ending::ClientGone => &self.client_gone,
            Ending::UpstreamBroke => &self.upstream_broke,
        }
        .fetch_add(1, Ordering::Relaxed);
        // Last, so that who sees nothing in flight sees the counts.
        self.in_flight.fetch_sub(1, Ordering::Release);
    }

    pub(crate) fn upstream_failed(&self, failure: UpstreamFailure) {
        if let Some(count) = self.upstream_failures.get(failure as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Status codes from 100 to 999, which is all there are.
const STATUSES: usize = 900;

/// What is counted of one route.
#[derive(Debug)]
pub(crate) struct RouteCounters {
    statuses: Box<[AtomicU64]>,
    durations: Histogram<{ REQUEST_BOUNDS.len() + 1 }>,
}

impl RouteCounters {
    fn new() -> Self {
        Self {
            statuses: (0..STATUSES).map(|_| AtomicU64::new(0)).collect(),
            durations: Histogram::new(&REQUEST_BOUNDS),
        }
    }

    fn record(&self, status: u16, took: Duration) {
        if let Some(count) = self.statuses.get(usize::from(status).saturating_sub(100)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.durations.record(took);
    }
}

/// Connections of clients.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    pub(crate) open: AtomicUsize,
    pub(crate) accepted: AtomicU64,
    pub(crate) accept_errors: AtomicU64,
    ended: [AtomicU64; Eviction::ALL.len()],
}

/// Why the gateway ended a connection that its client would have kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Eviction {
    /// No request within `idle_timeout`.
    Idle,
    /// A request head that took longer than `header_timeout`.
    SlowHead,
    /// A client that did not take a piece of its response within `body_timeout`.
    SlowReader,
    /// Still there when the drain was over.
    Cut,
}

impl Eviction {
    const ALL: [Self; 4] = [Self::Idle, Self::SlowHead, Self::SlowReader, Self::Cut];

    fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::SlowHead => "slow-head",
            Self::SlowReader => "slow-reader",
            Self::Cut => "cut",
        }
    }
}

impl Connections {
    pub(crate) fn evicted(&self, why: Eviction) {
        if let Some(count) = self.ended.get(why as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}
