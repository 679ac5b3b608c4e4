//! Test Tidegate plugins: the component as it is deployed, on the runtime, the pool, the limits and the stop protocol of the
//! gateway, in virtual time.
//!
//! A test says what surrounds the plugin ([`Setup`]), loads it ([`Plugin`]), sends it requests and lets time pass, and looks
//! at what came of it. No test waits: time goes on with the fuel that the plugin burns and with what the test says, so a
//! plugin that overruns its shutdown does so in a moment, and is stopped at the same instruction on every machine.
//!
//! | module | owns |
//! |---|---|
//! | `setup` | what is to be tested: limits, grants, upstream, seed |
//! | `plugin` | the plugin under test: requests, time, its stop, what it has done |
//! | `exchange`, `filter` | requests and answers, and the way between them |
//! | `world` | outbox, servers and buckets, scripted |
//! | `budget` | what calls may use, as assertions and as baselines in files |
//! | `sweep` | the same test with a fault at every place |
//! | [`recording`], `replay` | exchanges that a gateway has kept, and the same once more |
//! | `ledger` | fuel, host calls and memory of each call; planned faults |
//! | `clock`, `driver` | virtual time, and who lets it pass |
//! | `log` | what plugins write |
//! | [`conformance`] | checks that every plugin has to pass |

mod budget;
mod clock;
pub mod conformance;
mod driver;
mod error;
mod exchange;
mod filter;
mod ledger;
mod log;
mod plugin;
pub mod recording;
mod replay;
mod setup;
mod sweep;
mod world;

pub use budget::{Baseline, BaselineError, Budget, Exceeded};
pub use error::SetupError;
pub use exchange::{Answer, By, Request, Response};
pub use ledger::{Call, Fault, Sample};
pub use log::Line;
pub use plugin::{Begun, Plugin, Stop, Stopping, TakingOver};
pub use replay::{Difference, Replayed};
pub use setup::Setup;
pub use sweep::{Faults, Place, Sweep};
pub use world::{Asked, Bucket, Event, Reply};

// What a test names: it needs no other crate of ours, and none for what requests and answers are made of.
pub use bytes::Bytes;
pub use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
pub use tidegate_runtime::environment::Used;
pub use tidegate_runtime::grants::{BucketError, PublishError};
pub use tidegate_runtime::metrics::{Kind, Label, Metric, Reading};
pub use tidegate_runtime::outbound::OutboundError;
pub use tidegate_runtime::{
    CallError, Deferred, DrainRecord, EndCause, HandOver, Hook, HookStats, Hooks, Limits, LoadError, PluginStats,
    Recycle, Snapshot, StopOutcome, StopReason, StopRecord,
};
