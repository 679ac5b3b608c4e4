//! Where the gateway is in its life.
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

#[cfg(target_arch = "wasm32")]
mod imp {
    use super::{Phase, StopReason};
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
}

#[cfg(not(target_arch = "wasm32"))]
mod imp {
    use super::{Phase, StopReason};

    pub(super) fn phase() -> Phase {
        Phase::Serving
    }

    pub(super) fn stop_reason() -> Option<StopReason> {
        None
    }
}
