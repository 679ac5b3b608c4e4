//! Time enters the runtime through one seam: with a clock of the test's own, budgets are used up when the test says
//! so, and real time plays no part.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tidegate_runtime::environment::{Clock, Environment, Moment, Randomness, Sleep, Ticks};
use tidegate_runtime::{EndCause, Limits, Runtime, RuntimeConfig};
use tidegate_tests::plugins::{Fixture, misbehave};

/// Stands still until it is advanced.
#[derive(Default)]
struct StillClock {
    nanos: AtomicU64,
    wakers: Mutex<Vec<Waker>>,
}

impl StillClock {
    fn advance(&self, by: Duration) {
        self.nanos.fetch_add(u64::try_from(by.as_nanos()).expect("short"), Ordering::SeqCst);
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

fn still_runtime() -> (Runtime, Arc<StillClock>) {
    let clock = Arc::new(StillClock::default());
    let environment =
        Environment { clock: Arc::new(Shared(clock.clone())), ticks: Ticks::Manual, randomness: Randomness::Seeded(7) };
    let config = RuntimeConfig { slots: 8, cache: None, environment };
    (Runtime::new(config).expect("the engine starts"), clock)
}

#[tokio::test]
async fn a_guest_that_waits_is_stopped_at_the_very_moment() {
    let (runtime, clock) = still_runtime();
    let limits = Limits { wall: Duration::from_secs(1000), ..Limits::default() };
    let fixture = Fixture { limits, ..Fixture::hostile(r#"{"on_request": "from-header"}"#) };
    let plugin = fixture.load(&runtime).await.expect("loads");
    let mut call = pin!(misbehave(&plugin, "sleep"));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(call.as_mut().poll(&mut cx).is_pending());
    clock.advance(Duration::from_nanos(999_999_999_999));
    assert!(call.as_mut().poll(&mut cx).is_pending());
    clock.advance(Duration::from_nanos(1));
    assert!(matches!(call.as_mut().poll(&mut cx), Poll::Ready(Err(EndCause::Wall { .. }))));
}

#[tokio::test]
async fn a_guest_that_computes_is_stopped_when_the_tests_clock_says_so() {
    let (runtime, clock) = still_runtime();
    // Time flies while the guest waits for its turn, too: only its CPU time is limited.
    let limits = Limits { cpu: Duration::from_secs(1), wall: Duration::MAX, ..Limits::default() };
    let fixture = Fixture { limits, ..Fixture::hostile(r#"{"on_request": "from-header"}"#) };
    let plugin = fixture.load(&runtime).await.expect("loads");
    // Another thread lets time pass, a tick at a time and as fast as it can: the seconds fly by.
    let done = Arc::new(AtomicBool::new(false));
    let (ticking, ended) = (runtime.clone(), done.clone());
    let ticker = std::thread::spawn(move || {
        while !ended.load(Ordering::SeqCst) {
            clock.advance(Duration::from_millis(1));
            ticking.tick();
        }
    });
    let end = misbehave(&plugin, "spin").await;
    done.store(true, Ordering::SeqCst);
    ticker.join().expect("the ticker ends");
    assert!(matches!(end, Err(EndCause::Cpu { limit, used }) if limit.as_secs() == 1 && used >= limit), "{end:?}");
}
