//! Work that is put off, and written by ticks and at the end.

use tidegate_sdk::background::{self, DeferError};
use tidegate_sdk::metrics;
use tidegate_sdk::prelude::*;

#[derive(Default)]
struct Visits {
    batch: Vec<String>,
}

#[tidegate_sdk::plugin]
impl Plugin for Visits {
    // ANCHOR: defer
    fn on_response(&mut self, request: &Request, _response: &mut Response) -> Result<()> {
        match background::defer(request.path().as_bytes()) {
            // The plugin is being stopped: it is now or never.
            Err(DeferError::Stopping) => self.note(request.path()),
            // The client has its response either way.
            Err(error) => log::warn!("not counted: {error}"),
            Ok(()) => {}
        }
        Ok(())
    }

    fn on_deferred(&mut self, payload: Vec<u8>) -> Result<()> {
        self.note(String::from_utf8(payload)?);
        Ok(())
    }
    // ANCHOR_END: defer

    fn on_tick(&mut self) -> Result<()> {
        self.write();
        Ok(())
    }

    fn shutdown(&mut self, _deadline: Deadline) -> Result<()> {
        self.write();
        Ok(())
    }
}

impl Visits {
    fn note(&mut self, path: String) {
        self.batch.push(path);
    }

    fn write(&mut self) {
        if !self.batch.is_empty() {
            log::info!("visited: {}", self.batch.join(" "));
            self.count();
            self.batch.clear();
        }
    }

    fn count(&self) {
        // ANCHOR: metrics
        metrics::counter("written").label("to", "log").add(1);
        metrics::gauge("batch_length").set(self.batch.len() as f64);
        metrics::histogram("batch_bytes").observe(self.batch.concat().len() as f64);
        // ANCHOR_END: metrics
    }
}
