//! Where every stop of an instance is heard of, whatever it was for: a line in the log, a count in the metrics, and, once
//! the process itself is stopping, an entry in its report.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_runtime::{DrainObserver, DrainRecord, StopObserver, StopRecord};
use tokio::time::Instant;

use crate::histogram::Histogram;

/// Upper bounds of the histogram of by how much stops went past their budget, in microseconds.
const OVERSHOOT_BOUNDS: [u64; 10] = [0, 100, 500, 1_000, 2_000, 5_000, 10_000, 50_000, 100_000, 1_000_000];

/// By how much stops of instances went past their budget.
type Overshoot = Histogram<{ OVERSHOOT_BOUNDS.len() + 1 }>;

/// Plugin, reason, outcome.
pub(crate) type StopKey = (Arc<str>, &'static str, &'static str);

/// Hears of every stop. There is one per process.
#[derive(Debug)]
pub struct StopLog {
    counts: Mutex<BTreeMap<StopKey, u64>>,
    overshoot: Overshoot,
    /// For the report; `None` until the process stops.
    kept: Mutex<Option<Kept>>,
}

impl Default for StopLog {
    fn default() -> Self {
        Self { counts: Mutex::default(), overshoot: Overshoot::new(&OVERSHOOT_BOUNDS), kept: Mutex::default() }
    }
}

#[derive(Debug, Default)]
struct Kept {
    stopped: Vec<Stopped>,
    drained: Vec<Drained>,
}

/// What became of the work that a plugin had put off.
#[derive(Debug, Clone)]
pub struct Drained {
    /// What the runtime says of it.
    pub record: DrainRecord,
    /// The generation of the configuration that loaded the plugin.
    pub generation: u64,
}

/// An instance that has been stopped.
#[derive(Debug, Clone)]
pub struct Stopped {
    /// What the runtime says of it.
    pub record: StopRecord,
    /// The generation of the configuration that loaded its plugin.
    pub generation: u64,
    /// When that was heard.
    pub ended: Instant,
}

impl StopLog {
    /// Hears for a plugin of this generation.
    #[must_use]
    pub fn observer(self: &Arc<Self>, generation: u64) -> StopObserver {
        let log = Arc::clone(self);
        Arc::new(move |record| log.hear(record, generation))
    }

    /// Hears of the work that a plugin of this generation had put off.
    #[must_use]
    pub fn drain_observer(self: &Arc<Self>, generation: u64) -> DrainObserver {
        let log = Arc::clone(self);
        Arc::new(move |record| log.hear_of_deferred(record, generation))
    }

    fn hear_of_deferred(&self, record: &DrainRecord, generation: u64) {
        let DrainRecord { plugin, reason, accepted, completed, failed, handed_over, left, at_stop, .. } = record;
        let took_ms = fraction(record.took);
        tracing::info!(
            %plugin, generation, %reason, accepted, completed, failed, handed_over, left, at_stop, took_ms,
            "deferred work of a plugin that has been stopped"
        );
        if let Some(kept) = lock(&self.kept).as_mut() {
            kept.drained.push(Drained { record: record.clone(), generation });
        }
    }

    fn hear(&self, record: &StopRecord, generation: u64) {
        tell(record, generation);
        let key = (record.plugin.clone(), record.reason.as_str(), record.outcome.as_str());
        *lock(&self.counts).entry(key).or_default() += 1;
        self.overshoot.record(record.overshoot);
        if let Some(kept) = lock(&self.kept).as_mut() {
            kept.stopped.push(Stopped { record: record.clone(), generation, ended: Instant::now() });
        }
    }

    /// Keep what is heard from now on.
    pub fn keep(&self) {
        lock(&self.kept).get_or_insert_default();
    }

    /// What has been kept.
    #[must_use]
    pub fn kept(&self) -> Vec<Stopped> {
        lock(&self.kept).as_ref().map(|kept| kept.stopped.clone()).unwrap_or_default()
    }

    /// What has been kept of the work that plugins had put off.
    #[must_use]
    pub fn kept_of_deferred(&self) -> Vec<Drained> {
        lock(&self.kept).as_ref().map(|kept| kept.drained.clone()).unwrap_or_default()
    }

    /// Stops by plugin, reason and outcome.
    pub(crate) fn counts(&self) -> BTreeMap<StopKey, u64> {
        lock(&self.counts).clone()
    }

    pub(crate) fn overshoot(&self) -> &Overshoot {
        &self.overshoot
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Entries are made whole: a poisoned log is as good as a sound one.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn tell(record: &StopRecord, generation: u64) {
    let StopRecord { plugin, instance, reason, outcome, took, budget, overshoot, error, .. } = record;
    let error = error.as_deref().unwrap_or("");
    let [took_ms, budget_ms, overshoot_ms] = [took, budget, overshoot].map(|time| fraction(*time));
    if outcome.is_clean() {
        tracing::info!(
            %plugin, generation, instance, %reason, %outcome, took_ms, budget_ms,
            "plugin instance stopped"
        );
    } else {
        tracing::warn!(
            %plugin, generation, instance, %reason, %outcome, took_ms, budget_ms, overshoot_ms, error,
            "plugin instance stopped"
        );
    }
}

/// Milliseconds with the three digits that can be measured.
fn fraction(time: Duration) -> f64 {
    time.as_micros() as f64 / 1e3
}
