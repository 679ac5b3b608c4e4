//! The one thread that changes the file.
//!
//! Whatever waits when a transaction begins goes into it: one wait for the disk serves everybody who publishes at that
//! time. A transaction that fails takes nothing: its publishes are refused, and what the sinks have done with events is
//! kept in memory and tried again, so that a full disk costs a repeated delivery after a crash and nothing else.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};
use uuid::Uuid;

use crate::account::{Account, Usage};
use crate::event::{Draft, Event};
use crate::outbox::PublishError;
use crate::status::{self, Desk, Health, Topics};
use crate::store::write::{Accepted, Freed, Outcome, Settled};
use crate::store::{Store, describe};

/// The most events of one transaction, but for the call that goes over it.
const MOST_EVENTS: u64 = 4_096;
/// Likewise bytes: the log grows by them.
const MOST_BYTES: u64 = 16 << 20;
/// How long what the sinks have done waits for a publish to go with.
const LINGER: Duration = Duration::from_millis(5);
/// How long the file is left alone after it has failed. What comes meanwhile is refused at once.
const PAUSE: Duration = Duration::from_millis(250);

/// What the threads and tasks of one outbox share.
#[derive(Debug)]
pub(crate) struct Shared {
    account: Mutex<Account>,
    inbox: Mutex<Inbox>,
    work: Condvar,
    trouble: Mutex<Trouble>,
    pub(crate) desks: Vec<Arc<Desk>>,
    pub(crate) topics: Topics,
    /// Deliveries that wait, of all desks.
    pub(crate) pending: watch::Sender<u64>,
}

#[derive(Debug, Default)]
enum Trouble {
    #[default]
    None,
    Failing {
        reason: String,
        since: Instant,
        again: Instant,
    },
    Closed,
}

#[derive(Debug, Default)]
struct Inbox {
    publishes: VecDeque<Publish>,
    settled: Vec<Settled>,
    /// When the first of them came.
    settled_since: Option<Instant>,
    errands: VecDeque<Errand>,
    closing: bool,
}

/// Events that somebody waits for. Room has been taken for them.
#[derive(Debug)]
pub(crate) struct Publish {
    pub(crate) source: Arc<str>,
    pub(crate) topic: Arc<str>,
    pub(crate) drafts: Vec<Draft>,
    pub(crate) usage: Usage,
    /// Those who take the topic, as places in `Shared::desks`.
    pub(crate) sinks: Vec<usize>,
    pub(crate) reply: oneshot::Sender<Result<Vec<Uuid>, PublishError>>,
}

/// Something that is asked for now and then. The answer is a number of deliveries.
#[derive(Debug)]
pub(crate) struct Errand {
    pub(crate) what: What,
    pub(crate) reply: oneshot::Sender<Result<usize, String>>,
}

/// What is asked for.
#[derive(Debug)]
pub(crate) enum What {
    /// Everything is to be on the disk.
    Sync,
}

impl Shared {
    pub(crate) fn new(account: Account, desks: Vec<Arc<Desk>>) -> Self {
        let topics = Topics::new(desks.iter().flat_map(|desk| desk.topics.iter().cloned()));
        let pending = desks.iter().map(|desk| desk.pending.load(Ordering::Relaxed)).sum();
        Self {
            account: Mutex::new(account),
            inbox: Mutex::default(),
            work: Condvar::new(),
            trouble: Mutex::default(),
            desks,
            topics,
            pending: watch::Sender::new(pending),
        }
    }

    // Each of the three is changed in single steps: a poisoned one is as good as a sound one.

    pub(crate) fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why nothing can be published at this moment, if so.
    pub(crate) fn unavailable(&self) -> Option<String> {
        match &*self.trouble() {
            Trouble::Failing { reason, again, .. } if Instant::now() < *again => Some(reason.clone()),
            Trouble::None | Trouble::Failing { .. } => None,
            Trouble::Closed => Some(CLOSED.to_owned()),
        }
    }

    pub(crate) fn health(&self) -> Health {
        match &*self.trouble() {
            Trouble::None => Health::Good,
            Trouble::Failing { reason, since, .. } => {
                Health::Failing { reason: reason.clone(), since: since.elapsed() }
            }
            Trouble::Closed => Health::Closed,
        }
    }

    /// Have events written. They come back refused if it is too late for that.
    pub(crate) fn publish(&self, publish: Publish) {
        let mut inbox = self.inbox();
        if inbox.closing {
            drop(inbox);
            self.refuse(publish, PublishError::Unavailable(CLOSED.to_owned()));
            return;
        }
        // Bounded by the account, which has taken room for each of its events.
        inbox.publishes.push_back(publish);
        self.work.notify_one();
    }

    /// Note what has become of deliveries. Bounded by the events that there are.
    pub(crate) fn settle(&self, settled: impl IntoIterator<Item = Settled>) {
        let mut inbox = self.inbox();
        inbox.settled.extend(settled);
        if !inbox.settled.is_empty() && inbox.settled_since.is_none() {
            inbox.settled_since = Some(Instant::now());
            self.work.notify_one();
        }
    }

    /// Have something done. The answer never comes if the writer is gone.
    pub(crate) fn send(&self, errand: Errand) {
        self.inbox().errands.push_back(errand);
        self.work.notify_one();
    }

    /// Take nothing more; what waits is still written, and then the writer ends.
    pub(crate) fn close(&self) {
        self.inbox().closing = true;
        self.work.notify_one();
    }

    fn refuse(&self, publish: Publish, error: PublishError) {
        self.account().release(&publish.source, publish.usage);
        self.topics.count(&publish.topic, error.outcome(), publish.usage.events);
        // Who published may have given up waiting.
        let _ = publish.reply.send(Err(error));
    }

    fn release(&self, freed: Vec<Freed>) {
        let mut account = self.account();
        freed.into_iter().for_each(|(source, usage)| account.release(&source, usage));
    }

    fn desk(&self, number: i64) -> Option<&Desk> {
        self.desks.iter().find(|desk| desk.number == number).map(|desk| &**desk)
    }

    /// Say how many deliveries wait now.
    fn tell_pending(&self) {
        let pending = self.desks.iter().map(|desk| desk.pending.load(Ordering::Relaxed)).sum();
        self.pending.send_if_modified(|before| std::mem::replace(before, pending) != pending);
    }
}

const CLOSED: &str = "the outbox is closed";

/// The thread's own.
#[derive(Debug)]
pub(crate) struct Writer {
    store: Store,
    shared: Arc<Shared>,
    /// The next place in the order.
    next: i64,
    /// What could not be written yet.
    unsettled: BTreeMap<(i64, i64), Outcome>,
    /// When that is tried again.
    again: Option<Instant>,
}

impl Writer {
    /// Write on a thread of its own until it is closed. The receiver hears of its end.
    pub(crate) fn start(store: Store, shared: Arc<Shared>, last: i64) -> std::io::Result<oneshot::Receiver<()>> {
        let (ended, end) = oneshot::channel();
        let writer = Self { store, shared, next: last.saturating_add(1), unsettled: BTreeMap::new(), again: None };
        std::thread::Builder::new().name("outbox-writer".to_owned()).spawn(move || {
            // Whatever becomes of the thread, nobody goes on believing in it.
            let _closed = OnEnd(Arc::clone(&writer.shared));
            writer.run();
            let _ = ended.send(());
        })?;
        Ok(end)
    }

    fn run(mut self) {
        loop {
            let (publishes, errands, closing) = self.wait();
            if closing {
                // There is no later.
                self.again = None;
            }
            self.settle_or_keep(publishes);
            for Errand { what: What::Sync, reply } in errands {
                let done = self.store.checkpoint().map(|()| 0).map_err(|error| describe(&error));
                let _ = reply.send(done);
            }
            if closing {
                break;
            }
        }
        if let Err(error) = self.store.checkpoint() {
            tracing::error!(outbox = %self.store.path().display(), error = %describe(&error), "the outbox cannot be synced");
        }
    }

    /// Until there is something to do: as many publishes as fit into a transaction, and the rest. The last is true if
    /// nothing is left and nothing will come.
    fn wait(&mut self) -> (Vec<Publish>, Vec<Errand>, bool) {
        let mut inbox = self.shared.inbox();
        loop {
            // What the sinks have done goes with the next publish, or alone after a while, or after a failure when it is due.
            let alone = inbox.settled_since.map(|since| since + LINGER);
            let next = match (self.again, alone) {
                (Some(again), _) => Some(again),
                (None, alone) => alone,
            };
            let due = next.is_some_and(|next| next <= Instant::now());
            if !inbox.publishes.is_empty() || due || !inbox.errands.is_empty() || inbox.closing {
                break;
            }
            inbox = match next {
                None => self.shared.work.wait(inbox).unwrap_or_else(PoisonError::into_inner),
                Some(next) => {
                    let pause = next.saturating_duration_since(Instant::now());
                    self.shared.work.wait_timeout(inbox, pause).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        inbox.settled_since = None;
        // The latest word on a delivery counts.
        let settled = inbox.settled.drain(..).map(|settled| ((settled.seq, settled.sink), settled.outcome));
        self.unsettled.extend(settled);
        let (mut publishes, mut size) = (Vec::new(), Usage::default());
        while size.events < MOST_EVENTS
            && size.bytes < MOST_BYTES
            && let Some(publish) = inbox.publishes.pop_front()
        {
            size.events += publish.usage.events;
            size.bytes += publish.usage.bytes;
            publishes.push(publish);
        }
        let closing = inbox.closing && inbox.publishes.is_empty();
        (publishes, inbox.errands.drain(..).collect(), closing)
    }

    /// One transaction, or what can be had of it.
    fn settle_or_keep(&mut self, publishes: Vec<Publish>) {
        // Nothing takes effect for who has given up.
        let (publishes, gone): (Vec<_>, Vec<_>) = publishes.into_iter().partition(|publish| !publish.reply.is_closed());
        for publish in gone {
            self.shared.account().release(&publish.source, publish.usage);
        }
        let settled: Vec<Settled> = match self.again {
            Some(again) if again > Instant::now() => Vec::new(),
            _ => self
                .unsettled
                .iter()
                .map(|((seq, sink), outcome)| Settled { seq: *seq, sink: *sink, outcome: outcome.clone() })
                .collect(),
        };
        if publishes.is_empty() && settled.is_empty() {
            return;
        }
        let both = !publishes.is_empty() && !settled.is_empty();
        let Err((error, publishes)) = self.commit(publishes, &settled) else { return };
        // One of the two may be what cannot be written, or what does not fit.
        if both {
            self.store.make_room();
            if let Err((error, _)) = self.commit(Vec::new(), &settled) {
                self.keep(&error);
            } else if let Err((error, publishes)) = self.commit(publishes, &[]) {
                self.refuse_all(publishes, &error);
            }
            return;
        }
        if publishes.is_empty() {
            self.store.make_room();
            self.keep(&error);
        } else {
            self.refuse_all(publishes, &error);
        }
    }

    /// Write. What could not be written comes back.
    fn commit(&mut self, publishes: Vec<Publish>, settled: &[Settled]) -> Result<(), (rusqlite::Error, Vec<Publish>)> {
        let (first, accepted) = (self.next, status::now());
        let shared = Arc::clone(&self.shared);
        let mut events = Vec::new();
        let mut sinks = Vec::new();
        for publish in &publishes {
            let numbers: Vec<i64> =
                publish.sinks.iter().filter_map(|at| shared.desks.get(*at)).map(|desk| desk.number).collect();
            for draft in &publish.drafts {
                events.push(Accepted {
                    seq: self.next,
                    size: draft.size(),
                    event: Event {
                        // In the order of the places: this clock never goes back within a process.
                        id: Uuid::now_v7(),
                        source: Arc::clone(&publish.source),
                        topic: Arc::clone(&publish.topic),
                        key: draft.key.clone(),
                        content_type: draft.content_type.clone(),
                        attributes: draft.attributes.clone(),
                        accepted,
                        body: draft.body.clone(),
                    },
                });
                self.next += 1;
                sinks.push(numbers.clone());
            }
        }
        let rows = events.iter().zip(sinks.iter().map(Vec::as_slice));
        let freed = match self.store.commit(rows, settled) {
            Ok(freed) => freed,
            Err(error) => {
                self.next = first;
                return Err((error, publishes));
            }
        };
        self.recovered();
        if !settled.is_empty() {
            self.again = None;
            self.unsettled.clear();
            shared.release(freed);
            settled.iter().for_each(|settled| self.count(settled));
        }
        for publish in &publishes {
            let count = publish.drafts.len() as u64;
            for desk in publish.sinks.iter().filter_map(|at| shared.desks.get(*at)) {
                desk.pending.fetch_add(count, Ordering::Relaxed);
                desk.committed.store(self.next - 1, Ordering::Release);
                desk.arrived.notify_one();
            }
            shared.topics.count(&publish.topic, status::Outcome::Accepted, count);
        }
        shared.tell_pending();
        // Last: whoever hears of it finds it counted.
        let mut ids = events.iter().map(|accepted| accepted.event.id);
        for publish in publishes {
            let ids = ids.by_ref().take(publish.drafts.len()).collect();
            // Accepted, whether anybody still waits for it or not.
            let _ = publish.reply.send(Ok(ids));
        }
        Ok(())
    }

    fn count(&self, settled: &Settled) {
        let moves = |desk: &Desk, to: Option<&AtomicU64>| {
            status::lower(&desk.pending, 1);
            if let Some(counter) = to {
                counter.fetch_add(1, Ordering::Relaxed);
            }
        };
        let Some(desk) = self.shared.desk(settled.sink) else { return };
        match settled.outcome {
            Outcome::Delivered => moves(desk, None),
            Outcome::Failed { .. } => {}
            Outcome::Dead { .. } => moves(desk, Some(&desk.dead)),
            Outcome::Damaged { .. } => moves(desk, Some(&desk.damaged)),
        }
    }

    fn refuse_all(&mut self, publishes: Vec<Publish>, error: &rusqlite::Error) {
        self.failed(error);
        let reason = describe(error);
        for publish in publishes {
            self.shared.refuse(publish, PublishError::Unavailable(reason.clone()));
        }
    }

    /// What has become of deliveries stays in memory for now.
    fn keep(&mut self, error: &rusqlite::Error) {
        self.failed(error);
        self.again = Some(Instant::now() + 4 * PAUSE);
    }

    fn failed(&self, error: &rusqlite::Error) {
        let (reason, now) = (describe(error), Instant::now());
        let mut trouble = self.shared.trouble();
        let since = match &*trouble {
            Trouble::Failing { since, .. } => *since,
            _ => {
                tracing::error!(outbox = %self.store.path().display(), %reason, "the outbox cannot be written");
                now
            }
        };
        *trouble = Trouble::Failing { reason, since, again: now + PAUSE };
    }

    fn recovered(&self) {
        let mut trouble = self.shared.trouble();
        if let Trouble::Failing { since, .. } = &*trouble {
            let after = since.elapsed();
            tracing::info!(outbox = %self.store.path().display(), ?after, "the outbox can be written again");
            *trouble = Trouble::None;
        }
    }
}

/// The thread's end: nothing can be published any more, and who waits hears of it.
struct OnEnd(Arc<Shared>);

impl Drop for OnEnd {
    fn drop(&mut self) {
        *self.0.trouble() = Trouble::Closed;
        let left: Vec<Publish> = {
            let mut inbox = self.0.inbox();
            inbox.closing = true;
            inbox.errands.clear();
            inbox.publishes.drain(..).collect()
        };
        for publish in left {
            self.0.refuse(publish, PublishError::Unavailable(CLOSED.to_owned()));
        }
    }
}
