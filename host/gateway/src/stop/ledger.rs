//! The ledger: the grace period, split up before anything starts.
//!
//! It is arithmetic and nothing else: it knows no clock and no configuration file. Two rules hold. A phase never
//! gets into the time reserved for those after it, however late it began; and what a phase leaves over is passed on,
//! because every share reaches to the planned end of its phase, not to a length counted from its beginning.

use std::time::Duration;

use super::phase::Phase;
use crate::config::Shutdown;

/// Kept back from the grace period for what no phase accounts for: the epoch tick and the longest step that cannot
/// be interrupted (a few milliseconds), the linger in which idle connections are closed without losing a request
/// (100 ms), and the end of the process itself, with room for a busy machine.
pub const MARGIN: Duration = Duration::from_millis(250);

/// The grace period and its parts, which fit into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ledger {
    grace: Duration,
    parts: Parts,
    min_drain: Duration,
}

/// What each phase has to itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    /// Lame-duck time.
    pub drain_delay: Duration,
    /// For exchanges that have begun.
    pub drain: Duration,
    /// The longest end of any plugin, what it has put off and its `shutdown`; they stop side by side.
    pub plugins: Duration,
    /// For logs and the report.
    pub flush: Duration,
}

impl Parts {
    /// All parts and the margin.
    #[must_use]
    pub fn needed(&self) -> Duration {
        [self.drain, self.plugins, self.flush, MARGIN]
            .into_iter()
            .fold(self.drain_delay, |sum, part| sum.saturating_add(part))
    }

    /// What this phase has to itself.
    fn of(&self, phase: Phase) -> Duration {
        match phase {
            Phase::LameDuck => self.drain_delay,
            Phase::Draining => self.drain,
            Phase::Stopping => self.plugins,
            Phase::Flushing => self.flush,
            Phase::Starting | Phase::Ready | Phase::Stopped => Duration::ZERO,
        }
    }

    /// The parts of these phases together.
    fn total(&self, counts: impl Fn(Phase) -> bool) -> Duration {
        SHARED.into_iter().filter(|phase| counts(*phase)).map(|phase| self.of(phase)).sum()
    }
}

/// The phases that have a share, in the order of time.
const SHARED: [Phase; 4] = [Phase::LameDuck, Phase::Draining, Phase::Stopping, Phase::Flushing];

/// The parts do not fit into the grace period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Overdrawn {
    /// The parts and the margin are longer together.
    #[error("the parts of the shutdown need {:?}, but `grace` is {grace:?}", parts.needed())]
    Parts {
        /// What was asked for.
        parts: Parts,
        /// What there is.
        grace: Duration,
    },
    /// The process is to be held up for longer than it may live.
    #[error("`min_drain` is {min_drain:?}, but `grace` leaves {limit:?}")]
    MinDrain {
        /// What was asked for.
        min_drain: Duration,
        /// The grace period without the margin.
        limit: Duration,
    },
}

impl Ledger {
    /// Split the grace period. `plugins` is the longest end of any plugin.
    ///
    /// # Errors
    /// When the parts do not fit.
    pub fn new(shutdown: &Shutdown, plugins: Duration) -> Result<Self, Overdrawn> {
        let Shutdown { grace, drain_delay, drain, flush, min_drain, exit_zero: _ } = *shutdown;
        let parts = Parts { drain_delay, drain, plugins, flush };
        if parts.needed() > grace {
            return Err(Overdrawn::Parts { parts, grace });
        }
        let limit = grace.saturating_sub(MARGIN);
        if min_drain > limit {
            return Err(Overdrawn::MinDrain { min_drain, limit });
        }
        Ok(Self { grace, parts, min_drain })
    }

    /// The whole time from the signal to the exit.
    #[must_use]
    pub fn grace(&self) -> Duration {
        self.grace
    }

    /// What each phase has to itself.
    #[must_use]
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// How long `phase` may last if it begins `elapsed` after the signal: its own part and what earlier phases left
    /// over. A phase that begins late still has its own part as long as the grace period has time that belongs to
    /// nobody; later phases' parts are never touched. Phases outside a stop have no share.
    #[must_use]
    pub fn share(&self, phase: Phase, elapsed: Duration) -> Duration {
        let own = self.parts.of(phase);
        if !SHARED.contains(&phase) {
            return Duration::ZERO;
        }
        let planned_end = self.parts.total(|other| other <= phase);
        let reserved = self.parts.total(|other| other > phase);
        let latest_end = self.grace.saturating_sub(MARGIN).saturating_sub(reserved);
        planned_end.saturating_sub(elapsed).max(own).min(latest_end.saturating_sub(elapsed))
    }

    /// How much longer the process has to stay for `min_drain`, once its work is done `elapsed` after the signal.
    #[must_use]
    pub fn hold(&self, elapsed: Duration) -> Duration {
        self.min_drain.saturating_sub(elapsed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn shutdown(grace: u64, drain_delay: u64, drain: u64, flush: u64) -> Shutdown {
        Shutdown {
            grace: ms(grace),
            drain_delay: ms(drain_delay),
            drain: ms(drain),
            flush: ms(flush),
            min_drain: Duration::ZERO,
            exit_zero: false,
        }
    }

    #[test]
    fn the_defaults_of_the_design_fit() {
        let ledger = Ledger::new(&shutdown(30_000, 0, 15_000, 3_000), ms(5_000)).expect("fits");
        assert_eq!(ledger.share(Phase::Draining, ms(0)), ms(15_000));
        assert_eq!(ledger.share(Phase::Stopping, ms(15_000)), ms(5_000));
        // A drain that took 1 s leaves 14 s over.
        assert_eq!(ledger.share(Phase::Stopping, ms(1_000)), ms(19_000));
        assert_eq!(ledger.share(Phase::Ready, ms(0)), ms(0));
    }

    #[test]
    fn one_millisecond_too_much_is_overdrawn() {
        assert!(Ledger::new(&shutdown(1_250, 100, 400, 200), ms(300)).is_ok());
        assert_eq!(
            Ledger::new(&shutdown(1_249, 100, 400, 200), ms(300)).map_err(|error| error.to_string()),
            Err("the parts of the shutdown need 1.25s, but `grace` is 1.249s".to_owned()),
        );
        let held = Shutdown { min_drain: ms(1_001), ..shutdown(1_250, 0, 0, 0) };
        assert!(matches!(Ledger::new(&held, ms(0)), Err(Overdrawn::MinDrain { limit, .. }) if limit == ms(1_000)));
    }

    #[test]
    fn absurd_parts_do_not_overflow() {
        let endless = Shutdown { drain: Duration::MAX, flush: Duration::MAX, ..shutdown(1_000, 0, 0, 0) };
        assert!(Ledger::new(&endless, Duration::MAX).is_err());
    }

    prop_compose! {
        /// A ledger that fits, with up to 5 s that belong to nobody.
        fn ledgers()(delay in 0u64..5_000, drain in 0u64..20_000, plugins in 0u64..10_000, flush in 0u64..5_000,
                     spare in 0u64..5_000) -> Ledger {
            let grace = delay + drain + plugins + flush + spare + MARGIN.as_millis() as u64;
            Ledger::new(&shutdown(grace, delay, drain, flush), ms(plugins)).expect("built to fit")
        }
    }

    proptest! {
        #[test]
        fn whatever_phases_take_of_their_shares_the_sum_fits(ledger in ledgers(), used in prop::array::uniform4(0u32..=100)) {
            let mut elapsed = Duration::ZERO;
            for (phase, percent) in SHARED.into_iter().zip(used) {
                elapsed += ledger.share(phase, elapsed) * percent / 100;
            }
            prop_assert!(elapsed + MARGIN <= ledger.grace());
        }

        #[test]
        fn a_phase_that_begins_on_time_has_its_part_and_what_was_left_over(
            ledger in ledgers(), used in prop::array::uniform4(0u32..=100),
        ) {
            let (mut elapsed, mut left_over) = (Duration::ZERO, Duration::ZERO);
            for (phase, percent) in SHARED.into_iter().zip(used) {
                let share = ledger.share(phase, elapsed);
                prop_assert_eq!(share, ledger.parts.of(phase) + left_over);
                let took = share * percent / 100;
                left_over = share - took;
                elapsed += took;
            }
        }

        #[test]
        fn no_share_touches_a_later_reserve(ledger in ledgers(), elapsed in 0u64..60_000) {
            for (index, phase) in SHARED.into_iter().enumerate() {
                let later: Duration = SHARED.into_iter().skip(index + 1).map(|later| ledger.parts.of(later)).sum();
                let share = ledger.share(phase, ms(elapsed));
                prop_assert!(share.is_zero() || ms(elapsed) + share + later + MARGIN <= ledger.grace());
            }
        }

        #[test]
        fn lateness_is_paid_from_the_time_that_belongs_to_nobody(ledger in ledgers(), late in 0u64..10_000) {
            let spare = ledger.grace() - ledger.parts.needed();
            for phase in SHARED {
                let planned: Duration =
                    SHARED.into_iter().filter(|other| *other < phase).map(|other| ledger.parts.of(other)).sum();
                let share = ledger.share(phase, planned + ms(late));
                let own = ledger.parts.of(phase);
                prop_assert_eq!(share, own.min((own + spare).saturating_sub(ms(late))));
            }
        }

        #[test]
        fn the_hold_ends_at_min_drain(elapsed in 0u64..2_000, min_drain in 0u64..1_000) {
            let held = Shutdown { min_drain: ms(min_drain), ..shutdown(2_000, 0, 0, 0) };
            let ledger = Ledger::new(&held, Duration::ZERO).expect("fits");
            prop_assert_eq!(ms(elapsed) + ledger.hold(ms(elapsed)), ms(elapsed.max(min_drain)));
        }
    }
}
