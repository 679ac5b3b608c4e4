//! `[plugin.grants]`: what a plugin may do beyond what every plugin may. One function per key.

use tidegate_outbox::topic::Pattern;
use tidegate_runtime::metrics::DEFAULT_SERIES;
use toml::de::DeValue;

use super::outbox::{self, Topics};
use super::reader::Table;

/// Series that a plugin may be allowed.
const MOST_SERIES: usize = 10_000;

/// What one plugin has been granted. Nothing, by default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grants {
    /// `background`: it may put work off.
    pub background: bool,
    /// `metrics`: how many series it may keep in the gateway's metrics.
    pub metrics: Option<usize>,
    /// `outbox`: the topics to which it may publish events.
    pub outbox: Vec<Pattern>,
}

/// Read `[plugin.grants]`; `topics` is what there is to publish to.
pub(super) fn grants(table: Table<'_>, topics: &Topics) -> Grants {
    let grants = Grants {
        background: table.boolean("background", false),
        metrics: metrics(&table),
        outbox: outbox::grant(&table, topics),
    };
    table.finish();
    grants
}

/// `true`, `false`, or `{ series }`.
fn metrics(table: &Table<'_>) -> Option<usize> {
    let value = table.value("metrics")?;
    match value.get_ref() {
        DeValue::Boolean(yes) => yes.then_some(DEFAULT_SERIES),
        DeValue::Table(entries) => {
            let inner = Table::new(entries, "`metrics`", value.span(), table.problems());
            let series = inner.count("series", 1..=MOST_SERIES, DEFAULT_SERIES);
            inner.finish();
            Some(series)
        }
        _ => {
            table.wrong("metrics", value, "true, false or { series = .. }");
            None
        }
    }
}
