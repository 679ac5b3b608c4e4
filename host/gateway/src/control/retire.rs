//! The end of what has been replaced: exchanges that began with it come to their end, then its plugins are stopped, and
//! then nothing of it is left.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::task::JoinHandle;
use tracing::Instrument as _;

use super::course::Leaving;
use super::{Control, Parts};
use crate::generation::Hosted;
use crate::proxy::Drained;
use crate::roster::Roster;
use crate::stop::phase::{Phase, PhaseView};

/// The tables that exchanges may still need, each with the number of its generation. The current one is the last.
#[derive(Debug)]
pub(super) struct Tables(Vec<(u64, Drained)>);

impl Tables {
    /// With the first one.
    pub(super) fn new(number: u64, drained: Drained) -> Self {
        Self(vec![(number, drained)])
    }

    /// Another one takes the place of the current one. The answer is what has to end before those that are `leaving` may:
    /// not only the table that is replaced, since a plugin that has been kept is in those before it, too.
    pub(super) fn replace<P>(&mut self, number: u64, drained: Drained, leaving: &[Leaving<P>]) -> Vec<Drained> {
        let oldest = leaving.iter().map(|leaving| leaving.entry.generation).min();
        let (former, Self(tables)) = (self.0.last().map(|(number, _)| *number), self);
        tables.retain(|(_, drained)| !drained.is_over());
        let needed = tables
            .iter()
            .filter(|(number, _)| Some(*number) == former || oldest.is_some_and(|oldest| *number >= oldest));
        let needed = needed.map(|(_, drained)| drained.clone()).collect();
        tables.push((number, drained));
        needed
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
    pub(super) fn retire(
        &self,
        number: u64,
        former: Vec<Drained>,
        leaving: Vec<Leaving>,
        drain: Duration,
    ) -> Retirement {
        let (control, retiring) = (self.clone(), Retiring::begin(self));
        let span = tracing::info_span!("retire", generation = number);
        let task = async move {
            let Parts { phase, roster, .. } = &control.shared.parts;
            let anyone = !leaving.is_empty();
            let overdue = async {
                tokio::time::sleep(drain).await;
                if anyone {
                    tracing::warn!(
                        ?drain,
                        "exchanges of a former generation are still under way; its plugins are stopped now"
                    );
                }
            };
            end(former, phase.clone(), overdue, leaving, roster).await;
            tracing::debug!("nothing of this generation is left");
            drop(retiring);
        };
        Retirement(Some(self.shared.tasks.spawn(task.instrument(span))))
    }
}

/// The end of what has been replaced: wait for its exchanges until they are `overdue`, then stop those that leave with it,
/// then wait for what still runs.
pub(super) async fn end<P: Hosted>(
    former: Vec<Drained>,
    mut phase: PhaseView,
    overdue: impl Future<Output = ()>,
    leaving: Vec<Leaving<P>>,
    roster: &Roster<P>,
) {
    let gone = || join_all(former.iter().map(Drained::wait));
    tokio::select! {
        biased;
        _ = gone() => {}
        // Everything is being stopped: what still runs has had the drain of the whole process.
        () = phase.reached(Phase::Stopping) => {}
        () = overdue => {}
    }
    join_all(leaving.iter().map(|Leaving { entry, reason }| async {
        // The plugin's own limit is shorter.
        entry.plugin.stop(*reason, Duration::MAX).await;
        roster.left(entry);
    }))
    .await;
    drop(leaving);
    gone().await;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roster::Entry;

    #[test]
    fn who_has_been_kept_waits_for_the_exchanges_of_every_generation_it_was_in() {
        let leaving = |generation| {
            let entry = Entry { plugin: (), generation };
            [Leaving { entry, reason: tidegate_runtime::StopReason::Disable }]
        };
        let [first, second, third, fourth] = [(); 4].map(|()| Drained::when_dropped());
        let mut tables = Tables::new(1, first.1);
        assert_eq!(tables.replace::<()>(2, second.1, &[]).len(), 1, "the one that is replaced");
        assert_eq!(tables.replace(3, third.1, &leaving(2)).len(), 1, "there is none of it in the first");
        drop(second.0);
        let needed = tables.replace(4, fourth.1, &leaving(1));
        assert_eq!(needed.len(), 2, "the first and the third");
        drop(third.0);
        assert!(!needed.iter().all(Drained::is_over));
        drop(first.0);
        assert!(needed.iter().all(Drained::is_over));
    }
}
