//! The epoch ticker: an OS thread, because a task on the async runtime starves exactly when it is needed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use wasmtime::EngineWeak;

/// Advances an engine's epoch until it is dropped, or the engine is.
pub(crate) struct Ticker {
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl Ticker {
    /// Start ticking once per `period`.
    ///
    /// Ticks follow the clock, not a count of sleeps: a sleep of 1 ms takes 1.07 ms and would drift. After a late
    /// wake-up the missed ticks count as one, which is enough for callbacks that look at the clock themselves.
    pub(crate) fn start(engine: EngineWeak, period: Duration) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::Builder::new().name("epoch-ticker".into()).spawn(move || {
            let mut next = Instant::now() + period;
            while !stopped.load(Ordering::Relaxed) {
                let now = Instant::now();
                if now < next {
                    // Parking rather than sleeping lets the drop below end the thread at once.
                    thread::park_timeout(next - now);
                    continue;
                }
                let Some(engine) = engine.upgrade() else { return };
                engine.increment_epoch();
                next += period;
                if next < now {
                    next = now + period;
                }
            }
        })?;
        Ok(Self { thread: Some(thread), stop })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // The thread does nothing that can panic, and ends within a moment.
            let _ = thread.join();
        }
    }
}
