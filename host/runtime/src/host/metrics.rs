//! `tidegate:plugin/metrics`: numbers of the plugin.

use crate::bindings::metrics;
use crate::host::Guest;

type Counted = wasmtime::Result<Result<(), metrics::MetricError>>;

impl metrics::Host for Guest {
    fn count(&mut self, _name: String, _labels: Vec<metrics::Label>, _by: f64) -> Counted {
        Ok(Err(metrics::MetricError::TooManySeries))
    }

    fn set_gauge(&mut self, _name: String, _labels: Vec<metrics::Label>, _value: f64) -> Counted {
        Ok(Err(metrics::MetricError::TooManySeries))
    }

    fn add_gauge(&mut self, _name: String, _labels: Vec<metrics::Label>, _by: f64) -> Counted {
        Ok(Err(metrics::MetricError::TooManySeries))
    }

    fn observe(&mut self, _name: String, _labels: Vec<metrics::Label>, _value: f64) -> Counted {
        Ok(Err(metrics::MetricError::TooManySeries))
    }
}
