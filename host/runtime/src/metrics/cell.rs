//! One series: a number, or the buckets of a histogram.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{BOUNDS, Change, Kind, Reading, Refused};

/// **Invariant**: every number in it is finite, and that of a counter never decreases.
#[derive(Debug)]
pub(super) enum Cell {
    /// The bits of an `f64`.
    Number(AtomicU64),
    Histogram(Box<Buckets>),
}

#[derive(Debug, Default)]
pub(super) struct Buckets {
    counts: [AtomicU64; BOUNDS.len() + 1],
    sum: AtomicU64,
}

impl Cell {
    pub(super) fn new(kind: Kind) -> Self {
        match kind {
            Kind::Counter | Kind::Gauge => Self::Number(AtomicU64::new(0)),
            Kind::Histogram => Self::Histogram(Box::default()),
        }
    }

    /// The kind of the change is that of the cell: it was found under it.
    pub(super) fn apply(&self, change: Change) -> Result<(), Refused> {
        match (self, change) {
            // Minus zero is no less than zero.
            (Self::Number(bits), Change::Count(by)) if by >= 0.0 => add(bits, by),
            (Self::Number(bits), Change::Add(by)) => add(bits, by),
            (Self::Number(bits), Change::Set(value)) if value.is_finite() => {
                bits.store(value.to_bits(), Ordering::Relaxed);
                Ok(())
            }
            (Self::Histogram(buckets), Change::Observe(value)) => {
                add(&buckets.sum, value)?;
                let bucket = BOUNDS.partition_point(|bound| *bound < value);
                if let Some(count) = buckets.counts.get(bucket) {
                    count.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            }
            _ => Err(Refused::Invalid),
        }
    }

    pub(super) fn read(&self) -> Reading {
        match self {
            Self::Number(bits) => Reading::Number(f64::from_bits(bits.load(Ordering::Relaxed))),
            Self::Histogram(buckets) => Reading::Histogram {
                sum: f64::from_bits(buckets.sum.load(Ordering::Relaxed)),
                buckets: buckets.counts.each_ref().map(|count| count.load(Ordering::Relaxed)),
            },
        }
    }
}

/// Refused if the number, or the sum, is not finite.
fn add(bits: &AtomicU64, by: f64) -> Result<(), Refused> {
    let sum = |old: u64| {
        let sum = f64::from_bits(old) + by;
        sum.is_finite().then_some(sum.to_bits())
    };
    bits.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum).map(drop).map_err(|_| Refused::Invalid)
}
