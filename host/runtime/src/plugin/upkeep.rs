//! Instances that come and go while their plugin serves: started when the pool wants more of them, stopped when the load
//! no longer needs them. (How one is stopped is in `stopping`.)

use std::sync::{Arc, Weak};
use std::time::Duration;

use tracing::Instrument;

use super::{Inner, Slot};
use crate::environment::Sleep;
use crate::host::Inheritance;
use crate::pool::{Start, Surplus};
use crate::stop::StopReason;

/// The shortest time between two looks at the surplus, so that looking costs nothing whatever `idle` is.
const SHORTEST_IDLE: Duration = Duration::from_millis(1);

impl Inner {
    /// Start the instances the pool wants, each in the background after its delay.
    pub(super) fn start_wanted(self: &Arc<Self>) {
        while let Some(start) = self.pool.wants_start() {
            let inner = Arc::clone(self);
            let span = tracing::info_span!("start", plugin = &*inner.template.name, instance = start.number);
            self.tasks.spawn(async move { inner.start_one(start).await }.instrument(span));
        }
    }

    /// Start one instance, again and again with the pool's delays until it works or nothing is started any more.
    async fn start_one(self: Arc<Self>, mut start: Start) {
        loop {
            let work = async {
                if !start.delay.is_zero() {
                    self.clock().sleep_until(self.clock().now() + start.delay).await;
                }
                self.slot(start.number, Inheritance::new()).await
            };
            let made = tokio::select! {
                biased;
                () = self.drained.cancelled() => None,
                () = self.template.halt.over.cancelled() => None,
                made = work => Some(made),
            };
            match made {
                None => return self.pool.failed_to_start(self.clock().now()),
                Some(Ok(slot)) => {
                    self.started(slot);
                    return;
                }
                Some(Err(cause)) => {
                    tracing::warn!(cause = cause.as_str(), "instance could not be started: {cause}");
                    self.pool.failed_to_start(self.clock().now());
                    let Some(again) = self.pool.wants_start() else { return };
                    start = again;
                }
            }
        }
    }

    /// An instance is up. If the plugin is being stopped by now, it is let go: it has never served. Tells whether
    /// it serves.
    pub(super) fn started(self: &Arc<Self>, slot: Slot) -> bool {
        if let Some(slot) = self.pool.started(slot, self.clock().now()) {
            drop(slot);
            self.pool.failed_to_start(self.clock().now());
            return false;
        }
        if self.pool.wants_watch() {
            let span = tracing::debug_span!("surplus", plugin = &*self.template.name);
            let closing = self.closing.clone().cancelled_owned();
            let watch = watch(Arc::downgrade(self));
            self.tasks.spawn(
                async move {
                    tokio::select! {
                        biased;
                        () = closing => {}
                        () = watch => {}
                    }
                }
                .instrument(span),
            );
        }
        true
    }

    /// Say so if an instance that has served nothing is due for recycling: each would serve one call.
    pub(super) fn warn_if_due(&self, slot: &Slot) {
        let Some(memory) = slot.instance.as_ref().map(|instance| instance.memory()) else { return };
        if self.spec.recycle.is_due(0, memory) {
            tracing::warn!(
                plugin = &*self.template.name,
                instance = slot.number,
                memory,
                limit = self.spec.recycle.memory,
                "an instance has as much memory before its first call as it is recycled at: each serves one call"
            );
        }
    }

    /// Stop the instances that have been idle for long enough. The sleep until the next look, if there has to be one.
    fn scale_in(self: &Arc<Self>) -> Option<Sleep> {
        let idle = self.spec.instances.idle.max(SHORTEST_IDLE);
        loop {
            match self.pool.surplus(self.clock().now(), idle) {
                Surplus::Stop(slot) => self.stop_one(slot, StopReason::ScaleIn),
                Surplus::AskAt(moment) => return Some(self.clock().sleep_until(moment)),
                Surplus::None => return None,
            }
        }
    }
}

/// Watch over the surplus of a plugin for as long as it has one, without keeping the plugin alive.
async fn watch(plugin: Weak<Inner>) {
    while let Some(sleep) = plugin.upgrade().and_then(|inner| inner.scale_in()) {
        sleep.await;
    }
}
