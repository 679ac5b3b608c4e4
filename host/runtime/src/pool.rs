//! Who serves, who waits, and when a replacement comes up: the instances of one plugin, as a state machine.
//!
//! Nothing here runs a guest, reads a clock or spawns a task; [`crate::plugin`] does, and tells the pool. Every
//! instance is in exactly one place: idle in the pool, handed to a waiter, out with a caller who gives it back
//! (`release`) or says that it is gone (`retire`), or out with someone who stops it (from `recycle`, `surplus` or
//! `close` on, until `ended` and `told`). Those that serve are at most `max`, and so are those that are stopped one at a
//! time: that is what an engine's slots are reserved for.
//!
//! A pool is held to begin with: instances can be prepared in it and calls can wait, but nobody gets an instance before
//! it is opened. Before it is closed it may drain: calls are refused, but work in the background goes on.

mod background;
mod breaker;
#[cfg(test)]
mod exploration;
mod queue;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::contract::Hook;
use crate::environment::Moment;
use crate::error::{EndCause, Unavailable};
use crate::stats::InstanceCounts;
use crate::sync::Mutex;
use background::Background;
use breaker::Breaker;
use queue::Waiters;

pub(crate) use background::{Owing, Urgency};
pub(crate) use queue::Ticket;

/// What the pool has to know of an instance.
pub(crate) trait Numbered {
    /// The number it was started with.
    fn number(&self) -> u64;
}

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
    /// Set until the pool is opened.
    held: bool,
    /// The one that was used last serves next, so that those beyond what the load needs stay unused. They are in front.
    idle: VecDeque<Idle<T>>,
    /// Numbers of all that serve, idle or out.
    live: BTreeSet<u64>,
    /// Numbers of those that are being stopped.
    stopping: BTreeMap<u64, Ending>,
    starting: usize,
    /// Whether somebody watches over the surplus.
    watched: bool,
    waiters: Waiters<T>,
    breaker: Breaker,
    /// What is only about work in the background.
    background: Background,
    /// Tells whoever watches over the plugin what the breaker says.
    health: watch::Sender<Health>,
    next_number: u64,
    /// Set when the pool drains: those that have died since.
    draining: Option<Vec<(u64, EndCause)>>,
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

/// An instance that nobody uses.
struct Idle<T> {
    instance: T,
    since: Moment,
}

/// How far the stop of an instance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// It lives.
    Running,
    /// It is gone; its end is being told.
    Over,
}

/// What became of an instance that was not idle when the pool was closed.
pub(crate) enum Back<T> {
    /// Its call is over.
    Instance(T),
    /// It did not survive its call.
    Gone { number: u64, cause: EndCause },
    /// It has been stopped, and that has been told.
    Stopped(u64),
    /// One that was being made is not there after all.
    NotStarted,
}

/// What a caller of `acquire` gets.
pub(crate) enum Acquired<T: Numbered> {
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

/// What is beyond `min`.
pub(crate) enum Surplus<T> {
    /// An instance that has been unused for long enough, to be stopped.
    Stop(T),
    /// None now; worth asking again at this moment.
    AskAt(Moment),
    /// Nothing, and nobody needs to watch until [`Pool::wants_watch`] says so again.
    None,
}

/// A closed pool's instances.
pub(crate) struct Closed<T> {
    /// To be stopped.
    pub(crate) idle: Vec<T>,
    /// Numbers of all that have to be accounted for: those that are idle, out, or being stopped already.
    pub(crate) left: BTreeSet<u64>,
    /// How many are being made.
    pub(crate) starting: usize,
    /// Those that have not survived the drain.
    pub(crate) gone: Vec<(u64, EndCause)>,
    /// Where those that are not idle arrive, each until it is gone or stopped.
    pub(crate) back: mpsc::UnboundedReceiver<Back<T>>,
}

impl<T: Numbered> Pool<T> {
    /// `gives_up_at` is the number of faults in a row that make it [`Health::GivenUp`].
    pub(crate) fn new(size: Size, gives_up_at: Option<u32>) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                size,
                held: true,
                idle: VecDeque::with_capacity(size.max.min(1024)),
                live: BTreeSet::new(),
                stopping: BTreeMap::new(),
                starting: 0,
                watched: false,
                waiters: Waiters::default(),
                breaker: Breaker::new(gives_up_at),
                background: Background::default(),
                health: watch::Sender::new(Health::Good),
                next_number: 0,
                draining: None,
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
        if state.closed.is_some() || state.draining.is_some() {
            return Acquired::Refused(EndCause::Unavailable(Unavailable::Stopping));
        }
        if state.breaker.is_open(now) {
            return Acquired::Refused(EndCause::Unavailable(Unavailable::BreakerOpen));
        }
        if !state.held
            && let Some(Idle { instance, .. }) = state.idle.pop_back()
        {
            return Acquired::Ready(instance);
        }
        let most = state.size.queue;
        match state.waiters.join(most) {
            Some(receiver) => Acquired::Queued(Ticket::new(Arc::clone(self), receiver)),
            None => Acquired::Refused(state.overloaded()),
        }
    }

    /// Leave to start an instance, if one is wanted: there are fewer than `min`, or calls wait and there is room.
    /// Ask again until there is none; each must be followed by `started` or `failed_to_start`.
    pub(crate) fn wants_start(&self) -> Option<Start> {
        let mut state = self.state();
        if state.closed.is_some() || state.held {
            return None;
        }
        let coming = state.live.len() + state.starting;
        let wait = state.waiters.waiting() + state.waiters.in_background();
        let wanted = match &state.draining {
            None => coming < state.size.min || (coming < state.size.max && wait > state.starting),
            // Whatever has died is replaced as far as there is still work for it.
            Some(_) => coming < wait.min(state.size.max),
        };
        // A plugin that keeps failing is tried with one instance at a time.
        if !wanted || (state.breaker.has_tripped() && state.starting > 0) {
            return None;
        }
        Some(state.start())
    }

    /// Leave to prepare an instance while the pool is held, up to `min`. Each must be followed as one of `wants_start`,
    /// or by `not_started`.
    pub(crate) fn may_prepare(&self) -> Option<Start> {
        let mut state = self.state();
        let room = state.live.len() + state.starting < state.size.min;
        (state.held && state.closed.is_none() && room).then(|| state.start())
    }

    /// Take out an instance that was prepared but is not needed, to be stopped.
    pub(crate) fn spare(&self) -> Option<T> {
        let mut state = self.state();
        if !state.held {
            return None;
        }
        let spare = state.idle.pop_front()?;
        if state.take_out(spare.instance.number()) {
            return Some(spare.instance);
        }
        state.idle.push_front(spare);
        None
    }

    /// Let calls in; those that wait get what there is. Ask `wants_start` after it.
    pub(crate) fn open(&self) {
        let mut state = self.state();
        if std::mem::take(&mut state.held) && state.closed.is_none() {
            for Idle { instance, since } in std::mem::take(&mut state.idle) {
                state.hand_out(instance, since);
            }
        }
    }

    pub(crate) fn is_held(&self) -> bool {
        let state = self.state();
        state.held && state.closed.is_none()
    }

    /// A started instance is ready. Handed back if the pool has been closed meanwhile; `failed_to_start` is to follow when
    /// nothing is left of it.
    pub(crate) fn started(&self, instance: T, now: Moment) -> Option<T> {
        let mut state = self.state();
        if state.closed.is_some() {
            return Some(instance);
        }
        state.starting = state.starting.saturating_sub(1);
        state.live.insert(instance.number());
        state.hand_out(instance, now);
        None
    }

    /// An instance could not be started.
    pub(crate) fn failed_to_start(&self, now: Moment) {
        let mut state = self.state();
        state.starting = state.starting.saturating_sub(1);
        match &state.closed {
            None => state.fault(Hook::Configure, now),
            Some(closed) => drop(closed.send(Back::NotStarted)),
        }
    }

    /// An instance was not started, for no fault of its own.
    pub(crate) fn not_started(&self) {
        let mut state = self.state();
        state.starting = state.starting.saturating_sub(1);
        if let Some(closed) = &state.closed {
            let _ = closed.send(Back::NotStarted);
        }
    }

    /// A call of `hook` went well, and its instance is free again. Tells whether `wants_start` should be asked.
    pub(crate) fn release(&self, instance: T, hook: Hook, now: Moment) -> bool {
        let mut state = self.state();
        state.success(hook);
        state.hand_out(instance, now);
        state.draining.is_none() && state.live.len() + state.starting < state.size.min
    }

    /// A call of `hook` went well, but its instance has served its time. Tells whether to stop it: if not, because as many are
    /// being stopped as there may be or because everything is, it is to be released. Ask `wants_start` after a yes.
    pub(crate) fn recycle(&self, number: u64, hook: Hook) -> bool {
        let mut state = self.state();
        state.success(hook);
        state.take_out(number)
    }

    /// Whether somebody has to watch over the surplus, by asking for it again and again. Says yes to one.
    pub(crate) fn wants_watch(&self) -> bool {
        let mut state = self.state();
        let wanted = state.has_surplus() && !state.watched;
        state.watched |= wanted;
        wanted
    }

    /// For the one who watches: an instance beyond `min` that nobody has used for as long as `idle`.
    pub(crate) fn surplus(&self, now: Moment, idle: Duration) -> Surplus<T> {
        let mut state = self.state();
        if !state.has_surplus() {
            state.watched = false;
            return Surplus::None;
        }
        // All are busy, or as many are being stopped as there may be: it may look different when one could be due.
        let later = Surplus::AskAt(now + idle);
        let Some(unused) = state.idle.pop_front() else { return later };
        let due = unused.since + idle;
        if now >= due && state.take_out(unused.instance.number()) {
            return Surplus::Stop(unused.instance);
        }
        state.idle.push_front(unused);
        if now < due { Surplus::AskAt(due) } else { later }
    }

    /// The stop of an instance is over, and nothing is left of it. Tells whether the caller is to tell of its end, and to
    /// say so with `told`; nobody else does. If not, it has been told of as one that was given up on.
    pub(crate) fn ended(&self, number: u64) -> bool {
        match self.state().stopping.get_mut(&number) {
            Some(ending) => std::mem::replace(ending, Ending::Over) == Ending::Running,
            None => false,
        }
    }

    /// The end of an instance has been told of.
    pub(crate) fn told(&self, number: u64) {
        let mut state = self.state();
        state.stopping.remove(&number);
        if let Some(closed) = &state.closed {
            let _ = closed.send(Back::Stopped(number));
        }
    }

    /// An instance is gone; `fault` is the hook whose call counts against the plugin, if it does.
    pub(crate) fn retire(&self, number: u64, cause: EndCause, fault: Option<Hook>, now: Moment) {
        let mut state = self.state();
        state.live.remove(&number);
        if let Some(hook) = fault {
            state.fault(hook, now);
        }
        if let Some(closed) = &state.closed {
            // Nobody listens any more once the stop is over.
            let _ = closed.send(Back::Gone { number, cause });
        } else if let Some(gone) = &mut state.draining {
            gone.push((number, cause));
        }
    }

    /// Refuse calls from now on, while work in the background goes on. Tells whether this is the beginning of the end.
    pub(crate) fn drain(&self) -> bool {
        let mut state = self.state();
        if state.closed.is_some() || state.draining.is_some() {
            return false;
        }
        state.draining = Some(Vec::new());
        state.waiters.refuse_calls(Unavailable::Stopping);
        true
    }

    /// Refuse everyone from now on, and hand over all instances. `None` if that has happened before.
    pub(crate) fn close(&self) -> Option<Closed<T>> {
        let mut state = self.state();
        if state.closed.is_some() {
            return None;
        }
        let left = state.live.iter().chain(state.stopping.keys()).copied().collect();
        let idle: Vec<T> = std::mem::take(&mut state.idle).into_iter().map(|idle| idle.instance).collect();
        for instance in &idle {
            state.mark_stopping(instance.number());
        }
        let (sender, back) = mpsc::unbounded_channel();
        state.closed = Some(sender);
        state.waiters.refuse(Unavailable::Stopping);
        let gone = state.draining.take().unwrap_or_default();
        Some(Closed { idle, left, starting: state.starting, gone, back })
    }

    /// After a stop that did not hear of all: those that are to be told of as given up on. Nobody else does.
    pub(crate) fn give_up(&self) -> BTreeSet<u64> {
        let mut state = self.state();
        let mut left = std::mem::take(&mut state.live);
        left.extend(state.stopping.iter().filter(|(_, ending)| **ending == Ending::Running).map(|(number, _)| *number));
        state.stopping.retain(|_, ending| *ending == Ending::Over);
        left
    }

    /// Numbers of the instances that there are, those that are being stopped included.
    pub(crate) fn numbers(&self) -> Vec<u64> {
        let state = self.state();
        let mut numbers: Vec<u64> = state.live.iter().copied().chain(state.still_stopping()).collect();
        numbers.sort_unstable();
        numbers
    }

    pub(crate) fn counts(&self) -> InstanceCounts {
        let state = self.state();
        let idle = state.idle.len();
        InstanceCounts {
            idle,
            busy: state.live.len().saturating_sub(idle),
            starting: state.starting,
            stopping: state.still_stopping().count(),
            waiting: state.waiters.waiting(),
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

    /// Take back an instance that nobody used since then.
    pub(crate) fn unused(&self, instance: T, since: Moment) {
        self.state().hand_out(instance, since);
    }
}

impl<T: Numbered> State<T> {
    /// Give an instance to whoever waits the longest, or keep it.
    fn hand_out(&mut self, instance: T, since: Moment) {
        if self.closed.is_some() {
            self.mark_stopping(instance.number());
        }
        if let Some(closed) = &self.closed {
            // One that is given up on is told of already when it comes back after all.
            let _ = closed.send(Back::Instance(instance));
        } else if self.held {
            self.idle.push_back(Idle { instance, since });
        } else {
            let idle = self.hand_to_ticker(Idle { instance, since });
            if let Some(unused) = idle.and_then(|idle| self.waiters.grant(idle)) {
                self.put_back(unused);
            }
        }
    }

    /// Keep an instance in its place: the one that was used last is at the back. One that comes from a tick may have been
    /// unused for longer than others.
    fn put_back(&mut self, unused: Idle<T>) {
        let later = self.idle.iter().rev().take_while(|other| other.since > unused.since).count();
        self.idle.insert(self.idle.len().saturating_sub(later), unused);
    }

    fn start(&mut self) -> Start {
        self.starting += 1;
        let number = self.next_number;
        self.next_number += 1;
        Start { number, delay: self.breaker.delay() }
    }

    /// Take an instance that serves out of service, if there is room for one more that is being stopped.
    fn take_out(&mut self, number: u64) -> bool {
        self.closed.is_none() && self.stopping.len() < self.size.max && self.mark_stopping(number)
    }

    fn mark_stopping(&mut self, number: u64) -> bool {
        let served = self.live.remove(&number);
        if served {
            self.stopping.insert(number, Ending::Running);
        }
        served
    }

    fn has_surplus(&self) -> bool {
        self.closed.is_none() && self.live.len() > self.size.min
    }

    fn still_stopping(&self) -> impl Iterator<Item = u64> {
        self.stopping.iter().filter(|(_, ending)| **ending == Ending::Running).map(|(number, _)| *number)
    }

    fn fault(&mut self, hook: Hook, now: Moment) {
        if background::is(hook) {
            return self.background.breaker.fault(hook, now);
        }
        self.breaker.fault(hook, now);
        self.tell_health();
        if self.breaker.is_open(now) {
            self.waiters.refuse_calls(Unavailable::BreakerOpen);
        }
    }

    fn success(&mut self, hook: Hook) {
        if background::is(hook) {
            self.background.breaker.success(hook);
        }
        // The way of every call that ends well: nothing to tell unless something was wrong.
        if self.breaker.success(hook) {
            self.tell_health();
        }
    }

    fn tell_health(&self) {
        let now = self.breaker.health();
        self.health.send_if_modified(|told| std::mem::replace(told, now) != now);
    }

    fn overloaded(&self) -> EndCause {
        EndCause::Overloaded { instances: self.live.len(), waiting: self.waiters.waiting() }
    }
}

#[cfg(test)]
mod tests;
