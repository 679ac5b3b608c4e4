//! Fuel: what a guest computes, told to a [`Gauge`] as it is burned.
//!
//! A guest that counts fuel comes back from a poll after each slice of it, having woken itself. That is how a slice is told
//! from a wait, in which whoever is waited for wakes the call later: one lets the clock go on, the other does not. Where the
//! guest is and what it has burned cannot be seen then, since it has been suspended as a whole. So the epoch goes on with
//! each slice, and its callback sees both.
//!
//! One instruction can burn many slices (a copy of many bytes, before it is made). They are told one by one, and the guest
//! ends at the one that its time is up with: no end is later than a slice.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use wasmtime::{AsContext, Engine, Store, StoreContext, WasmBacktrace};

use crate::contract::Hook;
use crate::environment::{Clock, FUEL_SLICE, Gauge, GaugedCall, Used};
use crate::host::Guest;
use crate::meter::Meter;

/// The gauge of one instance, for whoever polls its call and for the callback of the epoch inside it.
pub(crate) struct Gauged {
    gauge: Arc<dyn Gauge>,
    clock: Arc<dyn Clock>,
    engine: Engine,
    plugin: Arc<str>,
    instance: u64,
    /// Fuel after which the guest comes back.
    slice: u64,
    is_sampled: bool,
    call: Mutex<Burning>,
}

/// A call that burns fuel.
struct Burning {
    hook: Hook,
    given: u64,
    /// Of that, what is left as far as the gauge has been told.
    left: u64,
}

impl Gauged {
    /// Watch an instance whose engine counts fuel.
    pub(crate) fn new(
        gauge: Arc<dyn Gauge>,
        clock: Arc<dyn Clock>,
        plugin: Arc<str>,
        instance: u64,
        store: &mut Store<Guest>,
    ) -> wasmtime::Result<Arc<Self>> {
        let sampling = gauge.sampling();
        let slice = sampling.unwrap_or(FUEL_SLICE).max(1);
        store.fuel_async_yield_interval(Some(slice))?;
        let engine = store.engine().clone();
        let call = Mutex::new(Burning { hook: Hook::Configure, given: 0, left: 0 });
        Ok(Arc::new(Self { gauge, clock, engine, plugin, instance, slice, is_sampled: sampling.is_some(), call }))
    }

    // Changed in single steps: a poisoned one is as good as a sound one.
    fn burning(&self) -> MutexGuard<'_, Burning> {
        self.call.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call(&self, hook: Hook) -> GaugedCall<'_> {
        GaugedCall { plugin: &self.plugin, instance: self.instance, hook }
    }

    /// A call begins.
    pub(crate) fn begin(&self, hook: Hook, store: &mut Store<Guest>) {
        let given = self.gauge.begin(&self.call(hook));
        // It fails where fuel is not counted, and `new` would have failed there.
        let _ = store.set_fuel(given);
        *self.burning() = Burning { hook, given, left: given };
    }

    /// Poll the call. A guest that comes back after a slice goes on to where it sees that the epoch has gone on.
    pub(crate) fn poll<F: Future>(&self, mut call: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let noticed = Arc::new(Noticed { waker: cx.waker().clone(), state: AtomicU8::new(Noticed::POLLING) });
        let polled = call.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::clone(&noticed))));
        let was_woken = noticed.state.swap(Noticed::POLLED, Ordering::Relaxed) == Noticed::WOKEN;
        if polled.is_pending() && was_woken {
            self.engine.increment_epoch();
            return call.poll(cx);
        }
        polled
    }

    /// For the callback of the epoch: tell what the guest has burned since the last time, as long as it has time for it.
    pub(crate) fn slice(&self, guest: impl AsContext<Data = Guest>, meter: &Meter) {
        let untold = self.untold(guest.as_context());
        if self.is_sampled && untold >= self.slice {
            let stack = stack(&guest);
            (0..untold / self.slice).for_each(|_| self.gauge.sample(&stack));
        }
        let mut rest = untold;
        loop {
            let part = rest.min(self.slice);
            self.burn(part);
            rest -= part;
            if rest == 0 || meter.due().is_some() {
                return;
            }
        }
    }

    fn untold(&self, guest: StoreContext<'_, Guest>) -> u64 {
        let left = self.burning().left;
        left.saturating_sub(guest.get_fuel().unwrap_or(left))
    }

    fn burn(&self, fuel: u64) {
        let hook = {
            let mut burning = self.burning();
            burning.left = burning.left.saturating_sub(fuel);
            burning.hook
        };
        self.gauge.burn(&self.call(hook), fuel);
    }

    /// The call is over. What it has burned since its last slice takes its time, unless it was ended: then it ended where the
    /// clock is.
    pub(crate) fn end(&self, store: &Store<Guest>, meter: &Meter) {
        if meter.ended().is_none() {
            let began = self.clock.now();
            self.burn(self.untold(store.as_context()));
            let now = self.clock.now();
            meter.finish(now, now.since(began));
        }
        let (hook, given) = {
            let burning = self.burning();
            (burning.hook, burning.given)
        };
        let fuel = given.saturating_sub(store.get_fuel().unwrap_or(given));
        let used = Used { fuel, host_calls: meter.host_calls(), memory: store.data().memory.used() };
        self.gauge.end(&self.call(hook), &used);
    }
}

/// Frames of a sample. What is deeper counts for the last one.
const MOST_FRAMES: usize = 200;

/// The functions that a guest is in, the outermost first.
fn stack(guest: impl AsContext) -> Vec<String> {
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

/// A waker that notices whether it is used during a poll, and does not wake then: the call is polled again at once, and
/// yields, if it does, in the callback of the epoch.
struct Noticed {
    waker: Waker,
    state: AtomicU8,
}

impl Noticed {
    const POLLING: u8 = 0;
    const WOKEN: u8 = 1;
    const POLLED: u8 = 2;
}

impl Wake for Noticed {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let noticed = self.state.compare_exchange(Self::POLLING, Self::WOKEN, Ordering::Relaxed, Ordering::Relaxed);
        if noticed == Err(Self::POLLED) {
            self.waker.wake_by_ref();
        }
    }
}
