//! Numbers that plugins keep in the gateway's metrics, with a cap on how many.

/// The numbers of one plugin, over all its instances and versions.
#[derive(Debug, Default)]
pub struct Metrics {}
