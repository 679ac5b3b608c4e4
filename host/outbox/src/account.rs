//! How much is in the outbox, and who may still put something in.
//!
//! Room is taken before any work is done for an event, and given back when the event has left the file. Half of the
//! room is there for whoever comes first; the other half is split evenly among the sources, so that one that floods
//! the outbox leaves the others something. A lone source may have everything.

use std::collections::HashMap;
use std::sync::Arc;

/// How much an outbox takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Events at a time, dead letters among them.
    pub max_events: u64,
    /// Bytes of all events at a time.
    pub max_bytes: u64,
    /// Bytes of one body.
    pub max_event: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_events: 100_000, max_bytes: 256 << 20, max_event: 256 << 10 }
    }
}

/// Events and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) events: u64,
    pub(crate) bytes: u64,
}

impl Usage {
    pub(crate) fn add(&mut self, other: Self) {
        self.events = self.events.saturating_add(other.events);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }

    /// A damaged row may say anything about its size.
    fn subtract(&mut self, other: Self) {
        self.events = self.events.saturating_sub(other.events);
        self.bytes = self.bytes.saturating_sub(other.bytes);
    }
}

/// There is no room.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

#[derive(Debug)]
pub(crate) struct Account {
    limits: Limits,
    used: Usage,
    sources: HashMap<Arc<str>, Source>,
}

#[derive(Debug, Default)]
struct Source {
    used: Usage,
    /// Those who may publish under this name; a source without any has nothing set aside for it.
    publishers: usize,
}

impl Account {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, used: Usage::default(), sources: HashMap::new() }
    }

    pub(crate) fn used(&self) -> Usage {
        self.used
    }

    /// Whether more than half of the room is taken. Up to there a source is refused only if it wants more at once than is set
    /// aside for it.
    pub(crate) fn is_tight(&self) -> bool {
        self.used.events > self.limits.max_events / 2 || self.used.bytes > self.limits.max_bytes / 2
    }

    pub(crate) fn enter(&mut self, source: &Arc<str>) {
        self.sources.entry(Arc::clone(source)).or_default().publishers += 1;
    }

    pub(crate) fn leave(&mut self, source: &Arc<str>) {
        if let Some(entry) = self.sources.get_mut(source) {
            entry.publishers = entry.publishers.saturating_sub(1);
        }
        self.forget(source);
    }

    /// Take room for something that is there already.
    pub(crate) fn found(&mut self, source: &Arc<str>, usage: Usage) {
        self.used.add(usage);
        self.sources.entry(Arc::clone(source)).or_default().used.add(usage);
    }

    /// Take room.
    pub(crate) fn reserve(&mut self, source: &Arc<str>, wanted: Usage) -> Result<(), Full> {
        let active = self.sources.values().filter(|source| source.publishers > 0).count() as u64;
        let share = |all: u64| all / 2 / active.max(1);
        let aside = Usage { events: share(self.limits.max_events), bytes: share(self.limits.max_bytes) };
        let mut needed = self.used;
        needed.add(wanted);
        for (name, other) in &self.sources {
            if other.publishers > 0 && name != source {
                needed.events = needed.events.saturating_add(aside.events.saturating_sub(other.used.events));
                needed.bytes = needed.bytes.saturating_add(aside.bytes.saturating_sub(other.used.bytes));
            }
        }
        if needed.events > self.limits.max_events || needed.bytes > self.limits.max_bytes {
            return Err(Full);
        }
        self.found(source, wanted);
        Ok(())
    }

    /// Give room back.
    pub(crate) fn release(&mut self, source: &Arc<str>, usage: Usage) {
        self.used.subtract(usage);
        if let Some(entry) = self.sources.get_mut(source) {
            entry.used.subtract(usage);
        }
        self.forget(source);
    }

    fn forget(&mut self, source: &Arc<str>) {
        if self.sources.get(source).is_some_and(|entry| entry.publishers == 0 && entry.used == Usage::default()) {
            self.sources.remove(source);
        }
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a missing element fails the test")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ONE: Usage = Usage { events: 1, bytes: 10 };

    fn account(max_events: u64, max_bytes: u64, sources: &[&str]) -> (Account, Vec<Arc<str>>) {
        let mut account = Account::new(Limits { max_events, max_bytes, max_event: 1 });
        let sources: Vec<Arc<str>> = sources.iter().map(|name| Arc::from(*name)).collect();
        sources.iter().for_each(|source| account.enter(source));
        (account, sources)
    }

    fn fill(account: &mut Account, source: &Arc<str>) -> u64 {
        std::iter::repeat_with(|| account.reserve(source, ONE)).take_while(Result::is_ok).count() as u64
    }

    #[test]
    fn a_lone_source_has_all_the_room_there_is() {
        let (mut account, sources) = account(7, 1_000, &["a"]);
        assert_eq!(fill(&mut account, &sources[0]), 7);
        let (mut account, sources) = self::account(1_000, 75, &["a"]);
        assert_eq!(fill(&mut account, &sources[0]), 7, "bytes");
    }

    #[test]
    fn a_flood_leaves_the_other_sources_their_part() {
        let (mut account, sources) = account(100, 1_000_000, &["a", "b"]);
        assert_eq!(fill(&mut account, &sources[0]), 75);
        assert_eq!(fill(&mut account, &sources[1]), 25);
        account.release(&sources[1], ONE);
        assert_eq!(account.reserve(&sources[0], ONE), Err(Full), "what b gives back is b's");
        assert_eq!(account.reserve(&sources[1], ONE), Ok(()));
    }

    #[test]
    fn it_is_tight_before_anybody_is_refused() {
        let (mut account, sources) = account(100, 1_000_000, &["a", "b", "c"]);
        assert_eq!(fill(&mut account, &sources[0]), 68);
        assert!(account.is_tight());
        let all = account.used();
        account.release(&sources[0], all);
        let (half, more) = (Usage { events: 50, bytes: 500_000 }, Usage { events: 0, bytes: 1 });
        account.reserve(&sources[0], half).expect("room");
        assert!(!account.is_tight());
        account.reserve(&sources[1], more).expect("room");
        assert!(account.is_tight(), "bytes");
    }

    #[test]
    fn a_source_that_is_gone_has_nothing_set_aside() {
        let (mut account, sources) = account(100, 1_000_000, &["a", "b"]);
        account.leave(&sources[1]);
        assert_eq!(fill(&mut account, &sources[0]), 100);
    }

    proptest! {
        #[test]
        fn no_history_goes_over_the_limits_or_takes_what_is_set_aside(
            steps in proptest::collection::vec((0..3_usize, 1..5_u64, any::<bool>()), 0..200)
        ) {
            let (mut account, sources) = account(60, 600, &["a", "b", "c"]);
            let mut held = [0_u64; 3];
            for (who, events, takes) in steps {
                let usage = Usage { events, bytes: events * 10 };
                if takes {
                    let before = account.used();
                    match account.reserve(&sources[who], usage) {
                        Ok(()) => held[who] += events,
                        Err(Full) => {
                            prop_assert_eq!(account.used(), before);
                            // Ten of sixty are each one's own.
                            prop_assert!(held[who] + events > 10);
                        }
                    }
                } else if held[who] >= events {
                    account.release(&sources[who], usage);
                    held[who] -= events;
                }
                prop_assert_eq!(account.used().events, held.iter().sum::<u64>());
                prop_assert!(account.used().events <= 60);
            }
        }
    }
}
