//! Work after the response: what need not be done while a client waits.
//!
//! A hook gives a payload to [`defer`] and returns; the gateway calls `on_deferred` with it later, in whichever instance is
//! free. What an instance keeps for itself, a batch for example, is written in `on_tick`, which the gateway calls in every
//! instance at the interval `tick` of the plugin's configuration.
//!
//! The queue is in memory. A stop lets it run dry before `shutdown`, for as long as its share lasts, and tells the operator
//! what was left; it does not outlive the process. Granted by `background = true`.
//!
//! ```
//! use tidegate_sdk::background::{self, DeferError};
//! use tidegate_sdk::prelude::*;
//!
//! #[derive(Default)]
//! struct Visits {
//!     batch: Vec<String>,
//! }
//!
//! #[tidegate_sdk::plugin]
//! impl Plugin for Visits {
//!     fn on_response(&mut self, request: &Request, _response: &mut Response) -> Result<()> {
//!         match background::defer(request.path().as_bytes()) {
//!             // There is no later any more: do it now.
//!             Err(DeferError::Stopping) => self.note(request.path()),
//!             // The client has its response either way.
//!             Err(error) => log::warn!("a visit is not counted: {error}"),
//!             Ok(()) => {}
//!         }
//!         Ok(())
//!     }
//!
//!     fn on_deferred(&mut self, payload: Vec<u8>) -> Result<()> {
//!         self.note(String::from_utf8(payload)?);
//!         Ok(())
//!     }
//!
//!     fn on_tick(&mut self) -> Result<()> {
//!         self.write();
//!         Ok(())
//!     }
//!
//!     fn shutdown(&mut self, _deadline: Deadline) -> Result<()> {
//!         self.write();
//!         Ok(())
//!     }
//! }
//!
//! impl Visits {
//!     fn note(&mut self, path: String) {
//!         self.batch.push(path);
//!     }
//!
//!     fn write(&mut self) {
//!         if !self.batch.is_empty() {
//!             log::info!("visited: {}", self.batch.join(" "));
//!             self.batch.clear();
//!         }
//!     }
//! }
//!
//! # fn main() -> Result<()> {
//! // In a native test, payloads wait until the test takes them.
//! let mut visits = Visits::default();
//! visits.on_response(&Request::builder().target("/a").build(), &mut Response::builder().build())?;
//! for payload in background::take_deferred() {
//!     visits.on_deferred(payload)?;
//! }
//! assert_eq!(visits.batch, ["/a"]);
//! visits.on_tick()?;
//! assert!(visits.batch.is_empty());
//! # Ok(())
//! # }
//! ```

/// Why a payload was not taken. It is the caller's again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeferError {
    /// As many payloads wait as the plugin may have, or as many bytes.
    QueueFull,
    /// It is longer than the queue may ever hold.
    TooLarge,
    /// The plugin is being stopped: nothing is put off any more.
    Stopping,
    /// The plugin has no `on_deferred`.
    NoHook,
}

impl std::fmt::Display for DeferError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::QueueFull => "the host put nothing off: the queue is full",
            Self::TooLarge => "the host put nothing off: the payload is longer than the queue may ever hold",
            Self::Stopping => "the host put nothing off: the plugin is being stopped",
            Self::NoHook => "the host put nothing off: the plugin has no `on_deferred`",
        })
    }
}

impl std::error::Error for DeferError {}

/// Has `on_deferred` called with this payload later.
///
/// # Errors
/// When the payload was not taken. In a native test it is, unless the test says otherwise; see [`take_deferred`].
pub fn defer(payload: &[u8]) -> Result<(), DeferError> {
    imp::defer(payload)
}

/// For native tests: what this thread has put off since the last call, in order.
#[cfg(not(target_arch = "wasm32"))]
#[must_use]
pub fn take_deferred() -> Vec<Vec<u8>> {
    imp::take()
}

/// For native tests: from here on, refuse every payload like this; `None` takes them again.
#[cfg(not(target_arch = "wasm32"))]
pub fn refuse(refusal: impl Into<Option<DeferError>>) {
    imp::refuse(refusal.into());
}

#[cfg(target_arch = "wasm32")]
mod imp {
    use super::DeferError;
    use crate::bindings::imports::tidegate::plugin::background as wit;

    pub(super) fn defer(payload: &[u8]) -> Result<(), DeferError> {
        wit::defer(payload).map_err(|error| match error {
            wit::DeferError::QueueFull => DeferError::QueueFull,
            wit::DeferError::TooLarge => DeferError::TooLarge,
            wit::DeferError::Stopping => DeferError::Stopping,
            wit::DeferError::NoHook => DeferError::NoHook,
        })
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod imp {
    use super::DeferError;
    use std::cell::{Cell, RefCell};

    std::thread_local! {
        static DEFERRED: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
        static REFUSAL: Cell<Option<DeferError>> = const { Cell::new(None) };
    }

    pub(super) fn refuse(refusal: Option<DeferError>) {
        REFUSAL.set(refusal);
    }

    pub(super) fn defer(payload: &[u8]) -> Result<(), DeferError> {
        if let Some(refusal) = REFUSAL.get() {
            return Err(refusal);
        }
        DEFERRED.with_borrow_mut(|deferred| deferred.push(payload.to_vec()));
        Ok(())
    }

    pub(super) fn take() -> Vec<Vec<u8>> {
        DEFERRED.take()
    }
}
