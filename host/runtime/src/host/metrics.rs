//! `tidegate:plugin/metrics`: numbers of the plugin.

use crate::bindings::metrics;
use crate::host::Guest;
use crate::metrics::{Change, Refused};

type Counted = wasmtime::Result<Result<(), metrics::MetricError>>;

impl Guest {
    fn record(&self, change: Change, name: &str, labels: Vec<metrics::Label>) -> Counted {
        self.meter.fence()?;
        // A plugin that imports this without the grant is not loaded.
        let Some(metrics) = &self.grants.metrics else { return Ok(Err(metrics::MetricError::TooManySeries)) };
        Ok(metrics.record(change, name, labels).map_err(Into::into))
    }
}

impl metrics::Host for Guest {
    fn count(&mut self, name: String, labels: Vec<metrics::Label>, by: f64) -> Counted {
        self.record(Change::Count(by), &name, labels)
    }

    fn set_gauge(&mut self, name: String, labels: Vec<metrics::Label>, value: f64) -> Counted {
        self.record(Change::Set(value), &name, labels)
    }

    fn add_gauge(&mut self, name: String, labels: Vec<metrics::Label>, by: f64) -> Counted {
        self.record(Change::Add(by), &name, labels)
    }

    fn observe(&mut self, name: String, labels: Vec<metrics::Label>, value: f64) -> Counted {
        self.record(Change::Observe(value), &name, labels)
    }
}

impl From<Refused> for metrics::MetricError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Invalid => Self::Invalid,
            Refused::TooManySeries => Self::TooManySeries,
            Refused::OtherKind => Self::OtherKind,
        }
    }
}
