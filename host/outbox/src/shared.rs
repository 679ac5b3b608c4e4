//! What the threads and tasks of one outbox share: the account, what waits for the writer, and how the outbox is.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};
use uuid::Uuid;

use crate::account::{Account, Usage};
use crate::event::Draft;
use crate::outbox::PublishError;
use crate::status::{Desk, Health, Topics};
use crate::store::write::{Freed, Settled};

/// How long what the sinks have done waits to be written down with more of it: each transaction costs the publishes that
/// wait behind it. A crash within this time costs repeated deliveries.
const LINGER: Duration = Duration::from_millis(50);
/// The same while somebody waits for it: in a flush, or when the outbox gets full and what has been delivered still takes up
/// room.
const SHORT_LINGER: Duration = Duration::from_millis(5);
/// So many wait no longer, or a transaction would take too long.
const MOST_SETTLED: usize = 512;
/// The most events of one transaction, but for the call that goes over it.
const MOST_EVENTS: u64 = 4_096;
/// Likewise bytes: the log grows by them.
const MOST_BYTES: u64 = 16 << 20;
const CLOSED: &str = "the outbox is closed";

/// What the threads and tasks of one outbox share.
#[derive(Debug)]
pub(crate) struct Shared {
    account: Mutex<Account>,
    inbox: Mutex<Inbox>,
    work: Condvar,
    trouble: Mutex<Trouble>,
    pub(crate) desks: Vec<Arc<Desk>>,
    pub(crate) topics: Topics,
    /// Deliveries that wait, of all desks, as of the last time that some were settled or somebody asked.
    pub(crate) pending: watch::Sender<u64>,
}

/// What is wrong with the file.
#[derive(Debug, Default)]
pub(crate) enum Trouble {
    /// Nothing.
    #[default]
    None,
    /// It could not be written; until `again` nothing is taken.
    Failing { reason: String, since: Instant, again: Instant },
    /// The writer is gone.
    Closed,
}

#[derive(Debug, Default)]
struct Inbox {
    publishes: VecDeque<Publish>,
    settled: Vec<Settled>,
    /// When they are to be written; `None` while there are none.
    settle_at: Option<Instant>,
    /// Those who wait for everything to be delivered.
    flushes: usize,
    writer: WriterIs,
    closing: bool,
}

/// What the writer does.
#[derive(Debug, Default, PartialEq, Eq)]
enum WriterIs {
    /// It works, or has been woken: it will look.
    #[default]
    Awake,
    /// It has to be woken.
    Asleep,
}

/// What the writer is to do now.
#[derive(Debug)]
pub(crate) struct Work {
    /// As many publishes as fit into a transaction.
    pub(crate) publishes: Vec<Publish>,
    /// Whether deliveries are settled now as well, and those that are new.
    pub(crate) settle: Settle,
    /// What comes after that.
    pub(crate) after: After,
}

/// What is done about deliveries.
#[derive(Debug)]
pub(crate) enum Settle {
    /// All that something has become of is written down; these have come since the last time.
    Now(Vec<Settled>),
    /// They wait for more.
    Later,
}

/// What comes after a piece of work.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// More.
    More,
    /// The end: nothing is left, and nothing will come.
    End,
}

/// Events that somebody waits for. Room has been taken for them.
#[derive(Debug)]
pub(crate) struct Publish {
    pub(crate) source: Arc<str>,
    pub(crate) topic: Arc<str>,
    pub(crate) drafts: Vec<Draft>,
    pub(crate) usage: Usage,
    /// Those who take the topic, as places in [`Shared::desks`].
    pub(crate) sinks: Vec<usize>,
    pub(crate) reply: oneshot::Sender<Result<Vec<Uuid>, PublishError>>,
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

    pub(crate) fn trouble(&self) -> MutexGuard<'_, Trouble> {
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
        self.wake(inbox);
    }

    /// Note what has become of deliveries. Bounded by the events that there are.
    pub(crate) fn settle(&self, settled: impl IntoIterator<Item = Settled>) {
        let tight = self.account().is_tight();
        let mut inbox = self.inbox();
        inbox.settled.extend(settled);
        if inbox.settled.is_empty() {
            return;
        }
        let linger = match inbox.settled.len() {
            MOST_SETTLED.. => Duration::ZERO,
            _ if tight || inbox.flushes > 0 => SHORT_LINGER,
            _ => LINGER,
        };
        let at = Instant::now() + linger;
        if inbox.settle_at.is_none_or(|before| at < before) {
            inbox.settle_at = Some(at);
            self.wake(inbox);
        }
    }

    /// Take nothing more; what waits is still written, and then the writer ends.
    pub(crate) fn close(&self) {
        let mut inbox = self.inbox();
        inbox.closing = true;
        self.wake(inbox);
    }

    /// The writer has something to do, or to wait for less long. Only if it sleeps is the system asked to wake it: that is a
    /// call for each publish, otherwise.
    fn wake(&self, mut inbox: MutexGuard<'_, Inbox>) {
        let before = std::mem::take(&mut inbox.writer);
        // It would wait for the lock next.
        drop(inbox);
        if before == WriterIs::Asleep {
            self.work.notify_one();
        }
    }

    /// From now on until what is returned is dropped, deliveries do not wait for others, nor for long to be settled.
    pub(crate) fn begin_flush(&self) -> Flushing<'_> {
        let mut inbox = self.inbox();
        inbox.flushes += 1;
        if inbox.settle_at.is_some() {
            inbox.settle_at = Some(Instant::now());
        }
        self.wake(inbox);
        Flushing(self)
    }

    pub(crate) fn is_flushing(&self) -> bool {
        self.inbox().flushes > 0
    }

    /// Waits until there is something to do; for the writer. Deliveries that could not be settled are tried again at `again`,
    /// and until then no others are.
    pub(crate) fn work(&self, again: Option<Instant>) -> Work {
        let mut inbox = self.inbox();
        let settle = loop {
            let due = again.or(inbox.settle_at);
            // There is no later for who closes.
            let settles = inbox.closing || due.is_some_and(|due| due <= Instant::now());
            if !inbox.publishes.is_empty() || settles {
                break settles;
            }
            inbox.writer = WriterIs::Asleep;
            inbox = match due {
                None => self.work.wait(inbox).unwrap_or_else(PoisonError::into_inner),
                Some(due) => {
                    let pause = due.saturating_duration_since(Instant::now());
                    self.work.wait_timeout(inbox, pause).unwrap_or_else(PoisonError::into_inner).0
                }
            };
            inbox.writer = WriterIs::Awake;
        };
        let settle = if settle {
            inbox.settle_at = None;
            Settle::Now(std::mem::take(&mut inbox.settled))
        } else {
            Settle::Later
        };
        let (mut publishes, mut size) = (Vec::new(), Usage::default());
        while size.events < MOST_EVENTS
            && size.bytes < MOST_BYTES
            && let Some(publish) = inbox.publishes.pop_front()
        {
            size.add(publish.usage);
            publishes.push(publish);
        }
        let after = if inbox.closing && inbox.publishes.is_empty() { After::End } else { After::More };
        Work { publishes, settle, after }
    }

    /// The writer is gone, or will be: nothing can be published any more, and who waits hears of it.
    pub(crate) fn end(&self) {
        *self.trouble() = Trouble::Closed;
        let left: Vec<Publish> = {
            let mut inbox = self.inbox();
            inbox.closing = true;
            inbox.publishes.drain(..).collect()
        };
        for publish in left {
            self.refuse(publish, PublishError::Unavailable(CLOSED.to_owned()));
        }
    }

    pub(crate) fn refuse(&self, publish: Publish, error: PublishError) {
        self.account().release(&publish.source, publish.usage);
        self.topics.count(&publish.topic, error.outcome(), publish.usage.events);
        // Who published may have given up waiting.
        let _ = publish.reply.send(Err(error));
    }

    pub(crate) fn release(&self, freed: Vec<Freed>) {
        let mut account = self.account();
        freed.into_iter().for_each(|(source, usage)| account.release(&source, usage));
    }

    pub(crate) fn desk(&self, number: i64) -> Option<&Desk> {
        self.desks.iter().find(|desk| desk.number == number).map(|desk| &**desk)
    }

    /// Say how many deliveries wait now.
    pub(crate) fn tell_pending(&self) {
        self.pending.send_if_modified(|before| {
            // Added up in here: of two who tell, the later one has the later sum.
            let pending = self.desks.iter().map(|desk| desk.pending.load(Ordering::Relaxed)).sum();
            std::mem::replace(before, pending) != pending
        });
    }
}

/// A flush that is under way.
#[derive(Debug)]
pub(crate) struct Flushing<'shared>(&'shared Shared);

impl Drop for Flushing<'_> {
    fn drop(&mut self) {
        let mut inbox = self.0.inbox();
        inbox.flushes = inbox.flushes.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Limits;
    use crate::store::write::Outcome;

    fn shared(max_events: u64) -> Shared {
        Shared::new(Account::new(Limits { max_events, ..Limits::default() }), Vec::new())
    }

    fn settled(seq: i64) -> Settled {
        Settled { seq, sink: 1, outcome: Outcome::Delivered }
    }

    fn publish(shared: &Shared) {
        let (source, usage) = (Arc::from("p"), Usage { events: 1, bytes: 1 });
        shared.account().reserve(&source, usage).expect("room");
        let (topic, (reply, _)) = (Arc::from("t"), oneshot::channel());
        shared.publish(Publish { source, topic, drafts: vec![Draft::default()], usage, sinks: Vec::new(), reply });
    }

    /// How long what has been settled may wait.
    fn wait(shared: &Shared) -> Duration {
        let at = shared.inbox().settle_at.expect("something is settled");
        at.saturating_duration_since(Instant::now())
    }

    #[test]
    fn a_publish_takes_no_settlement_with_it_before_that_is_due() {
        let shared = shared(100);
        shared.settle([settled(1)]);
        // However slow this machine is.
        shared.inbox().settle_at = Some(Instant::now() + Duration::from_secs(3_600));
        publish(&shared);
        let before = shared.work(None);
        assert!(matches!((before.publishes.len(), before.settle), (1, Settle::Later)));
        // Nothing is published, and this returns.
        shared.inbox().settle_at = Some(Instant::now());
        let after = shared.work(None);
        assert!(matches!((after.publishes.len(), after.settle), (0, Settle::Now(settled)) if settled.len() == 1));
    }

    #[test]
    fn many_settlements_wait_for_nothing() {
        let shared = shared(100);
        shared.settle((1..MOST_SETTLED as i64).map(settled));
        shared.settle([settled(0)]);
        assert_eq!(wait(&shared), Duration::ZERO);
    }

    #[test]
    fn while_more_than_half_of_the_room_is_taken_settlements_wait_for_a_short_time_only() {
        let shared = shared(4);
        (0..3).for_each(|_| publish(&shared));
        shared.settle([settled(1)]);
        assert!(wait(&shared) <= SHORT_LINGER);
    }

    #[test]
    fn a_flush_hurries_what_waits_and_what_comes_until_it_is_given_up() {
        let shared = shared(100);
        shared.settle([settled(1)]);
        let flushing = shared.begin_flush();
        assert_eq!(wait(&shared), Duration::ZERO);
        let Work { settle: Settle::Now(_), .. } = shared.work(None) else { panic!("it is due") };
        shared.settle([settled(2)]);
        assert!(wait(&shared) <= SHORT_LINGER);
        assert!(shared.is_flushing());
        drop(flushing);
        assert!(!shared.is_flushing());
    }

    #[test]
    fn after_a_failure_nothing_is_settled_before_its_time_but_by_a_close() {
        let shared = shared(100);
        shared.settle((0..MOST_SETTLED as i64).map(settled));
        publish(&shared);
        let again = Some(Instant::now() + Duration::from_secs(3_600));
        assert!(matches!(shared.work(again).settle, Settle::Later));
        shared.close();
        let Work { publishes, settle, after } = shared.work(again);
        assert!(matches!((publishes.len(), settle, after), (0, Settle::Now(_), After::End)));
    }
}
