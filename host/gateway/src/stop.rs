//! The stop protocol: phases, the ledger that splits the grace period, the protocol itself, the log of stopped instances,
//! and the report.

pub(crate) mod book;
pub mod ledger;
pub mod log;
pub mod phase;
mod protocol;
pub mod report;
pub mod timeline;

pub use self::book::Ongoing;
