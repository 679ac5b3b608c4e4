//! The budgets of a plugin. Every field is enforced; the defaults are those of the configuration's reference.

use std::time::Duration;

/// What one plugin may use. Durations are per call, sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Wall and CPU time of `configure`, start functions included.
    pub configure: Duration,
    /// CPU time of one call of a request or response hook: for how long it keeps a thread busy, in the guest and in the
    /// host on its behalf. Waiting does not count.
    pub cpu: Duration,
    /// Time of the whole call, waiting for an instance and for host calls included.
    pub wall: Duration,
    /// Wall and CPU time of one call of `on-deferred` or `on-tick`.
    pub deferred: Duration,
    /// Wall and CPU time of `shutdown`, if the stop has that much left.
    pub shutdown: Duration,
    /// Linear memory of one instance, all its memories together.
    pub memory: usize,
    /// Calls that may wait for an instance at a time; one more is refused as overloaded.
    pub queue: usize,
    /// The longest body handed to a body hook, and the longest one a plugin may answer with.
    pub body: usize,
    /// The longest snapshot that an instance may leave to the version that takes over.
    pub snapshot: usize,
    /// Lines that all instances together may write to the log per second; what two seconds may have can come at once.
    pub log_lines: usize,
    /// The bytes of these lines, likewise.
    pub log_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            configure: Duration::from_secs(1),
            cpu: Duration::from_millis(10),
            wall: Duration::from_millis(100),
            deferred: Duration::from_secs(1),
            shutdown: Duration::from_secs(5),
            memory: 32 << 20,
            queue: 1024,
            body: 1 << 20,
            snapshot: 1 << 20,
            log_lines: 1_000,
            log_bytes: 1 << 20,
        }
    }
}

/// How much work a plugin may put off, and how it is worked off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deferred {
    /// Payloads that may wait at a time.
    pub queue: usize,
    /// Bytes that they may have together.
    pub bytes: usize,
    /// Instances that may work on them at a time.
    pub concurrency: usize,
    /// When the plugin is stopped: how long what waits may take before `shutdown` begins.
    pub drain: Duration,
}

impl Default for Deferred {
    fn default() -> Self {
        Self { queue: 1024, bytes: 8 << 20, concurrency: 1, drain: Duration::from_secs(2) }
    }
}

/// How many instances a plugin has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instances {
    /// Ready from the start, and kept up.
    pub min: usize,
    /// Never exceeded; instances beyond `min` come up when calls would otherwise wait.
    pub max: usize,
    /// An instance beyond `min` that no call has used for so long is stopped.
    pub idle: Duration,
}

impl Instances {
    /// The default of `idle`.
    pub const IDLE: Duration = Duration::from_secs(60);

    /// Always so many.
    #[must_use]
    pub const fn fixed(count: usize) -> Self {
        Self { min: count, max: count, idle: Self::IDLE }
    }
}

/// When an instance has served its time: it is stopped after the call that reaches one of these, and replaced. For guests
/// whose memory grows, as garbage-collected ones do. Never, by default. Without effect in fresh isolation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recycle {
    /// Hook calls served, however they ended.
    pub calls: Option<u64>,
    /// Bytes of linear memory in use, all memories of the instance together. (Linear memory never shrinks.)
    pub memory: Option<usize>,
}

impl Recycle {
    /// Whether an instance with so many calls behind it and so much memory has served its time.
    pub(crate) fn is_due(&self, calls: u64, memory: usize) -> bool {
        self.calls.is_some_and(|most| calls >= most) || self.memory.is_some_and(|most| memory >= most)
    }
}

/// What state outlives a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// Instances live on and keep their memory between calls.
    #[default]
    Warm,
    /// Each hook call gets an instance of its own, dropped afterwards. `Instances::max` bounds how many live at a
    /// time. Nothing is left to shut down when such a plugin stops.
    Fresh,
}
