//! The stop protocol: phases, the ledger that splits the grace period, the protocol itself, and the report.

pub mod ledger;
pub mod phase;
mod protocol;
pub mod report;
pub mod timeline;
