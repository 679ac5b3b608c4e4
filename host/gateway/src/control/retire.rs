//! The end of what has been replaced: exchanges that began with it come to their end, then its plugins are stopped, and
//! then nothing of it is left.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::task::JoinHandle;
use tracing::Instrument as _;

use super::course::Leaving;
use super::{Control, Parts};
use crate::proxy::Drained;
use crate::roster::Hosted;
use crate::roster::{Entry, Roster};
use crate::stop::phase::{Phase, PhaseView};

/// The end of a former generation, which goes on by itself whether anybody waits for it or not.
#[derive(Debug)]
pub struct Retirement(Option<JoinHandle<()>>);

impl Retirement {
    /// Of nothing.
    pub(super) fn none() -> Self {
        Self(None)
    }

    /// Wait until nothing of it is left: every exchange has ended, every plugin has been stopped.
    pub async fn complete(self) {
        if let Some(task) = self.0 {
            // The task does nothing that panics, and nobody cancels it.
            let _ = task.await;
        }
    }
}

/// A generation that exchanges have begun with, and perhaps still go on with.
#[derive(Debug, Clone)]
pub(super) struct Served {
    pub(super) generation: u64,
    pub(super) drained: Drained,
}

impl Control {
    /// Retire the last of the `former` generations. A plugin that leaves with it is stopped when nobody needs it any more,
    /// but after `drain` in any case: it may have served in earlier generations, too, whose exchanges go on with it.
    pub(super) fn retire(&self, former: Vec<Served>, leaving: Vec<Leaving>, drain: Duration) -> Retirement {
        let (control, retiring) = (self.clone(), Retiring::begin(self));
        let number = former.last().map_or(0, |last| last.generation);
        let span = tracing::info_span!("retire", generation = number);
        let task = async move {
            let Parts { phase, roster, .. } = &control.shared.parts;
            let overdue = |entry: &Entry| {
                let plugin = Arc::clone(entry.plugin.name());
                async move {
                    tokio::time::sleep(drain).await;
                    tracing::warn!(
                        %plugin,
                        ?drain,
                        "exchanges of a former generation are still under way; this plugin is stopped now"
                    );
                }
            };
            end(former, leaving, phase, roster, overdue).await;
            tracing::debug!("nothing of this generation is left");
            drop(retiring);
        };
        Retirement(Some(self.shared.tasks.spawn(task.instrument(span))))
    }
}

/// The end of the last of the `former` generations: each plugin that leaves with it hands its state to its heir, or is
/// stopped when nobody needs it any more, or its exchanges are `overdue`.
pub(super) async fn end<P: Hosted, F: Future<Output = ()>>(
    former: Vec<Served>,
    leaving: Vec<Leaving<P>>,
    phase: &PhaseView,
    roster: &Roster<P>,
    overdue: impl Fn(&Entry<P>) -> F,
) {
    join_all(leaving.iter().map(|Leaving { entry, reason, heir }| {
        let with = former.iter().filter(|served| served.generation >= entry.generation);
        let (unused, overdue) = (join_all(with.map(|served| served.drained.wait())), overdue(entry));
        let mut phase = phase.clone();
        async move {
            match heir {
                // Exchanges that go on with the old version reach the new one from here on: there is nobody to wait for.
                Some(heir) => heir.take_over(&entry.plugin).await,
                None => {
                    tokio::select! {
                        biased;
                        _ = unused => {}
                        // Everything is being stopped: what still runs has had the drain of the whole process.
                        () = phase.reached(Phase::Stopping) => {}
                        () = overdue => {}
                    }
                    // The plugin's own limit is shorter.
                    entry.plugin.stop(*reason, Duration::MAX).await;
                }
            }
            roster.left(entry);
        }
    }))
    .await;
    drop(leaving);
    if let Some(last) = former.last() {
        last.drained.wait().await;
    }
}

/// Counts a generation as on its way out until it is dropped.
struct Retiring(Control);

impl Retiring {
    fn begin(control: &Control) -> Self {
        control.shared.parts.telemetry.metrics.changes.retiring.fetch_add(1, Ordering::Relaxed);
        Self(control.clone())
    }
}

impl Drop for Retiring {
    fn drop(&mut self) {
        self.0.shared.parts.telemetry.metrics.changes.retiring.fetch_sub(1, Ordering::Relaxed);
    }
}
