//! A plugin that runs in virtual time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidegate_runtime::environment::{Clock, Used};
use tidegate_runtime::grants::{BucketError, PublishError};
use tidegate_runtime::metrics::Snapshot;
use tidegate_runtime::outbound::OutboundError;
use tidegate_runtime::{DrainRecord, Hook, Hooks, PluginStats, Runtime, StopOutcome, StopReason, StopRecord};
use tokio::task::JoinHandle;

use crate::clock::{Shared, VirtualClock};
use crate::driver::Driver;
use crate::exchange::{Answer, Request};
use crate::filter::Filter;
use crate::ledger::{Call, Fault, Ledger, Sample};
use crate::log::{Line, Lines};
use crate::world::{Asked, Bucket, Event, World};

/// A plugin on the runtime, pool, limits and stop protocol of the gateway, on one thread and in virtual time.
///
/// Time goes on with the fuel that the plugin burns, with [`Plugin::advance`], and, inside a call of these methods, to the
/// next alarm whenever everything waits. Nothing here sleeps, and the same test has the same course every time.
pub struct Plugin {
    pub(crate) driver: Driver,
    pub(crate) runtime: Runtime,
    pub(crate) filter: Filter,
    pub(crate) clock: Arc<VirtualClock>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) lines: Lines,
    pub(crate) world: World,
    pub(crate) stops: Arc<Mutex<Vec<StopRecord>>>,
    pub(crate) drains: Arc<Mutex<Vec<DrainRecord>>>,
    pub(crate) requests: u64,
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin").field("plugin", &self.filter.plugin).finish_non_exhaustive()
    }
}

/// A request that is under way.
#[derive(Debug)]
pub struct Begun {
    first_call: usize,
    answer: JoinHandle<Answer>,
}

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

impl Plugin {
    /// Send a request, and have its answer.
    pub fn send(&mut self, request: Request) -> Answer {
        let begun = self.begin(request);
        self.finish(begun)
    }

    /// Send these requests at once, and have their answers.
    pub fn send_all(&mut self, requests: impl IntoIterator<Item = Request>) -> Vec<Answer> {
        let begun: Vec<Begun> = requests.into_iter().map(|request| self.begin(request)).collect();
        begun.into_iter().map(|begun| self.finish(begun)).collect()
    }

    /// Send a request, and go on. What happens to it happens within later calls; its answer comes with [`Plugin::finish`].
    pub fn begin(&mut self, request: Request) -> Begun {
        self.requests += 1;
        let (filter, number) = (self.filter.clone(), self.requests);
        let first_call = self.ledger.len();
        let answer = self.driver.begin(filter.exchange(number, request));
        Begun { first_call, answer }
    }

    /// The answer of a request that was begun.
    ///
    /// # Panics
    /// If the upstream or a server of the test panicked.
    pub fn finish(&mut self, begun: Begun) -> Answer {
        match self.driver.run(begun.answer) {
            Ok(answer) => Answer { calls: self.ledger.since(begun.first_call), ..answer },
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(error) => panic!("{error}"),
            },
        }
    }

    /// Let so much time pass: ticks, alarms and work that is due happens.
    pub fn advance(&mut self, by: Duration) {
        let clock = Shared(Arc::clone(&self.clock));
        self.driver.run(clock.sleep_until(clock.now() + by));
    }

    /// Virtual time since the beginning.
    #[must_use]
    pub fn now(&self) -> Duration {
        Duration::from_nanos(Shared(Arc::clone(&self.clock)).now().as_nanos())
    }

    /// Stop it, as a gateway does at SIGTERM with so much time left. It serves nothing any more.
    pub fn stop(&mut self, budget: Duration) -> Stop {
        self.stop_for(StopReason::Terminate, budget)
    }

    /// The same for another reason.
    pub fn stop_for(&mut self, reason: StopReason, budget: Duration) -> Stop {
        let began = self.now();
        self.runtime.enter(tidegate_runtime::Phase::Stopping);
        self.driver.run(self.filter.plugin.stop(reason, budget));
        let instances = std::mem::take(&mut *self.stops.lock().unwrap_or_else(PoisonError::into_inner));
        let deferred = self.drains.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Stop { instances, deferred, took: self.now() - began }
    }

    /// Instances that ended before a stop: recycled, or idle for too long. Each is told of once.
    #[must_use]
    pub fn take_ended(&mut self) -> Vec<StopRecord> {
        std::mem::take(&mut *self.stops.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The next call of this hook has a fault.
    pub fn plan(&mut self, hook: Hook, fault: Fault) {
        self.ledger.plan(hook, fault);
    }

    /// After so many of its calls of the outbox from now on, the next so many fail.
    ///
    /// # Panics
    /// If it is not granted any topic.
    pub fn fail_publish(&mut self, after: u64, count: u64, error: PublishError) {
        let outbox = self.world.outbox.as_ref();
        outbox.unwrap_or_else(|| panic!("grant it topics: `Setup::outbox`")).failures.plan(after, count, error);
    }

    /// The same for what it asks servers.
    ///
    /// # Panics
    /// If it is not granted any origin.
    pub fn fail_http(&mut self, after: u64, count: u64, error: OutboundError) {
        let servers = self.world.servers.as_ref();
        servers.unwrap_or_else(|| panic!("grant it origins: `Setup::http`")).failures.plan(after, count, error);
    }

    /// The same for its buckets.
    ///
    /// # Panics
    /// If it is not granted any bucket.
    pub fn fail_kv(&mut self, after: u64, count: u64, error: BucketError) {
        let buckets = self.world.buckets.as_ref();
        buckets.unwrap_or_else(|| panic!("grant it a bucket: `Setup::kv`")).failures.plan(after, count, error);
    }

    /// What it has published.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.world.outbox.as_ref().map(|outbox| outbox.all()).unwrap_or_default()
    }

    /// What it has asked servers.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.world.servers.as_ref().map(|servers| servers.asked()).unwrap_or_default()
    }

    /// How often it has called its buckets, with or without success.
    #[must_use]
    pub fn bucket_calls(&self) -> u64 {
        self.world.buckets.as_ref().map_or(0, |buckets| buckets.failures.calls())
    }

    /// A bucket that it has been granted.
    ///
    /// # Panics
    /// If it has not.
    #[must_use]
    pub fn bucket(&self, name: &str) -> &Bucket {
        let bucket = self.world.buckets.as_ref().and_then(|buckets| buckets.get(name));
        bucket.unwrap_or_else(|| panic!("the plugin has no bucket {name:?}: `Setup::kv`"))
    }

    /// Its numbers.
    #[must_use]
    pub fn metrics(&self) -> Vec<Snapshot> {
        self.world.metrics.as_ref().map(|metrics| metrics.snapshot()).unwrap_or_default()
    }

    /// What it has written: to the log, to stdout and to stderr.
    #[must_use]
    pub fn log(&self) -> Vec<Line> {
        self.lines.all()
    }

    /// Calls of its hooks that have ended, the first one first.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.ledger.calls()
    }

    /// Bytes of linear memory of the instance whose call ended last.
    pub(crate) fn used_memory(&self) -> usize {
        self.ledger.last().map_or(0, |call| call.used.memory)
    }

    /// The most that a call of this hook has used, in each respect; `None` if there was none.
    #[must_use]
    pub fn most(&self, hook: Hook) -> Option<Used> {
        let calls = self.ledger.calls();
        calls.iter().filter(|call| call.hook == hook).map(|call| call.used).reduce(|most, used| Used {
            fuel: most.fuel.max(used.fuel),
            host_calls: most.host_calls.max(used.host_calls),
            memory: most.memory.max(used.memory),
        })
    }

    /// Where it has burned its fuel; with [`Setup::sampled`](crate::Setup::sampled) only.
    #[must_use]
    pub fn samples(&self) -> Vec<Sample> {
        self.ledger.samples()
    }

    /// The hooks that it has.
    #[must_use]
    pub fn hooks(&self) -> Hooks {
        self.filter.plugin.hooks()
    }

    /// What a gateway would show of it.
    #[must_use]
    pub fn stats(&self) -> PluginStats {
        self.filter.plugin.stats()
    }
}
