//! Watches that plugins do well: one that trips its breaker soon after a reload is rolled back, one that fails on and on is
//! quarantined.

use tidegate_runtime::Health;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Control;
use crate::generation::Member;
use crate::roster::Life;

impl Control {
    /// Watch over one life of a plugin, until nothing is left of it. `probation` is until when it is rolled back rather
    /// than left to its breaker.
    pub(super) fn watch_over(&self, member: &Member, probation: Option<Instant>) {
        // Not the plugin itself: whoever holds it keeps its component in memory.
        let (control, life, mut health) = (self.clone(), member.life(), member.plugin.health());
        let closing = self.shared.closing.clone();
        self.shared.tasks.spawn(async move {
            closing.run_until_cancelled(control.watch(&life, &mut health, probation)).await;
        });
    }

    async fn watch(&self, life: &Life, health: &mut watch::Receiver<Health>, mut probation: Option<Instant>) {
        loop {
            let now = *health.borrow_and_update();
            if now >= Health::Tripped && probation.take().is_some() {
                self.roll_back(life).await;
            }
            if now == Health::GivenUp {
                return self.give_up(life).await;
            }
            let over = probation.unwrap_or_else(Instant::now);
            tokio::select! {
                changed = health.changed() => if changed.is_err() { return },
                () = tokio::time::sleep_until(over), if probation.is_some() => {
                    probation = None;
                    self.end_probation(life).await;
                }
            }
        }
    }

    /// A new version has done well for long enough: what it could have been rolled back to may go.
    async fn end_probation(&self, life: &Life) {
        let Ok(mut changes) = self.turn().await else { return };
        changes.course.end_probation(&self.current().members, life);
    }
}
