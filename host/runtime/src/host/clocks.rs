//! `wasi:clocks/monotonic-clock`: the environment's clock, for reading and for sleeping.
//!
//! WASI's own implementation would sleep by the async runtime's timer, whatever clock the guest reads.

use std::time::Duration;

use wasmtime::component::Resource;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::bindings::clocks::monotonic_clock;
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};

use crate::environment::{Moment, Sleep};
use crate::host::Guest;

/// What a guest's sleep waits for.
enum Alarm {
    /// A moment that had passed already: the others of this thread go first, so that a guest that polls is a good neighbour.
    Passed,
    Rings(Sleep),
    HasRung,
}

#[async_trait]
impl Pollable for Alarm {
    async fn ready(&mut self) {
        match self {
            Self::Passed => tokio::task::yield_now().await,
            Self::Rings(sleep) => sleep.await,
            Self::HasRung => {}
        }
        *self = Self::HasRung;
    }
}

impl Guest {
    fn alarm(&mut self, at: Moment) -> wasmtime::Result<Resource<DynPollable>> {
        let alarm = if at <= self.clock.now() { Alarm::Passed } else { Alarm::Rings(self.clock.sleep_until(at)) };
        let alarm = self.table.push(alarm)?;
        subscribe(&mut self.table, alarm)
    }
}

impl monotonic_clock::Host for Guest {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(self.clock.now().as_nanos())
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(1)
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.alarm(Moment::from_nanos(when))
    }

    fn subscribe_duration(&mut self, duration: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.alarm(self.clock.now() + Duration::from_nanos(duration))
    }
}
