//! Virtual time: it goes on with what guests compute, with what a test says, and to the next alarm when all there is to do
//! is to wait.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tidegate_runtime::environment::{Clock, Moment, Sleep};

/// A clock that nothing but its owner moves.
#[derive(Debug)]
pub(crate) struct VirtualClock {
    /// Time since the Unix epoch at the clock's origin.
    epoch: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    now: u64,
    /// Of that, what guests have computed.
    computed: u64,
    /// Who sleeps, by the moment and by a number of their own.
    sleepers: BTreeMap<(u64, u64), Waker>,
    next: u64,
}

impl VirtualClock {
    pub(crate) fn new(epoch: Duration) -> Self {
        Self { epoch, state: Mutex::default() }
    }

    // Changed in single steps: a poisoned one is as good as a sound one.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time goes on.
    pub(crate) fn pass(&self, by: Duration) {
        let mut state = self.state();
        state.now = state.now.saturating_add(nanos(by));
        ring(state);
    }

    /// A guest has computed for so long.
    pub(crate) fn compute(&self, nanos: u64) {
        let mut state = self.state();
        state.now = state.now.saturating_add(nanos);
        state.computed = state.computed.saturating_add(nanos);
        ring(state);
    }

    /// Go on to the next alarm, unless it is later than this. Whether there was one.
    pub(crate) fn skip(&self, latest: Moment) -> bool {
        let mut state = self.state();
        let first = state.sleepers.first_key_value().map(|((at, _), _)| *at);
        let Some(at) = first.filter(|at| *at <= latest.as_nanos()) else { return false };
        state.now = state.now.max(at);
        ring(state);
        true
    }
}

/// Wake whoever has slept long enough; in the order of their moments, and of their coming.
fn ring(mut state: MutexGuard<'_, State>) {
    if state.sleepers.first_key_value().is_none_or(|((at, _), _)| *at > state.now) {
        return;
    }
    let after = (state.now.saturating_add(1), 0);
    let later = state.sleepers.split_off(&after);
    let due = std::mem::replace(&mut state.sleepers, later);
    drop(state);
    due.into_values().for_each(Waker::wake);
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The clock as the runtime holds it.
#[derive(Debug, Clone)]
pub(crate) struct Shared(pub(crate) Arc<VirtualClock>);

impl Clock for Shared {
    fn now(&self) -> Moment {
        Moment::from_nanos(self.0.state().now)
    }

    fn thread_cpu(&self) -> Duration {
        Duration::from_nanos(self.0.state().computed)
    }

    fn unix(&self) -> Duration {
        self.0.epoch + Duration::from_nanos(self.0.state().now)
    }

    fn sleep_until(&self, moment: Moment) -> Sleep {
        Box::pin(Sleeper { clock: Arc::clone(&self.0), at: moment, number: None })
    }
}

struct Sleeper {
    clock: Arc<VirtualClock>,
    at: Moment,
    number: Option<u64>,
}

impl Future for Sleeper {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let at = self.at.as_nanos();
        let clock = Arc::clone(&self.clock);
        let mut state = clock.state();
        if state.now >= at {
            return Poll::Ready(());
        }
        if self.at == Moment::NEVER {
            return Poll::Pending;
        }
        let number = *self.number.get_or_insert_with(|| {
            state.next += 1;
            state.next
        });
        state.sleepers.insert((at, number), cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.clock.state().sleepers.remove(&(self.at.as_nanos(), number));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleepers_wake_in_the_order_of_their_moments_and_not_before() {
        let clock = Shared(Arc::new(VirtualClock::new(Duration::ZERO)));
        let mut cx = Context::from_waker(Waker::noop());
        let at = |nanos| clock.sleep_until(Moment::from_nanos(nanos));
        let (mut first, mut second, mut never) = (at(5), at(7), at(u64::MAX));
        for sleep in [&mut first, &mut second, &mut never] {
            assert!(sleep.as_mut().poll(&mut cx).is_pending());
        }
        assert!(!clock.0.skip(Moment::from_nanos(4)));
        assert!(clock.0.skip(Moment::NEVER));
        assert_eq!(clock.now().as_nanos(), 5);
        assert!(first.as_mut().poll(&mut cx).is_ready());
        assert!(second.as_mut().poll(&mut cx).is_pending());
        clock.0.compute(2);
        assert!(second.as_mut().poll(&mut cx).is_ready());
        assert_eq!((clock.now().as_nanos(), clock.thread_cpu().as_nanos()), (7, 2));
        assert!(never.as_mut().poll(&mut cx).is_pending());
        assert!(clock.0.state().sleepers.is_empty(), "nobody waits for a moment that comes");
    }

    #[test]
    fn a_sleep_that_is_given_up_leaves_nothing_behind() {
        let clock = Shared(Arc::new(VirtualClock::new(Duration::ZERO)));
        let mut sleep = clock.sleep_until(Moment::from_nanos(5));
        assert!(sleep.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert_eq!(clock.0.state().sleepers.len(), 1);
        drop(sleep);
        assert!(clock.0.state().sleepers.is_empty());
    }
}
