//! The composition root: from a configuration and its loaded plugins to a gateway that serves, and to its end.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use tidegate_runtime::Runtime;
use tokio::sync::Notify;

use crate::admin::{Admin, AdminServing, AdminState};
use crate::capabilities::Capabilities;
use crate::config::Config;
use crate::control::{Control, Parts};
use crate::generation::Generation;
use crate::plugins::Loaded;
use crate::proxy::{Proxy, Table};
use crate::recorder::Recorder;
use crate::roster::Roster;
use crate::server::{BindError, Server, Serving};
use crate::stop::Ongoing;
use crate::stop::ledger::{Ledger, Overdrawn};
use crate::stop::log::StopLog;
use crate::stop::phase::{Phase, PhaseOwner};
use crate::supervisor::Notifier;
use crate::supervisor::sockets::InheritedSockets;
use crate::telemetry::{AccessLogGuard, Telemetry};

/// A gateway that serves. [`Gateway::stop`] ends it.
pub struct Gateway {
    pub(crate) phase: PhaseOwner,
    pub(crate) runtime: Runtime,
    pub(crate) stops: Arc<StopLog>,
    pub(crate) capabilities: Arc<Capabilities>,
    pub(crate) control: Control,
    pub(crate) serving: Arc<Serving>,
    pub(crate) admin: AdminServing,
    pub(crate) access_log: AccessLogGuard,
    pub(crate) recorder: Option<Arc<Recorder>>,
    pub(crate) ongoing: Arc<Ongoing>,
    asked_to_stop: Arc<Notify>,
    addresses: Addresses,
}

/// What a gateway is made from.
#[derive(Debug)]
pub struct Start {
    /// The config file, for reloads.
    pub file: PathBuf,
    /// What was in it.
    pub config: Config,
    /// Where plugins run.
    pub runtime: Runtime,
    /// What plugins may be granted.
    pub capabilities: Arc<Capabilities>,
    /// Who hears of their stops.
    pub stops: Arc<StopLog>,
    /// Who watches over the process.
    pub supervisor: Notifier,
    /// Those of the configuration, in its order.
    pub plugins: Vec<Loaded>,
    /// Who keeps exchanges, if anybody does.
    pub recorder: Option<Arc<Recorder>>,
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
    /// Listen on every address, on `sockets` where they have it, and begin to serve.
    ///
    /// # Errors
    /// When an address cannot be bound; nothing is bound then.
    pub fn start(start: Start, sockets: &mut InheritedSockets) -> Result<Self, StartError> {
        let Start { file, config, runtime, capabilities, stops, supervisor, plugins, recorder } = start;
        let ledger = Ledger::new(&config.shutdown, config.longest_stop())?;
        let phase = PhaseOwner::default();
        let roster = Arc::<Roster>::default();
        let (telemetry, access_log) = Telemetry::start(
            &config.log,
            Arc::clone(&roster),
            Arc::clone(&stops),
            Arc::clone(&capabilities),
            phase.view(),
            recorder.clone(),
        );
        let first = Generation::first(config, ledger, plugins);
        let (table, drained) = Table::new(&first.config, &first.seats(), &telemetry, None);
        let proxy = Proxy::new(table, Arc::clone(&telemetry), phase.view());
        let server = Server::bind(&first.config.server, Arc::clone(&proxy), phase.view(), sockets)?;
        let admin = Admin::bind(first.config.admin.listen, sockets)?;
        let addresses = Addresses { listen: server.addresses(), admin: admin.address() };
        let serving = Arc::new(server.start());
        let tokens = Arc::new(ArcSwapOption::empty());
        let control = Control::new(
            Parts {
                file,
                runtime: runtime.clone(),
                capabilities: Arc::clone(&capabilities),
                stops: Arc::clone(&stops),
                roster,
                telemetry: Arc::clone(&telemetry),
                proxy,
                serving: Arc::clone(&serving),
                phase: phase.view(),
                tokens: Arc::clone(&tokens),
                supervisor,
            },
            first,
            drained,
        );
        let (ongoing, asked_to_stop) = (Arc::<Ongoing>::default(), Arc::<Notify>::default());
        let admin = admin.start(AdminState {
            telemetry,
            phase: phase.view(),
            control: control.clone(),
            ongoing: Arc::clone(&ongoing),
            outbox: capabilities.outbox().cloned(),
            asked_to_stop: Arc::clone(&asked_to_stop),
            tokens,
        });
        phase.enter(Phase::Ready);
        Ok(Self {
            phase,
            runtime,
            stops,
            capabilities,
            control,
            serving,
            admin,
            access_log,
            recorder,
            ongoing,
            asked_to_stop,
            addresses,
        })
    }

    /// Changes what it serves.
    #[must_use]
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Wait until somebody asks it to stop through the admin API.
    pub async fn asked_to_stop(&self) {
        self.asked_to_stop.notified().await;
    }

    /// What it is bound to.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }
}
