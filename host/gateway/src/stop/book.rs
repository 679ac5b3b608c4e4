//! What happens in a shutdown, written down as it happens. The report is made from it: at the end, and for whoever asks
//! while it goes on.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tidegate_outbox::Outbox;
use tidegate_outbox::status::Status;
use tidegate_runtime::{Plugin, Snapshot, StopOutcome, StopReason, StopRecord};
use tokio::time::Instant;

use super::log::{Drained, StopLog, Stopped};
use super::phase::Phase;
use super::report::{
    DeferredReport, OutboxReport, PhaseReport, PluginReport, Report, Requests, SCHEMA, exit_code, millis,
};
use crate::generation::Generation;
use crate::roster::{Entry, Roster};
use crate::roster::{Hosted, Life};
use crate::signals::{StopCause, StopSignal};

/// The shutdown that goes on, if one does.
#[derive(Debug, Default)]
pub struct Ongoing(OnceLock<Arc<Book>>);

impl Ongoing {
    /// It begins. There is one per process.
    pub(crate) fn begin(&self, book: Book) -> Arc<Book> {
        Arc::clone(self.0.get_or_init(|| Arc::new(book)))
    }

    /// The report so far.
    #[must_use]
    pub fn report(&self) -> Option<Report> {
        self.0.get().map(|book| book.report(false))
    }
}

/// The book of one shutdown.
#[derive(Debug)]
pub(crate) struct Book<P = Plugin> {
    began: Instant,
    cause: StopCause,
    grace: Duration,
    exit_zero: bool,
    /// Plugins in the order of the configuration.
    names: Vec<Arc<str>>,
    stops: Arc<StopLog>,
    roster: Arc<Roster<P>>,
    outbox: Option<Watched>,
    pages: Mutex<Pages>,
}

/// The outbox, and what it had delivered before.
#[derive(Debug)]
struct Watched {
    outbox: Arc<Outbox>,
    delivered_before: u64,
}

impl Watched {
    fn report(&self) -> OutboxReport {
        let Status { pending, delivered, dead, .. } = self.outbox.status();
        OutboxReport { pending, delivered: delivered.saturating_sub(self.delivered_before), dead }
    }
}

#[derive(Debug)]
struct Pages {
    phases: Vec<PhaseEntry>,
    requests: Requests,
    /// Every instance that has to be accounted for.
    expected: Vec<Expected>,
    second: Option<StopSignal>,
}

#[derive(Debug)]
struct PhaseEntry {
    phase: Phase,
    started: Duration,
    share: Duration,
    took: Option<Duration>,
}

#[derive(Debug)]
struct Expected {
    life: Life,
    digest: Arc<str>,
    instance: u64,
}

impl Expected {
    fn is(&self, stopped: &Stopped) -> bool {
        stopped.record.instance == self.instance
            && stopped.generation == self.life.generation
            && stopped.record.plugin == self.life.name
    }
}

impl<P: Hosted> Book<P> {
    pub(crate) fn new(
        cause: StopCause,
        generation: &Generation<P>,
        in_flight: usize,
        stops: &Arc<StopLog>,
        roster: &Arc<Roster<P>>,
    ) -> Self {
        stops.keep();
        let requests = Requests { in_flight: in_flight as u64, completed: 0, cut: 0 };
        Self {
            began: Instant::now(),
            cause,
            grace: generation.ledger.grace(),
            exit_zero: generation.config.shutdown.exit_zero,
            names: generation.members.iter().map(|member| Arc::clone(member.name())).collect(),
            stops: Arc::clone(stops),
            roster: Arc::clone(roster),
            outbox: None,
            pages: Mutex::new(Pages { phases: Vec::new(), requests, expected: instances(roster), second: None }),
        }
    }

    /// What becomes of the events of an outbox belongs into the report as well.
    pub(crate) fn with_outbox(self, outbox: Option<&Arc<Outbox>>) -> Self {
        let watched =
            |outbox: &Arc<Outbox>| Watched { outbox: Arc::clone(outbox), delivered_before: outbox.status().delivered };
        Self { outbox: outbox.map(watched), ..self }
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        // Entries are made whole: a poisoned book is as good as a sound one.
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn enter(&self, phase: Phase, share: Duration) {
        let started = self.began.elapsed();
        self.pages().phases.push(PhaseEntry { phase, started, share, took: None });
    }

    pub(crate) fn leave(&self) {
        let elapsed = self.began.elapsed();
        if let Some(entry) = self.pages().phases.last_mut() {
            entry.took = Some(elapsed.saturating_sub(entry.started));
        }
    }

    pub(crate) fn drained(&self, completed: u64, cut: u64) {
        let mut pages = self.pages();
        pages.requests.completed = completed;
        pages.requests.cut = cut;
    }

    /// Note which instances have to be accounted for: those that live when they are told to stop, or when a second
    /// signal ends them without being told.
    pub(crate) fn take_stock(&self) {
        let now = instances(&self.roster);
        let mut pages = self.pages();
        if pages.second.is_none() && pages.phases.iter().all(|entry| entry.phase < Phase::Stopping) {
            pages.expected = now;
        }
    }

    pub(crate) fn cut_short(&self, signal: StopSignal) {
        self.take_stock();
        self.pages().second = Some(signal);
    }

    pub(crate) fn close(&self) -> Report {
        self.report(true)
    }

    /// Make the report. At the end, whatever has no entry is named as what it is: abandoned after a second signal, overrun
    /// otherwise.
    fn report(&self, complete: bool) -> Report {
        let took = self.began.elapsed();
        let pages = self.pages();
        let phases = pages.phases.iter().map(|entry| {
            let so_far = entry.took.unwrap_or_else(|| took.saturating_sub(entry.started));
            PhaseReport::new(entry.phase, entry.started, so_far, entry.share)
        });
        let mut stopped = self.stops.kept();
        if complete {
            let unheard = pages.expected.iter().filter(|expected| !stopped.iter().any(|stopped| expected.is(stopped)));
            let unheard: Vec<Stopped> = unheard.map(|expected| pages.unheard(expected, took)).collect();
            stopped.extend(unheard);
        }
        let position = |name: &Arc<str>| self.names.iter().position(|other| other == name).unwrap_or(usize::MAX);
        stopped
            .sort_by_key(|Stopped { record, generation, .. }| (position(&record.plugin), *generation, record.instance));
        let plugins: Vec<PluginReport> = stopped.iter().map(|stopped| PluginReport::new(stopped, self.began)).collect();
        let mut drained = self.stops.kept_of_deferred();
        drained.sort_by_key(|Drained { record, generation }| (position(&record.plugin), *generation));
        let deferred: Vec<DeferredReport> = drained.iter().map(DeferredReport::new).collect();
        let outbox = self.outbox.as_ref().map(Watched::report);
        let second = pages.second.map(StopSignal::number);
        let exit_code = exit_code(&pages.requests, &plugins, &deferred, outbox.as_ref(), second, self.exit_zero);
        Report {
            schema: SCHEMA,
            reason: StopReason::Terminate,
            signal: self.cause.signal().map(|signal| signal.as_str().to_owned()),
            complete,
            grace_ms: millis(self.grace),
            took_ms: millis(took),
            phases: phases.collect(),
            requests: pages.requests,
            plugins,
            deferred,
            outbox,
            exit_code,
        }
    }
}

impl Pages {
    fn unheard(&self, expected: &Expected, took: Duration) -> Stopped {
        let stopping = self.phases.iter().find(|entry| entry.phase == Phase::Stopping);
        let (started, budget) = stopping.map_or((took, Duration::ZERO), |entry| (entry.started, entry.share));
        let took = took.saturating_sub(started);
        let abandoned = self.second.is_some();
        let record = StopRecord {
            plugin: expected.life.name.clone(),
            digest: expected.digest.clone(),
            instance: expected.instance,
            reason: StopReason::Terminate,
            outcome: if abandoned { StopOutcome::Abandoned } else { StopOutcome::Overran },
            budget,
            took,
            cpu: Duration::ZERO,
            overshoot: took.saturating_sub(budget),
            snapshot: Snapshot::None,
            deferred_left: 0,
            error: Some(if abandoned { "abandoned" } else { "its end was not heard of in time" }.to_owned()),
        };
        Stopped { record, generation: expected.life.generation, ended: Instant::now() }
    }
}

/// Every live instance, of those that serve and of those that are being stopped.
fn instances<P: Hosted>(roster: &Roster<P>) -> Vec<Expected> {
    let of = |entry: Entry<P>| {
        let (life, digest) = (entry.life(), entry.plugin.digest().clone());
        let expected = move |instance| Expected { life: life.clone(), digest: digest.clone(), instance };
        entry.plugin.instances().into_iter().map(expected)
    };
    roster.all().into_iter().flat_map(of).collect()
}

#[cfg(test)]
mod tests;
