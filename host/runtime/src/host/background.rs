//! `tidegate:plugin/background`: work that is put off.

use crate::bindings::background;
use crate::host::Guest;

impl background::Host for Guest {
    fn defer(&mut self, _payload: Vec<u8>) -> wasmtime::Result<Result<(), background::DeferError>> {
        self.meter.fence()?;
        Ok(Err(background::DeferError::NoHook))
    }
}
