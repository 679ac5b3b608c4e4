//! What can be said of an outbox while it runs: for metrics, for the admin API, for a person.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;

use crate::fresh::Fresh;
use crate::store::write::Accepted;
use crate::topic::Pattern;

/// What has become of an event, as the label of a counter. An event for two sinks is delivered twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is the outbox's.
    Accepted,
    /// There was no room.
    RefusedFull,
    /// It, or the call, was too large.
    RefusedTooLarge,
    /// The topic was not the publisher's, or no sink's.
    RefusedNotGranted,
    /// It had not the syntax.
    RefusedInvalid,
    /// The file took nothing.
    RefusedUnavailable,
    /// A sink has it.
    Delivered,
    /// A sink has given it up.
    Dead,
    /// It was not what had been written.
    Damaged,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Accepted,
        Self::RefusedFull,
        Self::RefusedTooLarge,
        Self::RefusedNotGranted,
        Self::RefusedInvalid,
        Self::RefusedUnavailable,
        Self::Delivered,
        Self::Dead,
        Self::Damaged,
    ];

    /// The label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::RefusedFull => "refused-full",
            Self::RefusedTooLarge => "refused-too-large",
            Self::RefusedNotGranted => "refused-not-granted",
            Self::RefusedInvalid => "refused-invalid",
            Self::RefusedUnavailable => "refused-unavailable",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
            Self::Damaged => "damaged",
        }
    }
}

/// An outbox at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Whether it takes events.
    pub health: Health,
    /// Events in the file.
    pub events: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Deliveries that wait, of the sinks that there are.
    pub pending: u64,
    /// Events that sinks have got since it was opened, once per sink.
    pub delivered: u64,
    /// Dead letters, of all sinks.
    pub dead: u64,
    /// Deliveries of damaged events.
    pub damaged: u64,
    /// Each sink.
    pub sinks: Vec<SinkStatus>,
    /// Sinks that deliveries are kept for and that are no more.
    pub orphans: Vec<Orphan>,
}

/// Whether an outbox takes events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It does.
    Good,
    /// What it was last told to write could not be written. It is tried again with what comes.
    Failing {
        /// Why.
        reason: String,
        /// For how long.
        since: Duration,
    },
    /// It has been closed.
    Closed,
}

/// A sink at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkStatus {
    /// Its name.
    pub name: Arc<str>,
    /// What it takes.
    pub topics: Vec<Pattern>,
    /// Deliveries that wait.
    pub pending: u64,
    /// Dead letters.
    pub dead: u64,
    /// Deliveries of damaged events.
    pub damaged: u64,
    /// Events that it has got since the outbox was opened.
    pub delivered: u64,
    /// Calls that failed since then.
    pub failures: u64,
    /// For how long it has been out of reach.
    pub stalled: Option<Duration>,
    /// The age of the oldest event that waits.
    pub oldest: Option<Duration>,
    /// What the last failure was.
    pub last_error: Option<String>,
}

/// A sink that is no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    /// Its name.
    pub name: String,
    /// Deliveries that would wait.
    pub pending: u64,
    /// Dead letters.
    pub dead: u64,
    /// Deliveries of damaged events.
    pub damaged: u64,
}

/// A sink's numbers, as its worker and the writer keep them.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) number: i64,
    pub(crate) name: Arc<str>,
    pub(crate) topics: Vec<Pattern>,
    pub(crate) pending: AtomicU64,
    pub(crate) dead: AtomicU64,
    pub(crate) damaged: AtomicU64,
    pub(crate) delivered: AtomicU64,
    pub(crate) failures: AtomicU64,
    /// There may be something new for it.
    pub(crate) arrived: Notify,
    fresh: Mutex<Fresh>,
    progress: Mutex<Progress>,
}

#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) stalled: Option<Instant>,
    /// When the oldest event that waits was accepted, since the Unix epoch.
    pub(crate) oldest: Option<Duration>,
    pub(crate) last_error: Option<String>,
}

impl Desk {
    /// A desk for what is in the file up to the place `committed`, and what will be.
    pub(crate) fn new(number: i64, name: Arc<str>, topics: Vec<Pattern>, committed: i64) -> Self {
        Self {
            number,
            name,
            topics,
            pending: AtomicU64::new(0),
            dead: AtomicU64::new(0),
            damaged: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            arrived: Notify::new(),
            fresh: Mutex::new(Fresh::new(committed)),
            progress: Mutex::default(),
        }
    }

    pub(crate) fn takes(&self, topic: &str) -> bool {
        self.topics.iter().any(|pattern| pattern.matches(topic))
    }

    /// These are in the file now.
    pub(crate) fn receive<'a>(&self, events: impl Iterator<Item = &'a Accepted>) {
        let count = self.fresh().put(events);
        if count > 0 {
            self.pending.fetch_add(count, Ordering::Relaxed);
            self.arrived.notify_one();
        }
    }

    pub(crate) fn fresh(&self) -> MutexGuard<'_, Fresh> {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn status(&self) -> SinkStatus {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let progress = self.progress();
        SinkStatus {
            name: Arc::clone(&self.name),
            topics: self.topics.clone(),
            pending: count(&self.pending),
            dead: count(&self.dead),
            damaged: count(&self.damaged),
            delivered: count(&self.delivered),
            failures: count(&self.failures),
            stalled: progress.stalled.map(|since| since.elapsed()),
            oldest: progress.oldest.map(|accepted| now().saturating_sub(accepted)),
            last_error: progress.last_error.clone(),
        }
    }
}

/// Since the Unix epoch.
pub(crate) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Take from a counter what it has at most: a counter that was wrong once must not become huge.
pub(crate) fn lower(counter: &AtomicU64, by: u64) {
    let _ = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| Some(count.saturating_sub(by)));
}

/// Events counted by topic and outcome. Topics are told apart only as far as the sinks' patterns do, or a publisher
/// could make as many counters as there are topics.
#[derive(Debug)]
pub(crate) struct Topics {
    patterns: Vec<(Pattern, Counters)>,
    /// Of topics that no sink takes.
    none: Counters,
}

type Counters = [AtomicU64; Outcome::ALL.len()];

/// The label of topics that no sink takes.
const NONE: &str = "(none)";

impl Topics {
    pub(crate) fn new(patterns: impl Iterator<Item = Pattern>) -> Self {
        let mut all: Vec<(Pattern, Counters)> = Vec::new();
        for pattern in patterns {
            if !all.iter().any(|(other, _)| *other == pattern) {
                all.push((pattern, Counters::default()));
            }
        }
        Self { patterns: all, none: Counters::default() }
    }

    /// Counts under the first pattern that has the topic.
    pub(crate) fn count(&self, topic: &str, outcome: Outcome, events: u64) {
        let found = self.patterns.iter().find(|(pattern, _)| pattern.matches(topic));
        let counters = found.map_or(&self.none, |(_, counters)| counters);
        let counter = Outcome::ALL.iter().zip(counters).find(|(other, _)| **other == outcome);
        if let Some((_, counter)) = counter {
            counter.fetch_add(events, Ordering::Relaxed);
        }
    }

    /// Every count that is not zero: topic, outcome, events.
    pub(crate) fn counts(&self) -> Vec<(String, Outcome, u64)> {
        let named = self.patterns.iter().map(|(pattern, counters)| (pattern.as_str(), counters));
        let mut counts = Vec::new();
        for (name, counters) in named.chain([(NONE, &self.none)]) {
            for (outcome, counter) in Outcome::ALL.into_iter().zip(counters) {
                let count = counter.load(Ordering::Relaxed);
                if count > 0 {
                    counts.push((name.to_owned(), outcome, count));
                }
            }
        }
        counts
    }
}
