//! The one thread that changes the file.
//!
//! Whatever is published when a transaction begins goes into it: one wait for the disk serves everybody who publishes at
//! that time. What the sinks have done goes into few and large ones. A transaction that fails takes nothing: its publishes
//! are refused, and what the sinks have done with events is kept in memory and tried again, so that a full disk costs a
//! repeated delivery after a crash and nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::event::{Draft, Event};
use crate::ids::Ids;
use crate::outbox::PublishError;
use crate::shared::{After, Publish, Settle, Shared, Trouble, Work};
use crate::status::{self, Desk};
use crate::store::write::{Accepted, Outcome, Settled};
use crate::store::{Store, describe};

/// How long the file is left alone after it has failed. What comes meanwhile is refused at once.
const PAUSE: Duration = Duration::from_millis(250);

/// The thread's own.
#[derive(Debug)]
pub(crate) struct Writer {
    store: Store,
    shared: Arc<Shared>,
    /// The next place in the order.
    next: i64,
    ids: Ids,
    /// What has not been written yet, by sink and place: the latest word on a delivery counts.
    unsettled: BTreeMap<(i64, i64), Outcome>,
    /// When it is tried again, after it could not be written.
    again: Option<Instant>,
}

/// A publish and its events.
struct Intake {
    publish: Publish,
    events: Vec<Accepted>,
    /// Of the sinks that get them.
    numbers: Vec<i64>,
}

impl Writer {
    /// Write on a thread of its own until it is closed. The receiver hears of its end.
    pub(crate) fn start(store: Store, shared: Arc<Shared>, last: i64) -> std::io::Result<oneshot::Receiver<()>> {
        let (ended, end) = oneshot::channel();
        let (next, ids) = (last.saturating_add(1), Ids::default());
        let writer = Self { store, shared, next, ids, unsettled: BTreeMap::new(), again: None };
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
            let Work { publishes, settle, after } = self.shared.work(self.again);
            let settled = match settle {
                Settle::Later => Vec::new(),
                Settle::Now(new) => {
                    self.again = None;
                    self.unsettled.extend(new.into_iter().map(|new| ((new.sink, new.seq), new.outcome)));
                    let all = self.unsettled.iter();
                    all.map(|((sink, seq), outcome)| Settled { seq: *seq, sink: *sink, outcome: outcome.clone() })
                        .collect()
                }
            };
            let intakes = self.take_in(publishes);
            self.write(intakes, &settled);
            if after == After::End {
                break;
            }
        }
        if let Err(error) = self.store.checkpoint() {
            tracing::error!(outbox = %self.store.path().display(), error = %describe(&error), "the outbox cannot be synced");
        }
    }

    /// Publishes get their places in the order, but for those that nobody waits for any more.
    fn take_in(&mut self, publishes: Vec<Publish>) -> Vec<Intake> {
        let accepted = status::now();
        let (mut next, ids) = (self.next, &mut self.ids);
        let mut intakes = Vec::with_capacity(publishes.len());
        for mut publish in publishes {
            if publish.reply.is_closed() {
                // Nothing takes effect for who has given up.
                self.shared.account().release(&publish.source, publish.usage);
                continue;
            }
            let drafts = std::mem::take(&mut publish.drafts);
            let of = |draft: Draft| {
                let (seq, size) = (next, draft.size());
                next += 1;
                let Draft { key, content_type, attributes, body } = draft;
                let (source, topic) = (Arc::clone(&publish.source), Arc::clone(&publish.topic));
                // In the order of the places.
                let id = ids.next(accepted);
                let event = Event { id, source, topic, key, content_type, attributes, accepted, body };
                Accepted { seq, event: Arc::new(event), size }
            };
            let events = drafts.into_iter().map(of).collect();
            let desks = publish.sinks.iter().filter_map(|at| self.shared.desks.get(*at));
            let numbers = desks.map(|desk| desk.number).collect();
            intakes.push(Intake { publish, events, numbers });
        }
        intakes
    }

    /// One transaction, or what can be had of it.
    fn write(&mut self, intakes: Vec<Intake>, settled: &[Settled]) {
        if intakes.is_empty() && settled.is_empty() {
            return;
        }
        let Err(error) = self.commit(&intakes, settled) else { return self.announce(intakes) };
        // Next time there may be room.
        self.store.make_room();
        if intakes.is_empty() {
            self.keep(&error);
        } else if settled.is_empty() {
            self.refuse_all(intakes, &error);
        } else {
            // One of the two may be what cannot be written, or what does not fit.
            if let Err(error) = self.commit(&[], settled) {
                self.keep(&error);
            }
            match self.commit(&intakes, &[]) {
                Ok(()) => self.announce(intakes),
                Err(error) => self.refuse_all(intakes, &error),
            }
        }
    }

    /// Write all of it, or nothing.
    fn commit(&mut self, intakes: &[Intake], settled: &[Settled]) -> rusqlite::Result<()> {
        let rows = intakes.iter().flat_map(|intake| intake.events.iter().map(|event| (event, &*intake.numbers)));
        let freed = self.store.commit(rows, settled)?;
        self.recovered();
        if !settled.is_empty() {
            self.unsettled.clear();
            self.shared.release(freed);
            settled.iter().for_each(|settled| self.count(settled));
            self.shared.tell_pending();
        }
        Ok(())
    }

    /// Events are in the file: the sinks get them, and who published hears of it.
    fn announce(&mut self, intakes: Vec<Intake>) {
        let last = intakes.iter().rev().find_map(|intake| intake.events.last());
        self.next = last.map_or(self.next, |last| last.seq + 1);
        for (at, desk) in self.shared.desks.iter().enumerate() {
            desk.receive(
                intakes.iter().filter(|intake| intake.publish.sinks.contains(&at)).flat_map(|intake| &intake.events),
            );
        }
        for Intake { publish, events, .. } in intakes {
            self.shared.topics.count(&publish.topic, status::Outcome::Accepted, events.len() as u64);
            // Last: whoever hears of it finds it counted. Accepted, whether anybody still waits for it or not.
            let _ = publish.reply.send(Ok(events.iter().map(|accepted| accepted.event.id).collect()));
        }
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

    fn refuse_all(&self, intakes: Vec<Intake>, error: &rusqlite::Error) {
        self.failed(error);
        let reason = describe(error);
        for Intake { publish, .. } in intakes {
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

/// The thread's end.
struct OnEnd(Arc<Shared>);

impl Drop for OnEnd {
    fn drop(&mut self) {
        self.0.end();
    }
}
