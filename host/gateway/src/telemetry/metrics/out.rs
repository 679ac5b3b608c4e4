//! How numbers are written: the few shapes of metrics that there are here.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// The encoder.
pub(super) struct Out<'a>(pub(super) DescriptorEncoder<'a>);

impl Out<'_> {
    pub(super) fn family<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
        kind: MetricType,
    ) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.0.encode_descriptor(name, help, None, kind)
    }

    pub(super) fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.family(name, help, MetricType::Counter)?.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str, value: usize) -> fmt::Result {
        self.family(name, help, MetricType::Gauge)?.encode_gauge(&as_gauge(value))
    }
}

pub(super) fn as_gauge(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Microseconds as the seconds that Prometheus wants.
#[expect(clippy::cast_precision_loss, reason = "precise for 285 years")]
pub(super) fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

/// Buckets as the encoder wants them: upper bound in seconds and count; the last one has no bound.
pub(super) fn buckets(bounds: &[u64], counts: &[u64]) -> Vec<(f64, u64)> {
    let bounds = bounds.iter().map(|bound| seconds(*bound)).chain([f64::MAX]);
    bounds.zip(counts.iter().copied()).collect()
}
