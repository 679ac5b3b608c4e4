//! Every plugin that there is: those of the current generation, and those that are on their way out. One owner of that
//! truth, for metrics, the admin API and the stop protocol.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tidegate_runtime::Plugin;

use crate::generation::Life;

/// Every plugin that has instances, or may get some.
#[derive(Debug, Default)]
pub struct Roster(Mutex<Lists>);

#[derive(Debug, Default)]
struct Lists {
    seated: Vec<Entry>,
    leaving: Vec<Entry>,
}

/// One life of a plugin.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The plugin.
    pub plugin: Plugin,
    /// The generation that loaded it.
    pub generation: u64,
}

impl Entry {
    /// Which life of the plugin it is.
    #[must_use]
    pub fn life(&self) -> Life {
        Life { name: self.plugin.name().clone(), generation: self.generation }
    }
}

impl Roster {
    /// A generation has taken over, with these plugins. `leaving` are those that are about to be stopped; one of them may
    /// keep its place, switched off.
    pub fn seat(&self, seated: Vec<Entry>, leaving: &[Entry]) {
        let mut lists = self.lock();
        lists.seated = seated;
        lists.leaving.extend(leaving.iter().cloned());
    }

    /// A plugin has been stopped.
    pub fn left(&self, entry: &Entry) {
        self.lock().leaving.retain(|leaving| leaving.life() != entry.life());
    }

    /// Those that are on their way out.
    #[must_use]
    pub fn leaving(&self) -> Vec<Entry> {
        self.lock().leaving.clone()
    }

    /// All of them, by name and then from the oldest to the newest.
    #[must_use]
    pub fn all(&self) -> Vec<Entry> {
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

    fn lock(&self) -> MutexGuard<'_, Lists> {
        // Entries come and go whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
