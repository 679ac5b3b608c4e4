//! The end of what has been replaced: exchanges that began with it come to their end, then its plugins are stopped, and
//! then nothing of it is left.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use tidegate_runtime::StopReason;
use tokio::task::JoinHandle;
use tracing::Instrument as _;

use super::Control;
use crate::generation::Member;
use crate::proxy::Drained;
use crate::roster::Entry;
use crate::stop::phase::Phase;

/// A plugin that has to go, and why.
#[derive(Debug)]
pub(super) struct Leaving {
    pub(super) entry: Entry,
    reason: StopReason,
}

impl Leaving {
    pub(super) fn new(member: &Member, reason: StopReason) -> Self {
        Self { entry: Entry { plugin: member.plugin.clone(), generation: member.generation }, reason }
    }
}

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

impl Control {
    /// Retire generation `number`: wait for its exchanges, no longer than `drain`, then stop those that leave with it.
    pub(super) fn retire(&self, number: u64, former: Drained, leaving: Vec<Leaving>, drain: Duration) -> Retirement {
        let (control, retiring) = (self.clone(), Retiring::begin(self));
        let span = tracing::info_span!("retire", generation = number);
        let task = async move {
            let mut phase = control.shared.parts.phase.clone();
            tokio::select! {
                () = former.wait() => {}
                // Everything is being stopped: what still runs has had the drain of the whole process.
                () = phase.reached(Phase::Stopping) => {}
                () = tokio::time::sleep(drain) => {
                    if !leaving.is_empty() {
                        tracing::warn!(
                            ?drain,
                            "exchanges of a former generation are still under way; its plugins are stopped now"
                        );
                    }
                }
            }
            join_all(leaving.iter().map(|Leaving { entry, reason }| async {
                let limit = entry.plugin.limits().shutdown;
                entry.plugin.stop(*reason, limit).await;
                control.shared.parts.roster.left(entry);
            }))
            .await;
            drop(leaving);
            former.wait().await;
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
