//! `tidegate:plugin/lifecycle`: the phase, the reason of a stop, the time left to a call, and snapshots.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::bindings::lifecycle;
use crate::environment::Clock;
use crate::host::Guest;
use crate::stop::{Phase, StopReason};

/// What a guest sees of the stop protocol. The gateway's phase is shared by all plugins, the reason by all instances of
/// the plugin, unless this one is stopped for a reason of its own.
#[derive(Clone)]
pub(crate) struct LifecycleView {
    clock: Arc<dyn Clock>,
    phase: Arc<AtomicU8>,
    reason: Arc<AtomicU8>,
    own: Option<StopReason>,
}

/// `reason` before a stop has begun.
const NO_REASON: u8 = u8::MAX;

impl LifecycleView {
    pub(crate) fn new(clock: Arc<dyn Clock>, phase: Arc<AtomicU8>) -> Self {
        Self { clock, phase, reason: Arc::new(AtomicU8::new(NO_REASON)), own: None }
    }

    /// The same for another life of the plugin, which nothing has stopped yet.
    pub(crate) fn fresh(&self) -> Self {
        Self::new(self.clock.clone(), self.phase.clone())
    }

    /// The plugin is being stopped.
    pub(crate) fn stopping(&self, reason: StopReason) {
        self.reason.store(reason as u8, Ordering::Relaxed);
    }

    /// This instance is being stopped.
    pub(crate) fn stopping_alone(&mut self, reason: StopReason) {
        self.own = Some(reason);
    }

    fn reason(&self) -> Option<lifecycle::StopReason> {
        const TERMINATE: u8 = StopReason::Terminate as u8;
        const RELOAD: u8 = StopReason::Reload as u8;
        const DISABLE: u8 = StopReason::Disable as u8;
        const QUARANTINE: u8 = StopReason::Quarantine as u8;
        const RECYCLE: u8 = StopReason::Recycle as u8;
        const SCALE_IN: u8 = StopReason::ScaleIn as u8;
        match self.own.map_or_else(|| self.reason.load(Ordering::Relaxed), |own| own as u8) {
            TERMINATE => Some(lifecycle::StopReason::Terminate),
            RELOAD => Some(lifecycle::StopReason::Reload),
            DISABLE => Some(lifecycle::StopReason::Disable),
            QUARANTINE => Some(lifecycle::StopReason::Quarantine),
            RECYCLE => Some(lifecycle::StopReason::Recycle),
            SCALE_IN => Some(lifecycle::StopReason::ScaleIn),
            _ => None,
        }
    }

    fn phase(&self) -> lifecycle::Phase {
        const DRAINING: u8 = Phase::Draining as u8;
        const STOPPING: u8 = Phase::Stopping as u8;
        if self.reason().is_some() {
            return lifecycle::Phase::Stopping;
        }
        match self.phase.load(Ordering::Relaxed) {
            DRAINING => lifecycle::Phase::Draining,
            STOPPING => lifecycle::Phase::Stopping,
            _ => lifecycle::Phase::Serving,
        }
    }
}

impl lifecycle::Host for Guest {
    fn current_phase(&mut self) -> wasmtime::Result<lifecycle::Phase> {
        Ok(self.lifecycle.phase())
    }

    fn reason(&mut self) -> wasmtime::Result<Option<lifecycle::StopReason>> {
        Ok(self.lifecycle.reason())
    }

    fn remaining_ms(&mut self) -> wasmtime::Result<u64> {
        let left = self.meter.deadline().since(self.lifecycle.clock.now());
        Ok(u64::try_from(left.as_millis()).unwrap_or(u64::MAX))
    }

    fn leave_snapshot(&mut self, bytes: Vec<u8>) -> wasmtime::Result<Result<(), lifecycle::SnapshotError>> {
        self.meter.fence()?;
        Ok(self.snapshots.leave(bytes))
    }

    fn snapshots(&mut self) -> wasmtime::Result<Vec<Vec<u8>>> {
        Ok(self.snapshots.read())
    }
}
