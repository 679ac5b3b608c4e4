//! From the config file to the next generation. Everything that can fail comes before the swap.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::course::Step;
use super::{Changes, Control, ControlError, Parts, Retirement, needs_restart};
use crate::config::Config;
use crate::generation::{Generation, Member};
use crate::plugins::{self, Loaded, Loader, Progress};
use crate::stop::ledger::Ledger;

/// A configuration that has been reloaded.
#[derive(Debug)]
pub struct Reloaded {
    /// The generation that serves now.
    pub generation: u64,
    /// Plugins that were kept with their instances, by name.
    pub kept: Vec<Arc<str>>,
    /// Plugins that are new, or new versions.
    pub started: Vec<Arc<str>>,
    /// Plugins, or versions of them, that are being stopped.
    pub stopped: Vec<Arc<str>>,
    /// Keys that differ from those the process was started with and that only a restart can change.
    pub needs_restart: Vec<&'static str>,
    /// The end of the former generation.
    pub retirement: Retirement,
}

impl Control {
    /// Read the config file again and serve as it says.
    ///
    /// # Errors
    /// Whatever is wrong with it; nothing has changed then.
    pub async fn reload(&self, asked_by: &'static str) -> Result<Reloaded, ControlError> {
        let mut changes = self.turn().await?;
        tracing::info!(asked_by, "reload begins");
        self.shared.parts.supervisor.reloading();
        let began = Instant::now();
        let reloading = self.reload_now(&mut changes);
        let result = match self.shared.closing.run_until_cancelled(reloading).await {
            Some(result) => result,
            None => Err(ControlError::Stopping),
        };
        let counts = &self.shared.parts.telemetry.metrics.changes;
        match &result {
            Ok(reloaded) => {
                counts.reloads_applied.fetch_add(1, Ordering::Relaxed);
                self.shared.parts.supervisor.ready(&format!("generation {} serves", reloaded.generation));
                let Reloaded { generation, kept, started, stopped, needs_restart, .. } = reloaded;
                tracing::info!(generation, ?kept, ?started, ?stopped, took = ?began.elapsed(), "reload applied");
                for key in needs_restart {
                    tracing::warn!(key, "this change takes effect at the next restart: it cannot be reloaded");
                }
            }
            Err(ControlError::Stopping) => tracing::info!("reload given up: the gateway is stopping"),
            Err(error) => {
                counts.reloads_refused.fetch_add(1, Ordering::Relaxed);
                self.shared.parts.supervisor.ready(&format!("reload refused: {error}"));
                tracing::error!(%error, "reload refused; what served before goes on serving");
            }
        }
        result
    }

    async fn reload_now(&self, changes: &mut Changes) -> Result<Reloaded, ControlError> {
        let Parts { file, runtime, capabilities, stops, serving, .. } = &self.shared.parts;
        let config = self.read(file.clone()).await?;
        let before = self.current();
        let number = changes.course.number();
        // A configuration that was read from a file has been checked.
        let ledger = Ledger::new(&config.shutdown, config.longest_stop()).unwrap_or(before.ledger);

        runtime.make_room(plugins::slots(&config))?;
        let loader = Loader {
            runtime: runtime.clone(),
            capabilities: Arc::clone(capabilities),
            stops: Arc::clone(stops),
            generation: number,
        };
        let progress =
            |loaded: Progress<'_>| tracing::info!(plugin = loaded.name, took = ?loaded.took, "plugin loaded");
        let loaded =
            plugins::load_all(&config, &loader, &before.before(), progress).await.map_err(ControlError::Plugins)?;
        // Last, since whoever connects to a new address from here on waits until the swap.
        let prepared = match serving.prepare(&config.server) {
            Ok(prepared) => prepared,
            Err(error) => {
                plugins::stop_fresh(&loaded).await;
                return Err(error.into());
            }
        };

        // Nothing below fails or waits.
        let needs_restart = needs_restart(&self.shared.started_with, &config);
        let (kept, started) = names(&loaded);
        let probation = probation(&config);
        let Step { members, leaving } =
            changes.course.reload(&before.members, &config.plugins, loaded, number, probation.is_some());
        let next = Generation { number, config: Arc::new(config), ledger, members };
        let config = Arc::clone(&next.config);
        let stays = |old: &Member| next.members.iter().any(|new| new.life() == old.life());
        let gone = before.members.iter().filter(|old| !stays(old));
        let stopped = gone.map(|old| Arc::clone(old.name())).collect();
        let fresh: Vec<Member> = next.members.iter().filter(|member| member.generation == number).cloned().collect();
        let retirement = self.swap(changes, next, leaving);
        serving.apply(&config.server, prepared);
        self.shared.parts.tokens.store(config.admin.token.clone().map(Arc::new));
        for member in &fresh {
            let on_probation = changes.course.can_roll_back(member.name());
            self.watch_over(member, probation.filter(|_| on_probation));
        }
        Ok(Reloaded { generation: number, kept, started, stopped, needs_restart, retirement })
    }

    async fn read(&self, file: std::path::PathBuf) -> Result<Config, ControlError> {
        // What is there before it is read: a change that comes later is seen as one.
        self.shared.watched.before_reading().await;
        let config = match tokio::task::spawn_blocking(move || Config::load(&file)).await {
            Ok(config) => config.map_err(ControlError::Config)?,
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        };
        self.shared.watched.before_loading(&config).await;
        Ok(config)
    }
}

/// Until when new versions are on probation, if they are.
fn probation(config: &Config) -> Option<Instant> {
    let rollback = config.reload.rollback;
    (!rollback.is_zero()).then(|| Instant::now() + rollback)
}

/// The names of those that were kept, and of those that are new.
fn names(loaded: &[Loaded]) -> (Vec<Arc<str>>, Vec<Arc<str>>) {
    let (kept, started): (Vec<&Loaded>, Vec<&Loaded>) = loaded.iter().partition(|loaded| loaded.kept);
    let names = |all: Vec<&Loaded>| all.into_iter().map(|loaded| Arc::clone(loaded.plugin.name())).collect();
    (names(kept), names(started))
}
