//! The plugin's own numbers in the gateway's metrics. Granted by `metrics = true`.
//!
//! A metric `sent` of the plugin `audit` is exposed as `tidegate_guest_sent_total{plugin="audit"}` if it is a counter, and
//! without `_total` otherwise. All instances and versions of the plugin count together.
//!
//! ```
//! use tidegate_sdk::metrics;
//!
//! metrics::counter("sent").label("sink", "kafka").add(1);
//! metrics::gauge("queue_length").set(17);
//! metrics::histogram("send_seconds").observe(0.02);
//!
//! // In a native test the numbers are in memory.
//! assert_eq!(tidegate_sdk::testing::metrics::value("sent", &[("sink", "kafka")]), Some(1.0));
//! ```
//!
//! A plugin has at most 256 series (combinations of a name and labels), unless its operator says otherwise, and 8 labels on
//! each: put into a label what has few values, a status or a sink, and never what has many, a path or a user. What is over is
//! refused, and the gateway counts that; so `add`, `set` and `observe` return nothing. Those whose names begin with `try_` tell.

#[cfg(target_arch = "wasm32")]
mod host;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) mod in_memory;

#[cfg(target_arch = "wasm32")]
use host as backend;
#[cfg(not(target_arch = "wasm32"))]
use in_memory as backend;

use std::fmt;

/// Why a number was not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MetricError {
    /// Not the syntax of a metric's or label's name, a value too long, or a number that is not finite (or, for a counter, is
    /// negative).
    Invalid,
    /// The plugin has as many series as it may. Those that are there go on.
    TooManySeries,
    /// There is a metric of this name and another kind, of this plugin or another.
    OtherKind,
}

impl fmt::Display for MetricError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Invalid => "the metric's name, label or number is invalid",
            Self::TooManySeries => "the plugin has as many series of metrics as it may",
            Self::OtherKind => "there is a metric of this name and another kind",
        })
    }
}

impl std::error::Error for MetricError {}

/// A sum that only grows. In an exposition its name ends in `_total`.
#[must_use]
pub fn counter(name: &str) -> Counter<'_> {
    Counter(Metric::new(name))
}

/// A number that goes up and down.
#[must_use]
pub fn gauge(name: &str) -> Gauge<'_> {
    Gauge(Metric::new(name))
}

/// How many values there were, by size. The buckets are those of a duration in seconds, 1 ms to 10 s.
#[must_use]
pub fn histogram(name: &str) -> Histogram<'_> {
    Histogram(Metric::new(name))
}

#[derive(Clone, Debug)]
struct Metric<'n> {
    name: &'n str,
    labels: Vec<(String, String)>,
}

impl<'n> Metric<'n> {
    fn new(name: &'n str) -> Self {
        Self { name, labels: Vec::new() }
    }

    fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.push((name.into(), value.into()));
        self
    }
}

/// See [`counter`].
#[derive(Clone, Debug)]
pub struct Counter<'n>(Metric<'n>);

/// See [`gauge`].
#[derive(Clone, Debug)]
pub struct Gauge<'n>(Metric<'n>);

/// See [`histogram`].
#[derive(Clone, Debug)]
pub struct Histogram<'n>(Metric<'n>);

impl Counter<'_> {
    /// With one label more.
    #[must_use]
    pub fn label(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        Self(self.0.label(name, value))
    }

    /// Add what is not negative.
    pub fn add(&self, by: impl Into<f64>) {
        // The host counts what it refuses.
        let _ = self.try_add(by);
    }

    /// Add what is not negative.
    ///
    /// # Errors
    /// When it is not counted.
    pub fn try_add(&self, by: impl Into<f64>) -> Result<(), MetricError> {
        backend::count(self.0.name, &self.0.labels, by.into())
    }
}

impl Gauge<'_> {
    /// With one label more.
    #[must_use]
    pub fn label(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        Self(self.0.label(name, value))
    }

    /// Make it this. With several instances the last one to do so wins.
    pub fn set(&self, value: impl Into<f64>) {
        let _ = self.try_set(value);
    }

    /// Add to it, or take away from it. Instances that add up to one gauge do it like this.
    pub fn add(&self, by: impl Into<f64>) {
        let _ = self.try_add(by);
    }

    /// Make it this.
    ///
    /// # Errors
    /// When it is not taken.
    pub fn try_set(&self, value: impl Into<f64>) -> Result<(), MetricError> {
        backend::set_gauge(self.0.name, &self.0.labels, value.into())
    }

    /// Add to it, or take away from it.
    ///
    /// # Errors
    /// When it is not taken.
    pub fn try_add(&self, by: impl Into<f64>) -> Result<(), MetricError> {
        backend::add_gauge(self.0.name, &self.0.labels, by.into())
    }
}

impl Histogram<'_> {
    /// With one label more.
    #[must_use]
    pub fn label(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        Self(self.0.label(name, value))
    }

    /// Record a value.
    pub fn observe(&self, value: impl Into<f64>) {
        let _ = self.try_observe(value);
    }

    /// Record a value.
    ///
    /// # Errors
    /// When it is not taken.
    pub fn try_observe(&self, value: impl Into<f64>) -> Result<(), MetricError> {
        backend::observe(self.0.name, &self.0.labels, value.into())
    }
}
