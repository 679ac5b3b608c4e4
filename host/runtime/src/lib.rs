//! Runs sandboxed WebAssembly plugins under budgets, and stops them on time.
//!
//! wasmtime lives in this crate and nowhere else. What it offers the gateway is narrow: [`Runtime`] loads a
//! component into a [`Plugin`]; a plugin's hooks take an [`Exchange`] and give it back with a verdict; and
//! [`Plugin::stop`] ends every instance inside a stated time. It knows no sockets, no config files and no HTTP server.
//!
//! | module | owns |
//! |---|---|
//! | [`environment`] | the seam through which time and randomness enter |
//! | `engine`, `ticker`, `cache` | the wasmtime engine, its epochs, its compiled artifacts |
//! | `contract`, `check`, `bindings` | what a plugin may export and import, checked at load |
//! | `exchange`, `fields` | the messages plugins see, and which edits to them are refused |
//! | `host` | the imports, one file each |
//! | [`grants`], [`outbound`], [`metrics`] | what a plugin may do beyond that, and who does it for it |
//! | `redact` | secrets, in what a plugin writes |
//! | `meter`, `gauge`, `instance` | one store: budgets, accounting, one call at a time |
//! | `sync` | where threads meet, so that tests can try many orders |
//! | `pool`, `plugin` | the instances of one plugin: who serves, who waits, who is replaced, how all of them end |

mod bindings;
mod cache;
mod check;
mod contract;
mod engine;
pub mod environment;
mod error;
mod exchange;
#[cfg(test)]
mod explore;
mod fields;
mod gauge;
pub mod grants;
mod hooks;
mod host;
mod inspect;
mod instance;
mod limits;
mod meter;
pub mod metrics;
pub mod outbound;
mod plugin;
mod pool;
mod redact;
mod runtime;
mod stats;
mod stop;
mod sync;
mod text;
mod ticker;

pub use contract::{Hook, Hooks};
pub use error::{CallError, EndCause, LoadError, StartError, Unavailable};
pub use exchange::{BodyVerdict, Exchange, Reply, RequestHead, ResponseHead, UpstreamNames, Verdict};
pub use grants::{Grant, Grants, Needs};
pub use inspect::{Import, Inspection};
pub use limits::{Deferred, Instances, Isolation, Limits, Recycle};
pub use plugin::{HandOver, Plugin, PluginSpec};
pub use pool::Health;
pub use redact::Redaction;
pub use runtime::{MAX_COMPONENT, Runtime, RuntimeConfig, digest};
pub use stats::{
    CallOutcome, DURATION_BOUNDS, DeferredCounts, DeferredOutcome, HookStats, InstanceCounts, Late, PluginStats,
    SnapshotOutcome, Tally,
};
pub use stop::{DrainObserver, DrainRecord, Phase, Snapshot, StopObserver, StopOutcome, StopReason, StopRecord};
