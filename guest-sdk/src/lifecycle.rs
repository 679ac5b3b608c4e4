//! Where the gateway is in its life, and what one version of a plugin leaves to the next.
//!
//! ```
//! use tidegate_sdk::lifecycle::{self, Phase};
//!
//! if lifecycle::phase() != Phase::Serving {
//!     // The end is near: write through instead of batching, say.
//! }
//! ```

/// The phase as seen by this plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Requests come in as usual.
    Serving,
    /// The gateway takes no new connections; exchanges that have begun go on.
    Draining,
    /// This plugin is being stopped: no request follows.
    Stopping,
}

/// Why this plugin is being stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StopReason {
    /// The gateway exits.
    Terminate,
    /// A new version or configuration takes over.
    Reload,
    /// An operator switched the plugin off.
    Disable,
    /// It failed too often.
    Quarantine,
    /// This instance has served its time (calls or memory).
    Recycle,
    /// Fewer instances are needed.
    ScaleIn,
}

/// Why a snapshot was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SnapshotError {
    /// Nobody would read it: this is not `shutdown`, or no version takes over from this one.
    NoSuccessor,
    /// It is longer than the plugin's limit `snapshot`. What was left before stays.
    TooLarge,
}

impl std::fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NoSuccessor => "the host refused a snapshot: no version takes over from this one",
            Self::TooLarge => "the host refused a snapshot: it is longer than the plugin's limit",
        })
    }
}

impl std::error::Error for SnapshotError {}

/// The current phase. In a native test: [`Phase::Serving`].
#[must_use]
pub fn phase() -> Phase {
    imp::phase()
}

/// The reason of the stop; `None` before it has begun, and in a native test.
#[must_use]
pub fn stop_reason() -> Option<StopReason> {
    imp::stop_reason()
}

/// Leaves state to the version that takes over. For `shutdown`, when a reload replaces the plugin and its operator wants
/// its state handed over (`hand_over = true`).
///
/// It is handed over if `shutdown` then returns ok inside its deadline; otherwise it is lost. A later call replaces what an
/// earlier one left.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use tidegate_sdk::lifecycle::{self, SnapshotError};
/// use tidegate_sdk::prelude::*;
///
/// #[derive(Default, Serialize, Deserialize)]
/// struct Tally {
///     seen: u64,
/// }
///
/// #[tidegate_sdk::plugin]
/// impl Plugin for Tally {
///     fn configure() -> Result<Self> {
///         let mut tally = Self::default();
///         // As many as there are: the former version may have had more instances than this one, or fewer.
///         for snapshot in lifecycle::snapshots() {
///             tally.seen += serde_json::from_slice::<Self>(&snapshot)?.seen;
///         }
///         Ok(tally)
///     }
///
///     fn on_request(&mut self, _request: &mut Request) -> Result<()> {
///         self.seen += 1;
///         Ok(())
///     }
///
///     fn shutdown(&mut self, _deadline: Deadline) -> Result<()> {
///         match lifecycle::leave_snapshot(&serde_json::to_vec(self)?) {
///             // The gateway exits, say. This is where it would be written down.
///             Err(SnapshotError::NoSuccessor) => Ok(()),
///             left => Ok(left?),
///         }
///     }
/// }
///
/// # fn main() -> Result<()> {
/// let mut tally = Tally::configure()?;
/// tally.on_request(&mut Request::builder().build())?;
/// tally.shutdown(Deadline::never())?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// When it was not taken. In a native test: [`SnapshotError::NoSuccessor`].
pub fn leave_snapshot(bytes: &[u8]) -> Result<(), SnapshotError> {
    imp::leave_snapshot(bytes)
}

/// What instances of the former version have left to this one, for `configure`; empty at any other time, for an instance
/// that inherits nothing, and in a native test.
///
/// Each snapshot goes to one instance; an instance gets none, one, or several. If `configure` does not end well, the instance
/// is made again without snapshots. Expect those of older versions of your plugin, and check them like any input. See
/// [`leave_snapshot`] for an example.
#[must_use]
pub fn snapshots() -> Vec<Vec<u8>> {
    imp::snapshots()
}

#[cfg(target_arch = "wasm32")]
mod imp {
    use super::{Phase, SnapshotError, StopReason};
    use crate::bindings::imports::tidegate::plugin::lifecycle as wit;

    pub(super) fn phase() -> Phase {
        match wit::current_phase() {
            wit::Phase::Serving => Phase::Serving,
            wit::Phase::Draining => Phase::Draining,
            wit::Phase::Stopping => Phase::Stopping,
        }
    }

    pub(super) fn stop_reason() -> Option<StopReason> {
        Some(match wit::reason()? {
            wit::StopReason::Terminate => StopReason::Terminate,
            wit::StopReason::Reload => StopReason::Reload,
            wit::StopReason::Disable => StopReason::Disable,
            wit::StopReason::Quarantine => StopReason::Quarantine,
            wit::StopReason::Recycle => StopReason::Recycle,
            wit::StopReason::ScaleIn => StopReason::ScaleIn,
        })
    }

    pub(super) fn leave_snapshot(bytes: &[u8]) -> Result<(), SnapshotError> {
        wit::leave_snapshot(bytes).map_err(|error| match error {
            wit::SnapshotError::NoSuccessor => SnapshotError::NoSuccessor,
            wit::SnapshotError::TooLarge => SnapshotError::TooLarge,
        })
    }

    pub(super) fn snapshots() -> Vec<Vec<u8>> {
        wit::snapshots()
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod imp {
    use super::{Phase, SnapshotError, StopReason};

    pub(super) fn phase() -> Phase {
        Phase::Serving
    }

    pub(super) fn stop_reason() -> Option<StopReason> {
        None
    }
    pub(super) fn leave_snapshot(_: &[u8]) -> Result<(), SnapshotError> {
        Err(SnapshotError::NoSuccessor)
    }

    pub(super) fn snapshots() -> Vec<Vec<u8>> {
        Vec::new()
    }
}
