//! The wasmtime engine: one for all plugins, with the switches that the stop guarantee and the sandbox rest on.

use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

/// Core instances, memories and stacks per component. Toolchains add shim modules to the one the author wrote.
const CORE_INSTANCES: u32 = 4;

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

/// Make the engine for `instances` component instances with memories of at most `memory` bytes.
pub(crate) fn engine(instances: usize, memory: usize) -> wasmtime::Result<(Engine, Allocator)> {
    let mut config = base();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(instances, memory)));
    match Engine::new(&config) {
        Ok(engine) => Ok((engine, Allocator::Pooling)),
        Err(error) => {
            // Each memory reserves 4 GiB of address space; a container with a limit on that has not enough.
            tracing::warn!(%error, "no pooling allocator; instances will be allocated one by one");
            let mut config = base();
            config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
            Ok((Engine::new(&config)?, Allocator::OnDemand))
        }
    }
}

fn base() -> Config {
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
    config
}

fn pool(instances: usize, memory: usize) -> PoolingAllocationConfig {
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
        .max_core_instances_per_component(64)
        .max_memory_size(memory)
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .table_keep_resident(16 << 10)
        .async_stack_keep_resident(64 << 10);
    pool
}
