//! The numbers that plugins keep themselves: `tidegate_guest_<name>` with the label `plugin`.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::encoding::{EncodeLabel as _, EncodeLabelSet, LabelSetEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use tidegate_runtime::metrics::{BOUNDS, Kind, Label, Metric, Metrics, Reading};

use super::out::Out;

/// Put those of all plugins, by name, under one family per metric.
pub(super) fn encode(plugins: &BTreeMap<&str, &Metrics>, out: &mut Out<'_>) -> fmt::Result {
    if plugins.is_empty() {
        return Ok(());
    }
    let help = "Changes of its own metrics that the plugin was refused";
    let mut family = out.family("plugin_metrics_refused", help, MetricType::Counter)?;
    for (plugin, metrics) in plugins {
        family.encode_family(&[("plugin", *plugin)])?.encode_counter::<NoLabelSet, _, u64>(&metrics.refused(), None)?;
    }

    let mut families: BTreeMap<String, Family<'_>> = BTreeMap::new();
    for (plugin, metrics) in plugins {
        for Metric { name, kind, series } in metrics.snapshot() {
            let family = families.entry(name).or_insert(Family { kind, series: Vec::new() });
            // A name has one kind at a time. It may have changed between one plugin's numbers and the next one's.
            if family.kind == kind {
                family.series.extend(series.into_iter().map(|(labels, reading)| (*plugin, labels, reading)));
            }
        }
    }
    for (name, Family { kind, series }) in &families {
        let name = format!("guest_{name}");
        let mut encoder = out.family(&name, help_on(*kind), metric_type(*kind))?;
        for (plugin, labels, reading) in series {
            put(encoder.encode_family(&Labels { plugin, labels })?, *kind, reading)?;
        }
    }
    Ok(())
}

struct Family<'p> {
    kind: Kind,
    /// Plugin, labels and number.
    series: Vec<(&'p str, Vec<Label>, Reading)>,
}

fn metric_type(kind: Kind) -> MetricType {
    match kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
        Kind::Histogram => MetricType::Histogram,
    }
}

fn help_on(kind: Kind) -> &'static str {
    match kind {
        Kind::Counter => "A counter of plugins",
        Kind::Gauge => "A gauge of plugins",
        Kind::Histogram => "A histogram of plugins",
    }
}

fn put(mut encoder: MetricEncoder<'_>, kind: Kind, reading: &Reading) -> fmt::Result {
    match (kind, reading) {
        (Kind::Gauge, Reading::Number(number)) => encoder.encode_gauge(number),
        (_, Reading::Number(number)) => encoder.encode_counter::<NoLabelSet, _, u64>(number, None),
        (_, Reading::Histogram { sum, buckets }) => {
            let bounds = BOUNDS.into_iter().chain([f64::MAX]);
            let counts: Vec<(f64, u64)> = bounds.zip(buckets.iter().copied()).collect();
            encoder.encode_histogram::<NoLabelSet>(*sum, buckets.iter().sum(), &counts, None)
        }
    }
}

/// Whose number it is, and its own labels.
struct Labels<'a> {
    plugin: &'a str,
    labels: &'a [Label],
}

impl EncodeLabelSet for Labels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        ("plugin", self.plugin).encode(encoder.encode_label())?;
        for (name, value) in self.labels {
            (name.as_str(), value.as_str()).encode(encoder.encode_label())?;
        }
        Ok(())
    }
}
