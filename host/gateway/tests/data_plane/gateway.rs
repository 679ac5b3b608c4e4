//! A gateway in this process, on ports of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tidegate::admin::{Admin, AdminServing};
use tidegate::config::{self, Config};
use tidegate::proxy::Proxy;
use tidegate::server::{Server, Serving};
use tidegate::stop::phase::{Phase, PhaseOwner};
use tidegate::supervisor::sockets::InheritedSockets;
use tidegate::telemetry::{AccessLogGuard, Telemetry};
use tidegate_runtime::Plugin;

use crate::client::Client;

pub(crate) struct TestGateway {
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) phase: PhaseOwner,
    pub(crate) serving: Serving,
    pub(crate) telemetry: Arc<Telemetry>,
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
        let phase = PhaseOwner::default();
        let (telemetry, log) = Telemetry::start(config, plugins, phase.view());
        let proxy = Proxy::new(config, plugins, Arc::clone(&telemetry), phase.view());
        let mut sockets = InheritedSockets::default();
        let server = Server::bind(&config.server, proxy, phase.view(), &mut sockets).unwrap();
        let admin = Admin::bind(config.admin.listen, Arc::clone(&telemetry), phase.view(), &mut sockets).unwrap();
        let (address, admin_address) = (server.addresses()[0], admin.address());
        let serving = server.start();
        phase.enter(Phase::Ready);
        Self { address, admin: admin_address, phase, serving, telemetry, _admin: admin.start(), _log: log }
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
