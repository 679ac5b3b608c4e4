//! What surrounds the plugin in place of the world: an outbox, servers and buckets that do what the test says.

mod http;
mod kv;
mod outbox;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tidegate_runtime::Grants;
use tidegate_runtime::grants::Values;
use tidegate_runtime::metrics::Metrics;

pub use self::http::{Asked, Reply};
pub use self::kv::Bucket;
pub use self::outbox::Event;

use self::http::Reach;
pub(crate) use self::http::{Reachable, Servers};
pub(crate) use self::kv::Buckets;
pub(crate) use self::outbox::Outbox;

/// How a capability is to fail: which of its calls, from 1, and after how many it is sound again.
#[derive(Debug)]
pub(crate) struct Failures<E> {
    planned: Mutex<Vec<Failing<E>>>,
    /// Calls so far.
    calls: AtomicU64,
}

impl<E> Default for Failures<E> {
    fn default() -> Self {
        Self { planned: Mutex::default(), calls: AtomicU64::new(0) }
    }
}

#[derive(Debug)]
struct Failing<E> {
    /// Calls that go well before it.
    after: u64,
    /// Calls that fail.
    left: u64,
    error: E,
}

impl<E: Clone> Failures<E> {
    /// After so many calls from now on, the next ones fail.
    pub(crate) fn plan(&self, after: u64, count: u64, error: E) {
        let mut planned = self.planned.lock().unwrap_or_else(PoisonError::into_inner);
        planned.push(Failing { after, left: count, error });
    }

    /// How many calls there have been.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// A call is made: how it fails, if it is one of those.
    pub(crate) fn next(&self) -> Option<E> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let mut planned = self.planned.lock().unwrap_or_else(PoisonError::into_inner);
        let mut fails = None;
        for failing in &mut *planned {
            if failing.after > 0 {
                failing.after -= 1;
            } else if fails.is_none() && failing.left > 0 {
                failing.left -= 1;
                fails = Some(failing.error.clone());
            }
        }
        planned.retain(|failing| failing.left > 0);
        fails
    }
}

/// What the plugin is granted.
#[derive(Debug, Clone, Default)]
pub(crate) struct World {
    pub(crate) outbox: Option<Arc<Outbox>>,
    pub(crate) servers: Option<Arc<Servers>>,
    pub(crate) buckets: Option<Arc<Buckets>>,
    pub(crate) config: BTreeMap<String, String>,
    pub(crate) secrets: BTreeMap<String, String>,
    /// Whether it may ask for values, even if it has none.
    pub(crate) values: bool,
    pub(crate) metrics: Option<Arc<Metrics>>,
    pub(crate) background: bool,
}

impl World {
    pub(crate) fn grants(&self) -> Grants {
        let has_values = self.values || !self.config.is_empty() || !self.secrets.is_empty();
        let values = || Values { config: self.config.clone(), secrets: self.secrets.clone() };
        Grants {
            outbox: self.outbox.clone().map(|outbox| outbox as _),
            http: self.servers.clone().map(|servers| Arc::new(Reach(servers)) as _),
            kv: self.buckets.clone().map(|buckets| buckets as _),
            values: has_values.then(|| Arc::new(values())),
            metrics: self.metrics.clone(),
            background: self.background,
        }
    }
}
