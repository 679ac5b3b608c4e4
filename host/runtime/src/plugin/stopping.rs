//! The end of a plugin, or of one of its instances: told to stop, given a stated time, and stopped when that time is up.
//!
//! Each instance is stopped by a task of its own, which also tells of its end; the stop of a whole plugin waits for all
//! of them, those that were under way when it began included.
//!
//! Before that, a plugin that has put work off works it off: calls are refused, ticks have ended, `defer` says `stopping`,
//! and the queue runs dry or its share of the time is up. The time that `shutdown` may take is not touched by it.

use std::sync::Arc;
use std::time::Duration;

use tracing::Instrument;

use super::deferred::Counts;
use super::{Inner, Plugin, Slot};
use crate::contract::Hook;
use crate::environment::Moment;
use crate::error::EndCause;
use crate::hooks::Shutdown;
use crate::instance::Instance;
use crate::limits::Isolation;
use crate::pool::{Back, Closed};
use crate::stats::CallOutcome;
use crate::stop::{DrainRecord, Snapshot, StopOutcome, StopReason, StopRecord};

/// How long after the deadline to wait for an instance whose last call should have been cut by then. It always comes
/// back; this only keeps a stop from hanging should that ever be wrong.
const PATIENCE: Duration = Duration::from_secs(1);

/// How the work that had been put off was worked off.
#[derive(Clone, Copy)]
struct Drain {
    /// What there was of it.
    at_stop: u64,
    budget: Duration,
    took: Duration,
    ended: Moment,
}

/// One stop, of a plugin or of an instance.
#[derive(Clone, Copy)]
struct Stop {
    began: Moment,
    reason: StopReason,
    /// Its own; the plugin's may come before it.
    deadline: Moment,
}

impl Plugin {
    /// Stop every instance within `budget`, counted from now; the plugin's observer hears of each one as it ends.
    ///
    /// A budget longer than [`Plugin::longest_stop`] is cut to it. If work has been put off, it is worked off first: for its
    /// share, and no longer than the budget leaves the `shutdown` limit untouched. What waits then is dropped and counted;
    /// what is in a call goes on like every other call. An heir that has `on-deferred` takes over what waits instead.
    ///
    /// Then instances that wait for work are told at once, side by side; one that is in a call is told when the call is over,
    /// with the time that is left then. One that is being stopped already goes on with that, for its own reason. At
    /// the deadline everything that still runs is stopped.
    ///
    /// The stop goes on if this future is dropped. A second call joins the first: it may bring the deadline forward, never
    /// put it off, and returns when the stop is over. The reason is the first one's.
    pub async fn stop(&self, reason: StopReason, budget: Duration) {
        let inner = &self.inner;
        let began = inner.clock().now();
        let stop = Stop { began, reason, deadline: began + budget.min(self.longest_stop()) };
        if inner.pool.drain() {
            inner.template.lifecycle.stopping(reason);
            inner.template.halt.no_later_than(stop.deadline);
            inner.closing.cancel();
            inner.tasks.spawn(stop.all(Arc::clone(inner)).in_current_span());
        } else {
            inner.template.halt.no_later_than(stop.deadline);
        }
        inner.stopped.cancelled().await;
    }

    /// The longest that a stop of it can take: the share of the work that it has put off, if it can have any, and its
    /// `shutdown` limit.
    #[must_use]
    pub fn longest_stop(&self) -> Duration {
        let Inner { template, spec, .. } = &*self.inner;
        let defers = template.grants.background && template.backlog.has_hook();
        let drain = if defers { spec.deferred.drain } else { Duration::ZERO };
        drain.saturating_add(template.limits.shutdown)
    }
}

impl Inner {
    /// Stop an instance that the pool has handed over for that, while the plugin serves on.
    pub(super) fn stop_one(self: &Arc<Self>, slot: Slot, reason: StopReason) {
        Stop::now(self, reason, Duration::MAX).spawn(self, slot);
    }
}

impl Stop {
    fn now(inner: &Inner, reason: StopReason, budget: Duration) -> Self {
        let began = inner.clock().now();
        Self { began, reason, deadline: began + budget.min(inner.template.limits.shutdown) }
    }

    /// When it has to be over.
    fn deadline(self, inner: &Inner) -> Moment {
        self.deadline.min(inner.template.halt.at())
    }

    /// Work off what has been put off, then stop everything there is in the pool.
    async fn all(self, inner: Arc<Inner>) {
        // However this ends: nobody must wait for a stop that nobody runs.
        let _stopped = inner.stopped.clone().drop_guard();
        let drain = self.drain(&inner).await;
        inner.drained.cancel();
        if let Some(closed) = inner.pool.close() {
            self.after(drain, &inner).instances(&inner, closed).await;
        }
        self.tell_of_deferred(drain, &inner);
    }

    /// Let the queue run dry, as long as its share lasts.
    async fn drain(self, inner: &Arc<Inner>) -> Option<Drain> {
        let (backlog, halt) = (&inner.template.backlog, &inner.template.halt);
        let at_stop = backlog.stop();
        if at_stop == 0 {
            return None;
        }
        let heir = inner.last_heir();
        if !Arc::ptr_eq(heir, inner) && heir.template.grants.background {
            backlog.hand_over_to(&heir.template.backlog);
        }
        inner.work_off();
        // The plugin's stop may have to be over earlier than was thought; its `shutdown` has the time that it had.
        let share = || {
            let whole = self.deadline(inner).since(self.began);
            self.began + inner.spec.deferred.drain.min(whole.saturating_sub(inner.template.limits.shutdown))
        };
        let mut until = share();
        let mut over = inner.clock().sleep_until(until);
        // In a pool that is held nothing is worked on.
        while !backlog.is_dry() && !inner.pool.is_held() {
            tokio::select! {
                biased;
                () = halt.over.cancelled() => break,
                () = &mut over => break,
                () = halt.moved() => {
                    until = share();
                    over = inner.clock().sleep_until(until);
                }
                () = backlog.changed() => {}
            }
        }
        let left = backlog.give_up();
        let ended = inner.clock().now();
        if left > 0 {
            let plugin = &*inner.template.name;
            tracing::warn!(plugin, left, reason = %self.reason, "work that was put off is dropped: there is no time for it");
        }
        Some(Drain { at_stop, budget: until.since(self.began), took: ended.since(self.began), ended })
    }

    /// The stop of the instances, once the queue is dry or given up.
    fn after(self, drain: Option<Drain>, inner: &Inner) -> Self {
        let began = drain.map_or(self.began, |drain| drain.ended);
        let deadline = self.deadline.min(began + inner.template.limits.shutdown);
        inner.template.halt.no_later_than(deadline);
        Self { began, deadline, ..self }
    }

    fn tell_of_deferred(self, drain: Option<Drain>, inner: &Inner) {
        let Counts { accepted, completed, failed, handed_over, left } = inner.template.backlog.counts();
        if accepted == 0 {
            return;
        }
        (inner.spec.on_drained)(&DrainRecord {
            plugin: inner.template.name.clone(),
            digest: inner.digest.clone(),
            reason: self.reason,
            accepted,
            completed,
            failed,
            handed_over,
            left,
            at_stop: drain.map_or(0, |drain| drain.at_stop),
            budget: drain.map_or(Duration::ZERO, |drain| drain.budget),
            took: drain.map_or(Duration::ZERO, |drain| drain.took),
        });
    }

    /// Stop everything there is in a pool that has been closed.
    async fn instances(self, inner: &Arc<Inner>, closed: Closed<Slot>) {
        let Closed { idle, mut left, mut starting, gone, mut back } = closed;
        for (number, cause) in gone {
            self.tell_of_dead(inner, number, &cause);
        }
        for slot in idle {
            self.spawn(inner, slot);
        }
        let halt = &inner.template.halt;
        let deadline = self.deadline(inner);
        let mut at_deadline = inner.clock().sleep_until(deadline);
        let mut given_up = inner.clock().sleep_until(deadline + PATIENCE);
        while !left.is_empty() || starting > 0 {
            tokio::select! {
                biased;
                Some(back) = back.recv() => match back {
                    Back::Instance(slot) => self.spawn(inner, slot),
                    Back::Stopped(number) => drop(left.remove(&number)),
                    Back::NotStarted => starting = starting.saturating_sub(1),
                    Back::Gone { number, cause } => {
                        left.remove(&number);
                        self.tell_of_dead(inner, number, &cause);
                    }
                },
                () = &mut at_deadline, if !halt.over.is_cancelled() => halt.over.cancel(),
                () = halt.moved() => {
                    let deadline = self.deadline(inner);
                    at_deadline = inner.clock().sleep_until(deadline);
                    given_up = inner.clock().sleep_until(deadline + PATIENCE);
                }
                () = &mut given_up => break,
            }
        }
        // Whatever is still under way by mistake ends here, too.
        halt.over.cancel();
        let given_up = inner.pool.give_up();
        // One that died in its call a moment ago is not among them any more.
        while let Ok(back) = back.try_recv() {
            if let Back::Gone { number, cause } = back
                && !given_up.contains(&number)
            {
                self.tell_of_dead(inner, number, &cause);
            }
        }
        for number in given_up {
            let error = Some("it did not come to an end".to_owned());
            inner.tell(&self.record(inner, number, StopOutcome::Overran, error));
        }
    }

    /// Stop one instance, in a task of its own. An empty slot has nothing to stop.
    fn spawn(self, inner: &Arc<Inner>, slot: Slot) {
        let Slot { number, instance } = slot;
        let leaving = Leaving { inner: Arc::clone(inner), stop: self, number, told: false };
        let Some(instance) = instance else { return leaving.without_a_word() };
        let span =
            tracing::info_span!("stop", plugin = &*inner.template.name, instance = number, reason = %self.reason);
        inner.tasks.spawn(async move {
            let record = self.instance(&leaving.inner, number, instance).instrument(span).await;
            leaving.tell(&record);
        });
    }

    async fn instance(self, inner: &Inner, number: u64, mut instance: Box<Instance>) -> StopRecord {
        let mut cpu = Duration::ZERO;
        let mut snapshot = Snapshot::None;
        let result = if !instance.has(Hook::Shutdown) {
            None
        } else if inner.template.halt.abandoned() {
            Some(Err(EndCause::Abandoned))
        } else {
            let result = self.shut_down(inner, &mut instance).await;
            cpu = instance.cpu();
            snapshot = inner.settle(number, instance.take_snapshot(), result.is_ok());
            Some(result)
        };
        // The end is when everything the instance held is free again.
        drop(instance);
        let record = match &result {
            None => self.record(inner, number, StopOutcome::NoHook, None),
            Some(Ok(())) => self.record(inner, number, StopOutcome::Completed, None),
            Some(Err(cause)) => self.record(inner, number, outcome(cause), Some(cause.to_string())),
        };
        if let Some(result) = &result {
            let counted = result.as_ref().map_or_else(CallOutcome::from, |()| CallOutcome::Ok);
            inner.spec.tally.record(Hook::Shutdown, counted, cpu, record.took);
        }
        StopRecord { cpu, snapshot, ..record }
    }

    async fn shut_down(self, inner: &Inner, instance: &mut Instance) -> Result<(), EndCause> {
        instance.stopping(self.reason);
        inner.ask_for_snapshot(instance);
        let now = inner.clock().now();
        let deadline = self.deadline(inner);
        let millis = u64::try_from(deadline.since(now).as_millis()).unwrap_or(u64::MAX);
        instance.call_alone(Shutdown(millis), now, deadline).await
    }

    /// An instance that did not survive its last call. Work it held is lost: that is never a clean end.
    fn tell_of_dead(self, inner: &Inner, number: u64, cause: &EndCause) {
        if inner.spec.isolation == Isolation::Warm {
            let error = format!("in its last call: {cause}");
            inner.tell(&self.record(inner, number, outcome(cause), Some(error)));
        }
    }

    fn record(self, inner: &Inner, instance: u64, outcome: StopOutcome, error: Option<String>) -> StopRecord {
        let (now, deadline) = (inner.clock().now(), self.deadline(inner));
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
            snapshot: Snapshot::None,
            deferred_left: inner.template.backlog.claim_left(),
            error,
        }
    }
}

impl Inner {
    fn tell(&self, record: &StopRecord) {
        (self.spec.on_stopped)(record);
    }
}

/// An instance that is being stopped. Its end is told of once, however the task ends that stops it.
struct Leaving {
    inner: Arc<Inner>,
    stop: Stop,
    number: u64,
    told: bool,
}

impl Leaving {
    /// It is gone. The pool hears of that first, so that nobody who counts on hearing of each instance in its list
    /// can have missed one; and once more when it has been told, for a stop that waits for all.
    fn tell(mut self, record: &StopRecord) {
        self.told = true;
        if self.inner.pool.ended(self.number) {
            self.inner.tell(record);
        }
    }

    /// There was nothing to stop.
    fn without_a_word(mut self) {
        self.told = true;
        self.inner.pool.ended(self.number);
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        if !self.told && self.inner.pool.ended(self.number) {
            let error = Some("its stop was given up".to_owned());
            self.inner.tell(&self.stop.record(&self.inner, self.number, StopOutcome::Abandoned, error));
        }
        self.inner.pool.told(self.number);
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
