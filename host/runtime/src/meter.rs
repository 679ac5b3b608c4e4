//! The budgets of one call and what has been used of them.
//!
//! CPU is the time for which a call keeps its thread busy: the guest's own, and the host's on its behalf. It is measured
//! where a call's future is polled, because whatever waits returns from there; so a sleep costs nothing, and a warm call
//! costs two readings of the clock. The monotonic clock counts too much if the operating system takes the thread away,
//! so the first poll counts for at most two ticks by that clock: a longer one meets the epoch callback, and from the
//! next poll on the thread's CPU clock is exact. A plugin is never stopped for time that it did not have.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use wasmtime::UpdateDeadline;

use crate::environment::{Clock, Gauge, Moment};
use crate::stats::{Late, Tally};
use crate::sync;

/// Why a call was ended: by the epoch callback, by a host call that came too late, or by whoever polled it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Ended {
    /// The CPU budget was used up.
    Cpu = 1,
    /// The call's deadline had come.
    Wall = 2,
    /// Everything is being ended.
    Abandoned = 3,
}

/// When the calls of a plugin end whatever their own budgets say: at the deadline of its stop, or at once.
pub(crate) struct Halt {
    at: AtomicU64,
    /// Told when that moment moves.
    moved: Notify,
    abandon: CancellationToken,
    /// Cancelled at that deadline, and when everything is abandoned: wakes calls that wait.
    pub(crate) over: CancellationToken,
}

impl Halt {
    /// `abandon` is cancelled when everything has to end at once.
    pub(crate) fn new(abandon: CancellationToken) -> Self {
        let (at, moved) = (AtomicU64::new(Moment::NEVER.as_nanos()), Notify::new());
        Self { at, moved, over: abandon.child_token(), abandon }
    }

    /// Whether everything has to end at once.
    pub(crate) fn abandoned(&self) -> bool {
        self.abandon.is_cancelled()
    }

    /// The moment at which every call has to be over.
    pub(crate) fn at(&self) -> Moment {
        Moment::from_nanos(self.at.load(Ordering::Relaxed))
    }

    /// Every call has to be over at this moment, if not earlier already.
    pub(crate) fn no_later_than(&self, at: Moment) {
        sync::point();
        if at.as_nanos() < self.at.fetch_min(at.as_nanos(), Ordering::Relaxed) {
            self.moved.notify_one();
        }
    }

    /// Wait until the moment has moved since the last wait. For one who waits.
    pub(crate) async fn moved(&self) {
        self.moved.notified().await;
    }

    /// The same for another life of the plugin, which nothing has stopped yet.
    pub(crate) fn fresh(&self) -> Self {
        Self::new(self.abandon.clone())
    }
}

/// Measures the calls of one store. Shared by whoever polls the call and by the epoch callback inside it, which take
/// turns on one thread; the atomics are for the compiler, and relaxed.
pub(crate) struct Meter {
    clock: Arc<dyn Clock>,
    halt: Arc<Halt>,
    tally: Tally,
    gauge: Option<Arc<dyn Gauge>>,
    /// Requests to the host that have an effect, if there is a gauge.
    host_calls: AtomicU64,
    /// Nanoseconds that the first poll can count for.
    longest_stretch: u64,
    limit: AtomicU64,
    began: AtomicU64,
    deadline: AtomicU64,
    used: AtomicU64,
    /// When this poll began: on the monotonic clock for the first one, on the thread's CPU clock for others.
    polled: AtomicU64,
    is_first: AtomicBool,
    /// When the last poll returned, or the call was given up.
    ended_at: AtomicU64,
    ended: AtomicU8,
}

impl Meter {
    pub(crate) fn new(
        clock: Arc<dyn Clock>,
        halt: Arc<Halt>,
        tick: Duration,
        tally: Tally,
        gauge: Option<Arc<dyn Gauge>>,
    ) -> Self {
        Self {
            clock,
            halt,
            tally,
            gauge,
            host_calls: AtomicU64::new(0),
            longest_stretch: nanos(tick).saturating_mul(2),
            limit: AtomicU64::new(0),
            began: AtomicU64::new(0),
            deadline: AtomicU64::new(0),
            used: AtomicU64::new(0),
            polled: AtomicU64::new(0),
            is_first: AtomicBool::new(true),
            ended_at: AtomicU64::new(0),
            ended: AtomicU8::new(0),
        }
    }

    /// Begin a call at `began`, with `limit` of CPU time, to be over by `deadline`. Its first poll follows at once.
    ///
    /// Where there is a gauge no operating system takes the thread away, and CPU time is exact from the beginning.
    pub(crate) fn begin(&self, limit: Duration, began: Moment, deadline: Moment) {
        set(&self.limit, nanos(limit));
        set(&self.began, began.as_nanos());
        set(&self.deadline, deadline.as_nanos());
        set(&self.used, 0);
        set(&self.host_calls, 0);
        set(&self.polled, began.as_nanos());
        self.is_first.store(true, Ordering::Relaxed);
        self.ended.store(0, Ordering::Relaxed);
        if self.gauge.is_some() {
            self.resume();
        }
    }

    /// The call is about to be polled again.
    pub(crate) fn resume(&self) {
        self.is_first.store(false, Ordering::Relaxed);
        set(&self.polled, nanos(self.clock.thread_cpu()));
    }

    /// A poll has returned, at `now`.
    pub(crate) fn pause(&self, now: Moment) {
        set(&self.used, get(&self.used).saturating_add(self.stretch(now)));
        set(&self.ended_at, now.as_nanos());
    }

    /// The call ended at `now`, and had more CPU time than was seen in its polls.
    pub(crate) fn finish(&self, now: Moment, more: Duration) {
        set(&self.used, get(&self.used).saturating_add(nanos(more)));
        set(&self.ended_at, now.as_nanos());
    }

    /// The call is given up, at `now`, for this.
    pub(crate) fn cut(&self, now: Moment, why: Ended) {
        set(&self.ended_at, now.as_nanos());
        self.ended.store(why as u8, Ordering::Relaxed);
    }

    /// When the call ended, if it has.
    pub(crate) fn ended_at(&self) -> Moment {
        Moment::from_nanos(get(&self.ended_at))
    }

    /// CPU time of this poll so far, in nanoseconds.
    fn stretch(&self, now: Moment) -> u64 {
        let polled = get(&self.polled);
        if self.is_first.load(Ordering::Relaxed) {
            now.as_nanos().saturating_sub(polled).min(self.longest_stretch)
        } else {
            nanos(self.clock.thread_cpu()).saturating_sub(polled)
        }
    }

    /// CPU time of the call up to the last pause.
    pub(crate) fn used(&self) -> Duration {
        Duration::from_nanos(get(&self.used))
    }

    /// Requests of the call to the host that have an effect; counted for a gauge.
    pub(crate) fn host_calls(&self) -> u64 {
        get(&self.host_calls)
    }

    /// The CPU budget.
    pub(crate) fn limit(&self) -> Duration {
        Duration::from_nanos(get(&self.limit))
    }

    /// The wall budget.
    pub(crate) fn budget(&self) -> Duration {
        self.deadline().since(Moment::from_nanos(get(&self.began)))
    }

    /// When the call has to be over, the plugin's stop included.
    pub(crate) fn deadline(&self) -> Moment {
        Moment::from_nanos(get(&self.deadline)).min(self.halt.at())
    }

    /// Whether a call that was done at `now` was done too late: after its deadline, and not because something stopped it
    /// there. It is counted, and nothing that it returned may take effect.
    ///
    /// The deadline itself is still in time: what is done by then is done, but nothing goes on from then on.
    pub(crate) fn is_late(&self, now: Moment) -> bool {
        let late = now > self.deadline() && self.ended().is_none();
        if late {
            self.tally.came_late(Late::Call);
        }
        late
    }

    /// Whether the deadline of the call has passed. For what the host does for a call on other threads; it ends nothing.
    pub(crate) fn is_over(&self) -> bool {
        self.clock.now() > self.deadline()
    }

    /// To be asked by every host call that has an effect, before it has it: fails after the deadline, which ends the call.
    /// The epoch ends a guest at its next tick; this is for what it asks for until then.
    pub(crate) fn fence(&self) -> wasmtime::Result<()> {
        if let Some(gauge) = &self.gauge {
            let nth = get(&self.host_calls) + 1;
            set(&self.host_calls, nth);
            gauge.host_call(nth);
        }
        if self.clock.now() <= self.deadline() {
            return Ok(());
        }
        self.tally.came_late(Late::HostCall);
        self.ended.store(Ended::Wall as u8, Ordering::Relaxed);
        Err(wasmtime::Error::msg("asked for after the deadline of the call"))
    }

    /// Why the call was ended, if it was.
    pub(crate) fn ended(&self) -> Option<Ended> {
        [Ended::Cpu, Ended::Wall, Ended::Abandoned]
            .into_iter()
            .find(|ended| *ended as u8 == self.ended.load(Ordering::Relaxed))
    }

    /// Why the call has to end now, if it has.
    pub(crate) fn due(&self) -> Option<Ended> {
        let now = self.clock.now();
        if self.halt.abandoned() {
            Some(Ended::Abandoned)
        } else if now >= self.deadline() {
            Some(Ended::Wall)
        } else if get(&self.used).saturating_add(self.stretch(now)) >= get(&self.limit) {
            Some(Ended::Cpu)
        } else {
            None
        }
    }

    /// The epoch callback: end the call, or let the other tasks of this worker thread run before it goes on.
    pub(crate) fn tick(&self) -> UpdateDeadline {
        let Some(ended) = self.due() else {
            return UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now()));
        };
        self.ended.store(ended as u8, Ordering::Relaxed);
        UpdateDeadline::Interrupt
    }
}

fn get(value: &AtomicU64) -> u64 {
    value.load(Ordering::Relaxed)
}

fn set(value: &AtomicU64, new: u64) {
    value.store(new, Ordering::Relaxed);
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
