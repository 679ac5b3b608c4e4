//! The sink `stdout`: a line of JSON per event, for pipes and containers.

use std::io::Write as _;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::lines::{LineSink, Lines};
use super::{Sink, SinkError};
use crate::event::Event;

/// Writes events to the process's stdout.
#[derive(Debug)]
pub struct StdoutSink(LineSink);

impl StdoutSink {
    /// # Errors
    /// When there can be no thread for it.
    pub fn new() -> std::io::Result<Self> {
        LineSink::start("outbox-stdout", Stdout).map(Self)
    }
}

struct Stdout;

impl Lines for Stdout {
    fn write(&mut self, text: &[u8]) -> Result<(), String> {
        let mut stdout = std::io::stdout().lock();
        // What a pipe has swallowed it has: after a failure, lines may be there twice.
        stdout.write_all(text).and_then(|()| stdout.flush()).map_err(|error| error.to_string())
    }
}

impl Sink for StdoutSink {
    fn deliver(&self, events: Vec<Arc<Event>>) -> BoxFuture<'_, Result<(), SinkError>> {
        self.0.deliver(events)
    }

    fn batch(&self) -> usize {
        self.0.batch()
    }
}
