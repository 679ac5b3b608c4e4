//! The requests that plugins make.

use std::fmt;

use prometheus_client::encoding::NoLabelSet;
use prometheus_client::metrics::MetricType;
use tidegate_outbound::{DURATION_BOUNDS, Outcome};

use super::out::{Out, as_gauge, buckets};
use crate::capabilities::Http;

pub(super) fn encode(http: &Http, out: &mut Out<'_>) -> fmt::Result {
    let Http::Open(client) = http else { return Ok(()) };
    let plugins = client.stats();
    if plugins.is_empty() {
        return Ok(());
    }
    let mut family = out.family("outbound_requests", "Requests of plugins by outcome", MetricType::Counter)?;
    for (plugin, stats) in &plugins {
        for (outcome, count) in Outcome::ALL.iter().zip(stats.outcomes) {
            // "ok" is always there; another outcome appears with its first occurrence.
            if count > 0 || *outcome == Outcome::Ok {
                let labels = [("plugin", &**plugin), ("outcome", outcome.as_str())];
                family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
            }
        }
    }

    let help = "Requests of plugins, from their beginning to the end of the answer";
    let mut family = out.family("outbound_request_duration_seconds", help, MetricType::Histogram)?;
    for (plugin, stats) in &plugins {
        let (sum, count) = (stats.total.as_secs_f64(), stats.durations.iter().sum());
        let buckets = buckets(&DURATION_BOUNDS, &stats.durations);
        let labels = [("plugin", &**plugin)];
        let mut encoder = family.encode_family(&labels)?;
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
    }

    let help = "Requests of plugins that have begun and not ended";
    let mut family = out.family("outbound_requests_in_flight", help, MetricType::Gauge)?;
    for (plugin, stats) in &plugins {
        family.encode_family(&[("plugin", &**plugin)])?.encode_gauge(&as_gauge(stats.in_flight))?;
    }
    Ok(())
}
