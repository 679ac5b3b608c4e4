//! What plugins may be granted, and the parts of the gateway that serve it: outbox, outbound HTTP, key-value buckets, values
//! and secrets, metrics. Opened once, when the gateway starts; each plugin that is loaded gets objects of its own, which
//! know what its configuration grants.

mod outbox;

use std::sync::Arc;

use tidegate_outbox::Outbox;
use tidegate_runtime::Grants;

pub use self::outbox::OutboxError;
use crate::config::{self, Config};

/// What there is to be granted.
#[derive(Debug, Default)]
pub struct Capabilities {
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
        Ok(Arc::new(Self { outbox }))
    }

    /// For `tidegate check`: nothing is opened, and plugins are refused whatever has an effect outside.
    #[must_use]
    pub fn closed(config: &Config) -> Arc<Self> {
        let outbox = if config.outbox.is_some() { Availability::Closed } else { Availability::Absent };
        Arc::new(Self { outbox })
    }

    /// What this plugin has been granted.
    #[must_use]
    pub fn grants(&self, plugin: &config::Plugin) -> Grants {
        let config::Grants { background, metrics: _, outbox: topics } = &plugin.grants;
        let outbox = match &self.outbox {
            Availability::Open(outbox) => outbox::grant(outbox, plugin),
            Availability::Closed | Availability::Absent if topics.is_empty() => None,
            Availability::Closed => Some(Arc::new(outbox::Closed::CHECKING) as _),
            // It has come with a reload.
            Availability::Absent => Some(Arc::new(outbox::Closed::NEEDS_RESTART) as _),
        };
        Grants { background: *background, outbox, ..Grants::default() }
    }

    /// The outbox, if there is one.
    #[must_use]
    pub fn outbox(&self) -> Option<&Arc<Outbox>> {
        match &self.outbox {
            Availability::Open(outbox) => Some(outbox),
            Availability::Absent | Availability::Closed => None,
        }
    }

    /// Let go of everything: what has been accepted is safe.
    pub async fn close(&self) {
        if let Some(outbox) = self.outbox() {
            outbox.close().await;
        }
    }
}
