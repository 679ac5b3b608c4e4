//! What plugins may be granted, and the parts of the gateway that serve it: outbox, outbound HTTP, key-value buckets, values
//! and secrets, metrics. Opened once, when the gateway starts; each plugin that is loaded gets objects of its own, which
//! know what its configuration grants.

pub mod buckets;
mod http;

use std::sync::Arc;

use tidegate_runtime::Grants;
use tidegate_runtime::grants::Values;

use self::buckets::{BucketProblem, Buckets};
pub use self::http::Http;
use crate::config::{self, Config};

/// What there is to be granted.
#[derive(Debug, Default)]
pub struct Capabilities {
    buckets: Buckets,
    /// Requests of plugins.
    pub http: Http,
}

/// A capability that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CapabilityError {
    /// A `[[kv]]`.
    #[error(transparent)]
    Bucket(#[from] BucketProblem),
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
        Ok(Arc::new(Self { http: Http::open(&config.outbound).await?, buckets: Buckets::open(&config.buckets).await? }))
    }

    /// For `tidegate check`: nothing is opened, and plugins are refused whatever has an effect outside.
    #[must_use]
    pub fn closed(config: &Config) -> Arc<Self> {
        Arc::new(Self { http: Http::Closed, buckets: Buckets::stand_ins(&config.buckets) })
    }

    /// What this plugin has been granted. Its values have been read by whoever loads it.
    #[must_use]
    pub fn grants(&self, plugin: &config::Plugin, values: Option<Arc<Values>>) -> Grants {
        let config::Grants { http, background, metrics: _, kv, config: _, secrets: _ } = &plugin.grants;
        Grants {
            http: http.as_ref().map(|granted| self.http.grant(&plugin.name, granted)),
            kv: self.buckets.grant(&plugin.name, kv),
            values,
            background: *background,
            ..Grants::default()
        }
    }

    /// The key-value buckets.
    #[must_use]
    pub fn buckets(&self) -> &Buckets {
        &self.buckets
    }

    /// Write out and let go of everything, once no plugin is left.
    pub async fn close(&self) {
        self.buckets.close().await;
    }
}
