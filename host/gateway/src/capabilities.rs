//! What plugins may be granted, and the parts of the gateway that serve it: outbox, outbound HTTP, key-value buckets, values
//! and secrets, metrics. Opened once, when the gateway starts; each plugin that is loaded gets objects of its own, which
//! know what its configuration grants.

mod http;

use std::sync::Arc;

use tidegate_runtime::Grants;

pub use self::http::Http;
use crate::config::{self, Config};

/// What there is to be granted.
#[derive(Debug, Default)]
pub struct Capabilities {
    /// Requests of plugins.
    pub http: Http,
}

/// A capability that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CapabilityError {
    /// `[outbound]`
    #[error("no requests of plugins can be made: {0}")]
    Http(#[from] tidegate_outbound::OpenError),
}

impl Capabilities {
    /// Open what the configuration asks for.
    ///
    /// # Errors
    /// When one of them cannot be opened.
    pub async fn open(config: &Config) -> Result<Arc<Self>, CapabilityError> {
        Ok(Arc::new(Self { http: Http::open(&config.outbound).await? }))
    }

    /// For `tidegate check`: nothing is opened, and plugins are refused whatever has an effect outside.
    #[must_use]
    pub fn closed(_config: &Config) -> Arc<Self> {
        Arc::default()
    }

    /// What this plugin has been granted.
    #[must_use]
    pub fn grants(&self, plugin: &config::Plugin) -> Grants {
        let config::Grants { http, background, metrics: _ } = &plugin.grants;
        Grants {
            http: http.as_ref().map(|granted| self.http.grant(&plugin.name, granted)),
            background: *background,
            ..Grants::default()
        }
    }
}
