//! What one generation serves with: its routes, the plugins and the upstream of each, and the limits of requests. It
//! never changes; a reload puts another one in its place, and exchanges that have begun go on with theirs.

use std::sync::Arc;
use std::time::Duration;

use tidegate_runtime::{Redaction, UpstreamNames};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::admission::HeadLimits;
use super::chain::{Chain, Seat, Step};
use super::routes::Routes;
use super::upstream::{Upstream, Upstreams};
use crate::config::Config;
use crate::telemetry::Telemetry;
use crate::telemetry::metrics::RouteCounters;

/// What one generation serves with.
pub struct Table {
    pub(super) routes: Routes,
    /// In the order of [`Config::routes`].
    pub(super) ways: Vec<Way>,
    pub(super) upstreams: Upstreams,
    pub(super) upstream_names: UpstreamNames,
    pub(super) limits: HeadLimits,
    pub(super) body_timeout: Duration,
    /// The secrets of its plugins, which are not to be recorded; none if nothing is.
    pub(super) redaction: Arc<Redaction>,
    /// Goes with the last exchange.
    _gone: DropGuard,
}

/// Tells when no exchange needs a table any more.
#[derive(Debug, Clone)]
pub struct Drained(CancellationToken);

/// Where a route leads.
pub(super) struct Way {
    pub(super) upstream: Arc<Upstream>,
    pub(super) chain: Chain,
    /// Of the plugins of the chain, for the recording.
    pub(super) names: Arc<[Arc<str>]>,
    /// Kept here so that a route without such hooks is seen to be one at a glance.
    pub(super) sees_responses: bool,
    pub(super) counters: Arc<RouteCounters>,
}

impl Table {
    /// `seats` are the plugins of the configuration, in its order. Upstreams that `before` has too keep their
    /// connections. Call it inside a tokio runtime: upstreams have tasks.
    #[must_use]
    pub fn new(config: &Config, seats: &[Seat], telemetry: &Telemetry, before: Option<&Self>) -> (Self, Drained) {
        let upstreams = Upstreams::new(&config.upstreams, before.map(|table| &table.upstreams));
        let ways = config.routes.iter().filter_map(|route| {
            let steps = route.plugins.iter().filter_map(|index| {
                let on_failure = config.plugins.get(*index)?.on_failure;
                Some(Step::new(seats.get(*index)?, on_failure))
            });
            let chain = Chain::new(steps);
            Some(Way {
                // A configuration that exists has the upstreams that its routes name.
                upstream: Arc::clone(upstreams.at(route.upstream)?),
                sees_responses: chain.sees_responses(),
                names: chain.names(),
                chain,
                counters: telemetry.metrics.exchanges.route(route),
            })
        });
        let secrets = || seats.iter().filter_map(|seat| seat.plugin.values());
        let redaction = telemetry.recorder.as_ref().map(|_| Redaction::of_all(secrets())).unwrap_or_default();
        let (gone, drained) = Drained::when_dropped();
        let table = Self {
            routes: Routes::new(&config.routes),
            ways: ways.collect(),
            upstream_names: config.upstreams.iter().map(|upstream| Arc::clone(&upstream.name)).collect(),
            upstreams,
            limits: HeadLimits { fields: config.server.max_headers, bytes: config.server.max_header_bytes },
            body_timeout: config.server.body_timeout,
            redaction: Arc::new(redaction),
            _gone: gone,
        };
        (table, drained)
    }
}

impl Drained {
    /// When this guard is dropped.
    pub(crate) fn when_dropped() -> (DropGuard, Self) {
        let gone = CancellationToken::new();
        (gone.clone().drop_guard(), Self(gone))
    }

    /// Wait until the table has been replaced and the last exchange that began with it needs it no more: its response
    /// hooks have run. (Its body may still be on its way to the client.)
    pub async fn wait(&self) {
        self.0.cancelled().await;
    }

    /// Whether that is so.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.is_cancelled()
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("routes", &self.routes).finish_non_exhaustive()
    }
}
