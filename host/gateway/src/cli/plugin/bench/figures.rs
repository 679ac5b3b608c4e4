//! Many figures as a few.

use std::time::Duration;

use tidegate_testing::{Hook, Used};

/// The least, the middle and the most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Spread<T> {
    pub(super) min: T,
    pub(super) median: T,
    /// All but one in a hundred are no more than this.
    pub(super) p99: T,
    pub(super) max: T,
}

impl<T: Copy + Ord> Spread<T> {
    /// `None` if there are none.
    pub(super) fn of(figures: impl IntoIterator<Item = T>) -> Option<Self> {
        let mut all: Vec<T> = figures.into_iter().collect();
        all.sort_unstable();
        let at = |part: usize| all.get(all.len().saturating_sub(1) * part / 100).copied();
        Some(Self { min: at(0)?, median: at(50)?, p99: at(99)?, max: at(100)? })
    }
}

/// What a hook costs.
#[derive(Debug, Clone)]
pub(super) struct HookFigures {
    pub(super) hook: Hook,
    /// Calls whose fuel was counted.
    pub(super) calls: usize,
    pub(super) fuel: Spread<u64>,
    /// Requests to the host that have an effect.
    pub(super) host_calls: Spread<u64>,
    /// The most memory that an instance had after a call, bytes.
    pub(super) memory: usize,
    /// By the clock, if it was called that way.
    pub(super) time: Option<Times>,
}

/// How long calls take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) calls: usize,
    pub(super) spread: Spread<Duration>,
    /// How far the medians of the rounds lie apart, in percent of the median: a difference smaller than this means nothing.
    pub(super) noise: u64,
}

impl HookFigures {
    /// `None` if it was never called. `rounds` are its durations, round by round.
    pub(super) fn of(hook: Hook, used: impl Iterator<Item = Used>, rounds: &[Vec<Duration>]) -> Option<Self> {
        let used: Vec<Used> = used.collect();
        Some(Self {
            hook,
            calls: used.len(),
            fuel: Spread::of(used.iter().map(|used| used.fuel))?,
            host_calls: Spread::of(used.iter().map(|used| used.host_calls))?,
            memory: used.iter().map(|used| used.memory).max()?,
            time: Times::of(rounds),
        })
    }
}

impl Times {
    fn of(rounds: &[Vec<Duration>]) -> Option<Self> {
        let medians = rounds.iter().filter_map(|round| Spread::of(round.iter().copied())).map(|round| round.median);
        let medians = Spread::of(medians)?;
        let spread = Spread::of(rounds.iter().flatten().copied())?;
        let apart = (medians.max - medians.min).as_nanos() * 100;
        let noise = apart.checked_div(medians.median.as_nanos()).unwrap_or(0);
        let noise = u64::try_from(noise).unwrap_or(u64::MAX);
        Some(Self { calls: rounds.iter().map(Vec::len).sum(), spread, noise })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_in_the_middle() {
        let spread = Spread::of((0..=200).rev()).expect("there are some");
        assert_eq!(spread, Spread { min: 0, median: 100, p99: 198, max: 200 });
        assert_eq!(Spread::<u64>::of([]), None);
        assert_eq!(Spread::of([7]), Some(Spread { min: 7, median: 7, p99: 7, max: 7 }));
    }

    #[test]
    fn noise_is_how_far_rounds_lie_apart() {
        let micros = |all: &[u64]| all.iter().copied().map(Duration::from_micros).collect::<Vec<_>>();
        let rounds = [micros(&[10, 10, 50]), micros(&[10, 12, 12]), micros(&[10, 10, 11])];
        let times = Times::of(&rounds).expect("there are some");
        assert_eq!((times.calls, times.noise), (9, 20));
        assert!(Times::of(&[]).is_none());
    }
}
