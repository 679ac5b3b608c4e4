//! Who serves, who waits, and when a replacement comes up: the instances of one plugin, as a state machine.
//!
//! Nothing here runs a guest, reads a clock or spawns a task; [`crate::plugin`] does, and tells the pool. Every
//! instance is in exactly one place: idle in the pool, handed to a waiter, or out with a caller who gives it back
//! (`release`) or says that it is gone (`retire`).

mod breaker;

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use crate::environment::Moment;
use crate::error::{EndCause, Unavailable};
use crate::stats::InstanceCounts;
use breaker::Breaker;

/// How many instances there may be and how many calls may wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) min: usize,
    pub(crate) max: usize,
    pub(crate) queue: usize,
}

/// The pool of one plugin. `T` is an instance.
pub(crate) struct Pool<T> {
    state: Mutex<State<T>>,
}

struct State<T> {
    size: Size,
    idle: Vec<T>,
    /// Numbers of all live instances, idle or out.
    live: BTreeSet<u64>,
    starting: usize,
    waiters: VecDeque<oneshot::Sender<Grant<T>>>,
    breaker: Breaker,
    /// Tells whoever watches over the plugin what the breaker says.
    health: watch::Sender<Health>,
    next_number: u64,
    /// Set when the pool is closed: instances that are out go here instead of back.
    closed: Option<mpsc::UnboundedSender<Back<T>>>,
}

/// How a plugin does, as the faults of its calls and starts in a row have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// It serves.
    Good,
    /// The breaker has opened, and no call has ended well since.
    Tripped,
    /// It has gone on failing until its [`crate::PluginSpec::gives_up_at`]: trying again is for somebody to decide.
    GivenUp,
}

/// What a waiter gets.
enum Grant<T> {
    Instance(T),
    Refused(Unavailable),
}

/// An instance that was out when the pool was closed.
pub(crate) enum Back<T> {
    /// Its call is over.
    Instance(T),
    /// It did not survive its call.
    Gone { number: u64, cause: EndCause },
}

/// What a caller of `acquire` gets.
pub(crate) enum Acquired<T> {
    /// An instance, at once.
    Ready(T),
    /// A place in the queue.
    Queued(Ticket<T>),
    /// Neither.
    Refused(EndCause),
}

/// Leave to start one instance.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Start {
    /// The number the new instance will have.
    pub(crate) number: u64,
    /// How long to wait first.
    pub(crate) delay: Duration,
}

/// A closed pool's instances.
pub(crate) struct Closed<T> {
    pub(crate) idle: Vec<T>,
    /// Numbers of those that are out.
    pub(crate) out: BTreeSet<u64>,
    /// Where they arrive.
    pub(crate) back: mpsc::UnboundedReceiver<Back<T>>,
}

impl<T> Pool<T> {
    /// `gives_up_at` is the number of faults in a row that make it [`Health::GivenUp`].
    pub(crate) fn new(size: Size, gives_up_at: Option<u32>) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                size,
                idle: Vec::with_capacity(size.max.min(1024)),
                live: BTreeSet::new(),
                starting: 0,
                waiters: VecDeque::new(),
                breaker: Breaker::new(gives_up_at),
                health: watch::Sender::new(Health::Good),
                next_number: 0,
                closed: None,
            }),
        })
    }

    // No method panics between two changes that belong together.
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Take an instance, or a place in the queue.
    pub(crate) fn acquire(self: &Arc<Self>, now: Moment) -> Acquired<T> {
        let mut state = self.state();
        if state.closed.is_some() {
            return Acquired::Refused(EndCause::Unavailable(Unavailable::Stopping));
        }
        if state.breaker.is_open(now) {
            return Acquired::Refused(EndCause::Unavailable(Unavailable::BreakerOpen));
        }
        if let Some(instance) = state.idle.pop() {
            return Acquired::Ready(instance);
        }
        // Waiters that gave up do not take the place of one who would wait.
        if state.waiters.len() >= state.size.queue {
            state.waiters.retain(|waiter| !waiter.is_closed());
        }
        if state.waiters.len() >= state.size.queue {
            return Acquired::Refused(state.overloaded());
        }
        let (sender, receiver) = oneshot::channel();
        state.waiters.push_back(sender);
        Acquired::Queued(Ticket { pool: Arc::clone(self), receiver })
    }

    /// Leave to start an instance, if one is wanted: there are fewer than `min`, or calls wait and there is room.
    /// Ask again until there is none; each must be followed by `started` or `failed_to_start`.
    pub(crate) fn wants_start(&self) -> Option<Start> {
        let mut state = self.state();
        if state.closed.is_some() {
            return None;
        }
        let coming = state.live.len() + state.starting;
        let waiting = state.waiters.iter().filter(|waiter| !waiter.is_closed()).count();
        let wanted = coming < state.size.min || (coming < state.size.max && waiting > state.starting);
        // A plugin that keeps failing is tried with one instance at a time.
        if !wanted || (state.breaker.has_tripped() && state.starting > 0) {
            return None;
        }
        state.starting += 1;
        let number = state.next_number;
        state.next_number += 1;
        Some(Start { number, delay: state.breaker.delay() })
    }

    /// A started instance is ready. Handed back if the pool has been closed meanwhile.
    pub(crate) fn started(&self, number: u64, instance: T) -> Option<T> {
        let mut state = self.state();
        state.starting = state.starting.saturating_sub(1);
        if state.closed.is_some() {
            return Some(instance);
        }
        state.live.insert(number);
        state.hand_out(instance);
        None
    }

    /// An instance could not be started.
    pub(crate) fn failed_to_start(&self, now: Moment) {
        let mut state = self.state();
        state.starting = state.starting.saturating_sub(1);
        state.fault(now);
    }

    /// A call went well, and its instance is free again. Tells whether `wants_start` should be asked.
    pub(crate) fn release(&self, instance: T) -> bool {
        let mut state = self.state();
        state.success();
        state.hand_out(instance);
        state.live.len() + state.starting < state.size.min
    }

    /// An instance is gone; `fault` tells whether that counts against the plugin.
    pub(crate) fn retire(&self, number: u64, cause: EndCause, fault: bool, now: Moment) {
        let mut state = self.state();
        state.live.remove(&number);
        if fault {
            state.fault(now);
        }
        if let Some(closed) = &state.closed {
            // Nobody listens any more once the stop is over.
            let _ = closed.send(Back::Gone { number, cause });
        }
    }

    /// Refuse everyone from now on, and hand over all instances. `None` if that has happened before.
    pub(crate) fn close(&self) -> Option<Closed<T>> {
        let mut state = self.state();
        if state.closed.is_some() {
            return None;
        }
        let (sender, back) = mpsc::unbounded_channel();
        state.closed = Some(sender);
        state.refuse_waiters(Unavailable::Stopping);
        Some(Closed { idle: std::mem::take(&mut state.idle), out: state.live.clone(), back })
    }

    /// Numbers of the live instances.
    pub(crate) fn live(&self) -> Vec<u64> {
        self.state().live.iter().copied().collect()
    }

    pub(crate) fn counts(&self) -> InstanceCounts {
        let state = self.state();
        let idle = state.idle.len();
        InstanceCounts {
            idle,
            busy: state.live.len().saturating_sub(idle),
            starting: state.starting,
            waiting: state.waiters.iter().filter(|waiter| !waiter.is_closed()).count(),
        }
    }

    /// Whether the breaker is open.
    pub(crate) fn breaker_is_open(&self, now: Moment) -> bool {
        self.state().breaker.is_open(now)
    }

    /// How the plugin does, and every change of that.
    pub(crate) fn health(&self) -> watch::Receiver<Health> {
        self.state().health.subscribe()
    }

    /// What a caller is told who waited in vain.
    pub(crate) fn overloaded(&self) -> EndCause {
        self.state().overloaded()
    }

    /// Take back an instance that nobody used.
    pub(crate) fn unused(&self, instance: T) {
        self.state().hand_out(instance);
    }
}

impl<T> State<T> {
    /// Give an instance to whoever waits the longest, or keep it.
    fn hand_out(&mut self, mut instance: T) {
        if let Some(closed) = &self.closed {
            let _ = closed.send(Back::Instance(instance));
            return;
        }
        while let Some(waiter) = self.waiters.pop_front() {
            match waiter.send(Grant::Instance(instance)) {
                Ok(()) => return,
                Err(Grant::Instance(returned)) => instance = returned,
                Err(Grant::Refused(_)) => return,
            }
        }
        self.idle.push(instance);
    }

    fn fault(&mut self, now: Moment) {
        self.breaker.fault(now);
        self.tell_health();
        if self.breaker.is_open(now) {
            self.refuse_waiters(Unavailable::BreakerOpen);
        }
    }

    fn success(&mut self) {
        // The way of every call that ends well: nothing to tell unless something was wrong.
        if self.breaker.success() {
            self.tell_health();
        }
    }

    fn tell_health(&self) {
        let now = self.breaker.health();
        self.health.send_if_modified(|told| std::mem::replace(told, now) != now);
    }

    fn refuse_waiters(&mut self, why: Unavailable) {
        for waiter in self.waiters.drain(..) {
            let _ = waiter.send(Grant::Refused(why));
        }
    }

    fn overloaded(&self) -> EndCause {
        EndCause::Overloaded { instances: self.live.len(), waiting: self.waiters.len() }
    }
}

/// A place in the queue. Dropping it gives it up; an instance that was on its way goes to the next one.
pub(crate) struct Ticket<T> {
    pool: Arc<Pool<T>>,
    receiver: oneshot::Receiver<Grant<T>>,
}

impl<T> Ticket<T> {
    /// Wait for an instance.
    pub(crate) async fn wait(&mut self) -> Result<T, EndCause> {
        match (&mut self.receiver).await {
            Ok(Grant::Instance(instance)) => Ok(instance),
            Ok(Grant::Refused(why)) => Err(EndCause::Unavailable(why)),
            // The pool is gone with its plugin.
            Err(_) => Err(EndCause::Unavailable(Unavailable::Stopping)),
        }
    }
}

impl<T> Drop for Ticket<T> {
    fn drop(&mut self) {
        self.receiver.close();
        if let Ok(Grant::Instance(instance)) = self.receiver.try_recv() {
            self.pool.unused(instance);
        }
    }
}

#[cfg(test)]
mod tests;
