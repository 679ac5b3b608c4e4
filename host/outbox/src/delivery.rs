//! Delivery to one sink: a task that reads what waits, hands it over, and has the outcome written down.
//!
//! What is delivered in which order, and what is tried again when, is decided in `queue`; here is what waits.

mod queue;

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use self::queue::{Next, Queue};
use crate::event::Event;
use crate::fresh::New;
use crate::outbox::SinkSpec;
use crate::reader::{Reader, Which};
use crate::shared::Shared;
use crate::sink::{Problem, Sink, SinkError};
use crate::status::{self, Desk};
use crate::store::read::Waiting;
use crate::store::write::{Outcome, Settled};

/// Bodies that are read at a time, bytes.
const READ_BYTES: usize = 4 << 20;
/// Events that are read at a time.
const READ_EVENTS: usize = 1_024;
/// How long an event waits for others to be delivered with it: one by one, each would cost the machine as much as many do.
const LINGER: Duration = Duration::from_millis(10);
/// Dead letters are logged one by one up to one per this time; the others are counted.
const LOG_EVERY: Duration = Duration::from_secs(1);
/// What a receiver says goes into the file and the log; more than this is not wanted there. Characters.
const LONGEST_PROBLEM: usize = 500;

/// How long to wait before the next attempt: doubled each time, from the first to the longest, half of it random.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure.
    pub first: Duration,
    /// At most.
    pub longest: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_millis(100), longest: Duration::from_secs(60) }
    }
}

impl Backoff {
    /// After this many failures in a row, 1 or more. `random` is from 0 to 1.
    fn after(&self, failures: u32, random: f64) -> Duration {
        let doubled = 2_u32.checked_pow(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        let whole = self.first.saturating_mul(doubled).min(self.longest);
        whole.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
    }
}

/// Delivers to one sink.
pub(crate) struct Worker {
    sink: Arc<dyn Sink>,
    timeout: Duration,
    desk: Arc<Desk>,
    shared: Arc<Shared>,
    reader: Reader,
    stop: CancellationToken,
    flush: watch::Receiver<u64>,
    queue: Queue,
    /// What comes up to here in the order has been read.
    read_to: i64,
    dead_letters: DeadLetterLog,
}

impl Worker {
    pub(crate) fn new(
        spec: SinkSpec,
        desk: Arc<Desk>,
        shared: Arc<Shared>,
        reader: Reader,
        stop: CancellationToken,
        flush: watch::Receiver<u64>,
    ) -> Self {
        let queue = Queue::new(spec.attempts, spec.backoff);
        let (sink, timeout) = (spec.sink, spec.timeout);
        let dead_letters = DeadLetterLog::default();
        Self { sink, timeout, desk, shared, reader, stop, flush, queue, read_to: 0, dead_letters }
    }

    /// Deliver until told to stop. What is under way then may have been delivered or not.
    pub(crate) async fn run(mut self) {
        let stop = self.stop.clone();
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.deliver() => {}
        }
    }

    async fn deliver(&mut self) {
        loop {
            if self.flush.has_changed().unwrap_or(false) {
                self.flush.mark_unchanged();
                self.queue.hurry();
            }
            self.refill().await;
            let next = self.queue.next(self.sink.batch().max(1), Instant::now());
            self.report();
            match next {
                Next::Batch(batch) => self.hand_over(batch).await,
                Next::Wait(until) => self.wait(until).await,
            }
        }
    }

    async fn wait(&mut self, until: Option<Instant>) {
        let pause = async {
            match until {
                Some(until) => sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = pause => {}
            // While it is out of reach, what is new changes nothing but the order of things to come.
            () = self.desk.arrived.notified() => self.linger().await,
            changed = self.flush.changed() => match changed {
                Ok(()) => self.queue.hurry(),
                // Nobody is left who could ask; the token ends this.
                Err(_) => std::future::pending().await,
            }
        }
    }

    /// Others may come, unless somebody waits for this one.
    async fn linger(&mut self) {
        if self.shared.is_flushing() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(LINGER) => {}
            changed = self.flush.changed() => if changed.is_ok() {
                self.queue.hurry();
            }
        }
    }

    /// Take what has come, as far as there is room: from memory, or from the file if this is behind.
    async fn refill(&mut self) {
        if !self.queue.wants_more(READ_EVENTS) {
            return;
        }
        let new = self.desk.fresh().take(self.read_to);
        match new {
            New::Nothing => {}
            New::Here(events, up_to) => {
                self.read_to = up_to;
                events.into_iter().for_each(|(seq, event)| self.queue.push(seq, 0, event));
            }
            New::InFile(committed) => self.read(committed).await,
        }
    }

    /// Read from the file, which has everything up to `committed`.
    async fn read(&mut self, committed: i64) {
        let which = Which::After(self.read_to, READ_EVENTS, READ_BYTES);
        match self.reader.read(self.desk.number, which).await {
            Ok(found) => {
                // The file is read in its order, so what was not found is not there.
                let complete = found.len() < READ_EVENTS
                    && found.iter().flat_map(|waiting| &waiting.event).map(|event| event.body.len()).sum::<usize>()
                        < READ_BYTES;
                let last = found.last().map_or(self.read_to, |waiting| waiting.seq);
                self.read_to = if complete { committed.max(last) } else { last };
                self.take_in(found);
            }
            Err(problem) => self.unreadable(problem),
        }
    }

    fn take_in(&mut self, found: Vec<Waiting>) {
        for Waiting { seq, attempts, event } in found {
            match event {
                Ok(event) => self.queue.push(seq, attempts, Arc::new(event)),
                Err(damage) => {
                    tracing::error!(sink = %self.desk.name, seq, problem = %damage.0, "an event in the outbox is damaged; it is kept, and not delivered");
                    self.queue.forget(seq);
                    self.shared.topics.count("", status::Outcome::Damaged, 1);
                    let outcome = Outcome::Damaged { problem: damage.0 };
                    self.shared.settle([Settled { seq, sink: self.desk.number, outcome }]);
                }
            }
        }
    }

    /// The file cannot be read: everything waits, as if the sink were out of reach.
    fn unreadable(&mut self, problem: String) {
        let problem = format!("the outbox cannot be read: {problem}");
        self.failure(&problem);
        self.queue.stall(Instant::now(), rand::random());
    }

    async fn hand_over(&mut self, batch: Vec<i64>) {
        let missing = self.queue.missing(&batch);
        if !missing.is_empty() {
            match self.reader.read(self.desk.number, Which::At(missing.clone())).await {
                Ok(found) => {
                    self.take_in(found);
                    // What is not there any more has been taken out by somebody.
                    for seq in missing {
                        if self.queue.event(seq).is_none() {
                            self.queue.forget(seq);
                        }
                    }
                }
                Err(problem) => {
                    self.queue.put_back(batch);
                    self.unreadable(problem);
                    return;
                }
            }
        }
        let (batch, events): (Vec<i64>, Vec<Arc<Event>>) =
            batch.into_iter().filter_map(|seq| Some((seq, self.queue.event(seq)?))).unzip();
        if events.is_empty() {
            return;
        }
        let result = self.call(events.clone()).await;
        self.learn(batch, &events, result);
    }

    /// One call of the sink, whatever it does.
    async fn call(&self, events: Vec<Arc<Event>>) -> Result<(), SinkError> {
        let unreachable = |problem: String| Err(SinkError { delivered: 0, problem: Problem::Unreachable(problem) });
        // The call itself may panic, too, before there is a future.
        let call = AssertUnwindSafe(async { self.sink.deliver(events).await }).catch_unwind();
        match timeout(self.timeout, call).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => unreachable("the sink panicked".to_owned()),
            Err(_) => unreachable(format!("no answer within {:?}", self.timeout)),
        }
    }

    fn learn(&mut self, batch: Vec<i64>, events: &[Arc<Event>], mut result: Result<(), SinkError>) {
        if let Err(error) = &mut result {
            shorten(&mut error.problem);
            self.failure(&error.to_string());
        }
        let stalled_before = self.queue.is_stalled();
        let known: HashMap<i64, &Arc<Event>> = batch.iter().copied().zip(events).collect();
        let outcomes = self.queue.settle(batch, &result, Instant::now(), rand::random());
        for (seq, outcome) in &outcomes {
            let Some(event) = known.get(seq) else { continue };
            match outcome {
                Outcome::Delivered => {
                    self.desk.delivered.fetch_add(1, Ordering::Relaxed);
                    self.shared.topics.count(&event.topic, status::Outcome::Delivered, 1);
                }
                Outcome::Dead { attempts, problem } => {
                    self.shared.topics.count(&event.topic, status::Outcome::Dead, 1);
                    self.dead_letters.write(&self.desk.name, event, *attempts, problem);
                }
                Outcome::Failed { .. } | Outcome::Damaged { .. } => {}
            }
        }
        let sink = self.desk.number;
        self.shared.settle(outcomes.into_iter().map(|(seq, outcome)| Settled { seq, sink, outcome }));
        match (stalled_before, self.queue.is_stalled()) {
            (false, true) => {
                let problem = self.desk.progress().last_error.clone().unwrap_or_default();
                tracing::warn!(sink = %self.desk.name, %problem, "the sink is out of reach; its events wait");
            }
            (true, false) => tracing::info!(sink = %self.desk.name, "the sink is within reach again"),
            _ => {}
        }
    }

    fn failure(&self, problem: &str) {
        self.desk.failures.fetch_add(1, Ordering::Relaxed);
        self.desk.progress().last_error = Some(problem.to_owned());
    }

    /// For whoever asks how it stands.
    fn report(&self) {
        let mut progress = self.desk.progress();
        progress.oldest = self.queue.oldest();
        match (self.queue.is_stalled(), progress.stalled) {
            (true, None) => progress.stalled = Some(std::time::Instant::now()),
            (false, Some(_)) => progress.stalled = None,
            _ => {}
        }
    }
}

fn shorten(problem: &mut Problem) {
    let (Problem::Refused(text) | Problem::Unreachable(text) | Problem::Later { what: text, .. }) = problem;
    if let Some((end, _)) = text.char_indices().nth(LONGEST_PROBLEM) {
        text.truncate(end);
        text.push_str("..");
    }
}

/// Dead letters in the log, within bounds.
#[derive(Debug, Default)]
struct DeadLetterLog {
    last: Option<Instant>,
    left_out: u64,
}

impl DeadLetterLog {
    fn write(&mut self, sink: &str, event: &Event, attempts: u32, problem: &str) {
        if self.last.is_some_and(|last| last.elapsed() < LOG_EVERY) {
            self.left_out += 1;
            return;
        }
        let left_out = std::mem::take(&mut self.left_out);
        self.last = Some(Instant::now());
        let (id, topic) = (event.id, &event.topic);
        tracing::error!(sink, %id, %topic, attempts, problem, left_out, "an event is a dead letter now");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_up_to_the_longest_and_half_of_it_is_random() {
        let backoff = Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(60) };
        let millis = |failures, random| backoff.after(failures, random).as_millis();
        assert_eq!([1, 2, 3, 10].map(|failures| millis(failures, 1.0)), [100, 200, 400, 51_200]);
        assert_eq!([11, 32, 33, u32::MAX].map(|failures| millis(failures, 1.0)), [60_000; 4]);
        assert_eq!((millis(1, 0.0), millis(1, 0.5), millis(11, 0.0)), (50, 75, 30_000));
    }

    #[test]
    fn what_a_receiver_says_is_cut_to_length_between_characters() {
        let mut problem = Problem::Refused("ä".repeat(10_000));
        shorten(&mut problem);
        assert_eq!(problem, Problem::Refused(format!("{}..", "ä".repeat(500))));
    }
}
