//! The end of a plugin, and of its instances; and the version that comes after it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidegate_runtime::environment::{Clock, Moment};
use tidegate_runtime::{DrainRecord, HandOver, Phase, StopOutcome, StopReason, StopRecord};
use tokio::task::JoinHandle;

use super::Plugin;

/// How a plugin ended.
#[derive(Debug, Clone)]
pub struct Stop {
    /// Each of its instances, in the order of their ends.
    pub instances: Vec<StopRecord>,
    /// The work that it had put off, if it had any.
    pub deferred: Option<DrainRecord>,
    /// The virtual time it took.
    pub took: Duration,
}

impl Stop {
    /// Whether nothing is left to look into: every instance completed, or has no `shutdown`, and no work was left.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let no_work_left = self.deferred.as_ref().is_none_or(|drain| drain.left == 0);
        no_work_left && self.instances.iter().all(|record| record.outcome.is_clean())
    }

    /// The outcomes, in the order of the instances' ends.
    #[must_use]
    pub fn outcomes(&self) -> Vec<StopOutcome> {
        self.instances.iter().map(|record| record.outcome).collect()
    }
}

/// A stop that is under way.
#[derive(Debug)]
pub struct Stopping {
    began: Moment,
    ended: JoinHandle<Moment>,
}

impl Stopping {
    /// Whether it is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.ended.is_finished()
    }
}

/// A version that is taking over.
#[derive(Debug)]
pub struct TakingOver(JoinHandle<HandOver>);

impl Plugin {
    /// Stop it, as a gateway does at SIGTERM with so much time left. It serves nothing any more.
    pub fn stop(&mut self, budget: Duration) -> Stop {
        self.stop_for(StopReason::Terminate, budget)
    }

    /// The same for another reason. The gateway goes on then, and whatever is loaded beside this plugin sees nothing of it.
    pub fn stop_for(&mut self, reason: StopReason, budget: Duration) -> Stop {
        let stopping = self.begin_stop(reason, budget);
        self.finish_stop(stopping)
    }

    /// Begin to stop it, and go on. What happens of it happens within later calls.
    pub fn begin_stop(&mut self, reason: StopReason, budget: Duration) -> Stopping {
        if reason == StopReason::Terminate {
            self.around.runtime.enter(Phase::Stopping);
        }
        let (plugin, clock) = (self.filter.plugin.clone(), self.clock());
        let began = clock.now();
        let ended = self.around.driver.begin(async move {
            plugin.stop(reason, budget).await;
            clock.now()
        });
        Stopping { began, ended }
    }

    /// The end of a stop that was begun. Of several, the first to be finished tells of everything.
    ///
    /// # Panics
    /// If the stop did.
    pub fn finish_stop(&mut self, stopping: Stopping) -> Stop {
        let ended = self.around.driver.run(stopping.ended).unwrap_or_else(|error| panic!("{error}"));
        Stop { instances: self.take_ended(), deferred: self.take_drained(), took: ended.since(stopping.began) }
    }

    /// End everything at once, as a second signal does: what runs on this runtime, and what is being stopped.
    pub fn abandon(&mut self) {
        self.around.runtime.abandon();
        self.settle();
    }

    /// Instances that ended before a stop: recycled, idle for too long, or gone with the version that they were of. Each is
    /// told of once.
    #[must_use]
    pub fn take_ended(&mut self) -> Vec<StopRecord> {
        std::mem::take(&mut *lock(&self.stops))
    }

    /// What became of the work that it had put off, if another version took over from it. Told of once.
    #[must_use]
    pub fn take_drained(&mut self) -> Option<DrainRecord> {
        lock(&self.drains).pop()
    }

    /// Take over from another version, which is stopped for that and has so much time for it, as in a reload: what its
    /// instances leave reaches those of this one. Says what became of it. How the other's instances ended is in its
    /// [`Plugin::take_ended`].
    ///
    /// # Panics
    /// If this plugin was not loaded beside it.
    pub fn take_over(&mut self, older: &Self, budget: Duration) -> HandOver {
        let taking_over = self.begin_take_over(older, budget);
        self.finish_take_over(taking_over)
    }

    /// Begin to take over, and go on: calls to either version wait meanwhile.
    ///
    /// # Panics
    /// As [`Plugin::take_over`].
    pub fn begin_take_over(&mut self, older: &Self, budget: Duration) -> TakingOver {
        let (own, others) = (&self.around.driver, &older.around.driver);
        assert!(Arc::ptr_eq(own, others), "load it beside the other: `Setup::load_beside`");
        let (new, old) = (self.filter.plugin.clone(), older.filter.plugin.clone());
        TakingOver(own.begin(async move { new.take_over(&old, budget).await }))
    }

    /// What became of the state, once it has taken over.
    ///
    /// # Panics
    /// If the hand-over did.
    pub fn finish_take_over(&mut self, taking_over: TakingOver) -> HandOver {
        self.around.driver.run(taking_over.0).unwrap_or_else(|error| panic!("{error}"))
    }
}

fn lock<T>(records: &Mutex<Vec<T>>) -> std::sync::MutexGuard<'_, Vec<T>> {
    records.lock().unwrap_or_else(PoisonError::into_inner)
}
