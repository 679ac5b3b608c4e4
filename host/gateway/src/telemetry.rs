//! What the gateway tells about itself: metrics, and the access log.

pub mod access;
pub mod log;
pub mod metrics;

use std::sync::Arc;

use tidegate_outbox::Outbox;

use self::access::AccessLog;
pub use self::access::AccessLogGuard;
use self::metrics::Metrics;
use crate::config::Log;
use crate::roster::Roster;
use crate::stop::log::StopLog;
use crate::stop::phase::PhaseView;

/// Counters and logs, shared by everything that serves.
#[derive(Debug)]
pub struct Telemetry {
    /// The counters.
    pub metrics: Metrics,
    /// The access log, if it is switched on.
    pub(crate) access: Option<AccessLog>,
    /// The outbox, if there is one.
    pub(crate) outbox: Option<Arc<Outbox>>,
}

impl Telemetry {
    /// The guard writes out what is left of the access log
    /// when it is dropped; drop it last.
    #[must_use]
    pub fn start(
        config: &Log,
        roster: Arc<Roster>,
        stops: Arc<StopLog>,
        phase: PhaseView,
        outbox: Option<Arc<Outbox>>,
    ) -> (Arc<Self>, AccessLogGuard) {
        let (access, guard) = AccessLog::start(config);
        let dropped = access.as_ref().map(AccessLog::dropped);
        (Arc::new(Self { metrics: Metrics::new(roster, stops, phase, dropped), access, outbox }), guard)
    }

    /// All metrics, in the OpenMetrics text format.
    #[must_use]
    pub fn scrape(self: &Arc<Self>) -> String {
        metrics::scrape(self)
    }
}
