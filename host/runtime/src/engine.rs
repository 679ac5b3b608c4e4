//! wasmtime engines, with the switches that the stop guarantee and the sandbox rest on, and their slots for instances.
//!
//! An engine has a fixed number of slots. A plugin reserves those it may need when it is loaded and keeps them until
//! nothing of it is left, so an instance always finds one. A reload that needs more than are free gets a further engine;
//! the older one ends, its ticker with it, when the last plugin on it is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use wasmtime::component::Linker;
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::environment::{Environment, Ticks};
use crate::error::StartError;
use crate::host::{self, Guest};
use crate::ticker::Ticker;

/// Core instances of one component instance. Toolchains add modules to the one the author wrote, and link some together only
/// when they are instantiated: a plugin in Python is fourteen. The allocator merely counts them, so there is no need to be
/// tight.
const CORE_INSTANCES: u32 = 64;

/// WebAssembly stack of a guest, bytes; the fiber it runs on has as much again for host functions.
const WASM_STACK: usize = 512 << 10;

/// Bytes of a slot's memory that are cleared by hand instead of being handed back to the kernel when an instance ends.
/// Enough for what a small guest touches, which makes fresh isolation cheap; the rest is returned.
const KEEP_RESIDENT: usize = 128 << 10;

/// Which allocator an engine got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Allocator {
    /// Slots reserved up front.
    Pooling,
    /// Plain mappings per instance, where there is no address space for the pool.
    OnDemand,
}

/// The largest memory of a slot: all that 32 bits can address. The address space is reserved in any case (it is what
/// makes bounds checks unnecessary); how much of it a plugin may use is its own limit.
const SLOT_MEMORY: usize = 4 << 30;

/// An engine and its slots.
pub(crate) struct Space {
    engine: Engine,
    allocator: Allocator,
    linker: Linker<Guest>,
    /// Nothing stops a guest without it: it lives as long as any plugin on this engine does.
    _ticker: Option<Ticker>,
    slots: usize,
    reserved: AtomicUsize,
}

/// Slots of an engine that belong to one plugin until this is dropped.
pub(crate) struct Reservation {
    space: Arc<Space>,
    slots: usize,
}

impl Space {
    /// An engine with so many slots, and its ticker.
    pub(crate) fn new(slots: usize, environment: &Environment) -> Result<Arc<Self>, StartError> {
        let failed = |error: wasmtime::Error| StartError::Engine(format!("{error:#}"));
        let (engine, allocator) = engine(slots, environment.gauge.is_some()).map_err(failed)?;
        let linker = host::linker(&engine).map_err(failed)?;
        let ticker = match environment.ticks {
            Ticks::Every(period) => Some(Ticker::start(engine.weak(), period).map_err(StartError::Ticker)?),
            Ticks::Manual => None,
        };
        Ok(Arc::new(Self { engine, allocator, linker, _ticker: ticker, slots, reserved: AtomicUsize::new(0) }))
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(crate) fn allocator(&self) -> Allocator {
        self.allocator
    }

    pub(crate) fn linker(&self) -> &Linker<Guest> {
        &self.linker
    }

    /// Slots that nobody has reserved. Without a pool there is no end of them.
    pub(crate) fn free(&self) -> usize {
        match self.allocator {
            Allocator::Pooling => self.slots.saturating_sub(self.reserved.load(Ordering::Relaxed)),
            Allocator::OnDemand => usize::MAX,
        }
    }

    /// Reserve slots, if so many are free.
    pub(crate) fn reserve(self: &Arc<Self>, slots: usize) -> Option<Reservation> {
        let most = if self.allocator == Allocator::Pooling { self.slots } else { usize::MAX };
        let fits = |reserved: usize| reserved.checked_add(slots).filter(|sum| *sum <= most);
        self.reserved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        Some(Reservation { space: Arc::clone(self), slots })
    }
}

impl Reservation {
    pub(crate) fn space(&self) -> &Arc<Space> {
        &self.space
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.space.reserved.fetch_sub(self.slots, Ordering::Relaxed);
    }
}

/// The length of a tick by the clock.
pub(crate) fn tick(ticks: Ticks) -> Duration {
    match ticks {
        Ticks::Every(period) => period,
        Ticks::Manual => Duration::from_millis(1),
    }
}

/// Make the engine for `instances` component instances.
fn engine(instances: usize, is_gauged: bool) -> wasmtime::Result<(Engine, Allocator)> {
    let mut config = base(is_gauged);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(instances)));
    match Engine::new(&config) {
        Ok(engine) => Ok((engine, Allocator::Pooling)),
        Err(error) => {
            // Each memory reserves 4 GiB of address space; a container with a limit on that has not enough.
            tracing::warn!(%error, "no pooling allocator; instances will be allocated one by one");
            let mut config = base(is_gauged);
            config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
            Ok((Engine::new(&config)?, Allocator::OnDemand))
        }
    }
}

fn base(is_gauged: bool) -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        // No component-model-async world yet: without it a call is cheaper, and the code behind it is not reachable.
        .concurrency_support(false)
        .epoch_interruption(true)
        .max_wasm_stack(WASM_STACK)
        .async_stack_size(2 * WASM_STACK)
        .memory_init_cow(true)
        // Names of functions in the message of a trap come from the module's name section; no line tables.
        .wasm_backtrace_details(wasmtime::WasmBacktraceDetails::Disable)
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(8));
    if is_gauged {
        // The same fuel for the same input, whatever the processor.
        config.consume_fuel(true).cranelift_nan_canonicalization(true).relaxed_simd_deterministic(true);
    }
    config
}

fn pool(instances: usize) -> PoolingAllocationConfig {
    let instances = u32::try_from(instances).unwrap_or(u32::MAX / CORE_INSTANCES).max(1);
    let core = instances.saturating_mul(CORE_INSTANCES);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(core)
        // Shim modules have no memory of their own; components with more than one memory are rare.
        .total_memories(instances.saturating_mul(2))
        .total_tables(instances.saturating_mul(2))
        .max_tables_per_module(2)
        .total_stacks(instances.saturating_mul(2))
        .total_gc_heaps(0)
        .max_core_instances_per_component(CORE_INSTANCES)
        .max_memory_size(SLOT_MEMORY)
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .table_keep_resident(16 << 10)
        .async_stack_keep_resident(64 << 10);
    pool
}
