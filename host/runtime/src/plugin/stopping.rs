//! The end of a plugin: every instance is told to stop, given a stated time, and stopped when that time is up.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::{Inner, Plugin, Slot};
use crate::contract::Hook;
use crate::environment::Moment;
use crate::error::EndCause;
use crate::hooks::Shutdown;
use crate::instance::Instance;
use crate::pool::{Back, Closed};
use crate::stats::CallOutcome;
use crate::stop::{StopOutcome, StopReason, StopRecord};

/// How long after the deadline to wait for an instance whose last call should have been cut by then. It always comes
/// back; this only keeps a stop from hanging should that ever be wrong.
const PATIENCE: Duration = Duration::from_secs(1);

/// One stop of a plugin.
#[derive(Clone, Copy)]
struct Stop {
    began: Moment,
    reason: StopReason,
}

impl Plugin {
    /// Stop every instance within `budget`, counted from now; the plugin's observer hears of each one as it ends.
    ///
    /// A budget longer than the plugin's `shutdown` limit is cut to it. Instances that wait for work are told at once,
    /// side by side; one that is in a call is told when the call is over, with the time that is left then. At the
    /// deadline everything that still runs is stopped.
    ///
    /// A second call joins the first: it may bring the deadline forward, never put it off, and returns when the stop is
    /// over. The reason is the first one's.
    pub async fn stop(&self, reason: StopReason, budget: Duration) {
        let inner = &self.inner;
        let began = inner.clock().now();
        let deadline = began + budget.min(inner.template.limits.shutdown);
        match inner.pool.close() {
            Some(closed) => {
                inner.template.lifecycle.stopping(reason);
                inner.template.halt.no_later_than(deadline);
                // Also when this future is dropped halfway: nobody must wait for a stop that nobody runs.
                let _stopped = inner.stopped.clone().drop_guard();
                Stop { began, reason }.run(inner, closed).await;
            }
            None => {
                inner.template.halt.no_later_than(deadline);
                inner.stopped.cancelled().await;
            }
        }
    }
}

impl Stop {
    async fn run(self, inner: &Arc<Inner>, closed: Closed<Slot>) {
        let Closed { idle, mut out, mut back } = closed;
        let on_stopped = |record: StopRecord| (inner.spec.on_stopped)(&record);
        let deadline = inner.template.halt.at();

        let mut stops = JoinSet::new();
        for slot in idle {
            out.remove(&slot.number);
            stops.spawn(self.slot(Arc::clone(inner), slot));
        }
        let mut at_deadline = inner.clock().sleep_until(deadline);
        let mut given_up = inner.clock().sleep_until(deadline + PATIENCE);
        while !(stops.is_empty() && out.is_empty()) {
            tokio::select! {
                biased;
                Some(stopped) = stops.join_next() => {
                    // A task that panicked left no record; its instance is missing below.
                    if let Ok(Some(record)) = stopped {
                        on_stopped(record);
                    }
                }
                Some(returned) = back.recv(), if !out.is_empty() => match returned {
                    Back::Instance(slot) => {
                        out.remove(&slot.number);
                        stops.spawn(self.slot(Arc::clone(inner), slot));
                    }
                    Back::Gone { number, cause } => {
                        out.remove(&number);
                        if let Some(record) = self.gone(inner, number, &cause) {
                            on_stopped(record);
                        }
                    }
                },
                () = &mut at_deadline, if !inner.template.halt.over.is_cancelled() => inner.template.halt.over.cancel(),
                () = inner.template.halt.moved() => {
                    let deadline = inner.template.halt.at();
                    at_deadline = inner.clock().sleep_until(deadline);
                    given_up = inner.clock().sleep_until(deadline + PATIENCE);
                }
                () = &mut given_up => break,
            }
        }
        // Starts that are still under way end here, too.
        inner.template.halt.over.cancel();
        for record in self.missing(inner, &out) {
            on_stopped(record);
        }
    }

    /// Stop one instance that is free. An empty slot has nothing to stop.
    async fn slot(self, inner: Arc<Inner>, slot: Slot) -> Option<StopRecord> {
        let mut instance = slot.instance?;
        let number = slot.number;
        let (result, cpu) = if instance.has(Hook::Shutdown) {
            let result = self.shut_down(&inner, &mut instance).await;
            (Some(result), instance.cpu())
        } else {
            (None, Duration::ZERO)
        };
        // The end is when everything the instance held is free again.
        drop(instance);
        let record = match &result {
            None => self.record(&inner, number, StopOutcome::NoHook, None),
            Some(Ok(())) => self.record(&inner, number, StopOutcome::Completed, None),
            Some(Err(cause)) => self.record(&inner, number, outcome(cause), Some(cause.to_string())),
        };
        if let Some(result) = &result {
            let counted = result.as_ref().map_or_else(CallOutcome::from, |()| CallOutcome::Ok);
            inner.spec.tally.record(Hook::Shutdown, counted, cpu, record.took);
        }
        Some(StopRecord { cpu, ..record })
    }

    async fn shut_down(self, inner: &Inner, instance: &mut Instance) -> Result<(), EndCause> {
        if inner.template.halt.abandoned() {
            return Err(EndCause::Abandoned);
        }
        let now = inner.clock().now();
        let deadline = inner.template.halt.at();
        let millis = u64::try_from(deadline.since(now).as_millis()).unwrap_or(u64::MAX);
        instance.call_alone(Shutdown(millis), now, deadline).await
    }

    /// An instance that did not survive its last call. Work it held is lost: that is never a clean end.
    fn gone(self, inner: &Inner, number: u64, cause: &EndCause) -> Option<StopRecord> {
        let holds_state = inner.spec.isolation == crate::limits::Isolation::Warm;
        holds_state.then(|| self.record(inner, number, outcome(cause), Some(format!("in its last request: {cause}"))))
    }

    fn missing(self, inner: &Inner, numbers: &BTreeSet<u64>) -> Vec<StopRecord> {
        let why = || Some("its last request did not end".to_owned());
        numbers.iter().map(|number| self.record(inner, *number, StopOutcome::Overran, why())).collect()
    }

    fn record(self, inner: &Inner, instance: u64, outcome: StopOutcome, error: Option<String>) -> StopRecord {
        let (now, deadline) = (inner.clock().now(), inner.template.halt.at());
        StopRecord {
            plugin: inner.template.name.clone(),
            digest: inner.digest.clone(),
            instance,
            reason: self.reason,
            outcome,
            budget: deadline.since(self.began),
            took: now.since(self.began),
            cpu: Duration::ZERO,
            overshoot: now.since(deadline),
            error,
        }
    }
}

fn outcome(cause: &EndCause) -> StopOutcome {
    match cause {
        EndCause::Cpu { .. } | EndCause::Wall { .. } => StopOutcome::Overran,
        EndCause::Returned { .. } => StopOutcome::Failed,
        EndCause::Abandoned => StopOutcome::Abandoned,
        EndCause::Memory { .. }
        | EndCause::Stack
        | EndCause::Trap { .. }
        | EndCause::Refused { .. }
        | EndCause::Overloaded { .. }
        | EndCause::Unavailable(_) => StopOutcome::Trapped,
    }
}
