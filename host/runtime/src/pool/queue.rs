//! Who waits for an instance, the one that has waited the longest first: calls of requests, and the work in the background.
//!
//! Calls are bounded in number, and wait no longer than their wall limit. Work in the background is bounded by its
//! concurrency and takes no call's place, but waits in the same line: neither starves the other.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Idle, Numbered, Pool};
use crate::error::{EndCause, Unavailable};

/// What a waiter gets.
pub(super) enum Grant<T> {
    Instance(Idle<T>),
    Refused(Unavailable),
}

/// Those who wait. One that has given up stays until it is come upon.
pub(super) struct Waiters<T> {
    calls: Line<T>,
    background: Line<T>,
    /// One who waits for an instance that owes a tick. It gets that one before anybody else does.
    ticker: Option<oneshot::Sender<Grant<T>>>,
    joined: u64,
}

/// Each with the number of its arrival.
type Line<T> = VecDeque<(u64, oneshot::Sender<Grant<T>>)>;

impl<T> Default for Waiters<T> {
    fn default() -> Self {
        Self { calls: VecDeque::new(), background: VecDeque::new(), ticker: None, joined: 0 }
    }
}

impl<T> Waiters<T> {
    /// How many calls wait.
    pub(super) fn waiting(&self) -> usize {
        waiting(&self.calls)
    }

    /// How much of the work in the background waits for an instance.
    pub(super) fn in_background(&self) -> usize {
        waiting(&self.background)
    }

    /// Wait with a call behind the others, if fewer than `most` calls do.
    pub(super) fn join(&mut self, most: usize) -> Option<oneshot::Receiver<Grant<T>>> {
        // Waiters that gave up do not take the place of one who would wait.
        if self.calls.len() >= most {
            self.calls.retain(|(_, waiter)| !waiter.is_closed());
        }
        if self.calls.len() >= most {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        self.joined += 1;
        self.calls.push_back((self.joined, sender));
        Some(receiver)
    }

    /// Wait with work in the background behind the others.
    pub(super) fn join_in_background(&mut self) -> oneshot::Receiver<Grant<T>> {
        let (sender, receiver) = oneshot::channel();
        self.joined += 1;
        self.background.retain(|(_, waiter)| !waiter.is_closed());
        self.background.push_back((self.joined, sender));
        receiver
    }

    /// Wait for an instance that owes a tick. There is one who does.
    pub(super) fn join_for_tick(&mut self) -> oneshot::Receiver<Grant<T>> {
        let (sender, receiver) = oneshot::channel();
        self.ticker = Some(sender);
        receiver
    }

    /// Give an instance to whoever waits the longest; it comes back if nobody does.
    pub(super) fn grant(&mut self, mut idle: Idle<T>) -> Option<Idle<T>> {
        loop {
            let arrival = |line: &Line<T>| line.front().map_or(u64::MAX, |(arrival, _)| *arrival);
            let first =
                if arrival(&self.calls) <= arrival(&self.background) { &mut self.calls } else { &mut self.background };
            let Some((_, waiter)) = first.pop_front() else { return Some(idle) };
            idle = give(waiter, idle)?;
        }
    }

    /// Give an instance that owes a tick to the one who waits for it; it comes back if nobody does.
    pub(super) fn grant_tick(&mut self, idle: Idle<T>) -> Option<Idle<T>> {
        match self.ticker.take() {
            Some(ticker) => give(ticker, idle),
            None => Some(idle),
        }
    }

    /// Send the calls away.
    pub(super) fn refuse_calls(&mut self, why: Unavailable) {
        for (_, waiter) in self.calls.drain(..) {
            let _ = waiter.send(Grant::Refused(why));
        }
    }

    /// Send everyone away.
    pub(super) fn refuse(&mut self, why: Unavailable) {
        self.refuse_calls(why);
        for waiter in self.background.drain(..).map(|(_, waiter)| waiter).chain(self.ticker.take()) {
            let _ = waiter.send(Grant::Refused(why));
        }
    }
}

fn waiting<T>(line: &Line<T>) -> usize {
    line.iter().filter(|(_, waiter)| !waiter.is_closed()).count()
}

/// It comes back if the waiter has given up.
fn give<T>(waiter: oneshot::Sender<Grant<T>>, idle: Idle<T>) -> Option<Idle<T>> {
    match waiter.send(Grant::Instance(idle)) {
        Err(Grant::Instance(returned)) => Some(returned),
        Ok(()) | Err(Grant::Refused(_)) => None,
    }
}

/// A place in the queue. Dropping it gives it up; an instance that was on its way goes to the next one.
pub(crate) struct Ticket<T: Numbered> {
    pool: Arc<Pool<T>>,
    receiver: oneshot::Receiver<Grant<T>>,
}

impl<T: Numbered> Ticket<T> {
    pub(super) fn new(pool: Arc<Pool<T>>, receiver: oneshot::Receiver<Grant<T>>) -> Self {
        Self { pool, receiver }
    }

    /// Wait for an instance.
    pub(crate) async fn wait(&mut self) -> Result<T, EndCause> {
        match (&mut self.receiver).await {
            Ok(Grant::Instance(Idle { instance, .. })) => Ok(instance),
            Ok(Grant::Refused(why)) => Err(EndCause::Unavailable(why)),
            // The pool is gone with its plugin.
            Err(_) => Err(EndCause::Unavailable(Unavailable::Stopping)),
        }
    }

    /// What has been granted already.
    #[cfg(test)]
    pub(super) fn try_wait(&mut self) -> Result<Grant<T>, oneshot::error::TryRecvError> {
        self.receiver.try_recv()
    }
}

impl<T: Numbered> Drop for Ticket<T> {
    fn drop(&mut self) {
        self.receiver.close();
        if let Ok(Grant::Instance(Idle { instance, since })) = self.receiver.try_recv() {
            self.pool.unused(instance, since);
        }
    }
}
