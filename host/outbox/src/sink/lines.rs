//! A thread that writes lines: what the sinks `file` and `stdout` have in common.
//!
//! Writing blocks, on a disk that hangs or a pipe that nobody reads. So it is done on a thread of its own, one call
//! at a time; while that hangs, the sink is out of reach and nothing piles up.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use super::json::line;
use super::{Problem, Sink, SinkError};
use crate::event::Event;

/// Events in one call.
const BATCH: usize = 512;

/// Where lines go.
pub(super) trait Lines: Send + 'static {
    /// Write all of it, which is whole lines, and have it with the receiver; or leave nothing of it behind.
    fn write(&mut self, text: &[u8]) -> Result<(), String>;
}

/// A sink that writes lines.
#[derive(Debug)]
pub(super) struct LineSink(SyncSender<Job>);

#[derive(Debug)]
struct Job {
    events: Vec<Arc<Event>>,
    reply: oneshot::Sender<Result<(), String>>,
}

impl LineSink {
    pub(super) fn start(name: &str, lines: impl Lines) -> std::io::Result<Self> {
        let (sender, jobs) = sync_channel(1);
        // It ends with the sink; if it hangs by then, with the process.
        std::thread::Builder::new().name(name.to_owned()).spawn(move || run(lines, &jobs))?;
        Ok(Self(sender))
    }
}

fn run(mut lines: impl Lines, jobs: &Receiver<Job>) {
    let mut text = String::new();
    while let Ok(Job { events, reply }) = jobs.recv() {
        // Whoever gave up while this waited behind a write that hung will ask again.
        if reply.is_closed() {
            continue;
        }
        text.clear();
        events.iter().for_each(|event| text.push_str(&line(event)));
        drop(events);
        // Who asked may have given up by now, and will ask again, too: at least once.
        let _ = reply.send(lines.write(text.as_bytes()));
        // One large batch does not make it large for ever.
        text.shrink_to(1 << 20);
    }
}

impl Sink for LineSink {
    fn deliver(&self, events: Vec<Arc<Event>>) -> BoxFuture<'_, Result<(), SinkError>> {
        let unreachable = |problem: String| Err(SinkError { delivered: 0, problem: Problem::Unreachable(problem) });
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            match self.0.try_send(Job { events, reply }) {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => return unreachable("an earlier write has not ended yet".to_owned()),
                Err(TrySendError::Disconnected(_)) => return unreachable("its thread is gone".to_owned()),
            }
            match answer.await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(problem)) => unreachable(problem),
                Err(_) => unreachable("its thread is gone".to_owned()),
            }
        })
    }

    fn batch(&self) -> usize {
        BATCH
    }
}
