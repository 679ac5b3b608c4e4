//! Every plugin that there is: those of the current generation, and those that are on their way out. One owner of that
//! truth, for metrics, the admin API and the stop protocol.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tidegate_runtime::Plugin;

use crate::generation::{Hosted, Life};

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
