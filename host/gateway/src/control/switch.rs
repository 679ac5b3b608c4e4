//! Plugins that are taken out of what serves and put back: by an operator, or because they fail.

use std::sync::atomic::Ordering;

use super::course::{Course, Step};
use super::{Control, ControlError, Retirement};
use crate::generation::{Member, Standing};
use crate::roster::Life;

/// A plugin that has been switched.
#[derive(Debug)]
pub struct Switched {
    /// How it stands now.
    pub standing: Standing,
    /// The generation that serves now.
    pub generation: u64,
    /// Whether it stood otherwise before.
    pub changed: bool,
    /// The end of its instances, if they had to go.
    pub retirement: Retirement,
}

impl Control {
    /// Switch a plugin off. Routes take it as failed from now on; its instances are stopped once the exchanges that have
    /// begun need them no more.
    ///
    /// # Errors
    /// When there is no such plugin, or the process is stopping.
    pub async fn disable(&self, name: &str) -> Result<Switched, ControlError> {
        self.take_out(name, Standing::Disabled, |_| true).await
    }

    /// The same for a plugin that should not serve because it is broken, with another word for it.
    ///
    /// # Errors
    /// As [`Control::disable`].
    pub async fn quarantine(&self, name: &str) -> Result<Switched, ControlError> {
        self.take_out(name, Standing::Quarantined, |_| true).await
    }

    /// Quarantine this life of a plugin, if it still serves.
    pub(super) async fn give_up(&self, life: &Life) {
        let taken_out = self.take_out(&life.name, Standing::Quarantined, |member| member.life() == *life).await;
        if taken_out.is_ok_and(|switched| switched.changed) {
            tracing::warn!(
                plugin = %life.name,
                hint = "find out why it fails; a new version or POST /v1/plugins/NAME/enable brings it back",
                "plugin has been quarantined: it kept failing"
            );
        }
    }

    async fn take_out(
        &self,
        name: &str,
        standing: Standing,
        applies: impl FnOnce(&Member) -> bool,
    ) -> Result<Switched, ControlError> {
        let mut changes = self.turn().await?;
        let member = self.member(name)?;
        let before = self.current();
        let step = if applies(&member) { changes.course.take_out(&before.members, &member, standing) } else { None };
        let Some(Step { members, leaving }) = step else {
            let (generation, retirement) = (before.number, Retirement::none());
            return Ok(Switched { standing: member.standing, generation, changed: false, retirement });
        };
        let generation = changes.course.number();
        let retirement = self.swap(&mut changes, self.successor(generation, members), leaving);
        tracing::info!(plugin = name, generation, standing = standing.as_str(), "plugin taken out");
        Ok(Switched { standing, generation, changed: true, retirement })
    }

    /// Put a plugin back that has been taken out: new instances of the component it had.
    ///
    /// # Errors
    /// When there is no such plugin, its instances cannot be made, or the process is stopping.
    pub async fn enable(&self, name: &str) -> Result<Switched, ControlError> {
        let mut changes = self.turn().await?;
        let member = self.member(name)?;
        if member.standing == Standing::Serving {
            let (generation, retirement) = (self.current().number, Retirement::none());
            return Ok(Switched { standing: Standing::Serving, generation, changed: false, retirement });
        }
        let number = changes.course.number();
        let stops = &self.shared.parts.stops;
        let reviving = member.plugin.revive(stops.observer(number), stops.drain_observer(number));
        let plugin = self.shared.closing.run_until_cancelled(reviving).await.ok_or(ControlError::Stopping)??;
        let Step { members, leaving } = Course::put_back(&self.current().members, &member, plugin, number);
        let retirement = self.swap(&mut changes, self.successor(number, members), leaving);
        self.watch_over(&self.member(name)?, None);
        tracing::info!(plugin = name, generation = number, "plugin put back");
        Ok(Switched { standing: Standing::Serving, generation: number, changed: true, retirement })
    }

    /// Put the last healthy version in the place of this life of a plugin, if it still serves and there is one. Happens
    /// once per reload: what comes back has nothing to go back to.
    pub(super) async fn roll_back(&self, life: &Life) {
        let Ok(mut changes) = self.turn().await else { return };
        let Ok(member) = self.member(&life.name) else { return };
        if member.life() != *life {
            return;
        }
        let Some(fallback) = changes.course.fallback(&member) else { return };
        let healthy = fallback.plugin.digest().clone();
        let number = changes.course.number();
        let stops = &self.shared.parts.stops;
        let reviving = fallback.plugin.revive(stops.observer(number), stops.drain_observer(number));
        let plugin = match self.shared.closing.run_until_cancelled(reviving).await {
            Some(Ok(plugin)) => plugin,
            Some(Err(error)) => {
                tracing::error!(plugin = %life.name, %healthy, %error, "the last healthy version does not come up");
                return;
            }
            None => return,
        };
        let Step { members, leaving } = Course::roll_back(&self.current().members, &member, fallback, plugin, number);
        let _goes_on = self.swap(&mut changes, self.successor(number, members), leaving);
        self.shared.parts.telemetry.metrics.changes.rollbacks.fetch_add(1, Ordering::Relaxed);
        if let Ok(back) = self.member(&life.name) {
            self.watch_over(&back, None);
        }
        tracing::warn!(
            plugin = %life.name,
            failed = %member.plugin.digest(),
            failed_generation = member.generation,
            %healthy,
            generation = number,
            "plugin has been rolled back: its new version tripped the breaker"
        );
    }
}
