//! The outbox with sinks in memory: what each test starts from.

#![expect(clippy::indexing_slicing, reason = "a missing element fails the test")]

mod delivered;
mod disk;
mod file;
mod histories;
mod refused;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::Notify;

use super::*;
use crate::event::Event;
use crate::sink::{Problem, SinkError};
use crate::status::Health;

/// Remembers what it got, and fails as it is told.
#[derive(Default)]
struct Memory {
    got: Mutex<Vec<Arc<Event>>>,
    changed: Notify,
    away: AtomicBool,
    /// Bodies that it refuses.
    refuses: Mutex<Vec<Bytes>>,
    calls: AtomicUsize,
}

impl Memory {
    fn got(&self) -> Vec<Arc<Event>> {
        self.got.lock().expect("sound").clone()
    }

    fn bodies(&self) -> Vec<String> {
        self.got().iter().map(|event| String::from_utf8_lossy(&event.body).into_owned()).collect()
    }

    async fn has(&self, events: usize) {
        loop {
            let changed = self.changed.notified();
            if self.got.lock().expect("sound").len() >= events {
                return;
            }
            changed.await;
        }
    }
}

struct Remembers(Arc<Memory>);

impl Sink for Remembers {
    fn deliver(&self, events: Vec<Arc<Event>>) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async move {
            let memory = &self.0;
            memory.calls.fetch_add(1, Ordering::Relaxed);
            for (delivered, event) in events.into_iter().enumerate() {
                if memory.away.load(Ordering::Relaxed) {
                    return Err(SinkError { delivered, problem: Problem::Unreachable("away".to_owned()) });
                }
                if memory.refuses.lock().expect("sound").contains(&event.body) {
                    return Err(SinkError { delivered, problem: Problem::Refused("not this".to_owned()) });
                }
                memory.got.lock().expect("sound").push(event);
                memory.changed.notify_waiters();
            }
            Ok(())
        })
    }

    fn batch(&self) -> usize {
        16
    }
}

fn options(folder: &Path) -> Options {
    Options { path: folder.join("outbox.db"), durability: Durability::Process, limits: Limits::default() }
}

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).expect("a pattern")
}

fn spec(name: &str, topic: &str, memory: &Arc<Memory>) -> SinkSpec {
    SinkSpec {
        name: Arc::from(name),
        topics: vec![pattern(topic)],
        attempts: 2,
        backoff: Backoff { first: Duration::from_millis(5), longest: Duration::from_millis(20) },
        timeout: Duration::from_secs(60),
        sink: Arc::new(Remembers(Arc::clone(memory))),
    }
}

fn open(options: &Options, sinks: Vec<SinkSpec>) -> Outbox {
    let (outbox, delivery) = Outbox::open(options, sinks).expect("it opens");
    outbox.start(delivery);
    outbox
}

/// Takes events and delivers none.
fn open_idle(options: &Options, sinks: Vec<SinkSpec>) -> Outbox {
    Outbox::open(options, sinks).expect("it opens").0
}

fn draft(body: &str) -> Draft {
    Draft { body: Bytes::copy_from_slice(body.as_bytes()), ..Draft::default() }
}

fn keyed(key: &str, body: &str) -> Draft {
    Draft { key: Some(key.to_owned()), ..draft(body) }
}

async fn until(mut done: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(std::time::Instant::now() < deadline, "it never came to that");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
