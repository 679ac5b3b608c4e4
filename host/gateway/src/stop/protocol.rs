//! The stop protocol: lame-duck, drain, the plugins' shutdown, flush. [`Gateway::stop`] reads from top to bottom.
//!
//! Every wait in here is bounded by a share of the ledger, and every wait ends at once on a second signal. Beyond that,
//! the whole is bounded by the grace period: should anything outlast its share after all, the report is
//! made of what is known by then.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tidegate_outbox::Outbox;
use tidegate_runtime::StopReason;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::book::Book;
use super::ledger::Ledger;
use super::phase::Phase;
use super::report::Report;
use crate::gateway::Gateway;
use crate::recorder::Recorder;
use crate::signals::{StopCause, StopSignals};

/// For syncing the outbox at the end. What was accepted outlives the process without it.
const SYNC: Duration = Duration::from_millis(200);

/// After a second signal: how long to wait for what has been interrupted. Interrupted guests are gone within a tick.
const HURRY: Duration = Duration::from_millis(50);

impl Gateway {
    /// End everything, in order, for this cause. A signal of `signals` cuts it short.
    pub async fn stop(self, cause: StopCause, signals: &mut StopSignals) -> Report {
        let generation = self.control.current();
        let (ledger, grace) = (generation.ledger, generation.ledger.grace());
        let (runtime, ongoing) = (self.runtime.clone(), Arc::clone(&self.ongoing));
        let in_flight = self.serving.in_flight();
        let completed_before = self.serving.completed();
        let book = Book::new(cause, &generation, in_flight, &self.stops, self.control.roster())
            .with_outbox(self.capabilities.outbox());
        let book = ongoing.begin(book);
        drop(generation);
        let stop = Stop { began: Instant::now(), ledger, completed_before, hurry: CancellationToken::new(), book };
        tracing::info!(%cause, ?grace, in_flight, "stopping");

        let mut protocol = std::pin::pin!(stop.run(self));
        let mut out_of_grace = std::pin::pin!(sleep(grace));
        let mut cut_short = false;
        loop {
            tokio::select! {
                biased;
                () = &mut protocol => break,
                again = signals.next(), if !cut_short => {
                    tracing::warn!(signal = %again, "second signal: everything ends now");
                    cut_short = true;
                    // First, since those that are in a call are gone a moment later.
                    stop.book.cut_short(again);
                    runtime.abandon();
                    stop.hurry.cancel();
                }
                () = &mut out_of_grace => {
                    tracing::error!(?grace, "the grace period is over");
                    break;
                }
            }
        }
        let report = stop.book.close();
        tracing::info!(exit_code = report.exit_code, took_ms = report.took_ms, "stopped");
        report
    }
}

/// One run of the protocol.
struct Stop {
    began: Instant,
    ledger: Ledger,
    /// Exchanges that had ended well before the stop.
    completed_before: u64,
    /// Cancelled by a second signal.
    hurry: CancellationToken,
    book: Arc<Book>,
}

impl Stop {
    async fn run(&self, gateway: Gateway) {
        self.lame_duck(&gateway).await;
        self.drain(&gateway).await;
        self.stop_plugins(&gateway).await;
        self.flush(gateway).await;
    }

    /// Readiness says no from here on, and nothing is reloaded any more; requests are still accepted, for load balancers
    /// that have not noticed.
    async fn lame_duck(&self, gateway: &Gateway) {
        let share = self.enter(gateway, Phase::LameDuck);
        // Comes at once, whatever was under way; the share does not wait for it.
        let close = gateway.control.close();
        let (_, ()) = tokio::join!(self.wait(share, std::future::pending::<()>()), close);
        self.book.leave();
    }

    /// Listeners close and idle connections end; exchanges that have begun go on for the drain's share.
    async fn drain(&self, gateway: &Gateway) {
        gateway.runtime.enter(tidegate_runtime::Phase::Draining);
        let share = self.enter(gateway, Phase::Draining);
        let mut cut = 0;
        if self.wait(share, gateway.serving.drained()).await.is_none() {
            let in_flight = gateway.serving.cut() as u64;
            let at_cut = gateway.serving.completed();
            // Their connections go away at once; what their plugins still compute is bounded by its own budget.
            let _ = timeout(HURRY, gateway.serving.drained()).await;
            // Some may have got their response in that very moment.
            cut = in_flight.saturating_sub(gateway.serving.completed().saturating_sub(at_cut));
            if cut > 0 {
                tracing::warn!(cut, "exchanges were cut off");
            }
        }
        self.book.drained(gateway.serving.completed().saturating_sub(self.completed_before), cut);
        self.book.leave();
    }

    /// Every instance of every plugin is told, side by side: those that serve, and those that a reload or an operator
    /// has replaced and that are not gone yet.
    async fn stop_plugins(&self, gateway: &Gateway) {
        gateway.runtime.enter(tidegate_runtime::Phase::Stopping);
        self.book.take_stock();
        let share = self.enter(gateway, Phase::Stopping);
        let all = gateway.control.roster().all();
        join_all(all.iter().map(|entry| entry.plugin.stop(StopReason::Terminate, share))).await;
        self.book.leave();
    }

    /// The outbox delivers what it can, the access log and the recording are written out, buckets are closed, and the
    /// process stays for `min_drain`.
    async fn flush(&self, gateway: Gateway) {
        let share = self.enter(&gateway, Phase::Flushing);
        let Gateway { access_log, recorder, admin, phase, capabilities, .. } = gateway;
        // Dropping the guard waits for the log's writer, which may wait for a slow pipe.
        let flushed = tokio::task::spawn_blocking(move || drop(access_log));
        let log = async {
            if self.wait(share, flushed).await.is_none() {
                tracing::warn!("the access log could not be written out in time");
            }
        };
        let recording = async {
            if let Some(recorder) = &recorder {
                self.close_recording(recorder, share).await;
            }
        };
        let outbox = async {
            if let Some(outbox) = capabilities.outbox() {
                self.flush_outbox(outbox, share).await;
            }
        };
        let buckets = async {
            if self.wait(share, capabilities.buckets().close()).await.is_none() {
                tracing::warn!("what plugins have stored could not be closed in time; it is safe");
            }
        };
        // Side by side: one after the other, they could take the share several times.
        tokio::join!(log, recording, outbox, buckets);
        let hold = self.ledger.hold(self.began.elapsed());
        self.wait(hold, std::future::pending::<()>()).await;
        self.book.leave();
        phase.enter(Phase::Stopped);
        admin.stop().await;
    }

    /// What waits is tried at once, and until the share is up; what is left is on the disk for the next start.
    async fn flush_outbox(&self, outbox: &Outbox, share: Duration) {
        let sync = SYNC.min(share / 4);
        if self.wait(share.saturating_sub(sync), outbox.flush()).await.is_none() {
            let pending = outbox.status().pending;
            tracing::warn!(pending, "events are left in the outbox; they are safe on disk");
        }
        // Whatever has cut it short: what was accepted is in the file, and this has it synced.
        if timeout(SYNC, outbox.close()).await.is_err() {
            tracing::error!("the outbox could not be synced in time");
        }
    }

    /// What has been taken is written.
    async fn close_recording(&self, recorder: &Arc<Recorder>, share: Duration) {
        let closing = Arc::clone(recorder);
        let closed = tokio::task::spawn_blocking(move || closing.close());
        if self.wait(share, closed).await.is_none() {
            tracing::warn!("the recording could not be written out in time");
        }
        let counts = recorder.counts();
        // Looked at first: what is written meanwhile is in both numbers then, and nothing is in neither.
        let unwritten = counts.waiting();
        let (recorded, bytes, dropped) = (counts.kept(), counts.bytes(), counts.lost());
        tracing::info!(recorded, bytes, dropped, unwritten, "recording ended");
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
        let share = self.ledger.share(phase, self.began.elapsed());
        tracing::info!(%phase, ?share, "phase begins");
        self.book.enter(phase, share);
        share
    }
}
