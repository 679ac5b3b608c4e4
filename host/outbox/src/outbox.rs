//! The outbox as a whole: opened, published to, flushed, closed.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::account::{Account, Full, Limits, Usage};
use crate::delivery::{Backoff, Worker};
use crate::event::Draft;
use crate::reader::Reader;
use crate::shared::{Publish, Shared};
use crate::sink::Sink;
use crate::status::{Desk, Orphan, Outcome, Status};
use crate::store::read::{last, tallies, usage};
use crate::store::{self, Durability, OpenError, Store, describe};
use crate::topic::{self, Pattern};
use crate::writer::Writer;

/// The most events that are published at once.
pub const MOST_AT_ONCE: usize = 1_000;

/// Where an outbox is, and how much it takes.
#[derive(Debug, Clone)]
pub struct Options {
    /// The file. Its folder has to be there.
    pub path: PathBuf,
    /// What an accepted event survives.
    pub durability: Durability,
    /// How much it takes.
    pub limits: Limits,
}

/// A sink, and how it is delivered to.
#[derive(Clone)]
pub struct SinkSpec {
    /// By which its deliveries are known across restarts. No two are the same.
    pub name: Arc<str>,
    /// What it takes.
    pub topics: Vec<Pattern>,
    /// How often an event is tried that the sink refuses, before it is a dead letter. At least 1.
    pub attempts: u32,
    /// How long it waits between two attempts.
    pub backoff: Backoff,
    /// How long one call may take.
    pub timeout: Duration,
    /// The sink itself.
    pub sink: Arc<dyn Sink>,
}

impl std::fmt::Debug for SinkSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SinkSpec").field("name", &self.name).field("topics", &self.topics).finish_non_exhaustive()
    }
}

/// Why no event was taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// There is no room.
    #[error("the outbox is full")]
    Full,
    /// An event, or the call, is larger than the outbox takes.
    #[error("too large: {0}")]
    TooLarge(String),
    /// The topic is not the publisher's, or no sink's.
    #[error("the topic has not been granted, or no sink takes it")]
    NotGranted,
    /// Not the syntax: what is wrong.
    #[error("{0}")]
    Invalid(String),
    /// The file takes nothing now: why.
    #[error("the outbox takes nothing now: {0}")]
    Unavailable(String),
}

impl PublishError {
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Full => Outcome::RefusedFull,
            Self::TooLarge(_) => Outcome::RefusedTooLarge,
            Self::NotGranted => Outcome::RefusedNotGranted,
            Self::Invalid(_) => Outcome::RefusedInvalid,
            Self::Unavailable(_) => Outcome::RefusedUnavailable,
        }
    }
}

/// An outbox that is open.
#[derive(Debug)]
pub struct Outbox {
    core: Arc<Core>,
    orphans: Vec<Orphan>,
    /// Asks the workers to end.
    stop: CancellationToken,
    /// Waits for them.
    workers: TaskTracker,
    /// Raised when what waits has to go out now.
    flush: watch::Sender<u64>,
    /// The writer's end.
    end: Mutex<Option<oneshot::Receiver<()>>>,
}

/// What publishers hold on to.
#[derive(Debug)]
struct Core {
    shared: Arc<Shared>,
    limits: Limits,
}

impl Outbox {
    /// Open the file and look it over. Waits for the disk. Nothing is delivered before [`Outbox::start`].
    ///
    /// # Errors
    /// When the file cannot be used as it is; nothing has been changed then.
    ///
    /// # Panics
    /// If two sinks have the same name.
    pub fn open(options: &Options, sinks: Vec<SinkSpec>) -> Result<(Self, Delivery), OpenError> {
        let mut store = Store::open(&options.path, options.durability)?;
        let unusable = |problem: String| OpenError::Unusable { path: options.path.clone(), problem };
        let sql = |error: rusqlite::Error| unusable(describe(&error));
        let numbers = store.sinks(sinks.iter().map(|sink| &*sink.name)).map_err(sql)?;
        let connection = store::open_for_reading(store.path())?;
        let last = last(&connection).map_err(sql)?;
        let mut account = Account::new(options.limits);
        for (source, usage) in usage(&connection).map_err(sql)? {
            account.found(&source, usage);
        }
        let mut desks = Vec::new();
        for (number, sink) in numbers.into_iter().zip(&sinks) {
            assert!(!desks.iter().any(|desk: &Arc<Desk>| desk.number == number), "sink names are unique");
            let desk = Desk::new(number, Arc::clone(&sink.name), sink.topics.clone(), last);
            desks.push(Arc::new(desk));
        }
        let mut orphans = Vec::new();
        for tally in tallies(&connection).map_err(sql)? {
            match desks.iter().find(|desk| desk.number == tally.sink) {
                Some(desk) => {
                    desk.pending.store(tally.pending, Ordering::Relaxed);
                    desk.dead.store(tally.dead, Ordering::Relaxed);
                    desk.damaged.store(tally.damaged, Ordering::Relaxed);
                }
                None if tally.pending + tally.dead + tally.damaged > 0 => orphans.push(Orphan {
                    name: tally.name,
                    pending: tally.pending,
                    dead: tally.dead,
                    damaged: tally.damaged,
                }),
                None => {}
            }
        }
        for Orphan { name, pending, dead, .. } in &orphans {
            tracing::warn!(sink = %name, pending, dead, "the outbox keeps deliveries for a sink that is not configured");
        }
        let shared = Arc::new(Shared::new(account, desks));
        let reader = Reader::start(connection).map_err(|error| unusable(error.to_string()))?;
        let end = Writer::start(store, Arc::clone(&shared), last).map_err(|error| unusable(error.to_string()))?;
        let outbox = Self {
            core: Arc::new(Core { shared, limits: options.limits }),
            orphans,
            stop: CancellationToken::new(),
            workers: TaskTracker::new(),
            flush: watch::Sender::new(0),
            end: Mutex::new(Some(end)),
        };
        let delivery = Delivery { reader, sinks };
        Ok((outbox, delivery))
    }

    /// Begin to deliver, in tasks of the runtime that this is called in.
    pub fn start(&self, delivery: Delivery) {
        let shared = &self.core.shared;
        for (spec, desk) in delivery.sinks.into_iter().zip(&shared.desks) {
            let worker = Worker::new(
                spec,
                Arc::clone(desk),
                Arc::clone(shared),
                delivery.reader.clone(),
                self.stop.clone(),
                self.flush.subscribe(),
            );
            self.workers.spawn(worker.run());
        }
        self.workers.close();
    }

    /// Publishes under this name, to these topics alone.
    #[must_use]
    pub fn publisher(&self, source: &str, topics: Vec<Pattern>) -> Publisher {
        let source = Arc::from(source);
        self.core.shared.account().enter(&source);
        Publisher(Arc::new(Entrance { core: Arc::clone(&self.core), source, topics }))
    }

    /// What can be said of it now.
    #[must_use]
    pub fn status(&self) -> Status {
        let shared = &self.core.shared;
        let Usage { events, bytes } = shared.account().used();
        let sinks: Vec<_> = shared.desks.iter().map(|desk| desk.status()).collect();
        let orphans = &self.orphans;
        Status {
            health: shared.health(),
            events,
            bytes,
            pending: sinks.iter().map(|sink| sink.pending).sum(),
            delivered: sinks.iter().map(|sink| sink.delivered).sum(),
            dead: sinks.iter().map(|sink| sink.dead).chain(orphans.iter().map(|orphan| orphan.dead)).sum(),
            damaged: sinks.iter().map(|sink| sink.damaged).chain(orphans.iter().map(|orphan| orphan.damaged)).sum(),
            sinks,
            orphans: orphans.clone(),
        }
    }

    /// Events by topic and outcome, as far as there have been any. Topics are patterns of the sinks.
    #[must_use]
    pub fn counts(&self) -> Vec<(String, Outcome, u64)> {
        self.core.shared.topics.counts()
    }

    /// Deliver what waits: what has been put off is tried at once, and then as ever. Returns when nothing waits any more.
    /// Bounding it is the caller's.
    pub async fn flush(&self) {
        let shared = &self.core.shared;
        let _flushing = shared.begin_flush();
        self.flush.send_modify(|round| *round += 1);
        let mut pending = shared.pending.subscribe();
        shared.tell_pending();
        // Its sender is a part of `self`.
        let _ = pending.wait_for(|pending| *pending == 0).await;
    }

    /// End: nothing is published or delivered any more, what has been accepted is synced to the disk, and the file is let
    /// go of.
    pub async fn close(&self) {
        self.stop.cancel();
        self.workers.close();
        self.workers.wait().await;
        self.core.shared.close();
        let end = self.end.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(end) = end {
            // An error is an end as well.
            let _ = end.await;
        }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        // For those who do not close it: the threads end, and write what they have.
        self.stop.cancel();
        self.core.shared.close();
    }
}

/// The sinks of an outbox whose delivery has not begun.
#[derive(Debug)]
pub struct Delivery {
    reader: Reader,
    sinks: Vec<SinkSpec>,
}

/// Publishes to an outbox under one name. For as long as there is one, a part of the room is set aside for that name.
#[derive(Debug, Clone)]
pub struct Publisher(Arc<Entrance>);

#[derive(Debug)]
struct Entrance {
    core: Arc<Core>,
    source: Arc<str>,
    topics: Vec<Pattern>,
}

impl Drop for Entrance {
    fn drop(&mut self) {
        self.core.shared.account().leave(&self.source);
    }
}

impl Publisher {
    /// Publish these events: all of them or none, in this order. Once this has returned ok, they are the outbox's to
    /// deliver. If it is dropped before that, they may be or not.
    ///
    /// # Errors
    /// When none has been taken.
    pub async fn publish(&self, topic: &str, drafts: Vec<Draft>) -> Result<Vec<Uuid>, PublishError> {
        if drafts.is_empty() {
            return Ok(Vec::new());
        }
        let events = drafts.len() as u64;
        match self.admit(topic, drafts) {
            // Counted by the writer, whatever it says.
            Ok(answer) => match answer.await {
                Ok(done) => done,
                Err(_) => Err(PublishError::Unavailable("the outbox is closed".to_owned())),
            },
            Err(error) => {
                self.0.core.shared.topics.count(topic, error.outcome(), events);
                Err(error)
            }
        }
    }

    /// Everything that can be told without the disk; then the events are on their way.
    fn admit(
        &self,
        topic: &str,
        drafts: Vec<Draft>,
    ) -> Result<oneshot::Receiver<Result<Vec<Uuid>, PublishError>>, PublishError> {
        let Entrance { core, source, topics } = &*self.0;
        let Core { shared, limits } = &**core;
        topic::check(topic).map_err(PublishError::Invalid)?;
        if !topics.iter().any(|pattern| pattern.matches(topic)) {
            return Err(PublishError::NotGranted);
        }
        let takers = shared.desks.iter().enumerate().filter(|(_, desk)| desk.takes(topic));
        let sinks: Vec<usize> = takers.map(|(at, _)| at).collect();
        if sinks.is_empty() {
            return Err(PublishError::NotGranted);
        }
        if drafts.len() > MOST_AT_ONCE {
            return Err(PublishError::TooLarge(format!("{} events; at most {MOST_AT_ONCE} at once", drafts.len())));
        }
        let mut usage = Usage::default();
        for draft in &drafts {
            if draft.body.len() as u64 > limits.max_event {
                let length = draft.body.len();
                return Err(PublishError::TooLarge(format!(
                    "{length} bytes; at most {} in an event",
                    limits.max_event
                )));
            }
            draft.check().map_err(PublishError::Invalid)?;
            usage.events += 1;
            usage.bytes += draft.size();
        }
        if let Some(reason) = shared.unavailable() {
            return Err(PublishError::Unavailable(reason));
        }
        shared.account().reserve(source, usage).map_err(|Full| PublishError::Full)?;
        let (reply, answer) = oneshot::channel();
        let (source, topic) = (Arc::clone(source), Arc::from(topic));
        shared.publish(Publish { source, topic, drafts, usage, sinks, reply });
        Ok(answer)
    }
}

#[cfg(test)]
mod tests;
