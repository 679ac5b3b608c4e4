//! The stop protocol: lame-duck, drain, the plugins' shutdown, flush. [`Gateway::stop`] reads from top to bottom.
//!
//! Every wait in here is bounded by a share of the ledger, and every wait ends at once on a second signal. Beyond that,
//! the whole is bounded by the grace period: should anything outlast its share after all, the report is
//! made of what is known by then.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tidegate_runtime::{Plugin, StopOutcome, StopReason, StopRecord};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::log::{StopLog, Stopped};
use super::phase::Phase;
use super::report::{PhaseReport, PluginReport, Report, Requests, SCHEMA, exit_code, millis};
use crate::gateway::Gateway;
use crate::signals::{StopSignal, StopSignals};

/// After a second signal: how long to wait for what has been interrupted. Interrupted guests are gone within a tick.
const HURRY: Duration = Duration::from_millis(50);

impl Gateway {
    /// End everything, in order, after `signal`. A further one of `signals` cuts it short.
    pub async fn stop(self, signal: StopSignal, signals: &mut StopSignals) -> Report {
        let grace = self.ledger.grace();
        let shutdown = self.shutdown;
        let runtime = self.runtime.clone();
        let plugins = self.plugins.clone();
        let names: Vec<Arc<str>> = plugins.iter().map(|plugin| plugin.name().clone()).collect();
        let stop = Stop::new(&self);
        tracing::info!(%signal, ?grace, in_flight = self.serving.in_flight(), "stopping");

        let mut protocol = std::pin::pin!(stop.run(self));
        let mut out_of_grace = std::pin::pin!(sleep(grace));
        let mut second = None;
        loop {
            tokio::select! {
                biased;
                () = &mut protocol => break,
                again = signals.next(), if second.is_none() => {
                    tracing::warn!(signal = %again, "second signal: everything ends now");
                    second = Some(again);
                    // First, since those that are in a call are gone a moment later.
                    stop.take_stock(&plugins);
                    runtime.abandon();
                    stop.hurry.cancel();
                }
                () = &mut out_of_grace => {
                    tracing::error!(?grace, "the grace period is over");
                    break;
                }
            }
        }
        let report = stop.book().close(signal, second, shutdown.exit_zero, &names);
        tracing::info!(exit_code = report.exit_code, took_ms = report.took_ms, "stopped");
        report
    }
}

/// One run of the protocol.
struct Stop {
    began: Instant,
    /// Exchanges that had ended well before the signal.
    completed_before: u64,
    /// Cancelled by a second signal.
    hurry: CancellationToken,
    book: Arc<Mutex<Book>>,
}

impl Stop {
    fn new(gateway: &Gateway) -> Self {
        let began = Instant::now();
        let completed_before = gateway.serving.completed();
        gateway.stops.keep();
        let book = Book {
            began,
            grace: gateway.ledger.grace(),
            phases: Vec::new(),
            requests: Requests { in_flight: gateway.serving.in_flight() as u64, completed: 0, cut: 0 },
            stops: Arc::clone(&gateway.stops),
            expected: instances(&gateway.plugins),
        };
        Self { began, completed_before, hurry: CancellationToken::new(), book: Arc::new(Mutex::new(book)) }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // Entries are made whole: a poisoned book is as good as a sound one.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn run(&self, gateway: Gateway) {
        self.lame_duck(&gateway).await;
        self.drain(&gateway).await;
        self.stop_plugins(&gateway).await;
        self.flush(gateway).await;
    }

    /// Readiness says no from here on; requests are still accepted, for load balancers that have not noticed.
    async fn lame_duck(&self, gateway: &Gateway) {
        let share = self.enter(gateway, Phase::LameDuck);
        self.wait(share, std::future::pending::<()>()).await;
        self.leave();
    }

    /// Listeners close and idle connections end; exchanges that have begun go on for the drain's share.
    async fn drain(&self, gateway: &Gateway) {
        gateway.runtime.enter(tidegate_runtime::Phase::Draining);
        let share = self.enter(gateway, Phase::Draining);
        if self.wait(share, gateway.serving.drained()).await.is_none() {
            let in_flight = gateway.serving.cut() as u64;
            let at_cut = gateway.serving.completed();
            self.book().requests.cut = in_flight;
            // Their connections go away at once; what their plugins still compute is bounded by its own budget.
            let _ = timeout(HURRY, gateway.serving.drained()).await;
            // Some may have got their response in that very moment.
            let cut = in_flight.saturating_sub(gateway.serving.completed().saturating_sub(at_cut));
            self.book().requests.cut = cut;
            if cut > 0 {
                tracing::warn!(cut, "exchanges were cut off");
            }
        }
        self.book().requests.completed = gateway.serving.completed().saturating_sub(self.completed_before);
        self.leave();
    }

    /// Every instance of every plugin is told, side by side.
    async fn stop_plugins(&self, gateway: &Gateway) {
        gateway.runtime.enter(tidegate_runtime::Phase::Stopping);
        self.take_stock(&gateway.plugins);
        let share = self.enter(gateway, Phase::Stopping);
        join_all(gateway.plugins.iter().map(|plugin| plugin.stop(StopReason::Terminate, share))).await;
        self.leave();
    }

    /// The access log is written out, and the process stays for `min_drain`.
    async fn flush(&self, gateway: Gateway) {
        let share = self.enter(&gateway, Phase::Flushing);
        let Gateway { access_log, admin, ledger, phase, .. } = gateway;
        // Dropping the guard waits for the log's writer, which may wait for a slow pipe.
        let flushed = tokio::task::spawn_blocking(move || drop(access_log));
        if self.wait(share, flushed).await.is_none() {
            tracing::warn!("the access log could not be written out in time");
        }
        let hold = ledger.hold(self.began.elapsed());
        self.wait(hold, std::future::pending::<()>()).await;
        self.leave();
        phase.enter(Phase::Stopped);
        admin.stop().await;
    }

    /// Note which instances have to be accounted for: those that live when they are told to stop, or when a second
    /// signal ends them without being told.
    fn take_stock(&self, plugins: &[Plugin]) {
        let mut book = self.book();
        if !self.hurry.is_cancelled() && book.phases.iter().all(|entry| entry.phase < Phase::Stopping) {
            book.expected = instances(plugins);
        }
    }

    /// Wait for `work`, but no longer than `share`, and not at all once a second signal has come.
    async fn wait<T>(&self, share: Duration, work: impl Future<Output = T>) -> Option<T> {
        let work = timeout(share, work);
        tokio::select! {
            biased;
            () = self.hurry.cancelled() => None,
            done = work => done.ok(),
        }
    }

    fn enter(&self, gateway: &Gateway, phase: Phase) -> Duration {
        gateway.phase.enter(phase);
        let started = self.began.elapsed();
        let share = gateway.ledger.share(phase, started);
        tracing::info!(%phase, ?share, "phase begins");
        self.book().phases.push(PhaseEntry { phase, started, share, took: None });
        share
    }

    fn leave(&self) {
        let elapsed = self.began.elapsed();
        if let Some(entry) = self.book().phases.last_mut() {
            entry.took = Some(elapsed.saturating_sub(entry.started));
        }
    }
}

/// Every live instance, with its plugin's name and digest.
fn instances(plugins: &[Plugin]) -> Vec<Expected> {
    let of = |plugin: &Plugin| {
        let (name, digest) = (plugin.name().clone(), plugin.digest().clone());
        let expected = move |instance| Expected { name: name.clone(), digest: digest.clone(), instance };
        plugin.instances().into_iter().map(expected)
    };
    plugins.iter().flat_map(of).collect()
}

/// What has happened so far.
struct Book {
    began: Instant,
    grace: Duration,
    phases: Vec<PhaseEntry>,
    requests: Requests,
    stops: Arc<StopLog>,
    /// Every instance that has to be accounted for.
    expected: Vec<Expected>,
}

struct PhaseEntry {
    phase: Phase,
    started: Duration,
    share: Duration,
    took: Option<Duration>,
}

struct Expected {
    name: Arc<str>,
    digest: Arc<str>,
    instance: u64,
}

impl Book {
    /// Make the report. Whatever has no entry by now is named as what it is: abandoned after a second signal, overrun
    /// otherwise. `names` are the plugins in the order of the configuration.
    fn close(&self, signal: StopSignal, second: Option<StopSignal>, exit_zero: bool, names: &[Arc<str>]) -> Report {
        let took = self.began.elapsed();
        let phases = self.phases.iter().map(|entry| {
            let so_far = entry.took.unwrap_or_else(|| took.saturating_sub(entry.started));
            PhaseReport::new(entry.phase, entry.started, so_far, entry.share)
        });
        let mut stopped = self.stops.kept();
        let heard = |expected: &Expected| {
            let is_it = |record: &StopRecord| record.plugin == expected.name && record.instance == expected.instance;
            stopped.iter().any(|stopped| is_it(&stopped.record))
        };
        let unheard: Vec<Stopped> = self
            .expected
            .iter()
            .filter(|expected| !heard(expected))
            .map(|expected| Stopped { record: self.unheard(expected, took, second), generation: 1 })
            .collect();
        stopped.extend(unheard);
        let position = |record: &StopRecord| names.iter().position(|name| *name == record.plugin);
        stopped.sort_by_key(|Stopped { record, .. }| (position(record), record.instance));
        let plugins: Vec<PluginReport> = stopped.iter().map(|stopped| PluginReport::new(&stopped.record)).collect();
        let exit_code = exit_code(&self.requests, &plugins, second.map(StopSignal::number), exit_zero);
        Report {
            schema: SCHEMA,
            reason: StopReason::Terminate,
            signal: Some(signal.as_str().to_owned()),
            grace_ms: millis(self.grace),
            took_ms: millis(took),
            phases: phases.collect(),
            requests: self.requests,
            plugins,
            exit_code,
            complete: true,
        }
    }

    fn unheard(&self, expected: &Expected, took: Duration, second: Option<StopSignal>) -> StopRecord {
        let stopping = self.phases.iter().find(|entry| entry.phase == Phase::Stopping);
        let (started, budget) = stopping.map_or((took, Duration::ZERO), |entry| (entry.started, entry.share));
        let took = took.saturating_sub(started);
        StopRecord {
            plugin: expected.name.clone(),
            digest: expected.digest.clone(),
            instance: expected.instance,
            reason: StopReason::Terminate,
            outcome: if second.is_some() { StopOutcome::Abandoned } else { StopOutcome::Overran },
            budget,
            took,
            cpu: Duration::ZERO,
            overshoot: took.saturating_sub(budget),
            error: Some(if second.is_some() { "abandoned" } else { "its end was not heard of in time" }.to_owned()),
        }
    }
}
