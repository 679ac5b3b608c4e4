//! The course of what serves, as a state machine: what a change makes of the plugins, who comes, who has to go and why,
//! and what each could be rolled back to.
//!
//! Nothing here runs a plugin, waits, or fails; [`super::Control`] does, and asks. So this is what random histories are
//! run against (see `tests`).

use std::collections::HashMap;
use std::sync::Arc;

use tidegate_runtime::{Plugin, StopReason};

use crate::config;
use crate::generation::{Member, Standing, Version, members};
use crate::plugins::Loaded;
use crate::roster::Entry;
use crate::roster::{Hosted, Life};

/// What only a change may touch.
#[derive(Debug)]
pub(super) struct Course<P = Plugin> {
    /// The last number that was given to a generation, also to one that did not come about.
    last: u64,
    /// What a plugin can be rolled back to, by name.
    fallbacks: HashMap<Arc<str>, Fallback<P>>,
}

/// The last version of a plugin that did well. It has been stopped, or is about to be; its component is still there.
#[derive(Debug)]
pub(super) struct Fallback<P = Plugin> {
    pub(super) plugin: P,
    loaded_with: config::Plugin,
}

/// A change that has been decided on.
#[derive(Debug)]
pub(super) struct Step<P = Plugin> {
    /// The members of the next generation.
    pub(super) members: Vec<Member<P>>,
    /// Those whose instances have to go.
    pub(super) leaving: Vec<Leaving<P>>,
}

/// A plugin that has to go, and why.
#[derive(Debug)]
pub(super) struct Leaving<P = Plugin> {
    pub(super) entry: Entry<P>,
    pub(super) reason: StopReason,
    /// The new version that it leaves its state to.
    pub(super) heir: Option<P>,
}

impl<P> Default for Course<P> {
    /// With the first generation.
    fn default() -> Self {
        Self { last: 1, fallbacks: HashMap::new() }
    }
}

impl<P: Hosted> Course<P> {
    /// The number of a generation that is about to be made.
    pub(super) fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Serve with these plugins, loaded for generation `number` in the order of their tables. With `rolls_back`, new
    /// versions are on probation.
    pub(super) fn reload(
        &mut self,
        before: &[Member<P>],
        tables: &[config::Plugin],
        loaded: Vec<Loaded<P>>,
        number: u64,
        rolls_back: bool,
    ) -> Step<P> {
        let next = members(before, tables, loaded, number);
        let earlier = std::mem::take(&mut self.fallbacks);
        if rolls_back {
            self.fallbacks = fallbacks(earlier, before, &next);
        }
        Step::new(before, next, StopReason::Reload)
    }

    /// Switch a member off; `None` if it stands like that already.
    pub(super) fn take_out(&mut self, before: &[Member<P>], member: &Member<P>, standing: Standing) -> Option<Step<P>> {
        if member.standing == standing {
            return None;
        }
        // Who is switched off on purpose is nothing to go back to.
        self.fallbacks.remove(member.name());
        let out = Member { standing, ..member.clone() };
        Some(Step::new(before, with(before, out), StopReason::Reload))
    }

    /// Have a member that has been switched off serve again, with another life that has begun for generation `number`.
    pub(super) fn put_back(before: &[Member<P>], member: &Member<P>, revived: P, number: u64) -> Step<P> {
        let back = Member { plugin: revived, generation: number, standing: Standing::Serving, ..member.clone() };
        Step::new(before, with(before, back), StopReason::Reload)
    }

    /// What this member can be rolled back to, if it serves. There is an answer once per reload: what comes back has
    /// nothing to go back to.
    pub(super) fn fallback(&mut self, member: &Member<P>) -> Option<Fallback<P>> {
        if member.standing == Standing::Serving { self.fallbacks.remove(member.name()) } else { None }
    }

    /// Put the fallback in the place of a member that failed, with another life that has begun for generation `number`.
    pub(super) fn roll_back(
        before: &[Member<P>],
        failed: &Member<P>,
        fallback: Fallback<P>,
        revived: P,
        number: u64,
    ) -> Step<P> {
        let back = Member {
            plugin: revived,
            loaded_with: fallback.loaded_with,
            generation: number,
            standing: Standing::Serving,
            rolled_back_from: Some(Version { digest: failed.plugin.digest().clone(), generation: failed.generation }),
        };
        Step::new(before, with(before, back), StopReason::Quarantine)
    }

    /// A life has done well for long enough: if it is still the one that is there, what it could be rolled back to may go.
    pub(super) fn end_probation(&mut self, members: &[Member<P>], life: &Life) {
        if members.iter().any(|member| member.life() == *life) {
            self.fallbacks.remove(&life.name);
        }
    }

    /// Whether a plugin can be rolled back.
    pub(super) fn can_roll_back(&self, name: &str) -> bool {
        self.fallbacks.contains_key(name)
    }
}

impl<P: Hosted> Step<P> {
    /// Those that serve have to go if they are not there any more, for the reason `replaced`, or do not serve any more;
    /// those that are new, if they do not serve: they have been loaded to see that they can be.
    fn new(before: &[Member<P>], members: Vec<Member<P>>, replaced: StopReason) -> Self {
        let serving = before.iter().filter(|old| old.standing == Standing::Serving);
        let old = serving.filter_map(|old| {
            let reason = at(&members, &old.life()).map_or(Some(replaced), |now| now.standing.stops())?;
            let heir = members.iter().find(|new| reason == StopReason::Reload && new.inherits_from(old));
            Some(Leaving { heir: heir.map(|new| new.plugin.clone()), ..Leaving::new(old, reason) })
        });
        let new = members.iter().filter(|new| at(before, &new.life()).is_none());
        let off = new.filter_map(|new| Some(Leaving::new(new, new.standing.stops()?)));
        let leaving = old.chain(off).collect();
        Self { members, leaving }
    }
}

impl<P: Clone> Leaving<P> {
    fn new(member: &Member<P>, reason: StopReason) -> Self {
        let entry = Entry { plugin: member.plugin.clone(), generation: member.generation };
        Self { entry, reason, heir: None }
    }
}

/// The member with this life.
fn at<'m, P>(members: &'m [Member<P>], life: &Life) -> Option<&'m Member<P>> {
    members.iter().find(|member| member.life() == *life)
}

/// These members, with another one in the place of its name.
fn with<P: Clone>(members: &[Member<P>], member: Member<P>) -> Vec<Member<P>> {
    let mut members = members.to_vec();
    if let Some(place) = members.iter_mut().find(|other| other.name() == member.name()) {
        *place = member;
    }
    members
}

/// For every plugin that is replaced by another version: the last version that did well.
fn fallbacks<P: Hosted>(
    mut earlier: HashMap<Arc<str>, Fallback<P>>,
    before: &[Member<P>],
    next: &[Member<P>],
) -> HashMap<Arc<str>, Fallback<P>> {
    let mut fallbacks = HashMap::new();
    for new in next {
        let name = new.name();
        let Some(old) = before.iter().find(|old| old.name() == name) else { continue };
        let fallback = if old.life() == new.life() {
            // Still the same, and perhaps still on probation.
            earlier.remove(name)
        } else if old.standing == Standing::Serving && old.plugin.does_well() {
            Some(Fallback { plugin: old.plugin.clone(), loaded_with: old.loaded_with.clone() })
        } else {
            // The one that is replaced did not do well itself: what came before it is still what is healthy.
            earlier.remove(name)
        };
        if let Some(fallback) = fallback {
            fallbacks.insert(Arc::clone(name), fallback);
        }
    }
    fallbacks
}

#[cfg(test)]
mod tests;
