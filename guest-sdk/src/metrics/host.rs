//! The host's metrics.

use super::MetricError;
use crate::bindings::imports::tidegate::plugin::metrics as wit;

type Labels = [(String, String)];

pub(super) fn count(name: &str, labels: &Labels, by: f64) -> Result<(), MetricError> {
    Ok(wit::count(name, labels, by)?)
}

pub(super) fn set_gauge(name: &str, labels: &Labels, value: f64) -> Result<(), MetricError> {
    Ok(wit::set_gauge(name, labels, value)?)
}

pub(super) fn add_gauge(name: &str, labels: &Labels, by: f64) -> Result<(), MetricError> {
    Ok(wit::add_gauge(name, labels, by)?)
}

pub(super) fn observe(name: &str, labels: &Labels, value: f64) -> Result<(), MetricError> {
    Ok(wit::observe(name, labels, value)?)
}

impl From<wit::MetricError> for MetricError {
    fn from(error: wit::MetricError) -> Self {
        match error {
            wit::MetricError::Invalid => Self::Invalid,
            wit::MetricError::TooManySeries => Self::TooManySeries,
            wit::MetricError::OtherKind => Self::OtherKind,
        }
    }
}
