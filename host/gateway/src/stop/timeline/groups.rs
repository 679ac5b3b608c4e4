//! Which instances share a row: each has its own while there is room, those that ended alike share one beyond it.

use std::collections::HashMap;

use tidegate_runtime::StopOutcome;

use super::super::report::PluginReport;

/// How much a drawing has room for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// More instances of a plugin than this that ended alike share a row.
    pub(super) alike: usize,
    /// The rows for instances, all in all.
    pub(super) rows: usize,
}

/// Instances of one plugin that ended alike; at least one.
#[derive(Debug, Clone)]
pub(super) struct Group<'a> {
    pub(super) first: &'a PluginReport,
    others: Vec<&'a PluginReport>,
    /// Which of the report's plugins it is.
    position: usize,
}

impl<'a> Group<'a> {
    fn of_one(first: &'a PluginReport, position: usize) -> Self {
        Self { first, others: Vec::new(), position }
    }

    pub(super) fn instances(&self) -> impl Iterator<Item = &'a PluginReport> {
        std::iter::once(self.first).chain(self.others.iter().copied())
    }

    pub(super) fn len(&self) -> usize {
        self.others.len() + 1
    }

    /// The least and the greatest of what its instances have of something.
    pub(super) fn range(&self, of: impl Fn(&PluginReport) -> u64) -> (u64, u64) {
        let first = of(self.first);
        self.others
            .iter()
            .map(|plugin| of(plugin))
            .fold((first, first), |(least, greatest), value| (least.min(value), greatest.max(value)))
    }

    /// By how much the last of them ended after its budget.
    pub(super) fn overshoot_ms(&self) -> f64 {
        self.instances().map(|plugin| plugin.overshoot_ms).fold(0.0, f64::max)
    }

    /// What they said went wrong, each text once.
    pub(super) fn errors(&self) -> Vec<&'a str> {
        let mut errors: Vec<&str> = self.instances().filter_map(|plugin| plugin.error.as_deref()).collect();
        errors.sort_unstable();
        errors.dedup();
        errors
    }

    fn is_clean(&self) -> bool {
        self.first.outcome.is_clean()
    }

    fn split(&self) -> impl Iterator<Item = Self> {
        self.instances().map(|plugin| Self::of_one(plugin, self.position))
    }
}

/// All instances, in the order in which the report names the plugins.
pub(super) fn group(plugins: &[PluginReport]) -> Vec<Group<'_>> {
    let mut positions: HashMap<&str, usize> = HashMap::new();
    let mut groups: Vec<Group<'_>> = Vec::new();
    let mut known = HashMap::new();
    for plugin in plugins {
        let next = positions.len();
        let position = *positions.entry(&plugin.name).or_insert(next);
        let PluginReport { digest, generation, reason, outcome, budget_ms, .. } = plugin;
        let alike = (position, digest, generation, reason.as_str(), outcome, budget_ms);
        let number = *known.entry(alike).or_insert(groups.len());
        match groups.get_mut(number) {
            Some(group) => group.others.push(plugin),
            None => groups.push(Group::of_one(plugin, position)),
        }
    }
    groups.sort_by_key(|group| (group.position, group.first.generation, group.first.outcome));
    groups
}

/// The groups that get a row, and the instances there is no row for, by outcome.
pub(super) fn within<'a>(bounds: Bounds, groups: &[Group<'a>]) -> (Vec<Group<'a>>, Vec<(StopOutcome, usize)>) {
    let mut chosen: Vec<&Group<'a>> = groups.iter().collect();
    // What went wrong is what the report is read for: it comes before what went well, and is taken apart first.
    chosen.sort_by_key(|group| group.is_clean());
    let left_out = chosen.split_off(bounds.rows.min(chosen.len()));
    chosen.sort_by_key(|group| (group.is_clean(), group.len()));
    let mut used = chosen.len();
    let mut rows = Vec::new();
    for group in chosen {
        let more = group.len() - 1;
        if group.len() <= bounds.alike && used + more <= bounds.rows {
            used += more;
            rows.extend(group.split());
        } else {
            rows.push(group.clone());
        }
    }
    rows.sort_by_key(|group| {
        let (shared, first) = (group.len() > 1, group.first);
        (group.position, first.generation, shared, if shared { 0 } else { first.instance }, first.outcome)
    });
    (rows, count(left_out.iter().flat_map(|group| group.instances())))
}

/// How many ended in which way; ways that none took are not listed.
pub(super) fn count<'a>(plugins: impl Iterator<Item = &'a PluginReport>) -> Vec<(StopOutcome, usize)> {
    let mut counts = StopOutcome::ALL.map(|outcome| (outcome, 0));
    for plugin in plugins {
        if let Some((_, count)) = counts.iter_mut().find(|(outcome, _)| *outcome == plugin.outcome) {
            *count += 1;
        }
    }
    counts.into_iter().filter(|(_, count)| *count > 0).collect()
}
