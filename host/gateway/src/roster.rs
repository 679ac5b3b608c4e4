//! Every plugin that there is: those of the current generation, and those that are on their way out. One owner of that
//! truth, for metrics, the admin API and the stop protocol.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_runtime::{Health, Plugin, StopReason};

/// A plugin, as far as it matters for who serves and who has to be accounted for. There is one besides [`Plugin`]: the
/// models' own, which has no guests.
pub trait Hosted: Clone {
    /// Its name in the configuration.
    fn name(&self) -> &Arc<str>;
    /// `sha256:` and 64 hex digits.
    fn digest(&self) -> &Arc<str>;
    /// Numbers of the instances that there are.
    fn instances(&self) -> Vec<u64>;
    /// Whether its calls end well.
    fn does_well(&self) -> bool;
    /// Stop every instance, within the plugin's limit and no more than `budget`. A second stop joins the first.
    fn stop(&self, reason: StopReason, budget: Duration) -> impl Future<Output = ()> + Send;
    /// Stop the version before it, and take over its calls and its state.
    fn take_over(&self, old: &Self) -> impl Future<Output = ()> + Send;
}

impl Hosted for Plugin {
    fn name(&self) -> &Arc<str> {
        self.name()
    }

    fn digest(&self) -> &Arc<str> {
        self.digest()
    }

    fn instances(&self) -> Vec<u64> {
        self.instances()
    }

    fn does_well(&self) -> bool {
        *self.health().borrow() == Health::Good
    }

    async fn stop(&self, reason: StopReason, budget: Duration) {
        self.stop(reason, budget).await;
    }

    async fn take_over(&self, old: &Self) {
        self.take_over(old, old.longest_stop()).await;
    }
}

/// One life of a plugin: from the generation that made its instances to the end of the last one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Life {
    /// The plugin's name.
    pub name: Arc<str>,
    /// The generation that made its instances. A name has at most one life in each.
    pub generation: u64,
}

/// Every plugin that has instances, or may get some.
#[derive(Debug)]
pub struct Roster<P = Plugin>(Mutex<Lists<P>>);

#[derive(Debug)]
struct Lists<P> {
    seated: Vec<Entry<P>>,
    leaving: Vec<Entry<P>>,
}

/// One life of a plugin.
#[derive(Debug, Clone)]
pub struct Entry<P = Plugin> {
    /// The plugin.
    pub plugin: P,
    /// The generation that loaded it.
    pub generation: u64,
}

impl<P: Hosted> Entry<P> {
    /// Which life of the plugin it is.
    #[must_use]
    pub fn life(&self) -> Life {
        Life { name: self.plugin.name().clone(), generation: self.generation }
    }
}

impl<P> Default for Roster<P> {
    fn default() -> Self {
        Self(Mutex::new(Lists { seated: Vec::new(), leaving: Vec::new() }))
    }
}

impl<P: Hosted> Roster<P> {
    /// A generation has taken over, with these plugins. `leaving` are those that are about to be stopped; one of them may
    /// keep its place, switched off.
    pub fn seat(&self, seated: Vec<Entry<P>>, leaving: &[Entry<P>]) {
        let mut lists = self.lock();
        lists.seated = seated;
        lists.leaving.extend(leaving.iter().cloned());
    }

    /// A plugin has been stopped.
    pub fn left(&self, entry: &Entry<P>) {
        self.lock().leaving.retain(|leaving| leaving.life() != entry.life());
    }

    /// Those that are on their way out.
    #[must_use]
    pub fn leaving(&self) -> Vec<Entry<P>> {
        self.lock().leaving.clone()
    }

    /// All of them, by name and then from the oldest to the newest.
    #[must_use]
    pub fn all(&self) -> Vec<Entry<P>> {
        let mut all = {
            let lists = self.lock();
            let mut all = lists.seated.clone();
            all.extend(
                lists
                    .leaving
                    .iter()
                    .filter(|leaving| !lists.seated.iter().any(|seated| seated.life() == leaving.life()))
                    .cloned(),
            );
            all
        };
        all.sort_by_key(Entry::life);
        all
    }

    fn lock(&self) -> MutexGuard<'_, Lists<P>> {
        // Entries come and go whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
