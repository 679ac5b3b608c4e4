//! How much the instances of one plugin may write to the log together: so many lines and bytes per second.
//!
//! A token bucket for each, which holds what two seconds may have, so that a call that has much to say can say it. A line
//! that finds too little of either is dropped and counted; how many there were is said once per second at most.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::environment::{Clock, Moment};
use crate::limits::Limits;
use crate::stats::Tally;

/// How long tokens gather.
const BURST: f64 = 2.0;

/// The time between two lines about dropped ones.
const BETWEEN_NOTICES: Duration = Duration::from_secs(1);

/// The allowance of one plugin, shared by its instances.
pub(crate) struct Allowance {
    plugin: Arc<str>,
    clock: Arc<dyn Clock>,
    tally: Tally,
    /// Per second.
    lines: f64,
    bytes: f64,
    state: Mutex<State>,
}

struct State {
    lines: f64,
    bytes: f64,
    /// When tokens were last added.
    filled: Moment,
    /// Lines dropped of which nothing has been said.
    unsaid: u64,
    said: Option<Moment>,
}

/// What becomes of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is written.
    Write,
    /// It is dropped.
    Drop,
    /// It is dropped, and it is time to say that so many were.
    DropAndSay(u64),
}

impl Allowance {
    pub(crate) fn new(plugin: Arc<str>, limits: &Limits, clock: Arc<dyn Clock>, tally: Tally) -> Arc<Self> {
        let (lines, bytes) = (as_rate(limits.log_lines), as_rate(limits.log_bytes));
        let state = State { lines: lines * BURST, bytes: bytes * BURST, filled: clock.now(), unsaid: 0, said: None };
        Arc::new(Self { plugin, clock, tally, lines, bytes, state: Mutex::new(state) })
    }

    // Nothing below leaves the state half-changed, so a poisoned lock is as good as a sound one.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ask for a line of so many bytes.
    pub(super) fn take(&self, bytes: usize) -> Answer {
        let (now, bytes) = (self.clock.now(), as_rate(bytes));
        let mut state = self.state();
        let passed = now.since(state.filled).as_secs_f64();
        state.lines = (state.lines + passed * self.lines).min(self.lines * BURST);
        state.bytes = (state.bytes + passed * self.bytes).min(self.bytes * BURST);
        // Threads may come here in another order than that of their readings of the clock.
        state.filled = state.filled.max(now);
        if state.lines >= 1.0 && state.bytes >= bytes {
            state.lines -= 1.0;
            state.bytes -= bytes;
            return Answer::Write;
        }
        self.tally.drop_log_lines(1);
        state.unsaid += 1;
        if state.said.is_some_and(|said| now.since(said) < BETWEEN_NOTICES) {
            return Answer::Drop;
        }
        state.said = Some(now);
        Answer::DropAndSay(std::mem::take(&mut state.unsaid))
    }

    /// How many lines were dropped of which nothing has been said, if it is time to say it.
    pub(super) fn unsaid(&self) -> Option<u64> {
        let mut state = self.state();
        if state.unsaid == 0 {
            return None;
        }
        let now = self.clock.now();
        if state.said.is_some_and(|said| now.since(said) < BETWEEN_NOTICES) {
            return None;
        }
        state.said = Some(now);
        Some(std::mem::take(&mut state.unsaid))
    }
}

impl Drop for Allowance {
    fn drop(&mut self) {
        let unsaid = self.state().unsaid;
        if unsaid > 0 {
            say(&self.plugin, unsaid);
        }
    }
}

/// Tell the operator. The host's own words, so not under the plugin's instance, hook and request.
pub(super) fn say(plugin: &str, dropped: u64) {
    tracing::warn!(plugin, dropped, "log lines of the plugin were dropped: over its limit `log_lines` or `log_bytes`");
}

#[expect(clippy::cast_precision_loss, reason = "limits and lengths are far below 2^53")]
fn as_rate(number: usize) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::environment::Sleep;

    #[derive(Default)]
    struct ByHand(AtomicU64);

    impl ByHand {
        fn advance(&self, by: Duration) {
            self.0.fetch_add(u64::try_from(by.as_nanos()).expect("short"), Ordering::Relaxed);
        }
    }

    impl Clock for ByHand {
        fn now(&self) -> Moment {
            Moment::from_nanos(self.0.load(Ordering::Relaxed))
        }

        fn thread_cpu(&self) -> Duration {
            Duration::ZERO
        }

        fn unix(&self) -> Duration {
            Duration::ZERO
        }

        fn sleep_until(&self, _: Moment) -> Sleep {
            Box::pin(std::future::pending())
        }
    }

    fn allowance(log_lines: usize, log_bytes: usize) -> (Arc<ByHand>, Arc<Allowance>, Tally) {
        let (clock, tally) = (Arc::new(ByHand::default()), Tally::default());
        let limits = Limits { log_lines, log_bytes, ..Limits::default() };
        let allowance = Allowance::new("p".into(), &limits, clock.clone(), tally.clone());
        (clock, allowance, tally)
    }

    #[test]
    fn two_seconds_worth_of_lines_come_at_once_and_then_as_many_as_the_limit_says() {
        let (clock, allowance, tally) = allowance(10, 1 << 20);
        let written = |many: usize| (0..many).filter(|_| allowance.take(1) == Answer::Write).count();
        assert_eq!(written(100), 20);
        assert_eq!(tally.log_dropped(), 80);
        for _ in 0..5 {
            clock.advance(Duration::from_secs(1));
            assert_eq!(written(100), 10);
        }
        clock.advance(Duration::from_secs(3600));
        assert_eq!(written(100), 20, "an hour of silence saves up no more than two seconds");
    }

    #[test]
    fn long_lines_meet_the_limit_on_bytes() {
        let (clock, allowance, _) = allowance(1_000, 100);
        assert_eq!(allowance.take(150), Answer::Write);
        assert_eq!(allowance.take(51), Answer::DropAndSay(1));
        assert_eq!(allowance.take(50), Answer::Write, "a shorter one still fits");
        clock.advance(Duration::from_secs(1));
        assert_eq!(allowance.take(100), Answer::Write);
    }

    #[test]
    fn what_was_dropped_is_said_once_per_second_and_every_line_is_in_one_notice() {
        let (clock, allowance, tally) = allowance(1, 1 << 20);
        let mut said = Vec::new();
        for _ in 0..30 {
            if let Answer::DropAndSay(lines) = allowance.take(1) {
                said.push(lines);
            }
            clock.advance(Duration::from_millis(100));
        }
        assert_eq!(said.len(), 3, "{said:?}");
        clock.advance(Duration::from_secs(1));
        said.extend(allowance.unsaid());
        assert_eq!(allowance.unsaid(), None);
        assert_eq!(said.iter().sum::<u64>(), tally.log_dropped());
    }
}
