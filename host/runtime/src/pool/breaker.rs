//! Keeps a plugin that fails again and again from costing more than its failures.
//!
//! Faults are counted in a row: one call that ends well forgets them. The second fault in a row already delays the
//! replacement, and from the fifth on calls are refused until the delay is over. Then whatever instances there are serve
//! again; the first call decides whether it was worth it.

use std::time::Duration;

use crate::environment::Moment;

/// Faults in a row that open the breaker.
const TRIPS_AT: u32 = 5;

/// Delay after the second fault in a row; doubled by each further one.
const FIRST_DELAY: Duration = Duration::from_millis(10);

/// The longest delay.
const LONGEST_DELAY: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct Breaker {
    faults: u32,
    open_until: Option<Moment>,
}

impl Breaker {
    /// Whether calls are refused now. The clock is read only if the breaker has tripped.
    pub(super) fn is_open(&self, now: impl FnOnce() -> Moment) -> bool {
        self.open_until.is_some_and(|until| now() < until)
    }

    /// Whether it has tripped and no call has ended well since.
    pub(super) fn has_tripped(&self) -> bool {
        self.open_until.is_some()
    }

    /// How long a replacement has to wait.
    pub(super) fn delay(&self) -> Duration {
        match self.faults {
            0 | 1 => Duration::ZERO,
            faults => FIRST_DELAY.saturating_mul(1 << (faults - 2).min(16)).min(LONGEST_DELAY),
        }
    }

    pub(super) fn fault(&mut self, now: Moment) {
        self.faults = self.faults.saturating_add(1);
        if self.faults >= TRIPS_AT {
            self.open_until = Some(now + self.delay());
        }
    }

    pub(super) fn success(&mut self) {
        self.faults = 0;
        self.open_until = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn a_single_fault_costs_no_delay() {
        let mut breaker = Breaker::default();
        breaker.fault(at(0));
        assert_eq!(breaker.delay(), Duration::ZERO);
        assert!(!breaker.has_tripped());
    }

    #[test]
    fn faults_in_a_row_open_it_for_longer_and_longer() {
        let mut breaker = Breaker::default();
        for _ in 0..TRIPS_AT {
            assert!(!breaker.is_open(|| at(0)));
            breaker.fault(at(0));
        }
        assert!(breaker.is_open(|| at(79)));
        assert!(!breaker.is_open(|| at(80)));
        breaker.fault(at(80));
        assert!(breaker.is_open(|| at(239)));
        for _ in 0..100 {
            breaker.fault(at(0));
        }
        assert_eq!(breaker.delay(), LONGEST_DELAY);
    }

    #[test]
    fn one_success_forgets_them() {
        let mut breaker = Breaker::default();
        for _ in 0..TRIPS_AT {
            breaker.fault(at(0));
        }
        breaker.success();
        assert!(!breaker.is_open(|| at(0)));
        assert_eq!(breaker.delay(), Duration::ZERO);
    }
}
