//! Where events go: what the delivery asks of a sink, and the sinks that there are.
//!
//! A sink knows its receiver's protocol. When events are sent again, and when they are given up, it does not know.

mod cloud_event;
pub mod file;
pub mod json;
mod lanes;
mod lines;
pub mod nats;
pub mod secret;
pub mod stdout;
mod text;
pub mod tls;
pub mod webhook;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::event::Event;

/// Delivers events somewhere. Told of the same event again after a failure, a time-out or a crash: at least once.
pub trait Sink: Send + Sync + 'static {
    /// Deliver these events, in this order. Returns when they are with the receiver (acknowledged, written out); an
    /// error says how many of them are, counted from the first, and what happened to the next one.
    ///
    /// The delivery bounds how long it waits; a future that is dropped gives up.
    fn deliver(&self, events: Vec<Arc<Event>>) -> BoxFuture<'_, Result<(), SinkError>>;

    /// The most events it takes in one call.
    fn batch(&self) -> usize;
}

/// Events that were not delivered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct SinkError {
    /// How many were, from the first.
    pub delivered: usize,
    /// What happened to the next.
    pub problem: Problem,
}

/// What kept an event from being delivered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The receiver does not want this event, now or ever: it counts as an attempt of this event alone.
    #[error("refused: {0}")]
    Refused(String),
    /// The receiver is not there, or too slow: nothing about this event. Everything waits.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// The same, and the receiver has said how long it wants to be left alone: everything waits for at least that long.
    #[error("unreachable for {} s: {what}", after.as_secs())]
    Later {
        /// What it said.
        what: String,
        /// From now on.
        after: Duration,
    },
}
