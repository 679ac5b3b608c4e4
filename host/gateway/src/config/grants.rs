//! `[plugin.grants]`: what a plugin may do beyond what every plugin may. One function per key.

use tidegate_outbox::topic::Pattern;

use super::outbox::{self, Topics};
use super::reader::Table;

/// What one plugin has been granted. Nothing, by default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grants {
    /// `background`: it may put work off.
    pub background: bool,
    /// `metrics`: it may keep numbers in the gateway's metrics.
    pub metrics: bool,
    /// `outbox`: the topics to which it may publish events.
    pub outbox: Vec<Pattern>,
}

/// Read `[plugin.grants]`; `topics` is what there is to publish to.
pub(super) fn grants(table: Table<'_>, topics: &Topics) -> Grants {
    let grants = Grants {
        background: table.boolean("background", false),
        metrics: table.boolean("metrics", false),
        outbox: outbox::grant(&table, topics),
    };
    table.finish();
    grants
}
