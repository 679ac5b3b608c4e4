//! The numbers of the outbox.

use std::fmt;

use prometheus_client::encoding::NoLabelSet;
use prometheus_client::metrics::MetricType;
use tidegate_outbox::Outbox;
use tidegate_outbox::status::{Health, SinkStatus};

use super::out::Out;

pub(super) fn encode(outbox: &Outbox, out: &mut Out<'_>) -> fmt::Result {
    let status = outbox.status();
    let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let mut family = out.family("outbox_events", "Events, by what became of them", MetricType::Counter)?;
    for (topic, outcome, events) in outbox.counts() {
        family
            .encode_family(&[("topic", topic.as_str()), ("outcome", outcome.as_str())])?
            .encode_counter::<NoLabelSet, _, u64>(&events, None)?;
    }
    for (name, help, value) in [
        ("outbox_pending", "Deliveries that wait", status.pending),
        ("outbox_stored_events", "Events in the file, dead letters included", status.events),
        ("outbox_bytes", "Bytes of the events in the file", status.bytes),
        ("outbox_dead", "Dead letters in the file", status.dead),
        ("outbox_damaged", "Deliveries of damaged events in the file", status.damaged),
        (
            "outbox_failing",
            "1 while the file cannot be written",
            u64::from(matches!(status.health, Health::Failing { .. })),
        ),
    ] {
        out.family(name, help, MetricType::Gauge)?.encode_gauge(&gauge(value))?;
    }
    type Shown = fn(&SinkStatus) -> u64;
    let counters: [(&str, &str, Shown); 2] = [
        ("outbox_sink_delivered", "Events that a sink has got", |sink| sink.delivered),
        ("outbox_sink_failures", "Calls of a sink that failed", |sink| sink.failures),
    ];
    for (name, help, value) in counters {
        let mut family = out.family(name, help, MetricType::Counter)?;
        for sink in &status.sinks {
            family.encode_family(&[("sink", &*sink.name)])?.encode_counter::<NoLabelSet, _, u64>(&value(sink), None)?;
        }
    }
    let gauges: [(&str, &str, Shown); 4] = [
        ("outbox_sink_pending", "Events that wait for a sink", |sink| sink.pending),
        ("outbox_sink_dead", "Dead letters of a sink", |sink| sink.dead),
        ("outbox_sink_stalled", "1 while a sink is out of reach", |sink| u64::from(sink.stalled.is_some())),
        ("outbox_sink_oldest_seconds", "The age of the oldest event that waits for a sink", |sink| {
            sink.oldest.unwrap_or_default().as_secs()
        }),
    ];
    for (name, help, value) in gauges {
        let mut family = out.family(name, help, MetricType::Gauge)?;
        for sink in &status.sinks {
            family.encode_family(&[("sink", &*sink.name)])?.encode_gauge(&gauge(value(sink)))?;
        }
    }
    Ok(())
}
