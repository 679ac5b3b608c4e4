//! The end of what has been replaced: exchanges that began with it come to their end, then its plugins are stopped, and
//! then nothing of it is left.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::task::JoinHandle;
use tracing::Instrument as _;

use super::Control;
use super::course::Leaving;
use crate::proxy::Drained;
use crate::stop::phase::Phase;

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
            join_all(leaving.iter().map(|Leaving { entry, reason }| async {
                let with = former.iter().filter(|served| served.generation >= entry.generation);
                let mut phase = control.shared.parts.phase.clone();
                tokio::select! {
                    _ = join_all(with.map(|served| served.drained.wait())) => {}
                    // Everything is being stopped: what still runs has had the drain of the whole process.
                    () = phase.reached(Phase::Stopping) => {}
                    () = tokio::time::sleep(drain) => tracing::warn!(
                        plugin = %entry.plugin.name(),
                        ?drain,
                        "exchanges of a former generation are still under way; this plugin is stopped now"
                    ),
                }
                let limit = entry.plugin.limits().shutdown;
                entry.plugin.stop(*reason, limit).await;
                control.shared.parts.roster.left(entry);
            }))
            .await;
            drop(leaving);
            if let Some(last) = former.last() {
                last.drained.wait().await;
            }
            tracing::debug!("nothing of this generation is left");
            drop(retiring);
        };
        Retirement(Some(self.shared.tasks.spawn(task.instrument(span))))
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
