//! Faults everywhere: the same test over and over, with a fault at another place each time.
//!
//! A handler that is sound at every place leaves nothing half-done. Each run has a plugin of its own, freshly loaded, so
//! that no fault has to do with another.

use std::fmt;

use tidegate_runtime::Hook;
use tidegate_runtime::grants::{BucketError, PublishError};
use tidegate_runtime::outbound::OutboundError;

use crate::error::SetupError;
use crate::ledger::Fault;
use crate::plugin::Plugin;

/// Traps are tried at so many places at most, unless a test wants all of them.
const MOST_TRAPS: u64 = 2_000;

/// Which faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Faults {
    /// The next call of this hook traps, at each unit of its fuel in turn (of a longer call, at 2,000 places in equal
    /// distances; see [`Sweep::every`]).
    Traps(Hook),
    /// The time of the next call of this hook is up, just before each of its requests to the host in turn.
    Deadlines(Hook),
    /// Each call of the outbox fails in turn.
    Publishes,
    /// Each request to a server fails in turn.
    Requests,
    /// Each call of a bucket fails in turn.
    Buckets,
}

/// A fault of a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    faults: Faults,
    nth: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { faults, nth } = self;
        match faults {
            Faults::Traps(hook) => write!(f, "{hook} traps at fuel {nth}"),
            Faults::Deadlines(hook) => write!(f, "the time of {hook} is up at its host call {nth}"),
            Faults::Publishes => write!(f, "call {nth} of the outbox fails"),
            Faults::Requests => write!(f, "request {nth} to a server fails"),
            Faults::Buckets => write!(f, "call {nth} of a bucket fails"),
        }
    }
}

/// The same test, with a fault at each place.
#[derive(Debug, Clone, Copy)]
#[must_use = "it is run by `run`"]
pub struct Sweep {
    faults: Faults,
    every: Option<u64>,
}

impl Sweep {
    /// With these faults.
    pub fn of(faults: Faults) -> Self {
        Self { faults, every: None }
    }

    /// Of the places, take each one after so many; 1 for all of them.
    pub fn every(self, places: u64) -> Self {
        Self { every: Some(places.max(1)), ..self }
    }

    /// Do this with a plugin that has no fault; then with one fault at a time, and check each. A plugin is brought up by
    /// `load`, which may do with it whatever has to come before. Returns at how many places there was a fault.
    ///
    /// # Errors
    /// When the plugin cannot be loaded.
    ///
    /// # Panics
    /// If what is done without a fault does not come to any place where there could be one. A panic of `check` says which
    /// fault it was.
    pub fn run(
        self,
        load: impl Fn() -> Result<Plugin, SetupError>,
        act: impl Fn(&mut Plugin),
        check: impl Fn(&mut Plugin, &Place),
    ) -> Result<u64, SetupError> {
        let faults = self.faults;
        let mut sound = load()?;
        let before = Before::of(&sound);
        act(&mut sound);
        let places = before.places(&sound, faults);
        assert!(places > 0, "without a fault, this comes to no place for {faults:?}");
        drop(sound);
        let every = self.every.unwrap_or(match faults {
            Faults::Traps(_) => places.div_ceil(MOST_TRAPS),
            _ => 1,
        });
        let mut count = 0;
        for nth in (1..=places).step_by(usize::try_from(every).unwrap_or(usize::MAX)) {
            let place = Place { faults, nth };
            let mut plugin = load()?;
            plan(&mut plugin, place);
            let said = Says(place);
            act(&mut plugin);
            check(&mut plugin, &place);
            std::mem::forget(said);
            count += 1;
        }
        Ok(count)
    }
}

/// Says which fault it was when a check panics.
struct Says(Place);

impl Drop for Says {
    fn drop(&mut self) {
        #[expect(clippy::print_stderr, reason = "beside the panic of a test, which is on stderr, too")]
        if std::thread::panicking() {
            eprintln!("the fault was: {}", self.0);
        }
    }
}

/// What had been when the fault could come.
struct Before {
    calls: usize,
    publishes: u64,
    requests: u64,
    buckets: u64,
}

impl Before {
    fn of(plugin: &Plugin) -> Self {
        let world = &plugin.around.world;
        Self {
            calls: plugin.around.ledger.len(),
            publishes: world.outbox.as_ref().map_or(0, |outbox| outbox.failures.calls()),
            requests: world.servers.as_ref().map_or(0, |servers| servers.failures.calls()),
            buckets: plugin.bucket_calls(),
        }
    }

    /// At how many places there can be one of these faults in what came after that.
    fn places(&self, plugin: &Plugin, faults: Faults) -> u64 {
        let calls = plugin.around.ledger.since(self.calls);
        let first = |hook| calls.iter().find(|call| call.hook == hook).map(|call| call.used).unwrap_or_default();
        let now = Self::of(plugin);
        match faults {
            Faults::Traps(hook) => first(hook).fuel,
            Faults::Deadlines(hook) => first(hook).host_calls,
            Faults::Publishes => now.publishes - self.publishes,
            Faults::Requests => now.requests - self.requests,
            Faults::Buckets => now.buckets - self.buckets,
        }
    }
}

fn plan(plugin: &mut Plugin, Place { faults, nth }: Place) {
    let before = nth.saturating_sub(1);
    match faults {
        // With one unit less it does not come to the end.
        Faults::Traps(hook) => plugin.plan(hook, Fault::TrapAt(before)),
        Faults::Deadlines(hook) => plugin.plan(hook, Fault::LateAt(nth)),
        Faults::Publishes => plugin.fail_publish(before, 1, PublishError::Unavailable("by the test".to_owned())),
        Faults::Requests => plugin.fail_http(before, 1, OutboundError::ConnectionTerminated),
        Faults::Buckets => plugin.fail_kv(before, 1, BucketError::Other("by the test".to_owned())),
    }
}
