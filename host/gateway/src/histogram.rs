//! How durations are distributed, counted as they come.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// `N` buckets for `N - 1` bounds in microseconds; the last bucket takes the rest.
#[derive(Debug)]
pub(crate) struct Histogram<const N: usize> {
    pub(crate) bounds: &'static [u64],
    pub(crate) buckets: [AtomicU64; N],
    pub(crate) sum_micros: AtomicU64,
}

impl<const N: usize> Histogram<N> {
    pub(crate) fn new(bounds: &'static [u64]) -> Self {
        Self { bounds, buckets: std::array::from_fn(|_| AtomicU64::new(0)), sum_micros: AtomicU64::new(0) }
    }

    pub(crate) fn record(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = self.bounds.partition_point(|bound| *bound < micros);
        if let Some(count) = self.buckets.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_micros.fetch_add(micros, Ordering::Relaxed);
    }
}
