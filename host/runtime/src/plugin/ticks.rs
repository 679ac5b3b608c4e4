//! Ticks: `on-tick` in every instance once per period.
//!
//! One task sees to all instances of a plugin, one after the other, so that no more than one of them is busy with a tick. An
//! instance that is in a call has its tick when it comes out, before anybody who waits for an instance. It owes one tick at
//! most: periods that pass meanwhile are not made up for. In fresh isolation there is one call per period, with an instance
//! of its own.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::aside::Aside;
use super::lease::Lease;
use super::{Inner, Slot};
use crate::environment::{Clock, Moment};
use crate::hooks::OnTick;
use crate::limits::Isolation;
use crate::pool::{Acquired, Owing, Pool, Ticket, Urgency};

/// What it takes to tick a plugin without keeping it alive.
struct Ticker {
    plugin: Weak<Inner>,
    pool: Arc<Pool<Slot>>,
    clock: Arc<dyn Clock>,
    /// Cancelled when the plugin's stop begins, or nobody has it any more.
    closing: CancellationToken,
    isolation: Isolation,
    period: Duration,
}

impl Inner {
    /// Begin with the ticks, if there are to be any and they have not begun.
    pub(super) fn start_ticks(self: &Arc<Self>) {
        let Some(period) = self.spec.tick else { return };
        if self.closing.is_cancelled() || !self.pool.wants_ticks() {
            return;
        }
        let ticker = Ticker {
            plugin: Arc::downgrade(self),
            pool: Arc::clone(&self.pool),
            clock: Arc::clone(&self.template.environment.clock),
            closing: self.closing.clone(),
            isolation: self.spec.isolation,
            period,
        };
        let span = tracing::debug_span!("tick", plugin = &*self.template.name);
        self.tasks.spawn(ticker.run().instrument(span));
    }
}

impl Ticker {
    /// Until the plugin is stopped or gone.
    async fn run(self) {
        let mut next = self.clock.now() + self.period;
        loop {
            tokio::select! {
                biased;
                () = self.closing.cancelled() => return,
                () = self.clock.sleep_until(next) => {}
            }
            let now = self.clock.now();
            next = next + self.period;
            if next <= now {
                // Periods were missed.
                next = now + self.period;
            }
            self.pool.owe_ticks();
            self.round(now, next).await;
        }
    }

    /// One tick for each instance that owes one, until the next period begins.
    async fn round(&self, mut now: Moment, next: Moment) {
        while now < next && !self.closing.is_cancelled() && self.pool.background_rests_until(now).is_none() {
            let owing = match self.isolation {
                Isolation::Warm => self.pool.take_owing(),
                Isolation::Fresh => match self.pool.acquire_in_background(now, Urgency::Whenever) {
                    Acquired::Ready(instance) => Some(Owing::Idle { instance, since: now }),
                    Acquired::Queued(ticket) => Some(Owing::Busy(ticket)),
                    Acquired::Refused(_) => None,
                },
            };
            let (slot, since) = match owing {
                Some(Owing::Idle { instance, since }) => (instance, Some(since)),
                Some(Owing::Busy(ticket)) => match self.wait(ticket, next).await {
                    Some(slot) => (slot, None),
                    None => return,
                },
                None => return,
            };
            now = self.clock.now();
            let Some(inner) = self.plugin.upgrade() else {
                return self.pool.unused(slot, now);
            };
            let about = Aside { request: None, ready: now, unused_since: since, payload: None };
            Lease { inner, slot: Some(slot) }.serve_alone(OnTick, about).await;
            if self.isolation == Isolation::Fresh {
                return;
            }
            now = self.clock.now();
        }
    }

    /// An instance that comes out of a call before the next period.
    async fn wait(&self, mut ticket: Ticket<Slot>, next: Moment) -> Option<Slot> {
        tokio::select! {
            biased;
            () = self.closing.cancelled() => None,
            slot = ticket.wait() => slot.ok(),
            () = self.clock.sleep_until(next) => None,
        }
    }
}
