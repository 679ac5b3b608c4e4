//! What a sink still has to get: in which order, and what is tried again when. Decides, and waits for nothing.
//!
//! - Events of one lane, a topic and a key, go out in the order in which they were accepted. An event without a key has a
//!   lane of its own.
//! - An event that the sink *refuses* keeps its lane waiting, and no other. After so many attempts it is a dead letter, and
//!   its lane goes on.
//! - If the sink is *out of reach*, everything waits, and no event is to blame. But an event that takes the sink out of
//!   reach each time must not hold up the others: the one that was tried last becomes a suspect. Others are tried
//!   first from then on, and the suspect alone in between. If it fails again although others have been delivered since, it
//!   counts as refused.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Backoff;
use crate::event::Event;
use crate::sink::{Problem, SinkError};
use crate::store::write::Outcome;

/// The most events that are known at a time; others stay in the file. Only lanes that wait can fill it.
const WINDOW: usize = 65_536;
/// Bodies of one call, bytes, but for the event that goes over it.
const BATCH_BYTES: usize = 4 << 20;

/// Events that are in order among each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Lane {
    /// The hash of a topic and a key. Two that share one are in order, too, which harms nobody.
    Keyed(u64),
    /// An event without a key.
    Alone(i64),
}

#[derive(Debug)]
struct Entry {
    lane: Lane,
    attempts: u32,
    accepted: Duration,
    size: usize,
    /// Not kept while it has to wait.
    event: Option<Arc<Event>>,
    /// How many calls had brought something when this one last took the sink out of reach.
    suspected: Option<u64>,
}

/// A lane that waits for its first event.
#[derive(Debug)]
struct Blocked {
    head: i64,
    /// When the head is tried again; a suspect waits for its turn.
    until: Option<Instant>,
    behind: BTreeSet<i64>,
}

/// What to do now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Deliver these, in this order, and settle.
    Batch(Vec<i64>),
    /// Nothing before this time; `None`: not before something comes.
    Wait(Option<Instant>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Others,
    Suspect,
}

pub(super) struct Queue {
    attempts: u32,
    backoff: Backoff,
    entries: BTreeMap<i64, Entry>,
    ready: BTreeSet<i64>,
    suspects: VecDeque<i64>,
    lanes: HashMap<Lane, Blocked>,
    /// When which lane is tried again.
    due: BTreeSet<(Instant, Lane)>,
    turn: Turn,
    /// Out of reach, until then.
    stalled: Option<Instant>,
    /// Calls in a row that found it out of reach.
    stalls: u32,
    /// Calls that brought something.
    successes: u64,
    hasher: RandomState,
}

impl Queue {
    pub(super) fn new(attempts: u32, backoff: Backoff) -> Self {
        Self {
            attempts: attempts.max(1),
            backoff,
            entries: BTreeMap::new(),
            ready: BTreeSet::new(),
            suspects: VecDeque::new(),
            lanes: HashMap::new(),
            due: BTreeSet::new(),
            turn: Turn::Others,
            stalled: None,
            stalls: 0,
            successes: 0,
            hasher: RandomState::new(),
        }
    }

    /// Whether fewer than `enough` are ready, and there is room for more.
    pub(super) fn wants_more(&self, enough: usize) -> bool {
        self.ready.len() < enough && self.entries.len() < WINDOW
    }

    /// An event that has been read; again, if it was known without its body.
    pub(super) fn push(&mut self, seq: i64, attempts: u32, event: Arc<Event>) {
        if let Some(entry) = self.entries.get_mut(&seq) {
            entry.event = Some(event);
            return;
        }
        let lane = match &event.key {
            Some(key) => Lane::Keyed(self.hasher.hash_one((&event.topic, key))),
            None => Lane::Alone(seq),
        };
        let (accepted, size) = (event.accepted, event.body.len());
        let mut entry = Entry { lane, attempts, accepted, size, event: Some(event), suspected: None };
        match self.lanes.get_mut(&lane) {
            Some(blocked) => {
                entry.event = None;
                blocked.behind.insert(seq);
            }
            None => {
                self.ready.insert(seq);
            }
        }
        self.entries.insert(seq, entry);
    }

    /// What is to be delivered, at most `most` events.
    pub(super) fn next(&mut self, most: usize, now: Instant) -> Next {
        if let Some(until) = self.stalled.filter(|until| *until > now) {
            return Next::Wait(Some(until));
        }
        while let Some((until, lane)) = self.due.first().copied().filter(|(until, _)| *until <= now) {
            self.due.remove(&(until, lane));
            self.resume(lane);
        }
        let suspect = match self.turn {
            Turn::Others if !self.ready.is_empty() => None,
            _ => self.suspects.pop_front(),
        };
        if let Some(suspect) = suspect {
            return Next::Batch(vec![suspect]);
        }
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < most
            && bytes < BATCH_BYTES
            && let Some(seq) = self.ready.pop_first()
        {
            bytes += self.entries.get(&seq).map_or(0, |entry| entry.size);
            batch.push(seq);
        }
        if batch.is_empty() { Next::Wait(self.due.first().map(|(until, _)| *until)) } else { Next::Batch(batch) }
    }

    /// Those of a batch whose bodies have to be read again.
    pub(super) fn missing(&self, batch: &[i64]) -> Vec<i64> {
        batch.iter().copied().filter(|seq| self.event(*seq).is_none()).collect()
    }

    pub(super) fn event(&self, seq: i64) -> Option<Arc<Event>> {
        self.entries.get(&seq)?.event.clone()
    }

    /// An event that is not to be delivered any more. It is not among those that are ready or suspect.
    pub(super) fn forget(&mut self, seq: i64) {
        if let Some(entry) = self.entries.remove(&seq)
            && self.lanes.get(&entry.lane).is_some_and(|blocked| blocked.head == seq)
        {
            self.open(entry.lane);
        }
    }

    /// A batch that was not delivered after all.
    pub(super) fn put_back(&mut self, batch: Vec<i64>) {
        for seq in batch {
            let Some(entry) = self.entries.get_mut(&seq) else { continue };
            match self.lanes.get_mut(&entry.lane) {
                Some(blocked) if blocked.head == seq => self.suspects.push_front(seq),
                Some(blocked) => {
                    entry.event = None;
                    blocked.behind.insert(seq);
                }
                None => {
                    self.ready.insert(seq);
                }
            }
        }
    }

    /// What has become of a batch. Returns what is to be written down, each event at most once.
    pub(super) fn settle(
        &mut self,
        batch: Vec<i64>,
        result: &Result<(), SinkError>,
        now: Instant,
        random: f64,
    ) -> Vec<(i64, Outcome)> {
        let delivered = match result {
            Ok(()) => batch.len(),
            Err(error) => error.delivered.min(batch.len()),
        };
        let mut batch = batch.into_iter();
        let mut outcomes: Vec<(i64, Outcome)> =
            batch.by_ref().take(delivered).map(|seq| (seq, Outcome::Delivered)).collect();
        outcomes.iter().for_each(|(seq, _)| self.forget(*seq));
        if delivered > 0 {
            self.successes += 1;
            self.reached();
        }
        self.turn = match (self.turn, result) {
            (Turn::Others, Ok(())) => Turn::Suspect,
            // After a failure the others come first.
            _ => Turn::Others,
        };
        let Err(SinkError { problem, .. }) = result else { return outcomes };
        // It may have claimed more than there was.
        let Some(failed) = batch.next() else { return outcomes };
        // What the sink wants, whatever the back-off says.
        let least = if let Problem::Later { after, .. } = problem { *after } else { Duration::ZERO };
        match problem {
            Problem::Refused(problem) => {
                self.reached();
                outcomes.extend(self.refused(failed, problem, now, random));
            }
            Problem::Unreachable(problem) | Problem::Later { what: problem, .. } => {
                let entry = self.entries.get_mut(&failed);
                let before = entry.and_then(|entry| entry.suspected.replace(self.successes));
                if before.is_some_and(|successes| successes < self.successes) {
                    // Others went through, and this one takes the sink away again.
                    outcomes.extend(self.refused(failed, problem, now, random));
                } else {
                    self.block(failed, None);
                    self.suspects.push_back(failed);
                    self.stall(now, random);
                    self.stalled = self.stalled.max(Some(now + least));
                }
            }
        }
        self.put_back(batch.collect());
        outcomes
    }

    /// Nothing is tried for a while, longer each time.
    pub(super) fn stall(&mut self, now: Instant, random: f64) {
        self.stalls = self.stalls.saturating_add(1);
        self.stalled = Some(now + self.backoff.after(self.stalls, random));
    }

    pub(super) fn is_stalled(&self) -> bool {
        self.stalled.is_some()
    }

    /// Try everything at once that has been put off.
    pub(super) fn hurry(&mut self) {
        // It may still be out of reach: that is for the next call to say.
        self.stalls = 0;
        if let Some(until) = &mut self.stalled {
            *until = Instant::now();
        }
        for (_, lane) in std::mem::take(&mut self.due) {
            self.resume(lane);
        }
    }

    /// When the oldest event that waits was accepted.
    pub(super) fn oldest(&self) -> Option<Duration> {
        self.entries.values().next().map(|entry| entry.accepted)
    }

    fn reached(&mut self) {
        self.stalled = None;
        self.stalls = 0;
    }

    fn refused(&mut self, seq: i64, problem: &str, now: Instant, random: f64) -> Option<(i64, Outcome)> {
        let entry = self.entries.get_mut(&seq)?;
        entry.attempts = entry.attempts.saturating_add(1);
        let (attempts, problem) = (entry.attempts, problem.to_owned());
        if attempts >= self.attempts {
            self.forget(seq);
            return Some((seq, Outcome::Dead { attempts, problem }));
        }
        self.block(seq, Some(now + self.backoff.after(attempts, random)));
        Some((seq, Outcome::Failed { attempts, problem }))
    }

    /// The lane of this event waits for it.
    fn block(&mut self, seq: i64, until: Option<Instant>) {
        let Some(entry) = self.entries.get_mut(&seq) else { return };
        entry.event = None;
        let lane = entry.lane;
        self.due.extend(until.map(|until| (until, lane)));
        match self.lanes.get_mut(&lane) {
            Some(blocked) => blocked.until = until,
            None => {
                // Those that came later, and those of the batch that are put back, go behind it.
                let behind: BTreeSet<i64> = match lane {
                    Lane::Alone(_) => BTreeSet::new(),
                    Lane::Keyed(_) => self.ready.iter().copied().filter(|seq| self.lane(*seq) == Some(lane)).collect(),
                };
                behind.iter().for_each(|seq| {
                    self.ready.remove(seq);
                    if let Some(entry) = self.entries.get_mut(seq) {
                        entry.event = None;
                    }
                });
                self.lanes.insert(lane, Blocked { head: seq, until, behind });
            }
        }
    }

    fn lane(&self, seq: i64) -> Option<Lane> {
        self.entries.get(&seq).map(|entry| entry.lane)
    }

    /// The time of a lane has come.
    fn resume(&mut self, lane: Lane) {
        let Some(blocked) = self.lanes.get_mut(&lane) else { return };
        blocked.until = None;
        let head = blocked.head;
        if self.entries.get(&head).is_some_and(|entry| entry.suspected.is_some()) {
            self.suspects.push_back(head);
        } else {
            self.ready.insert(head);
            self.open(lane);
        }
    }

    /// A lane waits for nothing any more.
    fn open(&mut self, lane: Lane) {
        if let Some(blocked) = self.lanes.remove(&lane) {
            if let Some(until) = blocked.until {
                self.due.remove(&(until, lane));
            }
            self.ready.extend(blocked.behind);
        }
    }
}

#[cfg(test)]
mod tests;
