//! What is shown of the outbox.

use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use tidegate_outbox::status::{Health, Orphan, SinkStatus, Status};

use super::AdminState;
use super::answers::{Problem, json};

/// Everything about the outbox.
#[derive(Debug, Serialize)]
struct Shown {
    /// `good`, `failing` or `closed`.
    state: &'static str,
    /// Why it is failing.
    reason: Option<String>,
    /// For how long it has been.
    failing_s: Option<f64>,
    events: u64,
    bytes: u64,
    pending: u64,
    delivered: u64,
    dead: u64,
    damaged: u64,
    sinks: Vec<Sink>,
    /// Sinks that are not configured any more.
    orphans: Vec<Former>,
}

#[derive(Debug, Serialize)]
struct Sink {
    name: String,
    topics: Vec<String>,
    /// `delivering` or `stalled`.
    state: &'static str,
    stalled_s: Option<f64>,
    pending: u64,
    /// The age of the oldest event that waits.
    oldest_s: Option<f64>,
    delivered: u64,
    failures: u64,
    dead: u64,
    damaged: u64,
    last_error: Option<String>,
}

#[derive(Debug, Serialize)]
struct Former {
    name: String,
    pending: u64,
    dead: u64,
    damaged: u64,
}

/// `GET /v1/outbox`
pub(super) async fn show(State(state): State<AdminState>) -> Result<Response, Problem> {
    let Some(outbox) = &state.outbox else {
        let problem = Problem::new(StatusCode::NOT_FOUND, "This gateway has no outbox.");
        return Err(problem.hint("it takes `[outbox]` in the config, and a restart"));
    };
    Ok(json(StatusCode::OK, &Shown::from(outbox.status())))
}

fn seconds(time: Duration) -> f64 {
    // Milliseconds are enough for a person, and for a graph.
    (time.as_secs_f64() * 1e3).round() / 1e3
}

impl From<Status> for Shown {
    fn from(status: Status) -> Self {
        let Status { health, events, bytes, pending, delivered, dead, damaged, sinks, orphans } = status;
        let (state, reason, failing) = match health {
            Health::Good => ("good", None, None),
            Health::Failing { reason, since } => ("failing", Some(reason), Some(since)),
            Health::Closed => ("closed", None, None),
        };
        Self {
            state,
            reason,
            failing_s: failing.map(seconds),
            events,
            bytes,
            pending,
            delivered,
            dead,
            damaged,
            sinks: sinks.into_iter().map(Sink::from).collect(),
            orphans: orphans.into_iter().map(Former::from).collect(),
        }
    }
}

impl From<SinkStatus> for Sink {
    fn from(sink: SinkStatus) -> Self {
        Self {
            name: sink.name.to_string(),
            topics: sink.topics.iter().map(ToString::to_string).collect(),
            state: if sink.stalled.is_some() { "stalled" } else { "delivering" },
            stalled_s: sink.stalled.map(seconds),
            pending: sink.pending,
            oldest_s: sink.oldest.map(seconds),
            delivered: sink.delivered,
            failures: sink.failures,
            dead: sink.dead,
            damaged: sink.damaged,
            last_error: sink.last_error,
        }
    }
}

impl From<Orphan> for Former {
    fn from(Orphan { name, pending, dead, damaged }: Orphan) -> Self {
        Self { name, pending, dead, damaged }
    }
}
