//! A generation: one state of what serves. Every reload, disable, enable, quarantine and roll-back makes a new one; none
//! ever changes.

use std::sync::Arc;

use tidegate_runtime::{Plugin, Unavailable};

use crate::config::{self, Config};
use crate::plugins::{Before, Loaded};
use crate::proxy::Seat;
use crate::roster::Entry;
use crate::stop::ledger::Ledger;

/// One state of what serves.
#[derive(Debug)]
pub struct Generation {
    /// Counted from 1.
    pub number: u64,
    /// The configuration.
    pub config: Arc<Config>,
    /// How its grace period is split.
    pub ledger: Ledger,
    /// The plugins of the configuration, in its order.
    pub members: Vec<Member>,
}

/// A plugin in its place.
#[derive(Debug, Clone)]
pub struct Member {
    /// The plugin.
    pub plugin: Plugin,
    /// The table it was loaded with.
    pub loaded_with: config::Plugin,
    /// The generation that loaded it.
    pub generation: u64,
    /// Whether it serves.
    pub standing: Standing,
    /// The newer version that failed and whose place this one has taken again.
    pub rolled_back_from: Option<Version>,
}

/// One life of a plugin: from the generation that made its instances to the end of the last one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Life {
    /// The plugin's name.
    pub name: Arc<str>,
    /// The generation that made its instances. A name has at most one life in each.
    pub generation: u64,
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

    fn out(self) -> Option<Unavailable> {
        match self {
            Self::Serving => None,
            Self::Disabled => Some(Unavailable::Disabled),
            Self::Quarantined => Some(Unavailable::Quarantined),
        }
    }
}

impl Member {
    /// Its name in the configuration.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.loaded_with.name
    }

    /// Which life of the plugin it is.
    #[must_use]
    pub fn life(&self) -> Life {
        Life { name: Arc::clone(self.name()), generation: self.generation }
    }
}

impl Generation {
    /// The first one.
    #[must_use]
    pub fn first(config: Config, ledger: Ledger, loaded: Vec<Loaded>) -> Self {
        let members = members(&config, loaded, None, 1);
        Self { number: 1, config: Arc::new(config), ledger, members }
    }

    /// The one with this number that comes after `before`. `loaded` are the plugins of `config`, in its order.
    #[must_use]
    pub fn after(before: &Self, number: u64, config: Config, ledger: Ledger, loaded: Vec<Loaded>) -> Self {
        let members = members(&config, loaded, Some(before), number);
        Self { number, config: Arc::new(config), ledger, members }
    }

    /// The plugin of this name.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| **member.name() == *name)
    }

    /// The plugins as the proxy sees them.
    #[must_use]
    pub fn seats(&self) -> Vec<Seat> {
        let seat = |member: &Member| Seat { plugin: member.plugin.clone(), out: member.standing.out() };
        self.members.iter().map(seat).collect()
    }

    /// The plugins as the roster lists them.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        let entry = |member: &Member| Entry { plugin: member.plugin.clone(), generation: member.generation };
        self.members.iter().map(entry).collect()
    }

    /// The plugins as a load looks at them.
    #[must_use]
    pub fn before(&self) -> Vec<Before> {
        let before = |member: &Member| Before { plugin: member.plugin.clone(), config: member.loaded_with.clone() };
        self.members.iter().map(before).collect()
    }
}

/// A plugin that was kept stays what it was; every other one begins its life in generation `number`. What an operator has
/// switched off stays off, whatever its version; a quarantine is over when there is another version.
fn members(config: &Config, loaded: Vec<Loaded>, before: Option<&Generation>, number: u64) -> Vec<Member> {
    let member = |(loaded, table): (Loaded, &config::Plugin)| {
        let old = before.and_then(|before| before.member(&table.name));
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
    loaded.into_iter().zip(&config.plugins).map(member).collect()
}
