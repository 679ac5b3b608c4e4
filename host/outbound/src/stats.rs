//! What is counted of the requests of one plugin. Every label has its values from an enum or the configuration.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tidegate_runtime::outbound::OutboundError;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The plugin has had the whole answer.
    Ok,
    /// The origin has not been granted.
    Denied,
    /// The host has no address that the plugin may reach.
    AddressProhibited,
    /// As many connections as there may be.
    Limit,
    /// The plugin asked for something that is not a request.
    Invalid,
    /// The host's name could not be looked up.
    Dns,
    /// No connection.
    Connect,
    /// No connection, answer or piece of it in time.
    Timeout,
    /// No TLS.
    Tls,
    /// The answer was larger than it may be.
    TooLarge,
    /// The connection broke, or what came was not HTTP.
    Broken,
    /// The plugin let go of it, or its call ended.
    GivenUp,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Ok,
        Self::Denied,
        Self::AddressProhibited,
        Self::Limit,
        Self::Invalid,
        Self::Dns,
        Self::Connect,
        Self::Timeout,
        Self::Tls,
        Self::TooLarge,
        Self::Broken,
        Self::GivenUp,
    ];

    /// The label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Denied => "denied",
            Self::AddressProhibited => "address-prohibited",
            Self::Limit => "limit",
            Self::Invalid => "invalid",
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Tls => "tls",
            Self::TooLarge => "too-large",
            Self::Broken => "broken",
            Self::GivenUp => "given-up",
        }
    }

    pub(crate) fn of(error: &OutboundError) -> Self {
        match error {
            OutboundError::Denied => Self::Denied,
            OutboundError::AddressProhibited => Self::AddressProhibited,
            OutboundError::Limit => Self::Limit,
            OutboundError::Uri(_) | OutboundError::Method => Self::Invalid,
            OutboundError::Dns(_) => Self::Dns,
            OutboundError::ConnectionRefused | OutboundError::Unreachable(_) => Self::Connect,
            OutboundError::ConnectionTimeout | OutboundError::ResponseTimeout | OutboundError::ReadTimeout => {
                Self::Timeout
            }
            OutboundError::Certificate(_) | OutboundError::TlsAlert { .. } | OutboundError::Tls(_) => Self::Tls,
            OutboundError::ResponseHead(_) | OutboundError::ResponseBody(_) => Self::TooLarge,
            OutboundError::CallOver | OutboundError::RequestIncomplete => Self::GivenUp,
            _ => Self::Broken,
        }
    }
}

/// Upper bounds of the histogram of durations, in microseconds.
pub const DURATION_BOUNDS: [u64; 12] =
    [500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 5_000_000, 30_000_000];

/// The counters of one plugin, over all its versions.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    outcomes: [AtomicU64; Outcome::ALL.len()],
    durations: [AtomicU64; DURATION_BOUNDS.len() + 1],
    sum_micros: AtomicU64,
    in_flight: AtomicUsize,
}

/// What has been counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Requests that have ended, in the order of [`Outcome::ALL`].
    pub outcomes: [u64; Outcome::ALL.len()],
    /// Requests by duration, from the beginning to the end of the answer; the last one has no bound.
    pub durations: [u64; DURATION_BOUNDS.len() + 1],
    /// All durations together.
    pub total: Duration,
    /// Requests that have begun and not ended.
    pub in_flight: usize,
}

impl Stats {
    pub(crate) fn began(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn ended(&self, outcome: Outcome, took: Duration) {
        if let Some(count) = self.outcomes.get(outcome as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if let Some(count) = self.durations.get(DURATION_BOUNDS.partition_point(|bound| *bound < micros)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_micros.fetch_add(micros, Ordering::Relaxed);
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Snapshot {
            outcomes: self.outcomes.each_ref().map(load),
            durations: self.durations.each_ref().map(load),
            total: Duration::from_micros(load(&self.sum_micros)),
            in_flight: self.in_flight.load(Ordering::Relaxed),
        }
    }
}
