//! What one store holds, and what a guest can reach through its imports: one file per import.

mod background;
mod clocks;
mod http;
mod keyvalue;
mod lifecycle;
mod log;
mod metrics;
mod outbound;
mod outbox;
mod snapshot;
mod values;

use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use wasmtime::ResourceLimiter;
use wasmtime::component::{HasSelf, Linker, ResourceTable};
use wasmtime_wasi::p2::bindings::clocks::monotonic_clock;
use wasmtime_wasi::{HostWallClock, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use crate::bindings::Imports;
use crate::environment::{Clock, Environment, Randomness};
use crate::exchange::Exchange;
use crate::grants::Grants;
use crate::meter::Meter;
use crate::plugin::Backlog;

#[expect(unreachable_pub, reason = "the generated module exports them again")]
pub use keyvalue::{Claim, OpenBucket};
pub(crate) use lifecycle::LifecycleView;
pub(crate) use log::{Allowance, GuestLog};
pub(crate) use snapshot::{Inheritance, Left, Snapshots};

/// Host resources (streams, pollables) a guest may hold at a time.
const MAX_RESOURCES: usize = 1024;

/// Bytes a guest may ask of the random interface in one call.
const MAX_RANDOM: u64 = 64 << 10;

/// Elements of all tables of an instance. Tables hold function pointers; a large program has some ten thousand.
const MAX_TABLE_ELEMENTS: usize = 100_000;

/// The data of a store.
pub(crate) struct Guest {
    pub(crate) meter: Arc<Meter>,
    pub(crate) memory: MemoryCap,
    /// The exchange lent to the current call; a placeholder between calls.
    pub(crate) exchange: Box<Exchange>,
    pub(crate) lifecycle: LifecycleView,
    pub(crate) snapshots: Snapshots,
    pub(crate) log: Arc<GuestLog>,
    pub(crate) grants: Grants,
    backlog: Arc<Backlog>,
    /// Bytes of the values in its key-value claims.
    claimed: usize,
    /// The HTTP requests that it makes.
    pub(crate) requests: outbound::Requests,
    /// The plugin's name: notes are kept per plugin.
    plugin: Arc<str>,
    clock: Arc<dyn Clock>,
    wasi: WasiCtx,
    table: ResourceTable,
}

impl Guest {
    #[expect(clippy::too_many_arguments, reason = "what makes up an instance; each is of a type of its own")]
    pub(crate) fn new(
        environment: &Environment,
        meter: Arc<Meter>,
        memory: usize,
        lifecycle: LifecycleView,
        log: Arc<GuestLog>,
        instance: u64,
        snapshots: Snapshots,
        grants: Grants,
        backlog: Arc<Backlog>,
    ) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_RESOURCES);
        Self {
            memory: MemoryCap::new(memory),
            exchange: Exchange::none(),
            lifecycle,
            snapshots,
            requests: outbound::Requests::new(grants.http.clone(), meter.clone()),
            grants,
            backlog,
            claimed: 0,
            plugin: log.plugin().clone(),
            clock: environment.clock.clone(),
            wasi: wasi(environment, &meter, &log, instance),
            meter,
            log,
            table,
        }
    }
}

/// A WASI context with nothing in it: no files, no sockets, no names, no arguments. Clocks and random numbers are the
/// environment's, stdout and stderr go to the log.
fn wasi(environment: &Environment, meter: &Arc<Meter>, log: &Arc<GuestLog>, instance: u64) -> WasiCtx {
    let mut builder = WasiCtxBuilder::new();
    builder
        .stdout(log::Stdio::stdout(log.clone(), meter.clone()))
        .stderr(log::Stdio::stderr(log.clone(), meter.clone()))
        .wall_clock(GuestClock(environment.clock.clone()))
        .max_random_size(MAX_RANDOM)
        .allow_tcp(false)
        .allow_udp(false);
    if let Randomness::Seeded(seed) = environment.randomness {
        let seed = seed ^ instance.rotate_left(32);
        builder
            .secure_random(StdRng::seed_from_u64(seed))
            .insecure_random(StdRng::seed_from_u64(seed.wrapping_add(1)))
            .insecure_random_seed(u128::from(seed.wrapping_add(2)));
    }
    builder.build()
}

struct GuestClock(Arc<dyn Clock>);

impl HostWallClock for GuestClock {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(1)
    }

    fn now(&self) -> Duration {
        self.0.unix()
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// Everything a plugin can import, linked once for all of them. What is not here cannot be reached.
pub(crate) fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    linker.allow_shadowing(true);
    monotonic_clock::add_to_linker::<_, HasSelf<_>>(&mut linker, |guest: &mut Guest| guest)?;
    linker.allow_shadowing(false);
    outbound::add_to_linker(&mut linker)?;
    Imports::add_to_linker::<_, HasSelf<_>>(&mut linker, |guest: &mut Guest| guest)?;
    Ok(linker)
}

/// Caps the linear memory of a store, all memories together, and remembers that the cap was met: a guest that gives
/// up after a refused `memory.grow` just traps, and the trap does not say why.
pub(crate) struct MemoryCap {
    limit: usize,
    used: usize,
    growing: usize,
    refused: bool,
}

impl MemoryCap {
    fn new(limit: usize) -> Self {
        Self { limit, used: 0, growing: 0, refused: false }
    }

    /// The cap in bytes.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Bytes in use.
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// Whether growth has been refused since the last call of `begin`.
    pub(crate) fn refused(&self) -> bool {
        self.refused
    }

    /// A call begins.
    pub(crate) fn begin(&mut self) {
        self.refused = false;
    }
}

impl ResourceLimiter for MemoryCap {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let growing = desired.saturating_sub(current);
        let fits = self.used.saturating_add(growing) <= self.limit;
        if fits {
            self.used += growing;
            self.growing = growing;
        } else {
            self.refused = true;
        }
        Ok(fits)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        // Also called after a refusal above, when nothing was added.
        self.used = self.used.saturating_sub(std::mem::take(&mut self.growing));
        Ok(())
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= MAX_TABLE_ELEMENTS)
    }
}
