//! Time that only goes forward, for ages and timeouts. The host's clock; in a native test the machine's, which a test can
//! put forward.

#[cfg(target_arch = "wasm32")]
pub(crate) fn now() -> std::time::Duration {
    std::time::Duration::from_nanos(crate::bindings::clients::wasi::clocks::monotonic_clock::now())
}

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use in_memory::now;

#[cfg(not(target_arch = "wasm32"))]
pub(crate) mod in_memory {
    use std::cell::Cell;
    use std::time::{Duration, Instant};

    thread_local! {
        static ORIGIN: Instant = Instant::now();
        static AHEAD: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }

    pub(crate) fn now() -> Duration {
        ORIGIN.with(Instant::elapsed) + AHEAD.get()
    }

    /// Puts the clock forward that ages are measured on ([`Batcher`](crate::Batcher)), for the test that runs on this
    /// thread. A [`Deadline`](crate::Deadline) is not changed.
    pub fn advance(by: Duration) {
        AHEAD.set(AHEAD.get() + by);
    }
}
