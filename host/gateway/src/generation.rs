//! A generation: one state of what serves. Every reload, disable, enable, quarantine and roll-back makes a new one; none
//! ever changes.

use std::sync::Arc;

use tidegate_runtime::{Plugin, StopReason, Unavailable};

use crate::config::{self, Config};
use crate::plugins::{Before, Loaded};
use crate::proxy::Seat;
use crate::roster::{Entry, Hosted, Life};
use crate::stop::ledger::Ledger;

/// One state of what serves.
#[derive(Debug)]
pub struct Generation<P = Plugin> {
    /// Counted from 1.
    pub number: u64,
    /// The configuration.
    pub config: Arc<Config>,
    /// How its grace period is split.
    pub ledger: Ledger,
    /// The plugins of the configuration, in its order.
    pub members: Vec<Member<P>>,
}

/// A plugin in its place.
#[derive(Debug, Clone)]
pub struct Member<P = Plugin> {
    /// The plugin.
    pub plugin: P,
    /// The table it was loaded with.
    pub loaded_with: config::Plugin,
    /// The generation that loaded it.
    pub generation: u64,
    /// Whether it serves.
    pub standing: Standing,
    /// The newer version that failed and whose place this one has taken again.
    pub rolled_back_from: Option<Version>,
}

/// A version of a plugin: its component, and the generation that brought it with its configuration.
#[derive(Debug, Clone)]
pub struct Version {
    /// The component's digest.
    pub digest: Arc<str>,
    /// The generation.
    pub generation: u64,
}

/// Whether a plugin serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It does.
    Serving,
    /// An operator has switched it off.
    Disabled,
    /// It failed too often.
    Quarantined,
}

impl Standing {
    /// As in the admin API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Disabled => "disabled",
            Self::Quarantined => "quarantined",
        }
    }

    /// Why the instances of a plugin that stands like this are stopped; `None` if they are not.
    pub(crate) fn stops(self) -> Option<StopReason> {
        match self {
            Self::Serving => None,
            Self::Disabled => Some(StopReason::Disable),
            Self::Quarantined => Some(StopReason::Quarantine),
        }
    }

    fn out(self) -> Option<Unavailable> {
        match self {
            Self::Serving => None,
            Self::Disabled => Some(Unavailable::Disabled),
            Self::Quarantined => Some(Unavailable::Quarantined),
        }
    }
}

impl<P> Member<P> {
    /// Its name in the configuration.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.loaded_with.name
    }

    /// Whether it takes over from this one, with its state.
    #[must_use]
    pub fn inherits_from(&self, old: &Self) -> bool {
        self.loaded_with.hand_over
            && self.name() == old.name()
            && self.generation > old.generation
            && [self.standing, old.standing] == [Standing::Serving; 2]
    }

    /// Which life of the plugin it is.
    #[must_use]
    pub fn life(&self) -> Life {
        Life { name: Arc::clone(self.name()), generation: self.generation }
    }
}

impl<P: Hosted> Generation<P> {
    /// The first one.
    #[must_use]
    pub fn first(config: Config, ledger: Ledger, loaded: Vec<Loaded<P>>) -> Self {
        let members = members(&[], &config.plugins, loaded, 1);
        Self { number: 1, config: Arc::new(config), ledger, members }
    }

    /// The plugin of this name.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Member<P>> {
        self.members.iter().find(|member| **member.name() == *name)
    }

    /// The plugins as the roster lists them.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry<P>> {
        let entry = |member: &Member<P>| Entry { plugin: member.plugin.clone(), generation: member.generation };
        self.members.iter().map(entry).collect()
    }
}

impl Generation {
    /// The plugins as the proxy sees them.
    #[must_use]
    pub fn seats(&self) -> Vec<Seat> {
        let seat = |member: &Member| Seat { plugin: member.plugin.clone(), out: member.standing.out() };
        self.members.iter().map(seat).collect()
    }

    /// The plugins as a load looks at them.
    #[must_use]
    pub fn before(&self) -> Vec<Before> {
        let before = |member: &Member| Before {
            plugin: member.plugin.clone(),
            config: member.loaded_with.clone(),
            serves: member.standing == Standing::Serving,
        };
        self.members.iter().map(before).collect()
    }
}

/// The members of generation `number`, which comes after `before` and has these plugins, loaded in the order of their
/// tables. One that was kept stays what it was; every other one begins its life. What an operator has switched off stays
/// off, whatever its version; a quarantine is over when there is another version.
pub(crate) fn members<P: Hosted>(
    before: &[Member<P>],
    tables: &[config::Plugin],
    loaded: Vec<Loaded<P>>,
    number: u64,
) -> Vec<Member<P>> {
    let member = |(loaded, table): (Loaded<P>, &config::Plugin)| {
        let old = before.iter().find(|old| *old.name() == table.name);
        match old {
            Some(old) if loaded.kept => Member { loaded_with: table.clone(), ..old.clone() },
            _ => Member {
                plugin: loaded.plugin,
                loaded_with: table.clone(),
                generation: number,
                standing: match old.map(|old| old.standing) {
                    Some(Standing::Disabled) => Standing::Disabled,
                    Some(Standing::Serving | Standing::Quarantined) | None => Standing::Serving,
                },
                rolled_back_from: None,
            },
        }
    };
    loaded.into_iter().zip(tables).map(member).collect()
}
