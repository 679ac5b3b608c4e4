//! What the gateway tells about itself: metrics, the access log, and, where it is asked for, a recording.

pub mod access;
pub mod log;
pub mod metrics;

use std::sync::Arc;

use self::access::AccessLog;
pub use self::access::AccessLogGuard;
use self::metrics::Metrics;
use crate::capabilities::Capabilities;
use crate::config::Log;
use crate::recorder::Recorder;
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
    /// Keeps exchanges, if that was asked for.
    pub(crate) recorder: Option<Arc<Recorder>>,
}

impl Telemetry {
    /// The guard writes out what is left of the access log
    /// when it is dropped; drop it last.
    #[must_use]
    pub fn start(
        config: &Log,
        roster: Arc<Roster>,
        stops: Arc<StopLog>,
        capabilities: Arc<Capabilities>,
        phase: PhaseView,
        recorder: Option<Arc<Recorder>>,
    ) -> (Arc<Self>, AccessLogGuard) {
        let (access, guard) = AccessLog::start(config);
        let dropped = access.as_ref().map(AccessLog::dropped);
        (Arc::new(Self { metrics: Metrics::new(roster, stops, capabilities, phase, dropped), access, recorder }), guard)
    }

    /// All metrics, in the OpenMetrics text format.
    #[must_use]
    pub fn scrape(self: &Arc<Self>) -> String {
        metrics::scrape(self)
    }
}
