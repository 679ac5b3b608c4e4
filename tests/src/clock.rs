//! A clock that stands still until a test advances it, and a runtime on it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use tidegate_runtime::environment::{Clock, Environment, Moment, Randomness, Sleep, Ticks};
use tidegate_runtime::{Runtime, RuntimeConfig};

/// Stands still until it is advanced.
#[derive(Default)]
pub struct StillClock {
    nanos: AtomicU64,
    wakers: Mutex<Vec<Waker>>,
}

impl StillClock {
    /// Let so much time pass.
    pub fn advance(&self, by: Duration) {
        self.nanos.fetch_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX), Ordering::SeqCst);
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner).drain(..).for_each(Waker::wake);
    }
}

/// The clock as the runtime holds it.
struct Shared(Arc<StillClock>);

impl Clock for Shared {
    fn now(&self) -> Moment {
        Moment::from_nanos(self.0.nanos.load(Ordering::SeqCst))
    }

    fn thread_cpu(&self) -> Duration {
        Duration::from_nanos(self.now().as_nanos())
    }

    fn unix(&self) -> Duration {
        Duration::from_nanos(self.now().as_nanos())
    }

    fn sleep_until(&self, moment: Moment) -> Sleep {
        let clock = Self(self.0.clone());
        Box::pin(std::future::poll_fn(move |cx| {
            if clock.now() >= moment {
                return Poll::Ready(());
            }
            clock.0.wakers.lock().unwrap_or_else(PoisonError::into_inner).push(cx.waker().clone());
            Poll::Pending
        }))
    }
}

/// A runtime that has such a clock, and whose epoch is ticked by hand.
///
/// # Panics
/// If the machine cannot run one.
#[must_use]
pub fn still_runtime() -> (Runtime, Arc<StillClock>) {
    let clock = Arc::new(StillClock::default());
    let environment = Environment {
        clock: Arc::new(Shared(clock.clone())),
        ticks: Ticks::Manual,
        randomness: Randomness::Seeded(7),
        gauge: None,
    };
    let config = RuntimeConfig { slots: 8, cache: None, environment };
    (Runtime::new(config).unwrap_or_else(|error| panic!("{error}")), clock)
}
