//! What is told of a request.

use std::sync::Arc;

use http::Method;
use tidegate_runtime::outbound::Caller;
use tokio::time::Instant;

use crate::origin::Target;
use crate::stats::{Outcome, Stats};

/// What is told of a request when it ends, once.
pub(crate) struct Record {
    plugin: Arc<str>,
    stats: Arc<Stats>,
    method: Method,
    pub(crate) caller: Caller,
    began: Instant,
    pub(crate) target: Option<Target>,
    pub(crate) status: Option<u16>,
    pub(crate) error: Option<String>,
    outcome: Outcome,
}

impl Record {
    pub(crate) fn begin(plugin: Arc<str>, stats: Arc<Stats>, method: Method, caller: Caller) -> Self {
        stats.began();
        Self {
            plugin,
            stats,
            method,
            caller,
            began: Instant::now(),
            target: None,
            status: None,
            error: None,
            // Until something else is known: whoever drops it has given it up.
            outcome: Outcome::GivenUp,
        }
    }

    pub(crate) fn end(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let took = self.began.elapsed();
        self.stats.ended(self.outcome, took);
        // Without path and query: they may hold secrets.
        tracing::debug!(
            plugin = &*self.plugin,
            hook = self.caller.hook.map_or("", |hook| hook.as_str()),
            request = self.caller.request_id.as_deref().unwrap_or(""),
            method = %self.method,
            target = self.target.as_ref().map(tracing::field::display),
            status = self.status,
            outcome = self.outcome.as_str(),
            error = self.error.as_deref(),
            ?took,
            "request made"
        );
    }
}
