//! What guests use, and the faults that a test has in store for them.

use std::collections::BTreeMap;
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
    /// So much time goes by just before it asks the host for something for the n-th time, from 1.
    DelayAt(u64, Duration),
}

/// Units of fuel between two samples: few, since hooks are short; and a prime, so that loops do not keep step with it.
const SAMPLED_EVERY: u64 = 97;

/// Stacks that are told apart. Those of guests that have more go uncounted.
const MOST_STACKS: usize = 100_000;

/// Where a plugin burns its fuel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// The hook that was called; when calls go side by side, the one that was called last.
    pub hook: Hook,
    /// The functions that it was in, the outermost first.
    pub stack: Vec<String>,
    /// The fuel that this stands for.
    pub fuel: u64,
}

/// Keeps account of calls, and moves the clock with what they burn.
#[derive(Debug)]
pub(crate) struct Ledger {
    clock: Arc<VirtualClock>,
    /// Nanoseconds of virtual time per unit of fuel.
    pace: u64,
    /// When whoever waits for guests that compute has waited for long enough, in real time.
    patience: Option<Instant>,
    /// Whether it wants to know where guests are.
    is_sampled: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    calls: Vec<Call>,
    /// For the next call of a hook; then for the one that runs.
    fault: Option<(Hook, Fault)>,
    /// Before which of its host calls time goes by, and how much.
    delay: Option<(u64, Duration)>,
    /// The hook that was called last.
    hook: Option<Hook>,
    /// How often guests were where.
    samples: BTreeMap<(usize, Vec<String>), u64>,
}

impl Ledger {
    pub(crate) fn new(clock: Arc<VirtualClock>, pace: u64, patience: Option<Instant>) -> Self {
        Self { clock, pace, patience, is_sampled: false, state: Mutex::default() }
    }

    /// The same, which wants to know where guests are.
    pub(crate) fn sampled(self, is_sampled: bool) -> Self {
        Self { is_sampled, ..self }
    }

    /// Where guests have been, in the order of the hooks.
    pub(crate) fn samples(&self) -> Vec<Sample> {
        let state = self.state();
        let sample = |((hook, stack), count): (&(usize, Vec<String>), &u64)| {
            let hook = Hook::ALL.into_iter().find(|own| *own as usize == *hook)?;
            Some(Sample { hook, stack: stack.clone(), fuel: count.saturating_mul(SAMPLED_EVERY) })
        };
        state.samples.iter().filter_map(sample).collect()
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
        state.delay = None;
        state.hook = Some(call.hook);
        match state.fault.take_if(|(hook, _)| *hook == call.hook) {
            Some((_, Fault::TrapAt(fuel))) => fuel,
            Some((_, Fault::LateAt(nth))) => {
                state.delay = Some((nth, TOO_LATE));
                UNLIMITED
            }
            Some((_, Fault::DelayAt(nth, by))) => {
                state.delay = Some((nth, by));
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
        let delay = self.state().delay.take_if(|(at, _)| *at == nth);
        if let Some((_, by)) = delay {
            self.clock.pass(by);
        }
    }

    fn end(&self, call: &GaugedCall<'_>, used: &Used) {
        self.state().calls.push(Call { hook: call.hook, instance: call.instance, used: *used });
    }

    fn sampling(&self) -> Option<u64> {
        self.is_sampled.then_some(SAMPLED_EVERY)
    }

    fn sample(&self, stack: &[String]) {
        let mut state = self.state();
        let Some(hook) = state.hook else { return };
        let key = (hook as usize, stack.to_vec());
        if state.samples.len() < MOST_STACKS || state.samples.contains_key(&key) {
            *state.samples.entry(key).or_default() += 1;
        }
    }
}
