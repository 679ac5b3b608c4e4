//! What plugins may be granted, and the parts of the gateway that serve it: outbox, outbound HTTP, key-value buckets, values
//! and secrets, metrics. Opened once, when the gateway starts; each plugin that is loaded gets objects of its own, which
//! know what its configuration grants.

use std::sync::Arc;

use tidegate_runtime::Grants;
use tidegate_runtime::metrics::Registry;

use crate::config::{self, Config};

/// What there is to be granted.
#[derive(Debug, Default)]
pub struct Capabilities {
    metrics: Registry,
}

/// A capability that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CapabilityError {}

impl Capabilities {
    /// Open what the configuration asks for.
    ///
    /// # Errors
    /// When one of them cannot be opened.
    pub async fn open(_config: &Config) -> Result<Arc<Self>, CapabilityError> {
        Ok(Arc::default())
    }

    /// For `tidegate check`: nothing is opened, and plugins are refused whatever has an effect outside.
    #[must_use]
    pub fn closed(_config: &Config) -> Arc<Self> {
        Arc::default()
    }

    /// What this plugin has been granted.
    #[must_use]
    pub fn grants(&self, plugin: &config::Plugin) -> Grants {
        let config::Grants { background, metrics } = plugin.grants;
        let metrics = metrics.map(|series| self.metrics.of(&plugin.name, series));
        Grants { background, metrics, ..Grants::default() }
    }
}
