//! The budgets of one call and what has been used of them.
//!
//! CPU is time spent in the guest. wasmtime's call hook tells when the guest is entered and left; between those
//! the monotonic clock is read, which is cheap. It counts too much if the operating system takes the thread away, so a
//! stretch of guest time counts for at most two ticks by that clock: a longer one meets the epoch callback, and
//! from there on the thread's CPU clock is exact. A plugin is never stopped for time that it did not have.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use wasmtime::UpdateDeadline;

use crate::environment::{Clock, Moment};

/// Why the epoch callback ended a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The CPU budget was used up.
    Cpu,
    /// The call's deadline had come.
    Wall,
    /// Everything is being ended.
    Abandoned,
}

/// When the calls of a plugin end whatever their own budgets say: at the deadline of its stop, or at once.
pub(crate) struct Halt {
    at: AtomicU64,
    abandon: CancellationToken,
    /// Cancelled at that deadline, and when everything is abandoned: wakes calls that wait.
    pub(crate) over: CancellationToken,
}

impl Halt {
    /// `abandon` is cancelled when everything has to end at once.
    pub(crate) fn new(abandon: CancellationToken) -> Self {
        Self { at: AtomicU64::new(Moment::NEVER.as_nanos()), over: abandon.child_token(), abandon }
    }

    /// Whether everything has to end at once.
    pub(crate) fn abandoned(&self) -> bool {
        self.abandon.is_cancelled()
    }

    /// The moment at which every call has to be over.
    pub(crate) fn at(&self) -> Moment {
        Moment::from_nanos(self.at.load(Ordering::Relaxed))
    }

    pub(crate) fn set(&self, at: Moment) {
        self.at.store(at.as_nanos(), Ordering::Relaxed);
    }
}

/// Guest time that has not been added up yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stretch {
    /// The guest is not running.
    Outside,
    /// It runs since this moment on the monotonic clock.
    Entered(Moment),
    /// It yielded at a tick; `Meter::resumed` has the thread's CPU time from when it went on.
    Yielded,
}

/// Measures one store. Lives in the store's data; the call hook and the epoch callback feed it.
pub(crate) struct Meter {
    clock: Arc<dyn Clock>,
    halt: Arc<Halt>,
    longest_stretch: Duration,
    limit: Duration,
    began: Moment,
    deadline: Moment,
    used: Duration,
    stretch: Stretch,
    resumed: Arc<AtomicU64>,
    ended: Option<Ended>,
}

/// `Meter::resumed` while the guest is suspended.
const SUSPENDED: u64 = u64::MAX;

impl Meter {
    pub(crate) fn new(clock: Arc<dyn Clock>, halt: Arc<Halt>, tick: Duration) -> Self {
        Self {
            clock,
            halt,
            longest_stretch: tick * 2,
            limit: Duration::ZERO,
            began: Moment::NEVER,
            deadline: Moment::NEVER,
            used: Duration::ZERO,
            stretch: Stretch::Outside,
            resumed: Arc::new(AtomicU64::new(SUSPENDED)),
            ended: None,
        }
    }

    /// Begin a call with `limit` of guest time, to be over by `deadline`.
    pub(crate) fn begin(&mut self, limit: Duration, began: Moment, deadline: Moment) {
        self.limit = limit;
        self.began = began;
        self.deadline = deadline;
        self.used = Duration::ZERO;
        self.stretch = Stretch::Outside;
        self.ended = None;
    }

    /// Time in the guest since `begin`.
    pub(crate) fn used(&self) -> Duration {
        self.used
    }

    /// The CPU budget.
    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    /// The wall budget.
    pub(crate) fn budget(&self) -> Duration {
        self.deadline().since(self.began)
    }

    /// Why the callback ended the call, if it did.
    pub(crate) fn ended(&self) -> Option<Ended> {
        self.ended
    }

    /// When the call has to be over, the plugin's stop included.
    pub(crate) fn deadline(&self) -> Moment {
        self.deadline.min(self.halt.at())
    }

    /// The call hook: the guest goes on.
    pub(crate) fn enter(&mut self) {
        self.stretch = Stretch::Entered(self.clock.now());
    }

    /// The call hook: the guest stands still.
    pub(crate) fn leave(&mut self) {
        self.used += match self.stretch {
            Stretch::Outside => Duration::ZERO,
            Stretch::Entered(since) => self.clock.now().since(since).min(self.longest_stretch),
            Stretch::Yielded => match self.resumed.load(Ordering::Relaxed) {
                SUSPENDED => Duration::ZERO,
                since => self.clock.thread_cpu().saturating_sub(Duration::from_nanos(since)),
            },
        };
        self.stretch = Stretch::Outside;
    }

    /// The epoch callback: end the call, or let the other tasks of this worker thread run before it goes on.
    pub(crate) fn tick(&mut self) -> UpdateDeadline {
        self.leave();
        let ended = if self.halt.abandoned() {
            Some(Ended::Abandoned)
        } else if self.clock.now() >= self.deadline() {
            Some(Ended::Wall)
        } else if self.used >= self.limit {
            Some(Ended::Cpu)
        } else {
            None
        };
        if let Some(ended) = ended {
            self.ended = Some(ended);
            return UpdateDeadline::Interrupt;
        }
        self.stretch = Stretch::Yielded;
        self.resumed.store(SUSPENDED, Ordering::Relaxed);
        let resume = Resume {
            clock: self.clock.clone(),
            resumed: self.resumed.clone(),
            yielding: Box::pin(tokio::task::yield_now()),
        };
        UpdateDeadline::YieldCustom(1, Box::pin(resume))
    }
}

/// Yields to the other tasks, then notes the CPU time of the thread it goes on with (it may be another one).
struct Resume {
    clock: Arc<dyn Clock>,
    resumed: Arc<AtomicU64>,
    yielding: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Future for Resume {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        std::task::ready!(self.yielding.as_mut().poll(cx));
        let cpu = u64::try_from(self.clock.thread_cpu().as_nanos()).unwrap_or(SUSPENDED - 1);
        self.resumed.store(cpu, Ordering::Relaxed);
        Poll::Ready(())
    }
}
