//! An instance that is out of the pool, and the ways back: free again, stopped because it has served its time, or gone.

use std::sync::Arc;

use super::{Inner, Slot};
use crate::contract::Hook;
use crate::environment::Moment;
use crate::error::EndCause;
use crate::instance::Instance;
use crate::stop::StopReason;

/// An instance that is out. Dropped without a word (a task that is torn down), it is gone.
pub(super) struct Lease {
    pub(super) inner: Arc<Inner>,
    pub(super) slot: Option<Slot>,
}

impl Lease {
    /// A call is over: its instance is free again, unless it has served its time or did not survive.
    pub(super) fn give_back(
        mut self,
        hook: Hook,
        instance: Box<Instance>,
        warm: bool,
        failed: Option<&EndCause>,
        unused_since: Moment,
    ) {
        match failed {
            Some(cause) if cause.retires() => {
                drop(instance);
                self.retire(hook, cause);
            }
            _ if warm && self.inner.spec.recycle.is_due(instance.served(), instance.memory()) => {
                self.recycle(instance, hook, unused_since);
            }
            _ => self.release(warm.then_some(instance), hook, unused_since),
        }
    }

    fn release(mut self, instance: Option<Box<Instance>>, hook: Hook, now: Moment) {
        if let Some(mut slot) = self.slot.take() {
            slot.instance = instance;
            if self.inner.pool.release(slot, hook, now) {
                self.inner.start_wanted();
            }
        }
    }

    /// The instance has served its time. If it cannot go now, it serves on and goes after a later call.
    fn recycle(mut self, instance: Box<Instance>, hook: Hook, now: Moment) {
        match self.slot.take() {
            Some(slot) if self.inner.pool.recycle(slot.number, hook) => {
                self.inner.stop_one(Slot { instance: Some(instance), ..slot }, StopReason::Recycle);
                self.inner.start_wanted();
            }
            slot => {
                self.slot = slot;
                self.release(Some(instance), hook, now);
            }
        }
    }

    /// The instance is gone, for this cause.
    pub(super) fn retire(&mut self, hook: Hook, cause: &EndCause) {
        if let Some(slot) = self.slot.take() {
            tracing::debug!(
                plugin = &*self.inner.template.name,
                instance = slot.number,
                cause = cause.as_str(),
                "instance retired"
            );
            self.inner.spec.tally.retire();
            let fault = (!matches!(cause, EndCause::Abandoned)).then_some(hook);
            self.inner.pool.retire(slot.number, cause.clone(), fault, self.inner.clock().now());
            self.inner.start_wanted();
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Nothing counts against the plugin, so no matter which hook it was.
        self.retire(Hook::OnRequest, &EndCause::Abandoned);
    }
}
