//! What plugins may be granted, and the parts of the gateway that serve it: outbox, outbound HTTP, key-value buckets, values
//! and secrets, metrics. Opened once, when the gateway starts; each plugin that is loaded gets objects of its own, which
//! know what its configuration grants.

pub mod buckets;
mod http;
mod outbox;

use std::sync::Arc;

use tidegate_outbox::Outbox;
use tidegate_runtime::Grants;
use tidegate_runtime::grants::Values;
use tidegate_runtime::metrics::Registry;

use self::buckets::{BucketOpenError, BucketProblem, Buckets};
pub use self::http::Http;
pub use self::outbox::OutboxError;
use crate::config::{self, Config};

/// What there is to be granted.
#[derive(Debug, Default)]
pub struct Capabilities {
    buckets: Buckets,
    /// Requests of plugins.
    pub http: Http,
    metrics: Registry,
    outbox: Availability<Arc<Outbox>>,
}

/// Whether something is there to be granted.
#[derive(Debug, Default)]
enum Availability<T> {
    /// The configuration does not ask for it.
    #[default]
    Absent,
    /// It does, but nothing may have an effect.
    Closed,
    /// It is there.
    Open(T),
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
    /// The outbox.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
}

impl CapabilityError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Outbox(error) => error.hint(),
            Self::Bucket(problem) => match &problem.error {
                BucketOpenError::Secret(secret) => secret.hint(),
                BucketOpenError::Store(_) => None,
            },
            Self::Http(_) => None,
        }
    }
}

impl Capabilities {
    /// Open what the configuration asks for.
    ///
    /// # Errors
    /// When one of them cannot be opened.
    pub async fn open(config: &Config) -> Result<Arc<Self>, CapabilityError> {
        let outbox = match &config.outbox {
            Some(config) => Availability::Open(outbox::open(config).await?),
            None => Availability::Absent,
        };
        let http = Http::open(&config.outbound).await?;
        Ok(Arc::new(Self {
            outbox,
            http,
            buckets: Buckets::open(&config.buckets).await?,
            metrics: Registry::default(),
        }))
    }

    /// For `tidegate check`: nothing is opened, and plugins are refused whatever has an effect outside.
    #[must_use]
    pub fn closed(config: &Config) -> Arc<Self> {
        let outbox = if config.outbox.is_some() { Availability::Closed } else { Availability::Absent };
        Arc::new(Self {
            outbox,
            http: Http::Closed,
            buckets: Buckets::stand_ins(&config.buckets),
            metrics: Registry::default(),
        })
    }

    /// What this plugin has been granted. Its values have been read by whoever loads it.
    #[must_use]
    pub fn grants(&self, plugin: &config::Plugin, values: Option<Arc<Values>>) -> Grants {
        let config::Grants { outbox: topics, http, background, metrics, kv, config: _, secrets: _ } = &plugin.grants;
        let outbox = match &self.outbox {
            Availability::Open(outbox) => outbox::grant(outbox, plugin),
            Availability::Closed | Availability::Absent if topics.is_empty() => None,
            Availability::Closed => Some(Arc::new(outbox::Closed::CHECKING) as _),
            // It has come with a reload.
            Availability::Absent => Some(Arc::new(outbox::Closed::NEEDS_RESTART) as _),
        };
        Grants {
            outbox,
            http: http.as_ref().map(|granted| self.http.grant(&plugin.name, granted)),
            kv: self.buckets.grant(&plugin.name, kv),
            values,
            metrics: metrics.map(|series| self.metrics.of(&plugin.name, series)),
            background: *background,
        }
    }

    /// The key-value buckets.
    #[must_use]
    pub fn buckets(&self) -> &Buckets {
        &self.buckets
    }

    /// The outbox, if there is one.
    #[must_use]
    pub fn outbox(&self) -> Option<&Arc<Outbox>> {
        match &self.outbox {
            Availability::Open(outbox) => Some(outbox),
            Availability::Absent | Availability::Closed => None,
        }
    }

    /// Let go of everything when the gateway ends before it has served: what has been accepted and stored is safe.
    pub async fn close(&self) {
        let outbox = async {
            if let Some(outbox) = self.outbox() {
                outbox.close().await;
            }
        };
        tokio::join!(outbox, self.buckets.close());
    }
}
