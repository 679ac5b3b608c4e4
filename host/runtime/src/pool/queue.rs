//! The calls that wait for an instance, the one that has waited the longest first.

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
pub(super) struct Waiters<T>(VecDeque<oneshot::Sender<Grant<T>>>);

impl<T> Default for Waiters<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T> Waiters<T> {
    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.0.iter().filter(|waiter| !waiter.is_closed()).count()
    }

    /// Wait behind the others, if fewer than `most` do.
    pub(super) fn join(&mut self, most: usize) -> Option<oneshot::Receiver<Grant<T>>> {
        // Waiters that gave up do not take the place of one who would wait.
        if self.0.len() >= most {
            self.0.retain(|waiter| !waiter.is_closed());
        }
        if self.0.len() >= most {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        self.0.push_back(sender);
        Some(receiver)
    }

    /// Give an instance to whoever waits the longest; it comes back if nobody does.
    pub(super) fn grant(&mut self, mut idle: Idle<T>) -> Option<Idle<T>> {
        while let Some(waiter) = self.0.pop_front() {
            match waiter.send(Grant::Instance(idle)) {
                Err(Grant::Instance(returned)) => idle = returned,
                Ok(()) | Err(Grant::Refused(_)) => return None,
            }
        }
        Some(idle)
    }

    /// Send everyone away.
    pub(super) fn refuse(&mut self, why: Unavailable) {
        for waiter in self.0.drain(..) {
            let _ = waiter.send(Grant::Refused(why));
        }
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
