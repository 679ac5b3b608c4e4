//! `tidegate:plugin/background`: work that is put off.

use crate::bindings::background;
use crate::host::Guest;
use crate::plugin::NotDeferred;

impl background::Host for Guest {
    fn defer(&mut self, payload: Vec<u8>) -> wasmtime::Result<Result<(), background::DeferError>> {
        self.meter.fence()?;
        Ok(self.backlog.defer(payload, self.log.request()).map_err(Into::into))
    }
}

impl From<NotDeferred> for background::DeferError {
    fn from(why: NotDeferred) -> Self {
        match why {
            NotDeferred::QueueFull => Self::QueueFull,
            NotDeferred::TooLarge => Self::TooLarge,
            NotDeferred::Stopping => Self::Stopping,
            NotDeferred::NoHook => Self::NoHook,
        }
    }
}
