//! `[plugin.grants]`: what a plugin may do beyond what every plugin may. One function per key.

use tidegate_outbound::Granted;

use super::outbound;
use super::reader::Table;

/// What one plugin has been granted. Nothing, by default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grants {
    /// `http`: it may make requests to these origins; `None` if it may not even import what makes them.
    pub http: Option<Vec<Granted>>,
    /// `background`: it may put work off.
    pub background: bool,
    /// `metrics`: it may keep numbers in the gateway's metrics.
    pub metrics: bool,
}

/// Read `[plugin.grants]`.
pub(super) fn grants(table: Table<'_>) -> Grants {
    let grants = Grants {
        http: outbound::http(&table),
        background: table.boolean("background", false),
        metrics: table.boolean("metrics", false),
    };
    table.finish();
    grants
}
