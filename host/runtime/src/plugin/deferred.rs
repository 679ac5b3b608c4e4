//! Work that a plugin has put off: what waits for it, and the tasks that work it off.
//!
//! A payload is in exactly one place: in the queue, in a call, or counted (`completed`, `failed`, `handed_over`, `left`). It
//! is taken out of the queue only when there is an instance for it, so nothing is lost with a task that waits for one.
//! There is no task while the queue is empty.

use std::collections::VecDeque;
use std::sync::{Arc, MutexGuard, OnceLock, PoisonError, Weak};

use tokio::sync::Notify;
use tracing::Instrument;

use super::Inner;
use super::aside::Aside;
use super::lease::Lease;
use crate::contract::{Hook, Hooks};
use crate::error::{EndCause, Unavailable};
use crate::hooks::OnDeferred;
use crate::limits::Deferred;
use crate::pool::{Acquired, Urgency};
use crate::stats::{DeferredCounts, DeferredOutcome, Tally};
use crate::sync::Mutex;

/// Why a payload was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotDeferred {
    /// As many wait as there may, or as many bytes.
    QueueFull,
    /// It is longer than the queue may ever hold.
    TooLarge,
    /// The plugin is being stopped.
    Stopping,
    /// The plugin has no `on-deferred`.
    NoHook,
}

/// What one life of a plugin has put off. Shared by its instances.
pub(crate) struct Backlog {
    bounds: Deferred,
    has_hook: bool,
    tally: Tally,
    /// Set once, when the plugin is there: who works it off.
    plugin: OnceLock<Weak<Inner>>,
    state: Mutex<State>,
    /// Told when a payload is done or the queue has become empty. For the one stop that waits for it.
    changed: Notify,
}

struct State {
    stage: Stage,
    waiting: VecDeque<Payload>,
    bytes: usize,
    /// Payloads in calls.
    running: usize,
    /// Tasks that work on it, those that wait for an instance included.
    workers: usize,
    counts: Counts,
    /// What is left, until it stands with an instance's record.
    unclaimed: u64,
}

/// What has become of payloads so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) accepted: u64,
    pub(super) completed: u64,
    pub(super) failed: u64,
    pub(super) handed_over: u64,
    pub(super) left: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Payloads are taken.
    Open,
    /// None is taken any more; those that wait are worked off.
    Stopping,
}

/// What is to be worked on, and the request that put it off.
struct Payload {
    bytes: Vec<u8>,
    request: Option<Arc<str>>,
}

impl Backlog {
    /// Of a plugin that exports these hooks.
    pub(crate) fn new(bounds: Deferred, hooks: Hooks, tally: Tally) -> Arc<Self> {
        Arc::new(Self {
            bounds,
            has_hook: hooks.contains(Hook::OnDeferred),
            tally,
            plugin: OnceLock::new(),
            state: Mutex::new(State {
                stage: Stage::Open,
                waiting: VecDeque::new(),
                bytes: 0,
                running: 0,
                workers: 0,
                counts: Counts::default(),
                unclaimed: 0,
            }),
            changed: Notify::new(),
        })
    }

    /// From here on this plugin works it off.
    pub(super) fn belongs_to(&self, plugin: &Arc<Inner>) {
        // A plugin begins once.
        let _ = self.plugin.set(Arc::downgrade(plugin));
    }

    // No method panics between two changes that belong together.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether payloads can ever be in it.
    pub(super) fn has_hook(&self) -> bool {
        self.has_hook
    }

    /// Put a payload off, for this request.
    pub(crate) fn defer(&self, payload: Vec<u8>, request: Option<Arc<str>>) -> Result<(), NotDeferred> {
        let taken = self.push(Payload { bytes: payload, request });
        match taken {
            Err(_) => self.tally.count_deferred(DeferredOutcome::Refused, 1),
            Ok(()) => {
                if let Some(plugin) = self.plugin.get().and_then(Weak::upgrade) {
                    plugin.work_off();
                }
            }
        }
        taken
    }

    fn push(&self, payload: Payload) -> Result<(), NotDeferred> {
        if !self.has_hook {
            return Err(NotDeferred::NoHook);
        }
        let mut state = self.state();
        if state.stage == Stage::Stopping {
            return Err(NotDeferred::Stopping);
        }
        state.push(payload, &self.bounds).map_err(|(why, _)| why)
    }

    /// Let the next version of the plugin have what waits, as far as it takes it.
    pub(super) fn hand_over_to(&self, heir: &Self) {
        if !heir.has_hook {
            return;
        }
        let waiting = {
            let mut state = self.state();
            state.bytes = 0;
            std::mem::take(&mut state.waiting)
        };
        let (mut taken, mut rest) = (0, VecDeque::new());
        {
            let mut state = heir.state();
            for payload in waiting {
                let back = match state.stage {
                    // In order: none goes ahead of one that stays.
                    Stage::Open if rest.is_empty() => state.push(payload, &heir.bounds).err().map(|(_, back)| back),
                    Stage::Open | Stage::Stopping => Some(payload),
                };
                match back {
                    Some(payload) => rest.push_back(payload),
                    None => taken += 1,
                }
            }
        }
        let mut state = self.state();
        state.counts.handed_over += taken;
        state.bytes = rest.iter().map(|payload| payload.bytes.len()).sum();
        state.waiting = rest;
        drop(state);
        if let Some(plugin) = heir.plugin.get().and_then(Weak::upgrade) {
            plugin.work_off();
        }
    }

    /// Leave to work on it, if there is more to do than there are tasks for.
    fn worker(self: &Arc<Self>) -> Option<Worker> {
        let mut state = self.state();
        let looking = state.workers.saturating_sub(state.running);
        if state.workers >= self.bounds.concurrency || looking >= state.waiting.len() {
            return None;
        }
        state.workers += 1;
        Some(Worker { backlog: Arc::clone(self), has_left: false })
    }

    /// Take no more payloads. Tells how many wait or are being worked on.
    pub(super) fn stop(&self) -> u64 {
        let mut state = self.state();
        state.stage = Stage::Stopping;
        (state.waiting.len() + state.running) as u64
    }

    /// Whether nothing waits and nothing is being worked on.
    pub(super) fn is_dry(&self) -> bool {
        let state = self.state();
        state.waiting.is_empty() && state.running == 0
    }

    /// Wait until something has changed since the last wait. For one who waits.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Drop what waits. Tells how many payloads that were.
    pub(super) fn give_up(&self) -> u64 {
        let mut state = self.state();
        state.stage = Stage::Stopping;
        let left = std::mem::take(&mut state.waiting).len() as u64;
        state.bytes = 0;
        state.counts.left += left;
        state.unclaimed += left;
        self.tally.count_deferred(DeferredOutcome::Left, left);
        left
    }

    /// What was left, if nobody has asked for it yet.
    pub(super) fn claim_left(&self) -> u64 {
        std::mem::take(&mut self.state().unclaimed)
    }

    pub(super) fn counts(&self) -> Counts {
        self.state().counts
    }

    pub(super) fn waiting(&self) -> DeferredCounts {
        let state = self.state();
        DeferredCounts { waiting: state.waiting.len(), bytes: state.bytes, running: state.running }
    }
}

impl State {
    /// Take a payload whole, or give it back.
    fn push(&mut self, payload: Payload, bounds: &Deferred) -> Result<(), (NotDeferred, Payload)> {
        let length = payload.bytes.len();
        if length > bounds.bytes {
            return Err((NotDeferred::TooLarge, payload));
        }
        if self.waiting.len() >= bounds.queue || length > bounds.bytes.saturating_sub(self.bytes) {
            return Err((NotDeferred::QueueFull, payload));
        }
        self.bytes += length;
        self.counts.accepted += 1;
        self.waiting.push_back(payload);
        Ok(())
    }
}

/// A place among those who work on it, until it is dropped.
struct Worker {
    backlog: Arc<Backlog>,
    has_left: bool,
}

impl Worker {
    /// Whether anything waits. If nothing does, the place is given up in the same step: whoever puts something off from then
    /// on finds that somebody has to be sent.
    fn stays(&mut self) -> bool {
        let mut state = self.backlog.state();
        self.has_left = state.waiting.is_empty();
        state.workers -= usize::from(self.has_left);
        !self.has_left
    }

    /// The payload that has waited the longest.
    fn take(&self) -> Option<(Payload, Running)> {
        let mut state = self.backlog.state();
        let payload = state.waiting.pop_front()?;
        state.bytes = state.bytes.saturating_sub(payload.bytes.len());
        state.running += 1;
        let running = Running { backlog: Arc::clone(&self.backlog), outcome: DeferredOutcome::Failed };
        Some((payload, running))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if !self.has_left {
            let mut state = self.backlog.state();
            state.workers = state.workers.saturating_sub(1);
        }
    }
}

/// A payload in a call. Dropped without a word, it has failed.
pub(super) struct Running {
    backlog: Arc<Backlog>,
    outcome: DeferredOutcome,
}

impl Running {
    /// `on-deferred` has returned ok.
    pub(super) fn completed(mut self) {
        self.outcome = DeferredOutcome::Completed;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut state = self.backlog.state();
        state.running = state.running.saturating_sub(1);
        match self.outcome {
            DeferredOutcome::Completed => state.counts.completed += 1,
            _ => state.counts.failed += 1,
        }
        drop(state);
        self.backlog.tally.count_deferred(self.outcome, 1);
        self.backlog.changed.notify_one();
    }
}

impl Inner {
    /// See to it that what waits is worked off. Not in a pool that is held: it is seen to when calls are let in.
    pub(super) fn work_off(self: &Arc<Self>) {
        if self.pool.is_held() {
            return;
        }
        while let Some(worker) = self.template.backlog.worker() {
            let span = tracing::debug_span!("deferred", plugin = &*self.template.name);
            self.tasks.spawn(Arc::clone(self).work(worker).instrument(span));
        }
    }

    /// Work off one payload after the other, each with an instance that is acquired for it, until none waits.
    async fn work(self: Arc<Self>, mut worker: Worker) {
        while worker.stays() {
            let now = self.clock().now();
            let urgency = if self.closing.is_cancelled() { Urgency::Last } else { Urgency::Whenever };
            let acquired = match self.pool.acquire_in_background(now, urgency) {
                Acquired::Ready(slot) => Ok((slot, now)),
                Acquired::Refused(cause) => Err(cause),
                Acquired::Queued(mut ticket) => {
                    self.start_wanted();
                    ticket.wait().await.map(|slot| (slot, self.clock().now()))
                }
            };
            match acquired {
                Ok((slot, ready)) => {
                    let Some((payload, running)) = worker.take() else {
                        self.pool.unused(slot, ready);
                        continue;
                    };
                    let lease = Lease { inner: Arc::clone(&self), slot: Some(slot) };
                    let Payload { bytes, request } = payload;
                    let about = Aside { request, ready, unused_since: None, payload: Some(running) };
                    lease.serve_alone(OnDeferred(bytes), about).await;
                    // Short calls never wait for anything: other tasks of this thread have their turn between them.
                    tokio::task::yield_now().await;
                }
                Err(EndCause::Unavailable(Unavailable::BreakerOpen)) => self.rest().await,
                // The pool has been closed. What still waits is counted by the stop.
                Err(_) => return,
            }
        }
    }

    /// Leave the plugin alone for as long as its failures in the background ask for, but not in a stop.
    pub(super) async fn rest(&self) {
        let now = self.clock().now();
        let Some(until) = self.pool.background_rests_until(now) else { return };
        tracing::warn!(
            plugin = &*self.template.name,
            rest = ?until.since(now),
            "work in the background rests: it has failed too often in a row"
        );
        tokio::select! {
            biased;
            () = self.closing.cancelled() => {}
            () = self.clock().sleep_until(until) => {}
        }
    }
}
