//! From the name of a host to its addresses.
//!
//! The system's resolver blocks a thread for as long as it likes and cannot be interrupted. So each plugin may have
//! [`LOOKUPS`] look-ups under way, whether anybody still waits for them or not: a name server that is silent cannot use up
//! the threads that everything else needs.

use std::collections::BTreeMap;
use std::net::{IpAddr, ToSocketAddrs as _};

use futures_util::future::BoxFuture;
use tidegate_runtime::outbound::OutboundError;
use tokio::sync::OwnedSemaphorePermit;

/// Look-ups of one plugin that may be under way at a time.
pub(crate) const LOOKUPS: usize = 8;

/// Addresses of a name that are tried; a name server could send thousands.
const MOST_ADDRESSES: usize = 16;

/// Knows the addresses of names.
pub(crate) trait Names: Send + Sync + 'static {
    /// The addresses of a name, those to try first at the beginning. `place` is held for as long as the look-up takes,
    /// even if nobody waits for it any more.
    fn look_up(
        &self,
        name: String,
        place: OwnedSemaphorePermit,
    ) -> BoxFuture<'static, Result<Vec<IpAddr>, OutboundError>>;
}

/// Names that the configuration knows, and the system's resolver for the others.
pub(crate) struct SystemNames {
    /// By name, in lower case.
    pub(crate) fixed: BTreeMap<String, Vec<IpAddr>>,
}

impl Names for SystemNames {
    fn look_up(
        &self,
        name: String,
        place: OwnedSemaphorePermit,
    ) -> BoxFuture<'static, Result<Vec<IpAddr>, OutboundError>> {
        if let Some(addresses) = self.fixed.get(&name) {
            let addresses = addresses.clone();
            return Box::pin(async { Ok(addresses) });
        }
        let looking = tokio::task::spawn_blocking(move || {
            let found = (name.as_str(), 0).to_socket_addrs();
            drop(place);
            found.map(|found| found.map(|address| address.ip()).take(MOST_ADDRESSES).collect())
        });
        Box::pin(async {
            let found = looking.await.map_err(|error| OutboundError::Other(error.to_string()))?;
            found.map_err(|error: std::io::Error| OutboundError::Dns(error.to_string()))
        })
    }
}
