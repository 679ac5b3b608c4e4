//! Keeps a plugin that fails again and again from costing more than its failures.
//!
//! Faults are counted in a row: one call of the same hook that ends well forgets them (a response hook that does well must
//! not hide that every request traps). A few are free, so that a handful of requests
//! that make a plugin fail cost the others nothing but a new instance each. From then on each fault delays the
//! replacement longer, and after [`TRIPS_AT`] calls are refused until the delay is over. Then whatever instances there
//! are serve again; the first call decides whether it was worth it.

use std::time::Duration;

use super::Health;
use crate::contract::Hook;
use crate::environment::Moment;

/// Faults in a row whose replacements come up at once.
const FREE: u32 = 4;

/// Faults in a row that open the breaker.
pub(super) const TRIPS_AT: u32 = 10;

/// Delay after the first fault that is not free; doubled by each further one.
const FIRST_DELAY: Duration = Duration::from_millis(10);

/// The longest delay.
const LONGEST_DELAY: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct Breaker {
    faults: u32,
    /// The hook that failed last.
    failing: Option<Hook>,
    gives_up_at: Option<u32>,
    open_until: Option<Moment>,
}

impl Breaker {
    /// `gives_up_at` faults in a row are [`Health::GivenUp`]; never, if there is no such number.
    pub(super) fn new(gives_up_at: Option<u32>) -> Self {
        Self { gives_up_at, ..Self::default() }
    }

    pub(super) fn health(&self) -> Health {
        if self.gives_up_at.is_some_and(|most| self.faults >= most) {
            Health::GivenUp
        } else if self.has_tripped() {
            Health::Tripped
        } else {
            Health::Good
        }
    }

    /// Whether calls are refused now.
    pub(super) fn is_open(&self, now: Moment) -> bool {
        self.open_until.is_some_and(|until| now < until)
    }

    /// Until when calls are refused, if it has tripped and no call has ended well since.
    pub(super) fn open_until(&self) -> Option<Moment> {
        self.open_until
    }

    /// Whether it has tripped and no call has ended well since.
    pub(super) fn has_tripped(&self) -> bool {
        self.open_until.is_some()
    }

    /// How long a replacement has to wait.
    pub(super) fn delay(&self) -> Duration {
        match self.faults.checked_sub(FREE + 1) {
            None => Duration::ZERO,
            Some(doublings) => FIRST_DELAY.saturating_mul(1 << doublings.min(16)).min(LONGEST_DELAY),
        }
    }

    pub(super) fn fault(&mut self, hook: Hook, now: Moment) {
        self.failing = Some(hook);
        self.faults = self.faults.saturating_add(1);
        if self.faults >= TRIPS_AT {
            self.open_until = Some(now + self.delay());
        }
    }

    /// A call has ended well. Tells whether that makes anything forgotten. Starts that fail (`configure`) are forgotten
    /// with any call: there is an instance that serves.
    pub(super) fn success(&mut self, hook: Hook) -> bool {
        let forgets = self.failing.is_some_and(|failing| failing == hook || failing == Hook::Configure);
        if forgets {
            *self = Self::new(self.gives_up_at);
        }
        forgets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn a_few_faults_cost_no_delay() {
        let mut breaker = Breaker::default();
        for _ in 0..FREE {
            breaker.fault(Hook::OnRequest, at(0));
        }
        assert_eq!(breaker.delay(), Duration::ZERO);
        assert!(!breaker.has_tripped());
    }

    #[test]
    fn faults_in_a_row_open_it_for_longer_and_longer() {
        let mut breaker = Breaker::default();
        for _ in 0..TRIPS_AT {
            assert!(!breaker.is_open(at(0)));
            breaker.fault(Hook::OnRequest, at(0));
        }
        assert!(breaker.is_open(at(319)));
        assert!(!breaker.is_open(at(320)));
        breaker.fault(Hook::OnRequest, at(320));
        assert!(breaker.is_open(at(959)));
        for _ in 0..100 {
            breaker.fault(Hook::OnRequest, at(0));
        }
        assert_eq!(breaker.delay(), LONGEST_DELAY);
    }

    #[test]
    fn it_gives_up_at_the_number_it_was_told_and_not_without_one() {
        let (mut stern, mut patient) = (Breaker::new(Some(TRIPS_AT + 1)), Breaker::new(None));
        for breaker in [&mut stern, &mut patient] {
            assert_eq!(breaker.health(), Health::Good);
            for _ in 0..TRIPS_AT {
                breaker.fault(Hook::OnRequest, at(0));
            }
            assert_eq!(breaker.health(), Health::Tripped);
            breaker.fault(Hook::OnRequest, at(0));
        }
        assert_eq!((stern.health(), patient.health()), (Health::GivenUp, Health::Tripped));
        assert!(stern.success(Hook::OnRequest));
        assert_eq!(stern.health(), Health::Good);
        assert!(!stern.success(Hook::OnRequest));
    }

    #[test]
    fn a_hook_that_does_well_does_not_hide_one_that_fails() {
        let mut breaker = Breaker::default();
        for _ in 0..TRIPS_AT {
            breaker.fault(Hook::OnRequest, at(0));
            assert!(!breaker.success(Hook::OnResponse));
        }
        assert!(breaker.has_tripped());
        assert!(breaker.success(Hook::OnRequest));
        breaker.fault(Hook::Configure, at(0));
        assert!(breaker.success(Hook::OnResponse), "something serves");
    }

    #[test]
    fn one_success_forgets_them() {
        let mut breaker = Breaker::default();
        for _ in 0..TRIPS_AT {
            breaker.fault(Hook::OnRequest, at(0));
        }
        breaker.success(Hook::OnRequest);
        assert!(!breaker.is_open(at(0)));
        assert_eq!(breaker.delay(), Duration::ZERO);
    }
}
