//! The engine and what is shared by all plugins: from bytes to a [`Plugin`].

use std::path::PathBuf;
use std::time::Duration;

use crate::error::LoadError;
use crate::inspect::Inspection;
use crate::plugin::{Plugin, PluginSpec};
use crate::stop::Phase;

/// How to set up a [`Runtime`].
#[derive(Debug, Clone)]
pub struct RuntimeConfig {
    /// Instances of all plugins together that may live at a time, replacements and one generation more included.
    pub instances: usize,
    /// The largest `memory` limit of any plugin, bytes.
    pub memory: usize,
    /// Where compiled components are kept between runs; `None` compiles anew each time.
    pub cache: Option<PathBuf>,
    /// The epoch tick: how often running guests are looked at.
    pub tick: Duration,
}

/// The engine could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("the WebAssembly engine cannot start: {0}")]
pub struct StartError(pub(crate) String);

/// The engine and what all plugins share.
#[derive(Clone)]
pub struct Runtime {}

impl Runtime {
    /// Set up the engine and its ticker. Call inside a tokio runtime.
    ///
    /// # Errors
    /// When the machine has neither the address space for the pooling allocator nor enough for plain allocation.
    pub fn new(_config: RuntimeConfig) -> Result<Self, StartError> { todo!() }
    /// Compile (or take from the cache), check against the contract, bring up `instances.min` instances.
    ///
    /// # Errors
    /// Every way a component can be unfit, the first instance's `configure` included.
    pub async fn load(&self, _spec: PluginSpec, _component: Vec<u8>) -> Result<Plugin, LoadError> { todo!() }
    /// Look at a component without instantiating it.
    ///
    /// # Errors
    /// When it is not a component, or breaks the contract in a way that no config can mend.
    pub fn inspect(&self, _component: &[u8]) -> Result<Inspection, LoadError> { todo!() }
    /// Show plugins another phase through `lifecycle`.
    pub fn enter(&self, _phase: Phase) { todo!() }
    /// End every call within a tick (second signal). Stops in progress end as `abandoned`.
    pub fn abandon(&self) { todo!() }
}
