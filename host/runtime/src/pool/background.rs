//! What the work that holds up no request needs of the pool: instances for what has been put off, and ticks.
//!
//! Its faults are counted apart. They delay further work of its kind and nothing else: a hook that fails in the background
//! takes no request down, and a request's hook that fails does not hold the background up.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Acquired, Breaker, Idle, Numbered, Pool, State, Ticket};
use crate::contract::Hook;
use crate::environment::Moment;
use crate::error::{EndCause, Unavailable};

/// Whether a hook runs in the background.
pub(super) fn is(hook: Hook) -> bool {
    matches!(hook, Hook::OnDeferred | Hook::OnTick)
}

/// The state of it.
#[derive(Debug, Default)]
pub(super) struct Background {
    pub(super) breaker: Breaker,
    /// Numbers of the instances that owe a tick, the one that has owed it for the longest first. None is in it twice.
    owing: VecDeque<u64>,
    /// Whether somebody sees to the ticks.
    ticked: bool,
}

/// Whether an open breaker is heeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// It is.
    Whenever,
    /// It is not: there will be no other time.
    Last,
}

impl<T: Numbered> Pool<T> {
    /// Take an instance for work in the background, or a place in line.
    pub(crate) fn acquire_in_background(self: &Arc<Self>, now: Moment, urgency: Urgency) -> Acquired<T> {
        let mut state = self.state();
        if state.closed.is_some() {
            return Acquired::Refused(EndCause::Unavailable(Unavailable::Stopping));
        }
        if urgency == Urgency::Whenever && state.background.breaker.is_open(now) {
            return Acquired::Refused(EndCause::Unavailable(Unavailable::BreakerOpen));
        }
        if !state.held
            && let Some(Idle { instance, .. }) = state.idle.pop_back()
        {
            return Acquired::Ready(instance);
        }
        let receiver = state.waiters.join_in_background();
        Acquired::Queued(Ticket::new(Arc::clone(self), receiver))
    }

    /// Until when work in the background is left alone, if it is.
    pub(crate) fn background_rests_until(&self, now: Moment) -> Option<Moment> {
        self.state().background.breaker.open_until().filter(|until| now < *until)
    }

    /// Whether somebody has to see to the ticks. Says yes to one.
    pub(crate) fn wants_ticks(&self) -> bool {
        !std::mem::replace(&mut self.state().background.ticked, true)
    }

    /// A period is over: every instance that serves owes a tick. One that owes one already owes no second.
    pub(crate) fn owe_ticks(&self) {
        let mut state = self.state();
        let State { live, background, .. } = &mut *state;
        background.owing.retain(|number| live.contains(number));
        let more: Vec<u64> = live.iter().copied().filter(|number| !background.owing.contains(number)).collect();
        background.owing.extend(more);
    }

    /// Take an instance that owes a tick: the one that has owed it for the longest, of those that are idle; or the first
    /// that becomes free. `None` if none owes one, or ticks have ended.
    pub(crate) fn take_owing(self: &Arc<Self>) -> Option<Owing<T>> {
        let mut state = self.state();
        if state.closed.is_some() || state.draining.is_some() || state.held {
            return None;
        }
        let State { live, idle, background, waiters, .. } = &mut *state;
        background.owing.retain(|number| live.contains(number));
        let place = |number: &u64| idle.iter().position(|idle| idle.instance.number() == *number);
        if let Some(place) = background.owing.iter().find_map(place) {
            let taken = idle.remove(place)?;
            background.owing.retain(|number| *number != taken.instance.number());
            return Some(Owing::Idle { instance: taken.instance, since: taken.since });
        }
        if background.owing.is_empty() {
            return None;
        }
        let receiver = waiters.join_for_tick();
        Some(Owing::Busy(Ticket::new(Arc::clone(self), receiver)))
    }
}

/// An instance that owes a tick.
pub(crate) enum Owing<T: Numbered> {
    /// Here it is. Nobody has used it since then.
    Idle { instance: T, since: Moment },
    /// All of them are in calls.
    Busy(Ticket<T>),
}

impl<T: Numbered> State<T> {
    /// Give an instance to the one who waits for its tick; it comes back if it owes none, or nobody waits.
    pub(super) fn hand_to_ticker(&mut self, idle: Idle<T>) -> Option<Idle<T>> {
        let owing = &mut self.background.owing;
        // Empty for nearly every call.
        let Some(place) = owing.iter().position(|number| *number == idle.instance.number()) else { return Some(idle) };
        let back = self.waiters.grant_tick(idle);
        if back.is_none() {
            owing.remove(place);
        }
        back
    }
}
