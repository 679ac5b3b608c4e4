//! Numbers that plugins keep in the gateway's metrics.
//!
//! A plugin's numbers belong to its name: all instances and versions count in the same series, and they are there for as long
//! as a version of the plugin is. What a plugin can make of them is bounded: how many series ([`DEFAULT_SERIES`] unless its
//! operator says otherwise), how many labels each has, how long names and values are. A bump of a series that is there is
//! two lookups and an atomic add; everything is checked when a series is made, because only a valid one can be found.
//!
//! A name has one kind at a time over all plugins, since an exposition may say `# TYPE` once for each. Whoever uses it first
//! decides; when nobody else uses it, a newer version of the same plugin may change its mind, which begins the numbers anew.

mod cell;
mod names;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use self::cell::Cell;
use self::names::Names;

/// Series that a plugin may have.
pub const DEFAULT_SERIES: usize = 256;

/// Labels that a series may have, beside `plugin`.
pub const MAX_LABELS: usize = 8;

/// Bytes of the name of a metric or a label.
pub const MAX_NAME: usize = 128;

/// Bytes of the value of a label.
pub const MAX_VALUE: usize = 128;

/// Upper bounds of a histogram's buckets, in seconds. The last bucket (everything else) is implied.
pub const BOUNDS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// A label's name and value.
pub type Label = (String, String);

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A sum that only grows.
    Counter,
    /// A number that goes up and down.
    Gauge,
    /// How many values there were, by size.
    Histogram,
}

/// What happens to a metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    /// A counter grows by this.
    Count(f64),
    /// A gauge becomes this.
    Set(f64),
    /// A gauge changes by this.
    Add(f64),
    /// A histogram sees this.
    Observe(f64),
}

impl Change {
    fn kind(self) -> Kind {
        match self {
            Self::Count(_) => Kind::Counter,
            Self::Set(_) | Self::Add(_) => Kind::Gauge,
            Self::Observe(_) => Kind::Histogram,
        }
    }
}

/// Why a number was not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A name, a label or a number is not what it has to be.
    #[error("a name, label or number is invalid")]
    Invalid,
    /// The plugin has as many series as it may.
    #[error("the plugin has as many series as it may")]
    TooManySeries,
    /// The name is another kind of metric, of this plugin or another.
    #[error("the metric has another kind")]
    OtherKind,
}

/// The numbers of all plugins.
#[derive(Debug, Default)]
pub struct Registry {
    names: Arc<Names>,
    /// By plugin. Those of plugins that are gone go when another one comes.
    plugins: Mutex<BTreeMap<Arc<str>, Weak<Series>>>,
}

impl Registry {
    /// The numbers of a plugin, for a version of it that may make as many as `series`. They go on from where the former
    /// version of it is, if there is one.
    #[must_use]
    pub fn of(&self, plugin: &Arc<str>, series: usize) -> Arc<Metrics> {
        let mut plugins = self.plugins();
        plugins.retain(|_, series| series.strong_count() > 0);
        let shared = plugins.get(plugin).and_then(Weak::upgrade).unwrap_or_else(|| {
            let shared = Arc::new(Series::new(plugin.clone(), Arc::clone(&self.names)));
            plugins.insert(plugin.clone(), Arc::downgrade(&shared));
            shared
        });
        let version = shared.versions.fetch_add(1, Ordering::Relaxed) + 1;
        Arc::new(Metrics { shared, version, most: series, has_complained: AtomicBool::new(false) })
    }

    // Nothing below leaves the map half-changed, so a poisoned lock is as good as a sound one.
    fn plugins(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Weak<Series>>> {
        self.plugins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The numbers of one plugin, as one version of it may change them.
#[derive(Debug)]
pub struct Metrics {
    shared: Arc<Series>,
    version: u64,
    most: usize,
    has_complained: AtomicBool,
}

impl Default for Metrics {
    /// Of a plugin that is alone in the world.
    fn default() -> Self {
        let shared = Arc::new(Series::new("".into(), Arc::default()));
        Self { shared, version: 1, most: DEFAULT_SERIES, has_complained: AtomicBool::new(false) }
    }
}

/// What the versions of a plugin share.
#[derive(Debug)]
struct Series {
    plugin: Arc<str>,
    names: Arc<Names>,
    state: RwLock<State>,
    versions: AtomicU64,
    refused: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    families: HashMap<String, Family>,
    /// Of all families together.
    series: usize,
}

#[derive(Debug)]
struct Family {
    kind: Kind,
    /// The newest version that has used it.
    version: AtomicU64,
    /// By labels, which are sorted by name.
    cells: HashMap<Box<[Label]>, Cell>,
}

/// A metric of a plugin as it is now.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// Its name, without prefix and, if it is a counter, without `_total`.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Its series: labels sorted by name, and a number each; sorted by labels.
    pub series: Vec<(Vec<Label>, Reading)>,
}

/// A number as it is now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reading {
    /// Of a counter or gauge.
    Number(f64),
    /// Of a histogram.
    Histogram {
        /// All values together.
        sum: f64,
        /// Values by size: one count per bound of [`BOUNDS`] and one for those above, not cumulative.
        buckets: [u64; BOUNDS.len() + 1],
    },
}

impl Series {
    fn new(plugin: Arc<str>, names: Arc<Names>) -> Self {
        Self { plugin, names, state: RwLock::default(), versions: AtomicU64::new(0), refused: AtomicU64::new(0) }
    }
}

impl Drop for Series {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.names.release(state.families.keys());
    }
}

impl Metrics {
    /// Change a number.
    ///
    /// # Errors
    /// When it is refused; that has been counted.
    pub fn record(&self, change: Change, name: &str, labels: Vec<Label>) -> Result<(), Refused> {
        self.try_record(change, name, labels).inspect_err(|refused| {
            self.shared.refused.fetch_add(1, Ordering::Relaxed);
            // Once for each version of the plugin: the metric has the rest.
            if !self.has_complained.swap(true, Ordering::Relaxed) {
                let (plugin, name) = (&*self.shared.plugin, crate::text::cut(name, MAX_NAME));
                tracing::warn!(plugin, name, "a metric of the plugin was refused: {refused}");
            }
        })
    }

    fn try_record(&self, change: Change, name: &str, mut labels: Vec<Label>) -> Result<(), Refused> {
        let kind = change.kind();
        // A counter's samples end in `_total` whether its author writes it or not (OpenMetrics 1.0).
        let name = if kind == Kind::Counter { name.strip_suffix("_total").unwrap_or(name) } else { name };
        if labels.len() > MAX_LABELS {
            return Err(Refused::Invalid);
        }
        labels.sort_unstable();
        {
            let state = self.shared.state.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(family) = state.families.get(name)
                && family.kind == kind
                && let Some(cell) = family.cells.get(labels.as_slice())
            {
                family.used_by(self.version);
                return cell.apply(change);
            }
        }
        names::check(name, &labels)?;
        // What cannot be counted makes no series.
        let cell = Cell::new(kind);
        cell.apply(change)?;

        let mut state = self.shared.state.write().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        if let Some(family) = state.families.get(name) {
            if family.kind != kind {
                let is_newer = family.version.load(Ordering::Relaxed) < self.version;
                if !is_newer || !self.shared.names.change(name, kind) {
                    return Err(Refused::OtherKind);
                }
                state.series -= family.cells.len();
                let family = Family { kind, version: AtomicU64::new(self.version), cells: HashMap::new() };
                state.families.insert(name.to_owned(), family);
            } else if let Some(cell) = family.cells.get(labels.as_slice()) {
                // Another instance was faster.
                family.used_by(self.version);
                return cell.apply(change);
            }
        }
        if state.series >= self.most {
            return Err(Refused::TooManySeries);
        }
        if !state.families.contains_key(name) {
            if !self.shared.names.claim(name, kind) {
                return Err(Refused::OtherKind);
            }
            let family = Family { kind, version: AtomicU64::new(self.version), cells: HashMap::new() };
            state.families.insert(name.to_owned(), family);
        }
        if let Some(family) = state.families.get_mut(name) {
            family.used_by(self.version);
            family.cells.insert(labels.into_boxed_slice(), cell);
            state.series += 1;
        }
        Ok(())
    }

    /// Everything that there is, sorted by name.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Metric> {
        let state = self.shared.state.read().unwrap_or_else(PoisonError::into_inner);
        let mut families: Vec<Metric> = state
            .families
            .iter()
            .map(|(name, family)| {
                let mut series: Vec<_> =
                    family.cells.iter().map(|(labels, cell)| (labels.to_vec(), cell.read())).collect();
                series.sort_by(|(a, _), (b, _)| a.cmp(b));
                Metric { name: name.clone(), kind: family.kind, series }
            })
            .collect();
        families.sort_by(|a, b| a.name.cmp(&b.name));
        families
    }

    /// Changes that were refused, over all versions.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }
}

impl Family {
    fn used_by(&self, version: u64) {
        if self.version.load(Ordering::Relaxed) < version {
            self.version.fetch_max(version, Ordering::Relaxed);
        }
    }
}
