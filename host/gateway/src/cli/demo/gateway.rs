//! The demo's gateway: a process of its own, as an operator would start it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::cli::Failure;

/// The grace period of the demo's config.
pub(super) const GRACE: Duration = Duration::from_secs(10);

/// The plugins that the tour needs.
const PLUGINS: [&str; 5] = ["stamp", "api-key", "audit", "journal", "stubborn"];

/// Where the events of the audit plugin arrive, in the demo's folder.
pub(super) const EVENTS: &str = "audit.ndjson";

/// The folder with the example plugins, as an absolute path.
pub(super) fn find_plugins(folder: &Path) -> Result<PathBuf, Failure> {
    let missing = |what: &Path| {
        Failure::usage(
            format!("there is no {}", what.display()),
            Some("`cargo xtask plugins` builds the example plugins"),
        )
    };
    let folder = folder.canonicalize().map_err(|_| missing(folder))?;
    for name in PLUGINS {
        let file = folder.join(name).with_extension("wasm");
        if !file.is_file() {
            return Err(missing(&file));
        }
    }
    Ok(folder)
}

/// Write the config that the gateway is started with, for people to read.
pub(super) fn write_config(folder: &Path, plugins: &Path, upstream: SocketAddr) -> Result<PathBuf> {
    let file = |name: &str| toml::Value::String(plugins.join(name).with_extension("wasm").display().to_string());
    let config = format!(
        r#"[server]
listen = "127.0.0.1:0"

[admin]
listen = "127.0.0.1:0"

[shutdown]
grace = "{grace}s"
drain_delay = "200ms"
drain = "3s"
flush = "1s"

[outbox]
path = "outbox.db"

[[outbox.sink]]
topic = "audit.*"
kind = "file"
path = "{events}"

[[upstream]]
name = "demo"
targets = ["http://{upstream}"]

[[plugin]]
name = "stamp"
path = {stamp}
instances = 2

[[plugin]]
name = "api-key"
path = {api_key}
instances = 2
[plugin.config]
keys = ["{key}"]

# Publishes each exchange to the outbox before its client has the answer.
[[plugin]]
name = "audit"
path = {audit}
instances = 2
[plugin.grants]
outbox = ["audit.exchange"]
[plugin.limits]
wall = "5s"

# Keeps a note per exchange in its memory; writing one takes 10 ms, so there is something to do at the end.
[[plugin]]
name = "journal"
path = {journal}
instances = 1
[plugin.config]
batch = 1000
flush_delay_ms = 10
[plugin.limits]
shutdown = "3s"

# Never returns from `shutdown`.
[[plugin]]
name = "stubborn"
path = {stubborn}
instances = 1
[plugin.limits]
shutdown = "1500ms"

[[route]]
path = "/"
upstream = "demo"
plugins = ["stamp", "audit", "journal", "stubborn"]

[[route]]
path = "/private"
upstream = "demo"
plugins = ["stamp", "audit", "api-key", "journal"]
"#,
        grace = GRACE.as_secs(),
        key = super::KEY,
        stamp = file("stamp"),
        api_key = file("api-key"),
        audit = file("audit"),
        journal = file("journal"),
        events = EVENTS,
        stubborn = file("stubborn"),
    );
    let path = folder.join("tidegate.toml");
    fs::write(&path, config).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// A gateway process. Dropping it kills it, if it still runs.
pub(super) struct DemoGateway {
    child: Child,
    ready: String,
    address: SocketAddr,
    admin: SocketAddr,
    log: PathBuf,
}

impl DemoGateway {
    /// Start the process and wait until it is ready.
    pub(super) async fn start(folder: &Path, config: &Path) -> Result<Self> {
        let log = folder.join("gateway.log");
        let executable = std::env::current_exe().context("cannot tell where this program is")?;
        let mut child = Command::new(executable)
            .args(["run", "--config"])
            .arg(config)
            .arg("--shutdown-report")
            .arg(folder.join("report.json"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?)
            .spawn()
            .context("the gateway cannot be started")?;
        let stdout = child.stdout.take().context("the gateway has no stdout")?;
        let mut this =
            Self { child, ready: String::new(), address: ([0; 4], 0).into(), admin: ([0; 4], 0).into(), log };
        let read = move || BufReader::new(stdout).lines().next().transpose();
        let line = tokio::task::spawn_blocking(read).await??;
        let Some(line) = line else { bail!("the gateway did not become ready:\n{}", this.log()) };
        let mut addresses =
            line.split(|byte: char| byte.is_whitespace() || byte == ',').filter_map(|word| word.parse().ok());
        let (Some(address), Some(admin)) = (addresses.next(), addresses.next()) else {
            bail!("the gateway says it is ready, but not where: {line}");
        };
        (this.address, this.admin, this.ready) = (address, admin, line);
        Ok(this)
    }

    /// What it said when it was ready.
    pub(super) fn ready_line(&self) -> &str {
        &self.ready
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Send SIGTERM.
    pub(super) fn terminate(&self) -> Result<()> {
        let pid =
            i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("the gateway has no process id")?;
        kill_process(pid, Signal::TERM).context("the gateway cannot be signalled")
    }

    /// How the process ended, once it has.
    pub(super) fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// What it has logged so far.
    pub(super) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for DemoGateway {
    fn drop(&mut self) {
        // Fails if it has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
