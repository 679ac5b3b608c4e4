//! The engines and what is shared by all plugins: from bytes to a [`Plugin`].

use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use wasmtime::component::Component;

use crate::cache::Cache;
use crate::check;
use crate::contract::Hook;
use crate::engine::{self, Allocator, Reservation, Space};
use crate::environment::Environment;
use crate::error::{LoadError, StartError};
use crate::grants::Needs;
use crate::host::{Allowance, LifecycleView};
use crate::inspect::{self, Inspection};
use crate::instance::Template;
use crate::limits::Instances;
use crate::meter::Halt;
use crate::plugin::{Backlog, Plugin, PluginSpec};
use crate::redact::Redaction;
use crate::stop::Phase;
use crate::sync::Tasks;

/// The largest component that is compiled, bytes. Python components have some 18 MB.
pub const MAX_COMPONENT: usize = 64 << 20;

/// How long a compilation may take before the component is refused. The biggest known toolchains need 7 s.
const COMPILE_LIMIT: Duration = Duration::from_secs(120);

/// How to set up a [`Runtime`].
#[derive(Debug, Clone)]
pub struct RuntimeConfig {
    /// Slots for instances to begin with: [`Runtime::slots`] of every plugin, and as much again for a reload. Loading
    /// plugins that need more adds a further engine.
    pub slots: usize,
    /// Where compiled components are kept between runs; `None` compiles anew each time.
    pub cache: Option<PathBuf>,
    /// Time and randomness.
    pub environment: Environment,
}

/// The engines and what all plugins share. Cheap to clone; plugins keep alive what they need of it.
#[derive(Clone)]
pub struct Runtime {
    shared: Arc<Shared>,
}

struct Shared {
    /// The newest engine. Older ones live as long as plugins on them do.
    space: Mutex<Arc<Space>>,
    cache: Option<Arc<Cache>>,
    environment: Environment,
    phase: Arc<AtomicU8>,
    abandon: CancellationToken,
    tasks: Tasks,
}

impl Shared {
    /// The component from the cache, or compiled and put there.
    fn compiled(&self, space: &Space, digest: &str, component: &[u8]) -> Result<Component, LoadError> {
        check_kind(component)?;
        if let Some(cached) = self.cache.as_ref().and_then(|cache| cache.load(digest, space.engine())) {
            return Ok(cached);
        }
        let component = Component::from_binary(space.engine(), component)
            .map_err(|error| LoadError::Malformed(format!("{error:#}")))?;
        if let Some(cache) = &self.cache {
            cache.store(digest, &component);
        }
        Ok(component)
    }
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").finish_non_exhaustive()
    }
}

impl Runtime {
    /// Set up the engine and its ticker.
    ///
    /// # Errors
    /// When the machine has neither the address space for the pooling allocator nor enough for plain allocation.
    pub fn new(config: RuntimeConfig) -> Result<Self, StartError> {
        let space = Space::new(config.slots, &config.environment)?;
        let cache = config.cache.and_then(|folder| {
            let warn = |error: &std::io::Error| tracing::warn!(%error, folder = %folder.display(), "no compile cache");
            Cache::open(&folder, space.engine()).inspect_err(warn).ok().map(Arc::new)
        });
        Ok(Self::on(space, cache, config.environment))
    }

    fn on(space: Arc<Space>, cache: Option<Arc<Cache>>, environment: Environment) -> Self {
        Self {
            shared: Arc::new(Shared {
                space: Mutex::new(space),
                cache,
                environment,
                phase: Arc::new(AtomicU8::new(Phase::Serving as u8)),
                abandon: CancellationToken::new(),
                tasks: Tasks::new(),
            }),
        }
    }

    /// Another runtime on the same engine: setting one up takes longer than most tests of a plugin. `None` if guests are
    /// compiled in another way in that environment, or their epoch is advanced by another.
    #[must_use]
    pub fn beside(&self, environment: Environment) -> Option<Self> {
        let own = &self.shared.environment;
        let fits = own.gauge.is_some() == environment.gauge.is_some() && own.ticks == environment.ticks;
        fits.then(|| Self::on(Arc::clone(&self.newest()), self.shared.cache.clone(), environment))
    }

    /// Slots that a plugin with these instances reserves: a replacement may live beside the instance it replaces.
    #[must_use]
    pub fn slots(instances: Instances) -> usize {
        instances.max.max(instances.min).saturating_mul(2)
    }

    /// See to it that plugins that need so many slots together find them on one engine.
    ///
    /// # Errors
    /// When a further engine is needed and cannot be started.
    pub fn make_room(&self, slots: usize) -> Result<(), StartError> {
        let mut space = self.newest();
        if space.free() < slots {
            *space = Space::new(slots.saturating_mul(2), &self.shared.environment)?;
        }
        Ok(())
    }

    fn newest(&self) -> std::sync::MutexGuard<'_, Arc<Space>> {
        // It is only ever replaced whole.
        self.shared.space.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reserve(&self, slots: usize) -> Result<Reservation, StartError> {
        let mut space = self.newest();
        loop {
            match space.reserve(slots) {
                Some(reservation) => return Ok(reservation),
                None => *space = Space::new(slots.saturating_mul(2), &self.shared.environment)?,
            }
        }
    }

    /// Compile (or take from the cache), check against the contract, bring up `instances.min` instances.
    ///
    /// Call inside a tokio runtime: compilation goes to a blocking thread, guests run on the caller's.
    ///
    /// # Errors
    /// Every way a component can be unfit, the first instance's `configure` included.
    pub async fn load(&self, spec: PluginSpec, component: Vec<u8>) -> Result<Plugin, LoadError> {
        let shared = &self.shared;
        let digest = digest(&component);
        let slots = self.reserve(Self::slots(spec.instances)).map_err(|error| LoadError::Engine(error.to_string()))?;
        let component = self.compile(slots.space(), digest.clone(), component).await?;
        let exports = check::exports(&component)?;
        let is_configured = !matches!(&*spec.config, "" | "{}" | "null");
        // Values that are asked for by name need no hook to take them.
        let is_asked_for = spec.grants.values.as_ref().is_some_and(|values| !values.config.is_empty());
        if is_configured && !is_asked_for && !exports.hooks().contains(Hook::Configure) {
            return Err(LoadError::NoConfigure);
        }
        if let Some(import) = check::imports(&component).into_iter().find(|import| !spec.grants.cover(&import.needs)) {
            let advice = import.needs.advice().unwrap_or_default();
            return Err(LoadError::NotGranted { import: import.name, advice });
        }
        if spec.hand_over && !check::hands_over(&component) {
            return Err(LoadError::NoHandOver);
        }
        if spec.tick.is_some() && !exports.hooks().contains(Hook::OnTick) {
            return Err(LoadError::NoTick);
        }
        let pre = slots
            .space()
            .linker()
            .instantiate_pre(&component)
            .map_err(|error| LoadError::Imports(format!("{error:#}")))?;
        check::signatures(&pre, &exports)?;
        let (clock, hooks) = (shared.environment.clock.clone(), exports.hooks());
        if hooks.contains(Hook::OnDeferred) && !spec.grants.background {
            tracing::info!(
                plugin = &*spec.name,
                "exports `on-deferred`, but may put nothing off: see `grants.background`"
            );
        }
        if hooks.contains(Hook::OnTick) && spec.tick.is_none() {
            tracing::info!(plugin = &*spec.name, "exports `on-tick`, but has no `tick`: it is never called");
        }
        let template = Template {
            name: spec.name.clone(),
            pre,
            exports,
            config: spec.config.clone(),
            grants: spec.grants.clone(),
            backlog: Backlog::new(spec.deferred, hooks, spec.tally.clone()),
            redaction: Arc::new(spec.grants.values.as_deref().map(Redaction::of).unwrap_or_default()),
            limits: spec.limits,
            environment: shared.environment.clone(),
            tick: engine::tick(shared.environment.ticks),
            _slots: Arc::new(slots),
            lifecycle: LifecycleView::new(clock.clone(), shared.phase.clone()),
            halt: Arc::new(Halt::new(shared.abandon.clone())),
            tally: spec.tally.clone(),
            log: Allowance::new(spec.name.clone(), &spec.limits, clock, spec.tally.clone()),
            stores: Arc::new(()),
        };
        Plugin::start(template, digest, spec, shared.tasks.clone()).await.map_err(LoadError::Configure)
    }

    async fn compile(&self, space: &Arc<Space>, digest: Arc<str>, component: Vec<u8>) -> Result<Component, LoadError> {
        let (shared, space) = (self.shared.clone(), Arc::clone(space));
        if shared.environment.gauge.is_some() {
            // Whoever measures guests has one thread, and a clock that must not go on while another one compiles.
            return shared.compiled(&space, &digest, &component);
        }
        let compiling = tokio::task::spawn_blocking(move || shared.compiled(&space, &digest, &component));
        match tokio::time::timeout(COMPILE_LIMIT, compiling).await {
            Ok(Ok(compiled)) => compiled,
            Ok(Err(panicked)) => Err(LoadError::Compile(panicked.to_string())),
            Err(_) => Err(LoadError::Compile(format!("it took more than {COMPILE_LIMIT:?}"))),
        }
    }

    /// Look at a component without instantiating it. Compiles it (or takes it from the cache), which can take seconds.
    ///
    /// # Errors
    /// When it is not a component, or breaks the contract in a way that no config can mend.
    pub fn inspect(&self, bytes: &[u8]) -> Result<Inspection, LoadError> {
        let (space, digest) = (Arc::clone(&self.newest()), digest(bytes));
        let component = self.shared.compiled(&space, &digest, bytes)?;
        let exports = check::exports(&component)?;
        let imports = check::imports(&component);
        if imports.iter().all(|import| !matches!(import.needs, Needs::Another(_))) {
            let pre = space.linker().instantiate_pre(&component);
            let pre = pre.map_err(|error| LoadError::Imports(format!("{error:#}")))?;
            check::signatures(&pre, &exports)?;
        }
        let inside = inspect::look_inside(bytes);
        Ok(Inspection {
            digest,
            size: bytes.len(),
            hooks: exports.hooks(),
            imports,
            toolchain: inside.toolchain,
            memory: inside.memory,
        })
    }

    /// Show plugins another phase through `lifecycle`.
    pub fn enter(&self, phase: Phase) {
        self.shared.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// End every call within a tick (second signal). Stops in progress end as `abandoned`.
    pub fn abandon(&self) {
        self.shared.abandon.cancel();
    }

    /// Advance the epoch of the newest engine by hand; only with [`crate::environment::Ticks::Manual`].
    pub fn tick(&self) {
        self.newest().engine().increment_epoch();
    }

    /// Whether instances come from the pooling allocator.
    #[must_use]
    pub fn is_pooling(&self) -> bool {
        self.newest().allocator() == Allocator::Pooling
    }
}

/// The digest of a component: `sha256:` and 64 hex digits.
#[must_use]
pub fn digest(bytes: &[u8]) -> Arc<str> {
    use std::fmt::Write as _;
    let mut text = String::from("sha256:");
    for byte in Sha256::digest(bytes) {
        let _ = write!(text, "{byte:02x}");
    }
    text.into()
}

/// Tell a component from everything else by its first eight bytes, before the compiler sees it.
fn check_kind(bytes: &[u8]) -> Result<(), LoadError> {
    const MAGIC: &[u8] = b"\0asm";
    const CORE_VERSION: &[u8] = &[1, 0, 0, 0];
    if bytes.len() > MAX_COMPONENT {
        return Err(LoadError::TooLarge { size: bytes.len(), limit: MAX_COMPONENT });
    }
    let Some(rest) = bytes.strip_prefix(MAGIC) else {
        return Err(LoadError::Malformed("it does not begin with the WebAssembly magic number".into()));
    };
    if rest.starts_with(CORE_VERSION) { Err(LoadError::CoreModule) } else { Ok(()) }
}
