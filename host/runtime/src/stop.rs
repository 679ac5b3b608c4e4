//! The words of the stop protocol that the runtime and its user share.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Where the gateway is, as plugins see it through `lifecycle`. The gateway owns the phase; the runtime shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Requests come in as usual.
    Serving,
    /// No new connections; what has begun goes on.
    Draining,
    /// Plugins are being stopped.
    Stopping,
}

/// Why a plugin is stopped. In JSON as [`StopReason::as_str`] has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum StopReason {
    /// The gateway exits.
    Terminate,
    /// A new version or configuration takes over.
    Reload,
    /// An operator switched it off.
    Disable,
    /// It failed too often.
    Quarantine,
    /// The instance has served its time.
    Recycle,
    /// Fewer instances are needed.
    ScaleIn,
}

impl StopReason {
    /// Every reason.
    pub const ALL: [Self; 6] =
        [Self::Terminate, Self::Reload, Self::Disable, Self::Quarantine, Self::Recycle, Self::ScaleIn];

    /// As in the report and the metrics: `terminate`, `reload`, `disable`, `quarantine`, `recycle`, `scale-in`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Terminate => "terminate",
            Self::Reload => "reload",
            Self::Disable => "disable",
            Self::Quarantine => "quarantine",
            Self::Recycle => "recycle",
            Self::ScaleIn => "scale-in",
        }
    }
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How the stop of one instance ended. In JSON as [`StopOutcome::as_str`] has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopOutcome {
    /// `shutdown` returned ok inside its budget.
    Completed,
    /// `shutdown` returned an error.
    Failed,
    /// It trapped, or used up its memory or stack.
    Trapped,
    /// It was still running when its time was up, and was stopped.
    Overran,
    /// The plugin has no `shutdown`; the instance was let go.
    NoHook,
    /// A second signal ended the stop before it did.
    Abandoned,
}

impl StopOutcome {
    /// Every outcome.
    pub const ALL: [Self; 6] =
        [Self::Completed, Self::Failed, Self::Trapped, Self::Overran, Self::NoHook, Self::Abandoned];

    /// As in the report: `completed`, `failed`, `trapped`, `overran`, `no-hook`, `abandoned`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Trapped => "trapped",
            Self::Overran => "overran",
            Self::NoHook => "no-hook",
            Self::Abandoned => "abandoned",
        }
    }

    /// Whether the operator has nothing to look into.
    #[must_use]
    pub fn is_clean(self) -> bool {
        matches!(self, Self::Completed | Self::NoHook)
    }
}

impl fmt::Display for StopOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What became of the state of an instance that was stopped because another version takes over. (What the new version made
/// of it is in its [`crate::HandOver`].)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Snapshot {
    /// It left none.
    #[default]
    None,
    /// It left so many bytes to the new version.
    Left {
        /// The length of the snapshot.
        bytes: usize,
    },
    /// It had one only that is longer than the `snapshot` limit.
    TooLarge {
        /// The length it had.
        bytes: usize,
    },
    /// It left so many bytes, but then did not end well: they are not handed over.
    Lost {
        /// The length of the snapshot.
        bytes: usize,
    },
}

/// Hears of every instance of a plugin that has been stopped, for whatever reason. Called on the task that stopped it, so
/// it must not wait.
pub type StopObserver = Arc<dyn Fn(&StopRecord) + Send + Sync>;

/// Hears of the work that a plugin had put off, when its stop is over. Called on the task that stopped it, so it must not
/// wait.
pub type DrainObserver = Arc<dyn Fn(&DrainRecord) + Send + Sync>;

/// What became of the work that one life of a plugin had put off, for the shutdown report. `accepted` is the sum of
/// `completed`, `failed`, `handed_over` and `left`.
#[derive(Debug, Clone)]
pub struct DrainRecord {
    /// The plugin's name.
    pub plugin: Arc<str>,
    /// The component's digest, `sha256:` and 64 hex digits.
    pub digest: Arc<str>,
    /// Why it was stopped.
    pub reason: StopReason,
    /// Payloads that were taken, from this life's beginning on.
    pub accepted: u64,
    /// Those that `on-deferred` returned ok for.
    pub completed: u64,
    /// Those that it did not return ok for.
    pub failed: u64,
    /// Those that the next version of the plugin has taken over.
    pub handed_over: u64,
    /// Those that there was no time for.
    pub left: u64,
    /// Those that waited or were being worked on when the stop began.
    pub at_stop: u64,
    /// The time there was for them, from the beginning of the stop.
    pub budget: Duration,
    /// The time the drain took.
    pub took: Duration,
}

/// What became of one instance, for the shutdown report.
#[derive(Debug, Clone)]
pub struct StopRecord {
    /// The plugin's name.
    pub plugin: Arc<str>,
    /// The component's digest, `sha256:` and 64 hex digits.
    pub digest: Arc<str>,
    /// Which of the plugin's instances; numbers are not used again after a replacement.
    pub instance: u64,
    /// Why it was stopped.
    pub reason: StopReason,
    /// How it ended.
    pub outcome: StopOutcome,
    /// The time it was given from the start of the stop, a last request included.
    pub budget: Duration,
    /// The time it took, on the same clock.
    pub took: Duration,
    /// CPU time of `shutdown`.
    pub cpu: Duration,
    /// By how much the end came after the budget; zero if it came before.
    pub overshoot: Duration,
    /// What it left to its successor.
    pub snapshot: Snapshot,
    /// Payloads that the plugin had put off and that its stop left no time for. All of them stand with one of its
    /// instances, so that the sum over all instances is the number.
    pub deferred_left: u64,
    /// What went wrong, for a person.
    pub error: Option<String>,
}
