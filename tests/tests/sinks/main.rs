//! The sinks of the outbox against real receivers: what arrives, in which order, and what a sink makes of a receiver
//! that is not there, too slow, or hostile.

#![expect(clippy::indexing_slicing, reason = "in a test a panic is a failure")]

mod nats;
mod webhook;

use std::sync::Arc;
use std::time::Duration;

use tidegate_outbox::event::Event;
use tidegate_outbox::sink::{Problem, Sink, SinkError};
use uuid::Uuid;

/// Long enough not to be met by chance.
const AMPLE: Duration = Duration::from_secs(30);

/// Short enough to be waited for.
const SHORT: Duration = Duration::from_millis(300);

fn event(number: u128, key: Option<&str>) -> Event {
    Event {
        id: Uuid::from_u128(number),
        source: "audit".into(),
        topic: "audit.login".into(),
        key: key.map(str::to_owned),
        content_type: Some("application/json".into()),
        attributes: vec![("tenant".into(), "blue \"1\"".into())],
        accepted: Duration::from_millis(1_790_000_000_123),
        body: format!("{{\"number\":{number}}}").into(),
    }
}

/// Events of these keys, with the numbers from 0.
fn events(keys: &[Option<&str>]) -> Vec<Arc<Event>> {
    keys.iter().enumerate().map(|(number, key)| Arc::new(event(number as u128, *key))).collect()
}

async fn deliver(sink: &impl Sink, events: &[Arc<Event>]) -> Result<(), SinkError> {
    let delivered = tokio::time::timeout(AMPLE, sink.deliver(events.to_vec())).await;
    delivered.unwrap_or_else(|_| panic!("the sink hangs"))
}

/// What was not delivered first: how many were, and what was said.
async fn fails(sink: &impl Sink, events: &[Arc<Event>]) -> (usize, Problem) {
    match deliver(sink, events).await {
        Ok(()) => panic!("everything was delivered"),
        Err(SinkError { delivered, problem }) => (delivered, problem),
    }
}

async fn refusal(sink: &impl Sink, events: &[Arc<Event>]) -> String {
    match fails(sink, events).await {
        (0, Problem::Refused(what)) => what,
        other => panic!("not refused: {other:?}"),
    }
}

async fn absence(sink: &impl Sink, events: &[Arc<Event>]) -> String {
    match fails(sink, events).await {
        (0, Problem::Unreachable(what)) => what,
        other => panic!("not unreachable: {other:?}"),
    }
}
