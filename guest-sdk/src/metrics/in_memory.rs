//! Metrics in memory, for tests. Numbers are checked as the host checks them; names and caps are not imitated.

use super::MetricError;
use std::cell::RefCell;
use std::collections::BTreeMap;

type Labels = [(String, String)];

#[derive(Clone, Debug, PartialEq)]
enum Number {
    Counter(f64),
    Gauge(f64),
    Histogram(Vec<f64>),
}

#[derive(Default)]
struct Metrics {
    /// By name and sorted labels.
    numbers: BTreeMap<(String, Vec<(String, String)>), Number>,
    refusal: Option<MetricError>,
}

thread_local! {
    static METRICS: RefCell<Metrics> = RefCell::default();
}

fn key(name: &str, mut labels: Vec<(String, String)>) -> (String, Vec<(String, String)>) {
    labels.sort();
    (name.to_owned(), labels)
}

fn find(name: &str, labels: &[(&str, &str)]) -> Option<Number> {
    let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    METRICS.with_borrow(|metrics| metrics.numbers.get(&key(name, labels)).cloned())
}

/// What a counter or gauge stands at on this thread; `None` if nothing has counted in it.
#[must_use]
pub fn value(name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    match find(name, labels)? {
        Number::Counter(number) | Number::Gauge(number) => Some(number),
        Number::Histogram(_) => None,
    }
}

/// What a histogram has seen on this thread, oldest first.
#[must_use]
pub fn observed(name: &str, labels: &[(&str, &str)]) -> Vec<f64> {
    match find(name, labels) {
        Some(Number::Histogram(values)) => values,
        _ => Vec::new(),
    }
}

/// From here on, refuse every change like this; `None` takes them again.
pub fn refuse(refusal: impl Into<Option<MetricError>>) {
    METRICS.with_borrow_mut(|metrics| metrics.refusal = refusal.into());
}

fn change(
    name: &str,
    labels: &Labels,
    first: Number,
    next: impl FnOnce(&mut Number) -> bool,
) -> Result<(), MetricError> {
    METRICS.with_borrow_mut(|metrics| {
        if let Some(refusal) = metrics.refusal {
            return Err(refusal);
        }
        let number = metrics.numbers.entry(key(name, labels.to_vec())).or_insert(first);
        if next(number) { Ok(()) } else { Err(MetricError::OtherKind) }
    })
}

fn finite(number: f64) -> Result<f64, MetricError> {
    if number.is_finite() { Ok(number) } else { Err(MetricError::Invalid) }
}

pub(super) fn count(name: &str, labels: &Labels, by: f64) -> Result<(), MetricError> {
    if finite(by)? < 0.0 {
        return Err(MetricError::Invalid);
    }
    change(name, labels, Number::Counter(0.0), |number| {
        let Number::Counter(sum) = number else { return false };
        *sum += by;
        true
    })
}

pub(super) fn set_gauge(name: &str, labels: &Labels, value: f64) -> Result<(), MetricError> {
    finite(value)?;
    change(name, labels, Number::Gauge(0.0), |number| {
        let Number::Gauge(gauge) = number else { return false };
        *gauge = value;
        true
    })
}

pub(super) fn add_gauge(name: &str, labels: &Labels, by: f64) -> Result<(), MetricError> {
    finite(by)?;
    change(name, labels, Number::Gauge(0.0), |number| {
        let Number::Gauge(gauge) = number else { return false };
        *gauge += by;
        true
    })
}

pub(super) fn observe(name: &str, labels: &Labels, value: f64) -> Result<(), MetricError> {
    finite(value)?;
    change(name, labels, Number::Histogram(Vec::new()), |number| {
        let Number::Histogram(values) = number else { return false };
        values.push(value);
        true
    })
}

#[cfg(test)]
mod tests {
    use super::{observed, refuse, value};
    use crate::metrics::{MetricError, counter, gauge, histogram};

    #[test]
    fn numbers_add_up_by_name_and_labels() {
        counter("sent").label("a", "1").label("b", "2").add(1);
        counter("sent").label("b", "2").label("a", "1").add(0.5);
        counter("sent").add(7);
        gauge("length").set(3);
        gauge("length").add(-1);
        histogram("took").observe(0.5);
        assert_eq!(value("sent", &[("a", "1"), ("b", "2")]), Some(1.5));
        assert_eq!((value("sent", &[]), value("length", &[])), (Some(7.0), Some(2.0)));
        assert_eq!(observed("took", &[]), [0.5]);
    }

    #[test]
    fn refusals_are_told_to_those_who_ask() {
        assert_eq!(counter("sent").try_add(-1), Err(MetricError::Invalid));
        assert_eq!(gauge("x").try_set(f64::NAN), Err(MetricError::Invalid));
        counter("sent").add(1);
        assert_eq!(gauge("sent").try_set(1), Err(MetricError::OtherKind));
        refuse(MetricError::TooManySeries);
        assert_eq!(counter("sent").try_add(1), Err(MetricError::TooManySeries));
        counter("sent").add(1);
        assert_eq!(value("sent", &[]), Some(1.0));
    }
}
