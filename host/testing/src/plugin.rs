//! A plugin that runs in virtual time.

mod stopping;

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidegate_runtime::environment::{Clock, Used};
use tidegate_runtime::grants::{BucketError, PublishError};
use tidegate_runtime::metrics::Metric;
use tidegate_runtime::outbound::OutboundError;
use tidegate_runtime::{DrainRecord, Hook, Hooks, PluginStats, Runtime, StopRecord};
use tokio::task::JoinHandle;

use crate::clock::{Shared, VirtualClock};
use crate::driver::Driver;
use crate::exchange::{Answer, Request};
use crate::filter::Filter;
use crate::ledger::{Call, Fault, Ledger, Sample};
use crate::log::{Line, Lines};
use crate::world::{Asked, Bucket, Event, World};

pub use self::stopping::{Stop, Stopping, TakingOver};

/// A plugin on the runtime, pool, limits and stop protocol of the gateway, on one thread and in virtual time.
///
/// Time goes on with the fuel that the plugin burns, with [`Plugin::advance`], and, inside a call of these methods, to the
/// next alarm whenever everything waits. Nothing here sleeps, and the same test has the same course every time.
pub struct Plugin {
    pub(crate) around: Surroundings,
    pub(crate) filter: Filter,
    pub(crate) stops: Arc<Mutex<Vec<StopRecord>>>,
    pub(crate) drains: Arc<Mutex<Vec<DrainRecord>>>,
    pub(crate) requests: u64,
}

/// What a plugin runs on, and what surrounds it: it is shared by those that were loaded beside each other.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) driver: Arc<Driver>,
    pub(crate) runtime: Runtime,
    pub(crate) clock: Arc<VirtualClock>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) lines: Lines,
    pub(crate) world: World,
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

impl Begun {
    /// Whether there is an answer.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        self.answer.is_finished()
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
        let first_call = self.around.ledger.len();
        let answer = self.around.driver.begin(filter.exchange(number, request));
        Begun { first_call, answer }
    }

    /// The answer of a request that was begun.
    ///
    /// # Panics
    /// If the upstream or a server of the test panicked.
    pub fn finish(&mut self, begun: Begun) -> Answer {
        match self.around.driver.run(begun.answer) {
            Ok(answer) => Answer { calls: self.around.ledger.since(begun.first_call), ..answer },
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(error) => panic!("{error}"),
            },
        }
    }

    /// The client of a request that was begun goes away. A call that is under way for it goes on, as in a gateway.
    pub fn hang_up(&mut self, begun: Begun) {
        begun.answer.abort();
        self.settle();
    }

    /// Whatever can happen now happens.
    fn settle(&self) {
        self.around.driver.run(std::future::ready(()));
    }

    /// Let so much time pass: ticks, alarms and work that is due happens.
    pub fn advance(&mut self, by: Duration) {
        self.around.driver.run(self.sleep(by));
    }

    /// Run this to its end, among whatever else happens: for the tests of the gateway itself.
    #[doc(hidden)]
    pub fn run<F: Future>(&self, future: F) -> F::Output {
        self.around.driver.run(future)
    }

    /// The plugin as the gateway has it: for tests of the gateway itself.
    #[doc(hidden)]
    #[must_use]
    pub fn inner(&self) -> &tidegate_runtime::Plugin {
        &self.filter.plugin
    }

    /// The runtime that it is on: for tests of the gateway itself.
    #[doc(hidden)]
    #[must_use]
    pub fn runtime(&self) -> &Runtime {
        &self.around.runtime
    }

    /// Sleep for so much virtual time, within [`Plugin::run`].
    #[doc(hidden)]
    pub async fn sleep(&self, by: Duration) {
        let clock = self.clock();
        clock.sleep_until(clock.now() + by).await;
    }

    fn clock(&self) -> Shared {
        Shared(Arc::clone(&self.around.clock))
    }

    /// Virtual time since the beginning.
    #[must_use]
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.clock().now().as_nanos())
    }

    /// The next call of this hook has a fault.
    pub fn plan(&mut self, hook: Hook, fault: Fault) {
        self.around.ledger.plan(hook, fault);
    }

    /// After so many of its calls of the outbox from now on, the next so many fail.
    ///
    /// # Panics
    /// If it is not granted any topic.
    pub fn fail_publish(&mut self, after: u64, count: u64, error: PublishError) {
        let outbox = self.around.world.outbox.as_ref();
        outbox.unwrap_or_else(|| panic!("grant it topics: `Setup::outbox`")).failures.plan(after, count, error);
    }

    /// The same for what it asks servers.
    ///
    /// # Panics
    /// If it is not granted any origin.
    pub fn fail_http(&mut self, after: u64, count: u64, error: OutboundError) {
        let servers = self.around.world.servers.as_ref();
        servers.unwrap_or_else(|| panic!("grant it origins: `Setup::http`")).failures.plan(after, count, error);
    }

    /// The same for its buckets.
    ///
    /// # Panics
    /// If it is not granted any bucket.
    pub fn fail_kv(&mut self, after: u64, count: u64, error: BucketError) {
        let buckets = self.around.world.buckets.as_ref();
        buckets.unwrap_or_else(|| panic!("grant it a bucket: `Setup::kv`")).failures.plan(after, count, error);
    }

    /// What it has published.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.around.world.outbox.as_ref().map(|outbox| outbox.all()).unwrap_or_default()
    }

    /// What it has asked servers.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.around.world.servers.as_ref().map(|servers| servers.asked()).unwrap_or_default()
    }

    /// Requests to servers that it broke off in the middle of their bodies: what had come of them by then.
    #[must_use]
    pub fn broken_off(&self) -> Vec<Asked> {
        self.around.world.servers.as_ref().map(|servers| servers.broken_off()).unwrap_or_default()
    }

    /// How often it has called its buckets, with or without success.
    #[must_use]
    pub fn bucket_calls(&self) -> u64 {
        self.around.world.buckets.as_ref().map_or(0, |buckets| buckets.failures.calls())
    }

    /// A bucket that it has been granted.
    ///
    /// # Panics
    /// If it has not.
    #[must_use]
    pub fn bucket(&self, name: &str) -> &Bucket {
        let bucket = self.around.world.buckets.as_ref().and_then(|buckets| buckets.get(name));
        bucket.unwrap_or_else(|| panic!("the plugin has no bucket {name:?}: `Setup::kv`"))
    }

    /// Its numbers.
    #[must_use]
    pub fn metrics(&self) -> Vec<Metric> {
        self.around.world.metrics.as_ref().map(|metrics| metrics.snapshot()).unwrap_or_default()
    }

    /// What it has written: to the log, to stdout and to stderr.
    #[must_use]
    pub fn log(&self) -> Vec<Line> {
        self.around.lines.all()
    }

    /// Calls of its hooks that have ended, the first one first.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.around.ledger.calls()
    }

    /// Bytes of linear memory of the instance whose call ended last.
    pub(crate) fn used_memory(&self) -> usize {
        self.around.ledger.last().map_or(0, |call| call.used.memory)
    }

    /// The most that a call of this hook has used, in each respect; `None` if there was none.
    #[must_use]
    pub fn most(&self, hook: Hook) -> Option<Used> {
        let calls = self.around.ledger.calls();
        calls.iter().filter(|call| call.hook == hook).map(|call| call.used).reduce(|most, used| Used {
            fuel: most.fuel.max(used.fuel),
            host_calls: most.host_calls.max(used.host_calls),
            memory: most.memory.max(used.memory),
        })
    }

    /// Where it has burned its fuel; with [`Setup::sampled`](crate::Setup::sampled) only.
    #[must_use]
    pub fn samples(&self) -> Vec<Sample> {
        self.around.ledger.samples()
    }

    /// The hooks that it has.
    #[must_use]
    pub fn hooks(&self) -> Hooks {
        self.filter.plugin.hooks()
    }

    /// Numbers of the instances that live now.
    #[must_use]
    pub fn instances(&self) -> Vec<u64> {
        self.filter.plugin.instances()
    }

    /// What a gateway would show of it.
    #[must_use]
    pub fn stats(&self) -> PluginStats {
        self.filter.plugin.stats()
    }
}
