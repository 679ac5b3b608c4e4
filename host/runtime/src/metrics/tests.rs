//! What is counted, and every refusal.

use super::*;

fn labels(pairs: &[(&str, &str)]) -> Vec<Label> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn metrics(registry: &Registry, plugin: &str) -> Arc<Metrics> {
    registry.of(&plugin.into(), DEFAULT_SERIES)
}

fn number(metrics: &Metrics, name: &str) -> Option<f64> {
    let all = metrics.snapshot();
    let found = all.iter().find(|snapshot| snapshot.name == name)?;
    match found.series.first()? {
        (_, Reading::Number(number)) => Some(*number),
        _ => None,
    }
}

#[test]
fn the_order_of_labels_makes_no_other_series() {
    let metrics = Metrics::default();
    let ab = labels(&[("a", "1"), ("b", "2")]);
    let ba = labels(&[("b", "2"), ("a", "1")]);
    assert_eq!(metrics.record(Change::Count(1.0), "sent", ab.clone()), Ok(()));
    assert_eq!(metrics.record(Change::Count(2.5), "sent_total", ba), Ok(()));
    let expected = vec![(ab, Reading::Number(3.5))];
    assert_eq!(metrics.snapshot(), [Metric { name: "sent".into(), kind: Kind::Counter, series: expected }]);
}

#[test]
fn a_value_on_a_bound_is_in_its_bucket() {
    let metrics = Metrics::default();
    for value in [0.001, 0.0011, 10.0, 10.1, -1.0] {
        assert_eq!(metrics.record(Change::Observe(value), "took", Vec::new()), Ok(()));
    }
    let all = metrics.snapshot();
    let Some((_, Reading::Histogram { sum, buckets })) = all.first().and_then(|it| it.series.first()) else {
        panic!("a histogram: {all:?}")
    };
    assert!((sum - 19.1021).abs() < 1e-9, "{sum}");
    assert_eq!(buckets, &[2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
}

#[test]
fn what_is_not_the_syntax_is_refused_and_counted() {
    let metrics = Metrics::default();
    let long = "x".repeat(MAX_NAME + 1);
    let names = ["", "1st", "a-b", "a:b", "ünï", "a\nb", &long, "x_bucket", "x_count", "x_sum", "x_created"];
    for name in names {
        assert_eq!(metrics.record(Change::Set(1.0), name, Vec::new()), Err(Refused::Invalid), "{name:?}");
    }
    assert_eq!(metrics.record(Change::Set(1.0), "x_total", Vec::new()), Err(Refused::Invalid), "a gauge");
    let nine: Vec<(String, String)> = (0..9).map(|n| (format!("l{n}"), String::new())).collect();
    assert_eq!(metrics.record(Change::Set(1.0), "x", nine), Err(Refused::Invalid));
    for label in [("plugin", "other"), ("le", "1"), ("__name__", "y"), ("", ""), ("a", &"v".repeat(MAX_VALUE + 1))] {
        assert_eq!(metrics.record(Change::Set(1.0), "x", labels(&[label])), Err(Refused::Invalid), "{label:?}");
    }
    let twice = labels(&[("a", "1"), ("a", "2")]);
    assert_eq!(metrics.record(Change::Set(1.0), "x", twice), Err(Refused::Invalid));
    assert!(metrics.snapshot().is_empty());
    assert_eq!(metrics.refused(), 19);
}

#[test]
fn numbers_are_finite_and_counters_never_decrease() {
    let metrics = Metrics::default();
    for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        for change in [Change::Count(number), Change::Set(number), Change::Add(number), Change::Observe(number)] {
            assert_eq!(metrics.record(change, "x", Vec::new()), Err(Refused::Invalid), "{change:?}");
        }
    }
    assert!(metrics.snapshot().is_empty(), "what was refused makes no series");
    assert_eq!(metrics.record(Change::Count(f64::MAX), "x", Vec::new()), Ok(()));
    for by in [-1.0, f64::MAX, f64::NAN] {
        assert_eq!(metrics.record(Change::Count(by), "x", Vec::new()), Err(Refused::Invalid), "{by}");
    }
    assert_eq!(number(&metrics, "x"), Some(f64::MAX));
}

#[test]
fn one_series_too_many_is_refused_and_the_others_go_on() {
    let registry = Registry::default();
    let metrics = registry.of(&"p".into(), 2);
    let with = |value: &str| labels(&[("id", value)]);
    for id in ["a", "b"] {
        assert_eq!(metrics.record(Change::Count(1.0), "x", with(id)), Ok(()));
    }
    for n in 0..1000 {
        assert_eq!(metrics.record(Change::Count(1.0), "x", with(&n.to_string())), Err(Refused::TooManySeries));
        assert_eq!(metrics.record(Change::Count(1.0), &format!("x{n}"), Vec::new()), Err(Refused::TooManySeries));
    }
    assert_eq!(metrics.record(Change::Count(1.0), "x", with("a")), Ok(()));
    assert_eq!(metrics.snapshot().len(), 1, "a name without a series takes no room");
    // The next version's cap counts from then on.
    let more = registry.of(&"p".into(), 3);
    assert_eq!(more.record(Change::Count(1.0), "x", with("c")), Ok(()));
    assert_eq!(metrics.record(Change::Count(1.0), "x", with("d")), Err(Refused::TooManySeries));
}

#[test]
fn numbers_outlive_a_version_and_end_with_the_last() {
    let registry = Registry::default();
    let old = metrics(&registry, "p");
    assert_eq!(old.record(Change::Count(1.0), "sent", Vec::new()), Ok(()));
    let new = metrics(&registry, "p");
    drop(old);
    assert_eq!(new.record(Change::Count(1.0), "sent", Vec::new()), Ok(()));
    assert_eq!(number(&new, "sent"), Some(2.0));
    drop(new);
    let again = metrics(&registry, "p");
    assert_eq!(number(&again, "sent"), None);
    assert_eq!(registry.plugins().len(), 1);
}

#[test]
fn two_plugins_share_a_name_of_one_kind_and_not_of_two() {
    let registry = Registry::default();
    let (a, b) = (metrics(&registry, "a"), metrics(&registry, "b"));
    assert_eq!(a.record(Change::Count(1.0), "sent", Vec::new()), Ok(()));
    assert_eq!(b.record(Change::Count(1.0), "sent", Vec::new()), Ok(()));
    assert_eq!(b.record(Change::Set(1.0), "sent", Vec::new()), Err(Refused::OtherKind));
    let c = metrics(&registry, "c");
    assert_eq!(c.record(Change::Observe(1.0), "sent", Vec::new()), Err(Refused::OtherKind));
    // Not even a newer version of one: the other still uses it.
    let a2 = metrics(&registry, "a");
    assert_eq!(a2.record(Change::Set(1.0), "sent", Vec::new()), Err(Refused::OtherKind));
    drop((a, a2, b));
    assert_eq!(c.record(Change::Observe(1.0), "sent", Vec::new()), Ok(()));
}

#[test]
fn a_newer_version_may_change_a_kind_and_the_older_one_may_not_change_it_back() {
    let registry = Registry::default();
    let old = metrics(&registry, "p");
    assert_eq!(old.record(Change::Count(1.0), "load", Vec::new()), Ok(()));
    assert_eq!(old.record(Change::Set(1.0), "load", Vec::new()), Err(Refused::OtherKind));
    let new = metrics(&registry, "p");
    assert_eq!(new.record(Change::Set(0.5), "load", Vec::new()), Ok(()));
    assert_eq!(old.record(Change::Count(1.0), "load", Vec::new()), Err(Refused::OtherKind));
    assert_eq!(new.record(Change::Count(1.0), "load", Vec::new()), Err(Refused::OtherKind));
    assert_eq!(number(&new, "load"), Some(0.5));
}

#[test]
fn adders_on_several_threads_lose_nothing() {
    let metrics = Arc::new(Metrics::default());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for n in 0..1_000 {
                    let id = labels(&[("n", &(n % 10).to_string())]);
                    assert_eq!(metrics.record(Change::Count(1.0), "sent", id), Ok(()));
                }
            });
        }
    });
    let all = metrics.snapshot();
    let sums = all.iter().flat_map(|snapshot| &snapshot.series).map(|(_, reading)| *reading);
    assert_eq!(sums.collect::<Vec<_>>(), [Reading::Number(400.0); 10]);
}
