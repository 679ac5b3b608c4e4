//! HTTP requests of plugins: one client for the gateway, and an object for each plugin that has been granted some.

use std::sync::Arc;

use tidegate_outbound::{Client, Closed, Granted, OpenError, Settings};
use tidegate_runtime::outbound::Outbound;

/// Makes the requests of plugins, or refuses them.
#[derive(Debug, Default)]
pub enum Http {
    /// They are made.
    Open(Client),
    /// Plugins are only looked at: every request is refused.
    #[default]
    Closed,
}

impl Http {
    /// Read what is needed to make requests.
    pub(super) async fn open(settings: &Settings) -> Result<Self, OpenError> {
        let settings = settings.clone();
        // It reads the certificates that the system trusts.
        match tokio::task::spawn_blocking(move || Client::open(settings)).await {
            Ok(opened) => opened.map(Self::Open),
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }

    /// For one plugin, with what it has been granted.
    pub(super) fn grant(&self, plugin: &Arc<str>, granted: &[Granted]) -> Arc<dyn Outbound> {
        match self {
            Self::Open(client) => Arc::new(client.plugin(Arc::clone(plugin), granted.to_vec())),
            Self::Closed => Arc::new(Closed),
        }
    }
}
