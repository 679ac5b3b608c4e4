//! The engine and what is shared by all plugins: from bytes to a [`Plugin`].

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wasmtime::Engine;
use wasmtime::component::{Component, Linker};

use crate::cache::Cache;
use crate::check;
use crate::contract::Hook;
use crate::engine::{self, Allocator};
use crate::environment::{Environment, Ticks};
use crate::error::LoadError;
use crate::host::{self, Guest, LifecycleView};
use crate::inspect::{self, Inspection};
use crate::instance::Template;
use crate::meter::Halt;
use crate::plugin::{Plugin, PluginSpec};
use crate::stop::Phase;
use crate::ticker::Ticker;

/// The largest component that is compiled, bytes. Python components have some 18 MB.
pub const MAX_COMPONENT: usize = 64 << 20;

/// How long a compilation may take before the component is refused. The biggest known toolchains need 7 s.
const COMPILE_LIMIT: Duration = Duration::from_secs(120);

/// How to set up a [`Runtime`].
#[derive(Debug, Clone)]
pub struct RuntimeConfig {
    /// Instances of all plugins together that may live at a time, replacements included.
    pub instances: usize,
    /// The largest `memory` limit of any plugin, bytes.
    pub memory: usize,
    /// Where compiled components are kept between runs; `None` compiles anew each time.
    pub cache: Option<PathBuf>,
    /// Time and randomness.
    pub environment: Environment,
}

/// The engine could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// wasmtime refused the machine or the configuration.
    #[error("the WebAssembly engine cannot start: {0}")]
    Engine(String),
    /// No thread for the ticker.
    #[error("the epoch ticker cannot start: {0}")]
    Ticker(#[source] std::io::Error),
}

/// The engine and what all plugins share. Cheap to clone; plugins keep alive what they need of it.
#[derive(Clone)]
pub struct Runtime {
    shared: Arc<Shared>,
}

struct Shared {
    engine: Engine,
    allocator: Allocator,
    linker: Linker<Guest>,
    cache: Option<Cache>,
    environment: Environment,
    tick: Duration,
    phase: Arc<AtomicU8>,
    abandon: CancellationToken,
    tasks: TaskTracker,
    ticker: Option<Arc<Ticker>>,
}

impl Runtime {
    /// Set up the engine and its ticker.
    ///
    /// # Errors
    /// When the machine has neither the address space for the pooling allocator nor enough for plain allocation.
    pub fn new(config: RuntimeConfig) -> Result<Self, StartError> {
        let failed = |error: wasmtime::Error| StartError::Engine(format!("{error:#}"));
        let (engine, allocator) = engine::engine(config.instances, config.memory).map_err(failed)?;
        let linker = host::linker(&engine).map_err(failed)?;
        let cache = config.cache.and_then(|folder| {
            let warn = |error: &std::io::Error| tracing::warn!(%error, folder = %folder.display(), "no compile cache");
            Cache::open(&folder, &engine).inspect_err(warn).ok()
        });
        let (ticker, tick) = match config.environment.ticks {
            Ticks::Every(period) => {
                (Some(Arc::new(Ticker::start(engine.weak(), period).map_err(StartError::Ticker)?)), period)
            }
            Ticks::Manual => (None, Duration::from_millis(1)),
        };
        Ok(Self {
            shared: Arc::new(Shared {
                engine,
                allocator,
                linker,
                cache,
                environment: config.environment,
                tick,
                phase: Arc::new(AtomicU8::new(Phase::Serving as u8)),
                abandon: CancellationToken::new(),
                tasks: TaskTracker::new(),
                ticker,
            }),
        })
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
        let component = self.compile(digest.clone(), component).await?;
        let exports = check::exports(&component)?;
        if !exports.hooks().contains(Hook::Configure) && !matches!(&*spec.config, "" | "{}" | "null") {
            return Err(LoadError::NoConfigure);
        }
        if let Some(import) = check::imports(&component).into_iter().find(|import| !import.free) {
            return Err(LoadError::NotGranted { import: import.name, advice: import.advice.unwrap_or_default() });
        }
        let pre =
            shared.linker.instantiate_pre(&component).map_err(|error| LoadError::Imports(format!("{error:#}")))?;
        check::signatures(&pre, &exports)?;
        let clock = shared.environment.clock.clone();
        let template = Template {
            name: spec.name,
            pre,
            exports,
            config: spec.config,
            limits: spec.limits,
            environment: shared.environment.clone(),
            tick: shared.tick,
            _ticker: shared.ticker.clone(),
            lifecycle: LifecycleView::new(clock, shared.phase.clone()),
            halt: Arc::new(Halt::new(shared.abandon.clone())),
            stores: Arc::new(()),
        };
        Plugin::start(template, digest, spec.instances, spec.isolation, shared.tasks.clone())
            .await
            .map_err(LoadError::Configure)
    }

    async fn compile(&self, digest: Arc<str>, component: Vec<u8>) -> Result<Component, LoadError> {
        check_kind(&component)?;
        let shared = self.shared.clone();
        let compiling = tokio::task::spawn_blocking(move || {
            if let Some(cached) = shared.cache.as_ref().and_then(|cache| cache.load(&digest, &shared.engine)) {
                return Ok(cached);
            }
            let component = Component::from_binary(&shared.engine, &component)
                .map_err(|error| LoadError::Malformed(format!("{error:#}")))?;
            if let Some(cache) = &shared.cache {
                cache.store(&digest, &component);
            }
            Ok(component)
        });
        match tokio::time::timeout(COMPILE_LIMIT, compiling).await {
            Ok(Ok(compiled)) => compiled,
            Ok(Err(panicked)) => Err(LoadError::Compile(panicked.to_string())),
            Err(_) => Err(LoadError::Compile(format!("it took more than {COMPILE_LIMIT:?}"))),
        }
    }

    /// Look at a component without instantiating it.
    ///
    /// # Errors
    /// When it is not a component, or breaks the contract in a way that no config can mend.
    pub fn inspect(&self, bytes: &[u8]) -> Result<Inspection, LoadError> {
        check_kind(bytes)?;
        let component = Component::from_binary(&self.shared.engine, bytes)
            .map_err(|error| LoadError::Malformed(format!("{error:#}")))?;
        let exports = check::exports(&component)?;
        let imports = check::imports(&component);
        if imports.iter().all(|import| import.free) {
            let pre = self.shared.linker.instantiate_pre(&component);
            let pre = pre.map_err(|error| LoadError::Imports(format!("{error:#}")))?;
            check::signatures(&pre, &exports)?;
        }
        let inside = inspect::look_inside(bytes);
        Ok(Inspection {
            digest: digest(bytes),
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

    /// Advance the epoch by hand; only with [`Ticks::Manual`].
    pub fn tick(&self) {
        self.shared.engine.increment_epoch();
    }

    /// Whether instances come from the pooling allocator.
    #[must_use]
    pub fn is_pooling(&self) -> bool {
        self.shared.allocator == Allocator::Pooling
    }
}

fn digest(bytes: &[u8]) -> Arc<str> {
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
