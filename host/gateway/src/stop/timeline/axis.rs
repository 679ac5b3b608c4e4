//! The time axis: where a moment lies between the signal and the end, and the round times to mark.

use std::time::Duration;

use crate::config::HumanDuration;

/// Something that began, lasted, and had a budget.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) start_ms: u64,
    pub(super) took_ms: u64,
    pub(super) budget_ms: u64,
}

impl Span {
    pub(super) fn end_ms(&self) -> u64 {
        self.start_ms.saturating_add(self.took_ms)
    }

    pub(super) fn budget_end_ms(&self) -> u64 {
        self.start_ms.saturating_add(self.budget_ms)
    }
}

/// A stretch of time that begins with the signal.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axis {
    length_ms: u64,
}

/// A round time on the axis.
#[derive(Debug)]
pub(super) struct Mark {
    pub(super) at_ms: u64,
    pub(super) text: String,
}

impl Axis {
    /// An axis is never empty: what took no time at all still has a place.
    pub(super) fn new(length_ms: u64) -> Self {
        Self { length_ms: length_ms.max(1) }
    }

    /// How far along a moment lies, from 0 to 1. What comes after the end lies at the end.
    pub(super) fn part(&self, at_ms: u64) -> f64 {
        at_ms.min(self.length_ms) as f64 / self.length_ms as f64
    }

    /// Whether the end of the budget is on the axis. A span without a budget has no mark.
    pub(super) fn shows_budget(&self, span: &Span) -> bool {
        span.budget_ms > 0 && span.budget_end_ms() <= self.length_ms
    }

    /// Round times from 0 on, at even distances, with at most `most` of these distances on the axis.
    pub(super) fn marks(&self, most: usize) -> Vec<Mark> {
        let step = self.step(most);
        let times = std::iter::successors(Some(0u64), |at_ms| at_ms.checked_add(step));
        let on_axis = times.take_while(|at_ms| *at_ms <= self.length_ms);
        on_axis.map(|at_ms| Mark { at_ms, text: HumanDuration(Duration::from_millis(at_ms)).to_string() }).collect()
    }

    fn step(&self, most: usize) -> u64 {
        let least = self.length_ms.div_ceil(most.max(1) as u64).max(1);
        let seconds = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 15_000, 30_000, 60_000];
        let minutes = [2, 5, 10, 15, 30, 60, 120, 240, 480, 960].map(|minutes| minutes * 60_000);
        seconds.into_iter().chain(minutes).find(|step| *step >= least).unwrap_or(least)
    }
}
