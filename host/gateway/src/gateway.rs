//! The composition root: from a configuration and its loaded plugins to a gateway that serves, and to its end.

use std::net::SocketAddr;
use std::sync::Arc;

use tidegate_runtime::{Plugin, Runtime};

use crate::admin::{Admin, AdminServing};
use crate::config::{self, Config};
use crate::proxy::Proxy;
use crate::server::{BindError, Server, Serving};
use crate::stop::ledger::{Ledger, Overdrawn};
use crate::stop::phase::{Phase, PhaseOwner};
use crate::supervisor::sockets::InheritedSockets;
use crate::telemetry::{AccessLogGuard, Telemetry};

/// A gateway that serves. [`Gateway::stop`] ends it.
pub struct Gateway {
    pub(crate) phase: PhaseOwner,
    pub(crate) ledger: Ledger,
    pub(crate) shutdown: config::Shutdown,
    pub(crate) runtime: Runtime,
    pub(crate) plugins: Vec<Plugin>,
    pub(crate) serving: Serving,
    pub(crate) admin: AdminServing,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) access_log: AccessLogGuard,
    addresses: Addresses,
}

/// A gateway that cannot begin to serve.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address is taken, or not ours.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The shutdown does not fit into its grace period. A configuration that was read from a file has been checked.
    #[error(transparent)]
    Ledger(#[from] Overdrawn),
}

impl StartError {
    /// What the operator can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Bind(error) => error.hint(),
            Self::Ledger(_) => None,
        }
    }
}

/// What a gateway is bound to.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// For clients, in the order of the configuration.
    pub listen: Vec<SocketAddr>,
    /// For health and metrics.
    pub admin: SocketAddr,
}

impl Gateway {
    /// Listen on every address, on `sockets` where they have it, and begin to serve. `plugins` are those of the
    /// configuration, in its order.
    ///
    /// # Errors
    /// When an address cannot be bound; nothing is bound then.
    pub fn start(
        config: &Config,
        runtime: Runtime,
        plugins: Vec<Plugin>,
        sockets: &mut InheritedSockets,
    ) -> Result<Self, StartError> {
        let ledger = Ledger::new(&config.shutdown, config.longest_shutdown())?;
        let phase = PhaseOwner::default();
        let (telemetry, access_log) = Telemetry::start(config, &plugins, phase.view());
        let proxy = Proxy::new(config, &plugins, Arc::clone(&telemetry), phase.view());
        let server = Server::bind(&config.server, proxy, phase.view(), sockets)?;
        let admin = Admin::bind(config.admin.listen, Arc::clone(&telemetry), phase.view(), sockets)?;
        let addresses = Addresses { listen: server.addresses(), admin: admin.address() };
        let (serving, admin) = (server.start(), admin.start());
        phase.enter(Phase::Ready);
        Ok(Self {
            phase,
            ledger,
            shutdown: config.shutdown,
            runtime,
            plugins,
            serving,
            admin,
            telemetry,
            access_log,
            addresses,
        })
    }

    /// What it is bound to.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }
}
