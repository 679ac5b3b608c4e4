//! Every change of what serves: reload, disable, enable, quarantine, roll-back. One at a time, and all of them in the same
//! way: what is new is made ready first; then one swap; then what is no longer wanted drains and is stopped by the one
//! stop protocol. If anything fails before the swap, nothing has changed.
//!
//! | module | owns |
//! |---|---|
//! | `course` | who comes, who goes and why: what random histories are run against |
//! | `reload` | from the file to the next generation |
//! | `switch` | plugins that are switched off and on again, and rolled back |
//! | `retire` | the end of what has been replaced |
//! | `health` | who watches that new versions of plugins do well |
//! | `watch` | who watches the files |

mod course;
#[cfg(test)]
mod exploration;
mod health;
mod reload;
mod retire;
mod switch;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arc_swap::{ArcSwap, ArcSwapOption};
use tidegate_runtime::{CallError, Runtime};
use tokio::sync::MutexGuard;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::capabilities::Capabilities;
use crate::config::{self, Config, Diagnostics, Token};
use crate::generation::{Generation, Member};
use crate::plugins::PluginProblem;
use crate::proxy::{Drained, Proxy, Table};
use crate::roster::Roster;
use crate::server::{BindError, Serving};
use crate::stop::log::StopLog;
use crate::stop::phase::PhaseView;
use crate::supervisor::Notifier;
use crate::telemetry::Telemetry;

use self::course::{Course, Leaving};
pub use self::reload::Reloaded;
pub use self::retire::Retirement;
pub use self::switch::Switched;

/// Changes what serves. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Control {
    shared: Arc<Shared>,
}

/// What a control is made of.
#[derive(Debug)]
pub struct Parts {
    /// The config file.
    pub file: PathBuf,
    /// Where plugins run.
    pub runtime: Runtime,
    /// What plugins may be granted.
    pub capabilities: Arc<Capabilities>,
    /// Who hears of stops.
    pub stops: Arc<StopLog>,
    /// Which plugins there are.
    pub roster: Arc<Roster>,
    /// Where changes are counted.
    pub telemetry: Arc<Telemetry>,
    /// What clients are served by.
    pub proxy: Arc<Proxy>,
    /// What they connect to.
    pub serving: Arc<Serving>,
    /// The phase of the process.
    pub phase: PhaseView,
    /// What requests to the admin listener have to carry.
    pub tokens: Arc<ArcSwapOption<Token>>,
    /// Who watches over the process.
    pub supervisor: Notifier,
}

#[derive(Debug)]
struct Shared {
    parts: Parts,
    current: ArcSwap<Generation>,
    /// One change at a time.
    changes: tokio::sync::Mutex<Changes>,
    /// Cancelled when the process begins to stop: no change begins any more, and one under way is given up.
    closing: CancellationToken,
    /// Retirements and watchers.
    tasks: TaskTracker,
    watched: watch::Watched,
    /// Tells of every new generation.
    generations: tokio::sync::watch::Sender<u64>,
    /// For what only a restart can change.
    started_with: Arc<Config>,
}

/// What only a change may touch.
#[derive(Debug)]
struct Changes {
    course: Course,
    /// The tables that somebody may still need: last the current one, before it those that exchanges still go on with.
    tables: Vec<retire::Served>,
}

/// A change that did not come about.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The process is stopping.
    #[error("the gateway is stopping")]
    Stopping,
    /// No plugin has this name.
    #[error("there is no plugin named `{name}`")]
    Unknown {
        /// The name.
        name: String,
        /// A name that was perhaps meant.
        near: Option<String>,
    },
    /// The config file.
    #[error("{0}")]
    Config(Diagnostics),
    /// One or more plugins.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Plugins(Vec<PluginProblem>),
    /// A new address.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// No room for more plugins.
    #[error(transparent)]
    Engine(#[from] tidegate_runtime::StartError),
    /// An instance cannot be made.
    #[error(transparent)]
    Revive(#[from] CallError),
}

impl ControlError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown { near: Some(near), .. } => Some(format!("did you mean `{near}`?")),
            Self::Unknown { near: None, .. } => Some("GET /v1/plugins lists them".to_owned()),
            Self::Bind(error) => error.hint().map(str::to_owned),
            Self::Plugins(problems) => problems.iter().find_map(PluginProblem::hint),
            Self::Stopping | Self::Config(_) | Self::Engine(_) | Self::Revive(_) => None,
        }
    }
}

impl Control {
    /// Take charge of what serves: `first`, with the end of its table.
    #[must_use]
    pub fn new(parts: Parts, first: Generation, drained: Drained) -> Self {
        let started_with = Arc::clone(&first.config);
        let tables = vec![retire::Served { generation: first.number, drained }];
        parts.tokens.store(first.config.admin.token.clone().map(Arc::new));
        parts.roster.seat(first.entries(), &[]);
        parts.telemetry.metrics.changes.generation.store(first.number, Ordering::Relaxed);
        let watched = watch::Watched::new(&parts.file, &first.config);
        let control = Self {
            shared: Arc::new(Shared {
                current: ArcSwap::from_pointee(first),
                changes: tokio::sync::Mutex::new(Changes { course: Course::default(), tables }),
                closing: CancellationToken::new(),
                tasks: TaskTracker::new(),
                watched,
                generations: tokio::sync::watch::Sender::new(1),
                started_with,
                parts,
            }),
        };
        for member in &control.current().members {
            control.watch_over(member, None);
        }
        control.watch_files();
        control
    }

    /// What serves now.
    #[must_use]
    pub fn current(&self) -> Arc<Generation> {
        self.shared.current.load_full()
    }

    /// Which plugins there are.
    #[must_use]
    pub fn roster(&self) -> &Arc<Roster> {
        &self.shared.parts.roster
    }

    /// Begin no further change, and wait for the end of one that is under way: it comes at once, and changes nothing. What
    /// has been replaced before goes on draining; it is the stop protocol's to end.
    pub async fn close(&self) {
        self.shared.closing.cancel();
        drop(self.shared.changes.lock().await);
    }

    /// Carry a change through even if whoever asked for it goes away: a client that hangs up must not leave it to chance
    /// whether it happened.
    pub async fn carry_through<T: Send + 'static>(&self, change: impl Future<Output = T> + Send + 'static) -> T {
        match self.shared.tasks.spawn(change).await {
            Ok(done) => done,
            // A panic is a bug of ours, and goes on here; nobody cancels a change.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// Wait for the turn to change something.
    async fn turn(&self) -> Result<MutexGuard<'_, Changes>, ControlError> {
        let turn = self.shared.closing.run_until_cancelled(self.shared.changes.lock()).await;
        turn.ok_or(ControlError::Stopping)
    }

    /// Put another generation in the place of the current one. From here on nothing can fail, and nothing waits.
    fn swap(&self, changes: &mut Changes, next: Generation, leaving: Vec<Leaving>) -> Retirement {
        let Parts { proxy, telemetry, roster, .. } = &self.shared.parts;
        let (table, drained) = Table::new(&next.config, &next.seats(), telemetry, Some(&proxy.table()));
        let entries: Vec<_> = leaving.iter().map(|leaving| leaving.entry.clone()).collect();
        roster.seat(next.entries(), &entries);
        telemetry.metrics.changes.generation.store(next.number, Ordering::Relaxed);
        changes.tables.retain(|table| !table.drained.is_over());
        let former = changes.tables.clone();
        changes.tables.push(retire::Served { generation: next.number, drained });
        let (number, drain) = (next.number, next.config.shutdown.drain);
        self.shared.current.store(Arc::new(next));
        proxy.install(table);
        self.shared.generations.send_replace(number);
        self.retire(former, leaving, drain)
    }

    /// Generation `number`, with the configuration of the current one and other members.
    fn successor(&self, number: u64, members: Vec<Member>) -> Generation {
        let current = self.current();
        Generation { number, config: Arc::clone(&current.config), ledger: current.ledger, members }
    }

    /// The plugin of this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn member(&self, name: &str) -> Result<Member, ControlError> {
        let current = self.current();
        current.member(name).cloned().ok_or_else(|| {
            let names: Vec<&str> = current.members.iter().map(|member| &**member.name()).collect();
            ControlError::Unknown { name: name.to_owned(), near: config::nearest(name, &names).map(str::to_owned) }
        })
    }
}

/// The parts of a configuration that only a restart can change, as far as they differ.
fn needs_restart(running: &Config, new: &Config) -> Vec<&'static str> {
    let differ = [
        ("admin.listen", running.admin.listen != new.admin.listen),
        ("log", running.log != new.log),
        ("cache", running.cache != new.cache),
        ("outbox", running.outbox != new.outbox),
    ];
    differ.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
}
