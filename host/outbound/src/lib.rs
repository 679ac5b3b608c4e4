//! HTTP requests of plugins: to where they may go, and how much of an answer is read.
//!
//! There is one [`Client`] for a gateway, and each plugin that is loaded gets a [`PluginClient`] of its own, which knows its
//! grants and has connections that nobody else uses. What holds here:
//!
//! - A request goes to an origin that has been granted, or nowhere.
//! - It goes to an address that is public, or in a range that has been granted with the origin. What is checked is the very
//!   address that is connected to, for each connection anew.
//! - Redirects are handed to the plugin as they are. There is no proxy, no cookie, no decompression, no retry of a
//!   request of which anything has been sent.
//! - Whoever drops a request, or the body of its answer, closes the connection.
//!
//! | module | owns |
//! |---|---|
//! | `settings` | what applies to all plugins |
//! | `origin`, `address` | which targets, and which addresses |
//! | `names`, `connect`, `pool` | connections |
//! | `client`, `body` | one request and its answer |
//! | `failure` | what becomes of hyper's errors |
//! | `record`, `denials`, `stats` | what is told of them |

mod address;
mod body;
mod client;
mod connect;
mod denials;
mod failure;
mod names;
mod origin;
mod pool;
mod record;
mod settings;
mod stats;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use rustls::{ClientConfig, RootCertStore};
use tidegate_runtime::outbound::{Body, Caller, Outbound, OutboundError, Timeouts};
use tokio_rustls::TlsConnector;

pub use address::{is_public, may_reach};
pub use client::PluginClient;
use connect::Connector;
use names::{Names, SystemNames};
pub use origin::{Granted, Origin, OriginError, Scheme, Target};
pub use settings::{CertificateError, Limits, Settings, read_certificates};
use stats::Stats;
pub use stats::{DURATION_BOUNDS, Outcome, Snapshot};

/// Makes the requests of all plugins.
pub struct Client {
    connector: Arc<Connector>,
    limits: Limits,
    /// By the name of the plugin. Those of plugins that are gone stay while somebody counts in them.
    stats: Mutex<BTreeMap<Arc<str>, Arc<Stats>>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// No request can be made.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// `ca_file`
    #[error("the certificates of `ca_file` cannot be used: {0}")]
    Certificates(#[from] CertificateError),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

impl Client {
    /// Read the certificates that are trusted. Blocks for as long as that takes.
    ///
    /// # Errors
    /// When those that were asked for cannot be read. That the system has none is no error: a server whose
    /// certificate nobody can check is refused when a request is made to it.
    pub fn open(settings: Settings) -> Result<Self, OpenError> {
        let mut roots = RootCertStore::empty();
        let system = rustls_native_certs::load_native_certs();
        for error in &system.errors {
            tracing::warn!(%error, "certificates that the system trusts cannot be read");
        }
        roots.add_parsable_certificates(system.certs);
        if let Some(file) = &settings.ca_file {
            roots.add_parsable_certificates(read_certificates(file)?);
        }
        // In the form that the name of a target has.
        let plain = |name: String| url::Host::parse(&name).map_or(name, |host| host.to_string());
        let fixed = settings.hosts.into_iter().map(|(name, addresses)| (plain(name), addresses));
        let names = SystemNames { fixed: fixed.collect() };
        Self::with(Arc::new(names), roots, settings.limits)
    }

    fn with(names: Arc<dyn Names>, roots: RootCertStore, limits: Limits) -> Result<Self, OpenError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let tls = TlsConnector::from(Arc::new(tls));
        let connector = Arc::new(Connector { names, tls, max_head: limits.max_response_headers });
        Ok(Self { connector, limits, stats: Mutex::default() })
    }

    /// For one plugin, with what it has been granted. A new version of it is counted with the old one.
    #[must_use]
    pub fn plugin(&self, name: Arc<str>, granted: Vec<Granted>) -> PluginClient {
        let mut stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        let stats = Arc::clone(stats.entry(Arc::clone(&name)).or_default());
        PluginClient::new(name, granted, Arc::clone(&self.connector), self.limits, stats)
    }

    /// What has been counted, by plugin.
    #[must_use]
    pub fn stats(&self) -> Vec<(Arc<str>, Snapshot)> {
        let mut stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        stats.retain(|_, stats| Arc::strong_count(stats) > 1);
        stats.iter().map(|(name, stats)| (Arc::clone(name), stats.snapshot())).collect()
    }
}

/// Refuses every request, whatever has been granted: for a plugin that is only looked at.
#[derive(Debug, Clone, Copy, Default)]
pub struct Closed;

impl Outbound for Closed {
    fn send(
        &self,
        _request: http::Request<Body>,
        _caller: Caller,
        _timeouts: Timeouts,
    ) -> BoxFuture<'static, Result<http::Response<Body>, OutboundError>> {
        Box::pin(async { Err(OutboundError::Denied) })
    }

    fn requests_per_call(&self) -> usize {
        1
    }
}
