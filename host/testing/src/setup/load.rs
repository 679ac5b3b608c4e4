//! From a setup to a plugin that runs.

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidegate_runtime::environment::{Clock, Environment, Gauge, Randomness, Ticks};
use tidegate_runtime::{DrainRecord, Inspection, Runtime, RuntimeConfig, StopRecord};

use super::{Pass, Setup};
use crate::clock::{Shared, VirtualClock};
use crate::driver::Driver;
use crate::error::SetupError;
use crate::filter::Filter;
use crate::ledger::Ledger;
use crate::log::Lines;
use crate::plugin::{Plugin, Surroundings};
use crate::world::{Buckets, Servers, World};

/// The tick of a gateway's engine.
const TICK: Duration = Duration::from_millis(1);

/// Slots of an engine: enough for most plugins; more are had by a further one.
const SLOTS: usize = 32;

impl Setup {
    /// Compile it, check it as a gateway does, and bring up its instances.
    ///
    /// # Errors
    /// When the file cannot be read, or a gateway would refuse the plugin: why.
    ///
    /// # Panics
    /// In a task of tokio's: virtual time has an executor of its own, and a thread has one at most. Make the test `#[test]`, or
    /// do it within `tokio::task::spawn_blocking`.
    pub fn load(mut self) -> Result<Plugin, SetupError> {
        let component = self.component.take()?;
        let is_held = self.spec.hand_over;
        let (setup, around) = self.surroundings(&component)?;
        let plugin = setup.load_in(component, around)?;
        if is_held {
            let opened = plugin.around.driver.run(plugin.filter.plugin.open());
            opened.map_err(tidegate_runtime::LoadError::Configure)?;
        }
        Ok(plugin)
    }

    /// Load it beside another plugin, mostly as its next version: on the same runtime and clock, and in the same world.
    /// What this setup grants, and how time passes in it, is therefore of no account; what plugins write and the calls of
    /// their hooks are told by either for both. With [`Setup::hand_over`] it is held, and calls to it wait, until it takes
    /// over: [`Plugin::take_over`].
    ///
    /// # Errors
    /// As [`Setup::load`].
    ///
    /// # Panics
    /// As [`Setup::load`].
    pub fn load_beside(mut self, other: &Plugin) -> Result<Plugin, SetupError> {
        let component = self.component.take()?;
        self.load_in(component, other.around.clone())
    }

    /// Compile it and look at it. What is compiled is what [`Setup::load`] wants, and takes from the cache.
    ///
    /// # Errors
    /// When the file cannot be read, or is no plugin.
    pub(crate) fn inspect(mut self) -> Result<Inspection, SetupError> {
        let (_, environment) = self.environment(&Arc::new(VirtualClock::new(self.epoch)));
        let component = self.component.take()?;
        Ok(runtime(self.cache, environment)?.inspect(&component)?)
    }

    /// What its engine is made for, and what counts its fuel.
    fn environment(&self, clock: &Arc<VirtualClock>) -> (Arc<Ledger>, Environment) {
        let ledger = Ledger::new(Arc::clone(clock), self.pace, self.patience).sampled(self.pass == Pass::Sampled);
        let ledger = Arc::new(ledger);
        let randomness = Randomness::Seeded(self.seed);
        let environment = match self.pass {
            Pass::Real => Environment { randomness, ..Environment::real(TICK) },
            Pass::Virtual | Pass::Sampled => Environment {
                clock: Arc::new(Shared(Arc::clone(clock))),
                ticks: Ticks::Manual,
                randomness,
                gauge: Some(Arc::clone(&ledger) as Arc<dyn Gauge>),
            },
        };
        (ledger, environment)
    }

    /// What surrounds a plugin that has nothing beside it.
    fn surroundings(mut self, component: &[u8]) -> Result<(Self, Surroundings), SetupError> {
        let clock = Arc::new(VirtualClock::new(self.epoch));
        let (ledger, environment) = self.environment(&clock);
        let lines = Lines::default();
        let driver = Driver::new(Arc::clone(&clock), lines.dispatch(), self.pass == Pass::Real)
            .map_err(|error| SetupError::Machine(error.to_string()))?;
        let runtime = runtime(self.cache.take(), environment)?;
        if let Some(answer) = self.as_imported.take() {
            let needs = runtime.inspect(component)?.needs();
            self = needs.into_iter().fold(self, |setup, grant| setup.grant(grant, &answer));
        }
        let world = self.world(&(Arc::new(Shared(Arc::clone(&clock))) as Arc<dyn Clock>));
        Ok((self, Surroundings { driver: Arc::new(driver), runtime, clock, ledger, lines, world }))
    }

    fn world(&mut self, clock: &Arc<dyn Clock>) -> World {
        let mut world = std::mem::take(&mut self.world);
        if self.any_bucket || !self.buckets.is_empty() {
            let more = self.any_bucket.then(|| Arc::clone(clock));
            world.buckets = Some(Arc::new(Buckets::new(&self.buckets, clock, more)));
        }
        if let Some((reachable, script)) = self.servers.take() {
            world.servers = Some(Arc::new(Servers::new(reachable, script, Arc::clone(clock))));
        }
        world
    }

    fn load_in(self, component: Vec<u8>, around: Surroundings) -> Result<Plugin, SetupError> {
        let Self { mut spec, .. } = self;
        let (stops, drains) = (Arc::<Mutex<Vec<StopRecord>>>::default(), Arc::<Mutex<Vec<DrainRecord>>>::default());
        let (stopped, drained) = (Arc::clone(&stops), Arc::clone(&drains));
        spec.grants = around.world.grants();
        spec.on_stopped = Arc::new(move |record| {
            stopped.lock().unwrap_or_else(PoisonError::into_inner).push(record.clone());
        });
        spec.on_drained = Arc::new(move |record| {
            drained.lock().unwrap_or_else(PoisonError::into_inner).push(record.clone());
        });
        let plugin = around.driver.run(around.runtime.load(spec, component))?;
        let filter = Filter::new(plugin, self.on_failure, self.upstream, &self.upstreams, Arc::clone(&around.clock));
        Ok(Plugin { around, filter, stops, drains, requests: 0 })
    }
}

/// A runtime. Those of one thread share an engine, so that a test may load a plugin some thousand times.
fn runtime(cache: Option<PathBuf>, environment: Environment) -> Result<Runtime, SetupError> {
    thread_local! {
        static FIRST: RefCell<Option<(Option<PathBuf>, Runtime)>> = const { RefCell::new(None) };
    }
    FIRST.with_borrow_mut(|first| {
        let same = first.as_ref().filter(|(folder, _)| *folder == cache);
        if let Some(runtime) = same.and_then(|(_, runtime)| runtime.beside(environment.clone())) {
            return Ok(runtime);
        }
        let config = RuntimeConfig { slots: SLOTS, cache: cache.clone(), environment };
        let runtime = Runtime::new(config).map_err(|error| SetupError::Machine(error.to_string()))?;
        *first = Some((cache, runtime.clone()));
        Ok(runtime)
    })
}

/// `$XDG_CACHE_HOME/tidegate/testing`, or under `~/.cache`.
pub(super) fn default_cache() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|folder| folder.is_absolute());
    let caches = folder("XDG_CACHE_HOME").or_else(|| folder("HOME").map(|home| home.join(".cache")))?;
    Some(caches.join("tidegate").join("testing"))
}
