//! A gateway in this process, on ports of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tidegate::admin::{Admin, AdminServing, AdminState};
use tidegate::config::{self, Config};
use tidegate::control::{Control, Parts};
use tidegate::generation::Generation;
use tidegate::plugins::Loaded;
use tidegate::proxy::{Proxy, Table};
use tidegate::roster::Roster;
use tidegate::server::{Server, Serving};
use tidegate::stop::ledger::Ledger;
use tidegate::stop::log::StopLog;
use tidegate::stop::phase::{Phase, PhaseOwner};
use tidegate::supervisor::sockets::InheritedSockets;
use tidegate::telemetry::{AccessLogGuard, Telemetry};
use tidegate_runtime::{Plugin, Runtime};

use crate::client::Client;

pub(crate) struct TestGateway {
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) phase: PhaseOwner,
    pub(crate) serving: Arc<Serving>,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) stops: Arc<StopLog>,
    _admin: AdminServing,
    _log: AccessLogGuard,
}

/// One upstream behind one route, and time-outs that nothing here reaches.
pub(crate) fn config(origin: SocketAddr) -> Config {
    let text = r#"
        [server]
        listen = "127.0.0.1:0"
        [admin]
        listen = "127.0.0.1:0"
        [log]
        access = false
        [[upstream]]
        name = "origin"
        targets = ["http://127.0.0.1:1"]
        [[route]]
        path = "/"
        upstream = "origin"
    "#;
    let mut config = Config::parse(text, Path::new("tidegate.toml")).unwrap_or_else(|problems| panic!("{problems}"));
    config.server = config::Server {
        max_connections: 1000,
        max_header_bytes: 16 * 1024,
        max_headers: 100,
        header_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(60),
        body_timeout: Duration::from_secs(10),
        ..config.server
    };
    config.upstreams = vec![upstream("origin", &[origin])];
    config
}

pub(crate) fn upstream(name: &str, targets: &[SocketAddr]) -> config::Upstream {
    config::Upstream {
        name: name.into(),
        targets: targets.iter().map(|target| target.to_string().parse().unwrap()).collect(),
        connect_timeout: Duration::from_secs(2),
        response_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(30),
        max_idle: 64,
    }
}

pub(crate) fn route(path: &str, upstream: usize) -> config::Route {
    config::Route { path: path.into(), host: None, upstream, plugins: Vec::new() }
}

impl TestGateway {
    pub(crate) fn before(origin: SocketAddr) -> Self {
        Self::start(&config(origin))
    }

    pub(crate) fn start(config: &Config) -> Self {
        Self::with_plugins(config, &[])
    }

    pub(crate) fn with_plugins(config: &Config, plugins: &[Plugin]) -> Self {
        let (phase, stops, roster) = (PhaseOwner::default(), Arc::<StopLog>::default(), Arc::<Roster>::default());
        let (telemetry, log) =
            Telemetry::start(&config.log, Arc::clone(&roster), Arc::clone(&stops), Arc::default(), phase.view(), None);
        let ledger = Ledger::new(&config.shutdown, config.longest_stop()).unwrap();
        let loaded = plugins.iter().map(|plugin| Loaded { plugin: plugin.clone(), kept: false }).collect();
        let first = Generation::first(config.clone(), ledger, loaded);
        let (table, drained) = Table::new(config, &first.seats(), &telemetry, None);
        let proxy = Proxy::new(table, Arc::clone(&telemetry), phase.view());
        let mut sockets = InheritedSockets::default();
        let server = Server::bind(&config.server, Arc::clone(&proxy), phase.view(), &mut sockets).unwrap();
        let admin = Admin::bind(config.admin.listen, &mut sockets).unwrap();
        let (address, admin_address) = (server.addresses()[0], admin.address());
        let serving = Arc::new(server.start());
        let tokens = Arc::default();
        let parts = Parts {
            capabilities: Arc::default(),
            file: "tidegate.toml".into(),
            runtime: Runtime::new(tidegate::plugins::runtime_config(config)).unwrap(),
            stops: Arc::clone(&stops),
            roster,
            telemetry: Arc::clone(&telemetry),
            proxy,
            serving: Arc::clone(&serving),
            phase: phase.view(),
            tokens: Arc::clone(&tokens),
            supervisor: Default::default(),
        };
        let state = AdminState {
            telemetry: Arc::clone(&telemetry),
            phase: phase.view(),
            control: Control::new(parts, first, drained),
            ongoing: Arc::default(),
            outbox: None,
            asked_to_stop: Arc::default(),
            tokens,
        };
        phase.enter(Phase::Ready);
        let _admin = admin.start(state);
        Self { address, admin: admin_address, phase, serving, telemetry, stops, _admin, _log: log }
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.address).await
    }

    /// A metric's value, or 0 if it is not there.
    pub(crate) fn metric(&self, line: &str) -> u64 {
        self.telemetry
            .scrape()
            .lines()
            .find_map(|text| text.strip_prefix(line)?.strip_prefix(' ')?.parse().ok())
            .unwrap_or(0)
    }

    /// Wait until a condition holds that depends on tasks of the gateway.
    pub(crate) async fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let holds = async {
            while !condition(self) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(8), holds).await.is_ok(), "never: {what}");
    }
}

pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(8), future).await.unwrap_or_else(|_| panic!("takes too long: {what}"))
}
