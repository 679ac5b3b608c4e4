//! Puts names and labels to the counters, when somebody asks for them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use tidegate_runtime::{CallOutcome, DURATION_BOUNDS, DeferredOutcome, Hook, Late, PluginStats, SnapshotOutcome};

use super::out::{Out, as_gauge, buckets, load, seconds};
use super::{
    Changes, Connections, Eviction, Exchanges, Metrics, RouteCounters, UpstreamFailure, buckets, guests, outbound,
    recording,
};
use crate::histogram::Histogram;
use crate::stop::phase::Phase;
use crate::telemetry::Telemetry;
use tidegate_runtime::metrics::Metrics as GuestMetrics;

pub(in crate::telemetry) fn scrape(telemetry: &Arc<Telemetry>) -> String {
    let mut registry = Registry::with_prefix("tidegate");
    registry.register_collector(Box::new(Scrape(Arc::clone(telemetry))));
    let mut text = String::with_capacity(16 * 1024);
    if let Err(error) = prometheus_client::encoding::text::encode(&mut text, &registry) {
        tracing::error!(%error, "metrics could not be encoded");
    }
    text
}

#[derive(Debug)]
struct Scrape(Arc<Telemetry>);

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out(encoder);
        self.0.metrics.encode(&mut out)?;
        if let Some(recorder) = &self.0.recorder {
            recording::encode(recorder.counts(), &mut out)?;
        }
        self.0.metrics.capabilities.outbox().map_or(Ok(()), |outbox| super::outbox::encode(outbox, &mut out))
    }
}

impl<const N: usize> Histogram<N> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let counts: Vec<u64> = self.buckets.iter().map(load).collect();
        let sum = seconds(load(&self.sum_micros));
        encoder.encode_histogram::<NoLabelSet>(sum, counts.iter().sum(), &buckets(self.bounds, &counts), None)
    }
}

impl Metrics {
    fn encode(&self, out: &mut Out<'_>) -> fmt::Result {
        self.exchanges.encode(out)?;
        self.connections.encode(out)?;
        self.changes.encode(out)?;
        self.encode_plugins(out)?;
        self.encode_stops(out)?;
        buckets::encode(self.capabilities.buckets(), out)?;
        outbound::encode(&self.capabilities.http, out)?;
        if let Some(dropped) = &self.access_dropped {
            let dropped = u64::try_from(dropped.dropped_lines()).unwrap_or(u64::MAX);
            out.counter("access_log_dropped_lines", "Lines of the access log that found no room", dropped)?;
        }
        let now = self.phase.now();
        let mut family =
            out.family("phase", "1 for the phase the process is in, 0 for the others", MetricType::Gauge)?;
        for phase in PHASES {
            family.encode_family(&[("phase", phase.as_str())])?.encode_gauge(&i64::from(phase == now))?;
        }
        Ok(())
    }

    fn encode_plugins(&self, out: &mut Out<'_>) -> fmt::Result {
        // From the oldest life of a plugin to the newest. Calls are counted over all of them, and shown once.
        let entries = self.roster.all();
        let lives: Vec<(&str, u64, PluginStats)> =
            entries.iter().map(|life| (&**life.plugin.name(), life.generation, life.plugin.stats())).collect();
        let mut newest: Vec<(&str, &PluginStats)> = Vec::new();
        for (name, _, stats) in &lives {
            match newest.last_mut() {
                Some((last, kept)) if last == name => *kept = stats,
                _ => newest.push((name, stats)),
            }
        }
        if newest.is_empty() {
            return Ok(());
        }
        let hooks = || newest.iter().flat_map(|(name, stats)| stats.hooks.iter().map(move |hook| (*name, hook)));

        let mut family = out.family("plugin_calls", "Calls of hooks by outcome", MetricType::Counter)?;
        for (plugin, hook) in hooks() {
            for (outcome, count) in CallOutcome::ALL.iter().zip(hook.calls) {
                // "ok" is always there; a failure appears with its first occurrence.
                if count > 0 || *outcome == CallOutcome::Ok {
                    let labels = [("plugin", plugin), ("hook", hook.hook.as_str()), ("outcome", outcome.as_str())];
                    family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
                }
            }
        }

        let mut family =
            out.family("plugin_call_duration_seconds", "Wall time of calls, waiting included", MetricType::Histogram)?;
        for (plugin, hook) in hooks() {
            let labels = [("plugin", plugin), ("hook", hook.hook.as_str())];
            let buckets = buckets(&DURATION_BOUNDS, &hook.durations);
            let count = hook.durations.iter().sum();
            family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
                hook.wall.as_secs_f64(),
                count,
                &buckets,
                None,
            )?;
        }

        let mut family = out.family("plugin_cpu_seconds", "Time spent in the guest", MetricType::Counter)?;
        for (plugin, hook) in hooks() {
            let labels = [("plugin", plugin), ("hook", hook.hook.as_str())];
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&hook.cpu.as_secs_f64(), None)?;
        }

        let mut family = out.family("plugin_instances", "Instances by state", MetricType::Gauge)?;
        for (plugin, generation, stats) in &lives {
            let counts = stats.instances;
            for (state, count) in [
                ("idle", counts.idle),
                ("busy", counts.busy),
                ("starting", counts.starting),
                ("stopping", counts.stopping),
            ] {
                let labels = [("plugin", *plugin), ("generation", &generation.to_string()), ("state", state)];
                family.encode_family(&labels)?.encode_gauge(&as_gauge(count))?;
            }
        }

        let mut family = out.family("plugin_calls_waiting", "Calls that wait for an instance", MetricType::Gauge)?;
        for (plugin, stats) in &newest {
            family.encode_family(&[("plugin", *plugin)])?.encode_gauge(&as_gauge(stats.instances.waiting))?;
        }

        let mut family =
            out.family("plugin_instances_retired", "Instances that ended with a fault", MetricType::Counter)?;
        for (plugin, stats) in &newest {
            family.encode_family(&[("plugin", *plugin)])?.encode_counter::<NoLabelSet, _, u64>(&stats.retired, None)?;
        }

        let help = "What came after the deadline of its call, and took no effect";
        let mut family = out.family("plugin_late", help, MetricType::Counter)?;
        for (plugin, stats) in &newest {
            for (kind, count) in Late::ALL.iter().zip(stats.late) {
                let labels = [("plugin", *plugin), ("kind", kind.as_str())];
                family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
            }
        }

        let help = "What instances left to the next version of their plugin, by what became of it";
        let mut family = out.family("plugin_snapshots", help, MetricType::Counter)?;
        for (plugin, stats) in &newest {
            for (outcome, count) in SnapshotOutcome::ALL.iter().zip(stats.snapshots) {
                let labels = [("plugin", *plugin), ("outcome", outcome.as_str())];
                family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
            }
        }

        // Of plugins that can have any.
        let defers = |stats: &PluginStats| stats.hooks.iter().any(|hook| hook.hook == Hook::OnDeferred);
        let help = "Payloads that were to be worked on later, by what became of them";
        let mut family = out.family("plugin_deferred", help, MetricType::Counter)?;
        for (plugin, stats) in newest.iter().filter(|(_, stats)| defers(stats)) {
            for (outcome, count) in DeferredOutcome::ALL.iter().zip(stats.deferred_outcomes) {
                let labels = [("plugin", *plugin), ("outcome", outcome.as_str())];
                family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
            }
        }

        let help = "Payloads that wait to be worked on";
        let mut family = out.family("plugin_deferred_waiting", help, MetricType::Gauge)?;
        for (plugin, _) in newest.iter().filter(|(_, stats)| defers(stats)) {
            let waiting: usize =
                lives.iter().filter(|life| life.0 == *plugin).map(|life| life.2.deferred.waiting).sum();
            family.encode_family(&[("plugin", *plugin)])?.encode_gauge(&as_gauge(waiting))?;
        }

        let help = "Lines of the plugin that were over its limit on log lines or bytes";
        let mut family = out.family("plugin_log_dropped", help, MetricType::Counter)?;
        for (plugin, stats) in &newest {
            family
                .encode_family(&[("plugin", *plugin)])?
                .encode_counter::<NoLabelSet, _, u64>(&stats.log_dropped, None)?;
        }

        let mut family = out.family("plugin_breaker_open", "1 while the plugin is left alone", MetricType::Gauge)?;
        for (plugin, stats) in &newest {
            family.encode_family(&[("plugin", *plugin)])?.encode_gauge(&i64::from(stats.breaker_open))?;
        }

        let mut family = out.family("stores_live", "Stores that exist, in whatever state", MetricType::Gauge)?;
        for (plugin, generation, stats) in &lives {
            let labels = [("plugin", *plugin), ("generation", &generation.to_string())];
            family.encode_family(&labels)?.encode_gauge(&i64::try_from(stats.stores_live).unwrap_or(i64::MAX))?;
        }

        // The versions of a plugin count in the same numbers: those of the last one are all there are.
        let counting: BTreeMap<&str, &GuestMetrics> =
            entries.iter().filter_map(|life| Some((&**life.plugin.name(), life.plugin.metrics()?))).collect();
        guests::encode(&counting, out)
    }

    fn encode_stops(&self, out: &mut Out<'_>) -> fmt::Result {
        let mut family = out.family("plugin_stops", "Stops of instances by reason and outcome", MetricType::Counter)?;
        for ((plugin, reason, outcome), count) in self.stops.counts() {
            let labels = [("plugin", &*plugin), ("reason", reason), ("outcome", outcome)];
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        let help = "By how much stops of instances went past their budget";
        self.stops.overshoot().encode(out.family("plugin_stop_overshoot_seconds", help, MetricType::Histogram)?)
    }
}

impl Changes {
    fn encode(&self, out: &mut Out<'_>) -> fmt::Result {
        let number = i64::try_from(load(&self.generation)).unwrap_or(i64::MAX);
        out.family("generation", "The number of the generation that serves", MetricType::Gauge)?
            .encode_gauge(&number)?;
        let retiring = self.retiring.load(Ordering::Relaxed);
        out.gauge("generations_retiring", "Former generations of which something is left", retiring)?;
        let mut family = out.family("reloads", "Reloads by outcome", MetricType::Counter)?;
        for (outcome, count) in [("applied", &self.reloads_applied), ("refused", &self.reloads_refused)] {
            let labels = [("outcome", outcome)];
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&load(count), None)?;
        }
        out.counter("rollbacks", "Plugins that were rolled back to their last healthy version", load(&self.rollbacks))
    }
}

const PHASES: [Phase; 7] =
    [Phase::Starting, Phase::Ready, Phase::LameDuck, Phase::Draining, Phase::Stopping, Phase::Flushing, Phase::Stopped];

impl Exchanges {
    fn encode(&self, out: &mut Out<'_>) -> fmt::Result {
        let mut family = out.family("requests", "Requests by route and status", MetricType::Counter)?;
        let routes = self.routes();
        let routes: Vec<(&str, &RouteCounters)> = routes
            .iter()
            .map(|(label, counters)| (label.as_str(), &**counters))
            .chain([("none", &self.none)])
            .collect();
        for (label, route) in &routes {
            for (status, count) in (100_u16..).zip(&route.statuses) {
                let count = load(count);
                if count > 0 {
                    let labels = (RouteLabel(label), [("status", status)]);
                    family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
                }
            }
        }

        let help = "From the end of a request's head to the end of its response";
        let mut family = out.family("request_duration_seconds", help, MetricType::Histogram)?;
        for (label, route) in &routes {
            route.durations.encode(family.encode_family(&[("route", *label)])?)?;
        }

        out.gauge("requests_in_flight", "Requests whose response is not yet complete", self.in_flight())?;
        out.counter("requests_completed", "Requests whose response was handed over completely", self.completed())?;

        let mut family = out.family("responses_aborted", "Responses that were not handed over", MetricType::Counter)?;
        for (cause, count) in [("client-gone", &self.client_gone), ("upstream-broke", &self.upstream_broke)] {
            family.encode_family(&[("cause", cause)])?.encode_counter::<NoLabelSet, _, u64>(&load(count), None)?;
        }

        let mut family = out.family("upstream_failures", "Requests that an upstream failed", MetricType::Counter)?;
        for (kind, count) in UpstreamFailure::ALL.iter().zip(&self.upstream_failures) {
            family
                .encode_family(&[("kind", kind.as_str())])?
                .encode_counter::<NoLabelSet, _, u64>(&load(count), None)?;
        }
        Ok(())
    }
}

/// One label; a type of its own because the labels beside it differ in type.
struct RouteLabel<'a>(&'a str);

impl prometheus_client::encoding::EncodeLabelSet for RouteLabel<'_> {
    fn encode(&self, encoder: &mut prometheus_client::encoding::LabelSetEncoder<'_>) -> fmt::Result {
        [("route", self.0)].encode(encoder)
    }
}

impl Connections {
    fn encode(&self, out: &mut Out<'_>) -> fmt::Result {
        out.gauge("connections_open", "Connections of clients", self.open.load(Ordering::Relaxed))?;
        out.counter("connections_accepted", "Connections accepted since the start", load(&self.accepted))?;
        out.counter("accept_errors", "Connections that could not be accepted", load(&self.accept_errors))?;
        let help = "Connections the gateway ended although the client would have kept them";
        let mut family = out.family("connections_evicted", help, MetricType::Counter)?;
        for (why, count) in Eviction::ALL.iter().zip(&self.ended) {
            family
                .encode_family(&[("cause", why.as_str())])?
                .encode_counter::<NoLabelSet, _, u64>(&load(count), None)?;
        }
        Ok(())
    }
}
