//! Runs what is asynchronous to its end, on one thread and in virtual time.
//!
//! Everything that can happen now happens first, in the order in which it was woken. Only when all that is left is to wait
//! does the clock go on to the next alarm. So the same test takes the same way every time.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tidegate_runtime::environment::{Clock, Moment};
use tokio::task::JoinHandle;
use tracing::Dispatch;

use crate::clock::{Shared, VirtualClock};

/// Virtual time after which what does not end is given up.
const LONGEST: Duration = Duration::from_secs(7 * 86_400);

/// One thread's executor.
pub(crate) struct Driver {
    tokio: tokio::runtime::Runtime,
    clock: Arc<VirtualClock>,
    idle: Arc<Idle>,
    log: Dispatch,
}

impl Driver {
    /// An executor on this clock. What is logged meanwhile goes to `log`. If it is patient, what is run may wait for real time.
    pub(crate) fn new(clock: Arc<VirtualClock>, log: Dispatch, is_patient: bool) -> std::io::Result<Self> {
        let idle = Arc::new(Idle { clock: Arc::clone(&clock), is_patient, ..Idle::default() });
        let parked = Arc::clone(&idle);
        let tokio = tokio::runtime::Builder::new_current_thread()
            // For the limit of a compilation, which takes real time.
            .enable_time()
            .on_thread_park(move || parked.on_park())
            .build()?;
        Ok(Self { tokio, clock, idle, log })
    }

    /// Run this to its end. Where the driver is patient, what other threads do is waited for while nobody sleeps.
    ///
    /// # Panics
    /// If it waits for something that never comes, or for more than a week.
    pub(crate) fn run<F: Future>(&self, future: F) -> F::Output {
        let latest = Shared(Arc::clone(&self.clock)).now() + LONGEST;
        self.idle.latest.store(latest.as_nanos(), Ordering::Relaxed);
        self.idle.is_stuck.store(false, Ordering::Relaxed);
        // What it has set off happens before this returns, as far as it can happen now.
        let mut future = pin!(async {
            let output = future.await;
            self.idle.is_settling.store(true, Ordering::Relaxed);
            std::future::poll_fn(|_| match self.idle.is_settling.load(Ordering::Relaxed) {
                true => Poll::Pending,
                false => Poll::Ready(()),
            })
            .await;
            output
        });
        let main = std::future::poll_fn(|cx| {
            assert!(
                !self.idle.is_stuck.load(Ordering::Relaxed),
                "this waits for something that does not come: nothing is left to happen within {LONGEST:?} of virtual time"
            );
            self.idle.is_woken.store(false, Ordering::Relaxed);
            *self.idle.main.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
            let waker = Waker::from(Arc::clone(&self.idle));
            future.as_mut().poll(&mut Context::from_waker(&waker))
        });
        tracing::dispatcher::with_default(&self.log, || self.tokio.block_on(main))
    }

    /// Begin this beside whatever is run later. What can happen of it now happens.
    pub(crate) fn begin<F: Future<Output: Send> + Send + 'static>(&self, future: F) -> JoinHandle<F::Output> {
        let begun = self.tokio.spawn(future);
        self.run(std::future::ready(()));
        begun
    }
}

/// What happens when nothing can: time goes on.
#[derive(Debug)]
struct Idle {
    clock: Arc<VirtualClock>,
    /// What is run, and whether it has been woken since it was polled.
    main: Mutex<Option<Waker>>,
    is_woken: AtomicBool,
    /// Whether there is always something that real time brings.
    is_patient: bool,
    is_stuck: AtomicBool,
    /// Whether it is over but for what can still happen now.
    is_settling: AtomicBool,
    /// How far the clock may go.
    latest: AtomicU64,
}

impl Default for Idle {
    fn default() -> Self {
        Self {
            clock: Arc::new(VirtualClock::new(Duration::ZERO)),
            main: Mutex::default(),
            is_woken: AtomicBool::new(true),
            is_patient: false,
            is_stuck: AtomicBool::new(false),
            is_settling: AtomicBool::new(false),
            latest: AtomicU64::new(0),
        }
    }
}

impl Idle {
    /// No task can run. What is run itself may be about to.
    fn on_park(&self) {
        if self.is_woken.load(Ordering::Relaxed) {
            return;
        }
        if self.is_settling.swap(false, Ordering::Relaxed) {
            return self.wake_main();
        }
        let went_on = self.clock.skip(Moment::from_nanos(self.latest.load(Ordering::Relaxed)));
        if !went_on && !self.is_patient {
            self.is_stuck.store(true, Ordering::Relaxed);
            self.wake_main();
        }
    }

    fn wake_main(&self) {
        self.is_woken.store(true, Ordering::Relaxed);
        let main = self.main.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(main) = main {
            main.wake();
        }
    }
}

impl Wake for Idle {
    fn wake(self: Arc<Self>) {
        self.wake_main();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_main();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn driver() -> (Driver, Shared) {
        let clock = Arc::new(VirtualClock::new(Duration::ZERO));
        (Driver::new(Arc::clone(&clock), Dispatch::none(), false).expect("starts"), Shared(clock))
    }

    fn patient() -> Driver {
        Driver::new(Arc::new(VirtualClock::new(Duration::ZERO)), Dispatch::none(), true).expect("starts")
    }

    #[test]
    fn waiting_takes_no_time_and_alarms_ring_in_their_order() {
        let (driver, clock) = driver();
        let heard = driver.run(async {
            let (sent, mut received) = tokio::sync::mpsc::unbounded_channel();
            for seconds in [3_u64, 1, 2] {
                let (clock, sent) = (clock.clone(), sent.clone());
                tokio::spawn(async move {
                    clock.sleep_until(Moment::from_nanos(seconds * 1_000_000_000)).await;
                    let _ = sent.send((seconds, clock.now().as_nanos()));
                });
            }
            drop(sent);
            let mut heard = Vec::new();
            while let Some(one) = received.recv().await {
                heard.push(one);
            }
            heard
        });
        assert_eq!(heard, [1, 2, 3].map(|seconds| (seconds, seconds * 1_000_000_000)));
    }

    #[test]
    fn the_clock_stands_still_as_long_as_there_is_something_to_do() {
        let (driver, clock) = driver();
        driver.run(async {
            let sleeping = tokio::spawn(clock.sleep_until(Moment::from_nanos(1)));
            for _ in 0..1_000 {
                tokio::task::yield_now().await;
                assert_eq!(clock.now().as_nanos(), 0);
            }
            sleeping.await.expect("it ends");
            assert_eq!(clock.now().as_nanos(), 1);
        });
    }

    #[test]
    #[should_panic(expected = "waits for something that does not come")]
    fn what_never_comes_is_a_failure_and_no_hang() {
        driver().0.run(std::future::pending::<()>());
    }

    #[test]
    #[should_panic(expected = "waits for something that does not come")]
    fn what_goes_on_for_ever_is_a_failure_and_no_hang() {
        let (driver, clock) = driver();
        driver.run(async {
            loop {
                clock.sleep_until(clock.now() + Duration::from_secs(3_600)).await;
            }
        });
    }

    #[test]
    fn what_another_thread_does_is_waited_for() {
        let sum = patient().run(async { tokio::task::spawn_blocking(|| 40 + 2).await.expect("it ends") });
        assert_eq!(sum, 42);
    }
}
