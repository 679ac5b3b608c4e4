//! What a plugin is loaded with: who it is, what it may do, and who hears of it.

use std::sync::Arc;
use std::time::Duration;

use crate::grants::Grants;
use crate::limits::{Deferred, Instances, Isolation, Limits, Recycle};
use crate::stats::Tally;
use crate::stop::{DrainObserver, StopObserver};

/// What to load, and under which limits.
#[derive(Clone)]
pub struct PluginSpec {
    /// The name in the config, log, metrics and report.
    pub name: Arc<str>,
    /// The plugin's config as JSON, handed to `configure`.
    pub config: Arc<str>,
    /// How many instances.
    pub instances: Instances,
    /// When one of them has served its time.
    pub recycle: Recycle,
    /// What state outlives a call.
    pub isolation: Isolation,
    /// What it may do beyond what every plugin may.
    pub grants: Grants,
    /// Its budgets.
    pub limits: Limits,
    /// How much work it may put off.
    pub deferred: Deferred,
    /// How often `on-tick` is called; never without it.
    pub tick: Option<Duration>,
    /// Whether state is handed over to and from it. Such a plugin is held when it has been loaded: calls to it wait until
    /// [`super::Plugin::open`] or [`super::Plugin::take_over`].
    pub hand_over: bool,
    /// Faults in a row that make it [`crate::Health::GivenUp`]; `None` for never.
    pub gives_up_at: Option<u32>,
    /// Where its calls are counted.
    pub tally: Tally,
    /// Hears of each of its instances that is stopped.
    pub on_stopped: StopObserver,
    /// Hears of the work it had put off, when it has been stopped; not if that was none.
    pub on_drained: DrainObserver,
}

impl PluginSpec {
    /// A plugin of this name that is granted nothing, with one instance and every default.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            config: "{}".into(),
            instances: Instances::fixed(1),
            recycle: Recycle::default(),
            isolation: Isolation::default(),
            grants: Grants::default(),
            limits: Limits::default(),
            deferred: Deferred::default(),
            tick: None,
            hand_over: false,
            gives_up_at: None,
            tally: Tally::default(),
            on_stopped: Arc::new(|_| {}),
            on_drained: Arc::new(|_| {}),
        }
    }
}
