//! Counters of one plugin, read when metrics are scraped. Recording is a few relaxed atomic adds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::contract::{Hook, Hooks};
use crate::error::EndCause;

/// Upper bounds of the call duration histogram, in microseconds. The last bucket (everything else) is implied.
pub const DURATION_BOUNDS: [u64; 14] =
    [2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 10_000, 100_000, 1_000_000, 10_000_000];

const BUCKETS: usize = DURATION_BOUNDS.len() + 1;

/// How a call is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallOutcome {
    /// It returned ok.
    Ok,
    /// See [`EndCause::Cpu`].
    Cpu,
    /// See [`EndCause::Wall`].
    Wall,
    /// See [`EndCause::Memory`].
    Memory,
    /// See [`EndCause::Stack`].
    Stack,
    /// See [`EndCause::Trap`].
    Trap,
    /// See [`EndCause::Returned`].
    Error,
    /// See [`EndCause::Refused`].
    Refused,
    /// See [`EndCause::Overloaded`].
    Overloaded,
    /// See [`EndCause::Unavailable`].
    Unavailable,
    /// See [`EndCause::Abandoned`].
    Abandoned,
}

impl CallOutcome {
    /// Every outcome, in the order of the counters.
    pub const ALL: [Self; 11] = [
        Self::Ok,
        Self::Cpu,
        Self::Wall,
        Self::Memory,
        Self::Stack,
        Self::Trap,
        Self::Error,
        Self::Refused,
        Self::Overloaded,
        Self::Unavailable,
        Self::Abandoned,
    ];

    /// The label of the metric.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Cpu => "cpu",
            Self::Wall => "wall",
            Self::Memory => "memory",
            Self::Stack => "stack",
            Self::Trap => "trap",
            Self::Error => "error",
            Self::Refused => "refused",
            Self::Overloaded => "overloaded",
            Self::Unavailable => "unavailable",
            Self::Abandoned => "abandoned",
        }
    }
}

impl From<&EndCause> for CallOutcome {
    fn from(cause: &EndCause) -> Self {
        match cause {
            EndCause::Cpu { .. } => Self::Cpu,
            EndCause::Wall { .. } => Self::Wall,
            EndCause::Memory { .. } => Self::Memory,
            EndCause::Stack => Self::Stack,
            EndCause::Trap { .. } => Self::Trap,
            EndCause::Returned { .. } => Self::Error,
            EndCause::Refused { .. } => Self::Refused,
            EndCause::Overloaded { .. } => Self::Overloaded,
            EndCause::Unavailable(_) => Self::Unavailable,
            EndCause::Abandoned => Self::Abandoned,
        }
    }
}

/// What came after its call's deadline, although nothing had stopped the call by then, and took no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Late {
    /// A hook returned: what it returned is dropped, and the call has overrun.
    Call,
    /// A host call with an effect was asked for: it is not made, and the call ends there.
    HostCall,
}

impl Late {
    /// Every kind, in the order of the counters.
    pub const ALL: [Self; 2] = [Self::Call, Self::HostCall];

    /// The label of the metric.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::HostCall => "host-call",
        }
    }
}

/// What became of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotOutcome {
    /// An instance of the new version has read it, and was configured well.
    HandedOver,
    /// The instance it was given to was not configured well with it, or it was longer than the `snapshot` limit.
    Refused,
    /// The shutdown that left it did not end well, or nobody was there to read it.
    Lost,
}

impl SnapshotOutcome {
    /// Every outcome, in the order of the counters.
    pub const ALL: [Self; 3] = [Self::HandedOver, Self::Refused, Self::Lost];

    /// The label of the metric.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HandedOver => "handed-over",
            Self::Refused => "refused",
            Self::Lost => "lost",
        }
    }
}

/// What became of a payload that a plugin wanted to put off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeferredOutcome {
    /// `on-deferred` returned ok.
    Completed,
    /// It did not. It is not tried again.
    Failed,
    /// It was not taken: the queue was full, it was too large, or the plugin was being stopped.
    Refused,
    /// It was taken, and the plugin's stop left no time for it.
    Left,
}

impl DeferredOutcome {
    /// Every outcome, in the order of the counters.
    pub const ALL: [Self; 4] = [Self::Completed, Self::Failed, Self::Refused, Self::Left];

    /// The label of the metric.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Left => "left",
        }
    }
}

/// The work that one life of a plugin has put off, and that waits now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeferredCounts {
    /// Payloads that wait.
    pub waiting: usize,
    /// Bytes that they have together.
    pub bytes: usize,
    /// Payloads that are being worked on.
    pub running: usize,
}

/// What has happened in one hook of a plugin since it was loaded.
#[derive(Debug, Clone)]
pub struct HookStats {
    /// The hook.
    pub hook: Hook,
    /// Calls by outcome, in the order of [`CallOutcome::ALL`].
    pub calls: [u64; CallOutcome::ALL.len()],
    /// CPU time.
    pub cpu: Duration,
    /// Sum of the durations of all calls.
    pub wall: Duration,
    /// Calls by duration: one count per bound of [`DURATION_BOUNDS`] and one for those above, not cumulative.
    pub durations: [u64; BUCKETS],
}

/// Instances of a plugin by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InstanceCounts {
    /// Waiting for a call.
    pub idle: usize,
    /// In a call.
    pub busy: usize,
    /// Being made.
    pub starting: usize,
    /// Being stopped, with the whole plugin or one at a time.
    pub stopping: usize,
    /// Calls that wait for an instance.
    pub waiting: usize,
}

/// A snapshot of a plugin.
#[derive(Debug, Clone)]
pub struct PluginStats {
    /// Per hook that a plugin of this tally exports or has exported.
    pub hooks: Vec<HookStats>,
    /// Instances by state.
    pub instances: InstanceCounts,
    /// Stores that exist, in whatever state.
    pub stores_live: u64,
    /// Instances that did not survive a call, over the whole tally.
    pub retired: u64,
    /// What came too late to take effect, in the order of [`Late::ALL`], over the whole tally.
    pub late: [u64; Late::ALL.len()],
    /// Snapshots by outcome, in the order of [`SnapshotOutcome::ALL`], over the whole tally.
    pub snapshots: [u64; SnapshotOutcome::ALL.len()],
    /// What waits of the work that it has put off.
    pub deferred: DeferredCounts,
    /// Payloads by outcome, in the order of [`DeferredOutcome::ALL`], over the whole tally.
    pub deferred_outcomes: [u64; DeferredOutcome::ALL.len()],
    /// Lines of its instances that the log did not take, over the whole tally.
    pub log_dropped: u64,
    /// Whether the breaker is open.
    pub breaker_open: bool,
}

#[derive(Default)]
struct HookCounters {
    calls: [AtomicU64; CallOutcome::ALL.len()],
    cpu_nanos: AtomicU64,
    wall_nanos: AtomicU64,
    durations: [AtomicU64; BUCKETS],
}

/// What the calls of a plugin are counted in. One that is handed to the next version of a plugin goes on counting, so that
/// a reload does not look like a restart.
#[derive(Clone, Default)]
pub struct Tally {
    counters: Arc<Counters>,
}

#[derive(Default)]
struct Counters {
    hooks: [HookCounters; Hook::ALL.len()],
    /// A bit for each hook that has been exported.
    exported: AtomicU64,
    retired: AtomicU64,
    late: [AtomicU64; Late::ALL.len()],
    snapshots: [AtomicU64; SnapshotOutcome::ALL.len()],
    deferred: [AtomicU64; DeferredOutcome::ALL.len()],
    log_dropped: AtomicU64,
}

impl std::fmt::Debug for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tally").finish_non_exhaustive()
    }
}

impl Tally {
    /// Per hook that a plugin of this tally exports or has exported.
    #[must_use]
    pub fn hooks(&self) -> Vec<HookStats> {
        let exported = self.counters.exported.load(Ordering::Relaxed);
        Hook::ALL.into_iter().filter(|hook| exported & bit(*hook) != 0).map(|hook| self.snapshot(hook)).collect()
    }

    /// Instances that did not survive a call.
    #[must_use]
    pub fn retired(&self) -> u64 {
        self.counters.retired.load(Ordering::Relaxed)
    }

    /// What came too late to take effect, in the order of [`Late::ALL`].
    #[must_use]
    pub fn late(&self) -> [u64; Late::ALL.len()] {
        self.counters.late.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    /// Snapshots by outcome, in the order of [`SnapshotOutcome::ALL`].
    #[must_use]
    pub fn snapshots(&self) -> [u64; SnapshotOutcome::ALL.len()] {
        self.counters.snapshots.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    /// Payloads that were to be put off by outcome, in the order of [`DeferredOutcome::ALL`].
    #[must_use]
    pub fn deferred(&self) -> [u64; DeferredOutcome::ALL.len()] {
        self.counters.deferred.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    pub(crate) fn count_deferred(&self, outcome: DeferredOutcome, many: u64) {
        if let Some(count) = self.counters.deferred.get(outcome as usize) {
            count.fetch_add(many, Ordering::Relaxed);
        }
    }

    /// Lines of its instances that the log did not take.
    #[must_use]
    pub fn log_dropped(&self) -> u64 {
        self.counters.log_dropped.load(Ordering::Relaxed)
    }

    pub(crate) fn drop_log_lines(&self, lines: u64) {
        self.counters.log_dropped.fetch_add(lines, Ordering::Relaxed);
    }

    pub(crate) fn exports(&self, hooks: Hooks) {
        let bits = hooks.iter().map(bit).fold(0, |bits, bit| bits | bit);
        self.counters.exported.fetch_or(bits, Ordering::Relaxed);
    }

    pub(crate) fn retire(&self) {
        self.counters.retired.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn came_late(&self, what: Late) {
        if let Some(count) = self.counters.late.get(what as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn count_snapshots(&self, outcome: SnapshotOutcome, many: usize) {
        if let Some(count) = self.counters.snapshots.get(outcome as usize) {
            count.fetch_add(many as u64, Ordering::Relaxed);
        }
    }

    pub(crate) fn record(&self, hook: Hook, outcome: CallOutcome, cpu: Duration, wall: Duration) {
        let Some(counters) = self.counters.hooks.get(hook as usize) else { return };
        if let Some(calls) = counters.calls.get(outcome as usize) {
            calls.fetch_add(1, Ordering::Relaxed);
        }
        counters.cpu_nanos.fetch_add(nanos(cpu), Ordering::Relaxed);
        counters.wall_nanos.fetch_add(nanos(wall), Ordering::Relaxed);
        let micros = nanos(wall).div_ceil(1_000);
        let bucket = DURATION_BOUNDS.partition_point(|bound| *bound < micros);
        if let Some(count) = counters.durations.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn snapshot(&self, hook: Hook) -> HookStats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let empty = HookCounters::default();
        let counters = self.counters.hooks.get(hook as usize).unwrap_or(&empty);
        HookStats {
            hook,
            calls: counters.calls.each_ref().map(load),
            cpu: Duration::from_nanos(load(&counters.cpu_nanos)),
            wall: Duration::from_nanos(load(&counters.wall_nanos)),
            durations: counters.durations.each_ref().map(load),
        }
    }
}

fn bit(hook: Hook) -> u64 {
    1 << hook as u64
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
