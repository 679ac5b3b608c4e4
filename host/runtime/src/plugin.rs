//! One plugin: its hooks as the proxy calls them, and its end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::contract::Hooks;
use crate::error::CallError;
use crate::exchange::{BodyVerdict, Exchange, Verdict};
use crate::limits::{Instances, Isolation, Limits};
use crate::stats::PluginStats;
use crate::stop::{StopReason, StopRecord};

/// What to load, and under which limits.
#[derive(Debug, Clone)]
pub struct PluginSpec {
    /// The name in the config, log, metrics and report.
    pub name: Arc<str>,
    /// Where the component came from, for messages.
    pub path: PathBuf,
    /// The plugin's config as JSON, handed to `configure`.
    pub config: String,
    /// How many instances.
    pub instances: Instances,
    /// What state outlives a call.
    pub isolation: Isolation,
    /// Its budgets.
    pub limits: Limits,
}

/// What one call used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// Time in the guest.
    pub cpu: Duration,
    /// From the moment the hook was to be called until its end, waiting for an instance included.
    pub wall: Duration,
}

/// A loaded plugin. Cheap to clone; all clones are the same plugin.
#[derive(Clone)]
pub struct Plugin {}

impl Plugin {
    /// Its name in the config.
    #[must_use]
    pub fn name(&self) -> &Arc<str> { todo!() }
    /// `sha256:` and 64 hex digits.
    #[must_use]
    pub fn digest(&self) -> &Arc<str> { todo!() }
    /// The hooks it exports. One that is absent must not be called; asking here costs nothing.
    #[must_use]
    pub fn hooks(&self) -> Hooks { todo!() }
    /// Its limits.
    #[must_use]
    pub fn limits(&self) -> &Limits { todo!() }
    /// Call `on-request`. 
    pub async fn on_request(&self, _exchange: Box<Exchange>) -> (Box<Exchange>, Result<Verdict, CallError>) { todo!() }
    /// Call `on-request-body` with the whole body.
    pub async fn on_request_body(&self, _exchange: Box<Exchange>, _body: Bytes) -> (Box<Exchange>, Result<BodyVerdict, CallError>) { todo!() }
    /// Call `on-response`. The exchange must have its response.
    pub async fn on_response(&self, _exchange: Box<Exchange>) -> (Box<Exchange>, Result<Verdict, CallError>) { todo!() }
    /// Call `on-response-body` with the whole body.
    pub async fn on_response_body(&self, _exchange: Box<Exchange>, _body: Bytes) -> (Box<Exchange>, Result<BodyVerdict, CallError>) { todo!() }
    /// Stop every instance within `budget`, counted from now; `on_stopped` hears of each one as it ends.
    /// A budget longer than the plugin's `shutdown` limit is cut to it. Calling it again stops nothing more.
    pub async fn stop(&self, _reason: StopReason, _budget: Duration, _on_stopped: impl Fn(StopRecord) + Send + Sync + 'static) { todo!() }
    /// Numbers of the instances that live now (for reports that are written before a stop is over).
    #[must_use]
    pub fn instances(&self) -> Vec<u64> { todo!() }
    /// What has happened so far.
    #[must_use]
    pub fn stats(&self) -> PluginStats { todo!() }
}
