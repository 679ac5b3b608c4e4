//! Fuel: what a guest computes, told to a [`Gauge`] as it is burned.
//!
//! A guest that counts fuel comes back from a poll after each slice of it, having woken itself. That is how a slice is told
//! from a wait, in which whoever is waited for wakes the call later: one lets the clock go on, the other does not.
//!
//! Where the guest is cannot be seen after a slice, since it has been suspended as a whole. So a gauge that wants samples has
//! the epoch go on with each slice, and they are taken in its callback.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use wasmtime::{AsContext, Engine, Store, WasmBacktrace};

use crate::contract::Hook;
use crate::environment::{Clock, FUEL_SLICE, Gauge, GaugedCall, Used};
use crate::host::Guest;
use crate::meter::Meter;

/// The gauge of one instance.
pub(crate) struct Gauged {
    gauge: Arc<dyn Gauge>,
    clock: Arc<dyn Clock>,
    plugin: Arc<str>,
    instance: u64,
    /// The epoch goes on by one per tick of the clock.
    tick: Duration,
    /// Fuel after which the guest comes back.
    slice: u64,
    /// Whether the epoch goes on with each slice as well.
    is_sampled: bool,
}

/// A call that burns fuel.
pub(crate) struct Burning<'a> {
    gauged: &'a Gauged,
    engine: Engine,
    hook: Hook,
    given: u64,
    /// Of that, what the gauge has been told of.
    told: u64,
}

impl Gauged {
    /// Watch an instance whose engine counts fuel.
    pub(crate) fn new(
        gauge: Arc<dyn Gauge>,
        clock: Arc<dyn Clock>,
        plugin: Arc<str>,
        instance: u64,
        tick: Duration,
        store: &mut Store<Guest>,
    ) -> wasmtime::Result<Self> {
        let sampling = gauge.sampling();
        let slice = sampling.unwrap_or(FUEL_SLICE).max(1);
        store.fuel_async_yield_interval(Some(slice))?;
        Ok(Self { gauge, clock, plugin, instance, tick, slice, is_sampled: sampling.is_some() })
    }

    fn call(&self, hook: Hook) -> GaugedCall<'_> {
        GaugedCall { plugin: &self.plugin, instance: self.instance, hook }
    }

    /// A call begins.
    pub(crate) fn begin(&self, hook: Hook, store: &mut Store<Guest>) -> Burning<'_> {
        let given = self.gauge.begin(&self.call(hook));
        // It fails where fuel is not counted, and `new` would have failed there.
        let _ = store.set_fuel(given);
        Burning { gauged: self, engine: store.engine().clone(), hook, given, told: 0 }
    }
}

impl Burning<'_> {
    /// Poll the call. If it comes back after a slice, that is told.
    pub(crate) fn poll<F: Future>(&mut self, call: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let noticed = Arc::new(Noticed { waker: cx.waker().clone(), was_woken: AtomicBool::new(false) });
        let polled = call.poll(&mut Context::from_waker(&Waker::from(Arc::clone(&noticed))));
        if polled.is_pending() && noticed.was_woken.load(Ordering::Relaxed) {
            self.told += self.gauged.slice;
            self.burn(self.gauged.slice);
        }
        polled
    }

    fn burn(&self, fuel: u64) {
        let Gauged { gauge, clock, tick, is_sampled, .. } = self.gauged;
        let ticks = || u128::from(clock.now().as_nanos()) / tick.as_nanos().max(1);
        let before = ticks();
        gauge.burn(&self.gauged.call(self.hook), fuel);
        if *is_sampled || ticks() != before {
            self.engine.increment_epoch();
        }
    }

    /// The call is over.
    pub(crate) fn end(self, store: &Store<Guest>, meter: &Meter) {
        let fuel = self.given.saturating_sub(store.get_fuel().unwrap_or(self.given));
        let began = self.gauged.clock.now();
        self.burn(fuel.saturating_sub(self.told));
        let now = self.gauged.clock.now();
        meter.finish(now, now.since(began));
        let used = Used { fuel, host_calls: meter.host_calls(), memory: store.data().memory.used() };
        self.gauged.gauge.end(&self.gauged.call(self.hook), &used);
    }
}

/// Frames of a sample. What is deeper counts for the last one.
const MOST_FRAMES: usize = 200;

/// The functions that a guest is in, the outermost first.
pub(crate) fn stack(guest: impl AsContext) -> Vec<String> {
    let backtrace = WasmBacktrace::force_capture(guest);
    let outermost = backtrace.frames().iter().rev().take(MOST_FRAMES);
    outermost
        .map(|frame| match frame.func_name() {
            // Without the hash that Rust's names end with.
            Some(name) => format!("{:#}", rustc_demangle::demangle(name)),
            None => format!("function {}", frame.func_index()),
        })
        .collect()
}

/// A waker that remembers whether it was used.
struct Noticed {
    waker: Waker,
    was_woken: AtomicBool,
}

impl Wake for Noticed {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.was_woken.store(true, Ordering::Relaxed);
        self.waker.wake_by_ref();
    }
}
