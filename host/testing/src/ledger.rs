//! What guests use, and the faults that a test has in store for them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tidegate_runtime::Hook;
use tidegate_runtime::environment::{Gauge, GaugedCall, Used};

use crate::clock::VirtualClock;

/// More than any guest burns.
const UNLIMITED: u64 = 1 << 60;

/// What a call comes too late by, if a test lets it.
const TOO_LATE: Duration = Duration::from_secs(86_400);

/// A call of a hook, and what it used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// The hook. What runs when an instance is made counts as `configure`, and so does `configure`.
    pub hook: Hook,
    /// The number of the instance.
    pub instance: u64,
    /// What it used.
    pub used: Used,
}

/// Something that is to go wrong in a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It traps when it has burned so much fuel.
    TrapAt(u64),
    /// Its time is up just before it asks the host for something for the n-th time, from 1.
    LateAt(u64),
}

/// Keeps account of calls, and moves the clock with what they burn.
#[derive(Debug)]
pub(crate) struct Ledger {
    clock: Arc<VirtualClock>,
    /// Nanoseconds of virtual time per unit of fuel.
    pace: u64,
    /// When whoever waits for guests that compute has waited for long enough, in real time.
    patience: Option<Instant>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    calls: Vec<Call>,
    /// For the next call of a hook; then for the one that runs.
    fault: Option<(Hook, Fault)>,
    late_at: Option<u64>,
}

impl Ledger {
    pub(crate) fn new(clock: Arc<VirtualClock>, pace: u64, patience: Option<Instant>) -> Self {
        Self { clock, pace, patience, state: Mutex::default() }
    }

    // Changed in single steps: a poisoned one is as good as a sound one.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls that have ended, the first one first.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    /// The one that ended last.
    pub(crate) fn last(&self) -> Option<Call> {
        self.state().calls.last().copied()
    }

    /// How many there have been.
    pub(crate) fn len(&self) -> usize {
        self.state().calls.len()
    }

    /// Those after the first so many.
    pub(crate) fn since(&self, first: usize) -> Vec<Call> {
        self.state().calls.get(first..).unwrap_or_default().to_vec()
    }

    /// The next call of this hook has a fault.
    pub(crate) fn plan(&self, hook: Hook, fault: Fault) {
        self.state().fault = Some((hook, fault));
    }
}

impl Gauge for Ledger {
    fn begin(&self, call: &GaugedCall<'_>) -> u64 {
        let mut state = self.state();
        state.late_at = None;
        match state.fault.take_if(|(hook, _)| *hook == call.hook) {
            Some((_, Fault::TrapAt(fuel))) => fuel,
            Some((_, Fault::LateAt(nth))) => {
                state.late_at = Some(nth);
                UNLIMITED
            }
            None => UNLIMITED,
        }
    }

    fn burn(&self, _: &GaugedCall<'_>, fuel: u64) {
        self.clock.compute(fuel.saturating_mul(self.pace));
        if self.patience.is_some_and(|patience| Instant::now() > patience) {
            self.clock.pass(TOO_LATE);
        }
    }

    fn host_call(&self, nth: u64) {
        let is_late = self.state().late_at.take_if(|at| *at == nth).is_some();
        if is_late {
            self.clock.pass(TOO_LATE);
        }
    }

    fn end(&self, call: &GaugedCall<'_>, used: &Used) {
        self.state().calls.push(Call { hook: call.hook, instance: call.instance, used: *used });
    }
}
