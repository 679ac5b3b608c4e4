//! A gateway as an operator runs it: a process of its own, with a config file, on ports of its own, told by signals.
//!
//! Nothing here knows the gateway's code: what a test learns, it learns from the ready line, the sockets, the exit code,
//! the log and the report.

mod command;
mod config;
mod control;
mod ended;
mod kernel;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, kill_process};
use tempfile::TempDir;

pub use rustix::process::Signal;

pub use self::command::{Output, tidegate};
pub use self::config::{ConfigFile, PluginTable};
pub use self::ended::{Ended, Log, Report};
pub use self::kernel::Holdings;

use crate::client::{Answer, Client, post};

/// Nothing takes longer, on however busy a machine; what does has hung. A first start compiles its plugins.
pub const HANGS: Duration = Duration::from_secs(60);

/// A gateway that serves. Dropped, it is killed.
pub struct TestGateway {
    process: Process,
    address: SocketAddr,
    admin: SocketAddr,
}

/// A gateway that has been started and is not ready yet.
pub struct StartingGateway {
    process: Process,
    stdout: ChildStdout,
}

impl TestGateway {
    /// Start a gateway and wait until it is ready.
    ///
    /// # Panics
    /// If it does not become ready; the message has its log.
    pub async fn start(config: &ConfigFile) -> Self {
        Self::spawn(config).ready().await
    }

    /// Start a gateway and do not wait.
    ///
    /// # Panics
    /// If the process cannot be started.
    #[must_use]
    pub fn spawn(config: &ConfigFile) -> StartingGateway {
        Self::spawn_as(config, |command| command)
    }

    /// Start a gateway by a command that is made from the plain one, with variables and descriptors of a supervisor for
    /// example. It must become the gateway's process (`exec` in a shell), so that signals reach it.
    ///
    /// # Panics
    /// If the process cannot be started.
    #[must_use]
    pub fn spawn_as(config: &ConfigFile, make: impl FnOnce(Command) -> Command) -> StartingGateway {
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("no temporary folder: {error}"));
        let file = folder.path().join("tidegate.toml");
        std::fs::write(&file, config.text()).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let log = folder.path().join("log");
        let stderr = File::create(&log).unwrap_or_else(|error| panic!("{}: {error}", log.display()));
        let mut command = Command::new(binary());
        command.args(["run", "--config"]).arg(&file).arg("--shutdown-report").arg(folder.path().join("report.json"));
        // Whoever runs the tests may have a supervisor of its own.
        for variable in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID"] {
            command.env_remove(variable);
        }
        let mut child = make(command)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", binary().display()));
        let stdout = child.stdout.take().unwrap_or_else(|| panic!("it was piped"));
        StartingGateway { process: Process { child: Some(child), signalled: None, folder }, stdout }
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where health and metrics are.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// A client that speaks HTTP/1.1 and keeps its connections.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::http1(self.address)
    }

    /// What a client with a new connection is answered.
    ///
    /// # Panics
    /// If it is not answered.
    pub async fn get(&self, path: &str) -> Answer {
        self.client().get(path).await
    }

    /// Send a signal. The time to the exit is counted from the first.
    ///
    /// # Panics
    /// If the process is gone.
    pub fn signal(&mut self, signal: Signal) {
        self.process.signal(signal);
    }

    /// SIGTERM, as a supervisor sends it.
    ///
    /// # Panics
    /// If the process is gone.
    pub fn terminate(&mut self) {
        self.signal(Signal::TERM);
    }

    /// Replace the config file, without telling the gateway.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn rewrite(&self, config: &ConfigFile) {
        self.rewrite_text(&config.text());
    }

    /// The same with any text.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn rewrite_text(&self, text: &str) {
        let (file, new) = (self.folder().join("tidegate.toml"), self.folder().join("tidegate.toml.new"));
        let written = std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, &file));
        written.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }

    /// Where its config file is. It is gone with the gateway.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.process.folder.path()
    }

    /// Ask for a reload with SIGHUP.
    ///
    /// # Panics
    /// If the process is gone.
    pub fn hang_up(&self) {
        kill_process(self.process.pid(), Signal::HUP).unwrap_or_else(|error| panic!("{error}"));
    }

    /// POST to the admin listener.
    ///
    /// # Panics
    /// If it does not answer.
    pub async fn order(&self, path: &str) -> Answer {
        Client::http1(self.admin).send(post(path, &[], "")).await
    }

    /// Put this config into force, and wait until nothing is left of the one before.
    ///
    /// # Panics
    /// If it is refused.
    pub async fn reload(&self, config: &ConfigFile) -> serde_json::Value {
        self.rewrite(config);
        let answer = self.order("/v1/reload?wait=true").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    /// What the admin listener says of a plugin.
    ///
    /// # Panics
    /// If there is none of this name.
    pub async fn plugin(&self, name: &str) -> serde_json::Value {
        let answer = Client::http1(self.admin).get(&format!("/v1/plugins/{name}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    /// Send SIGTERM and wait for the end.
    ///
    /// # Panics
    /// If it does not end.
    pub async fn stop(mut self) -> Ended {
        self.terminate();
        self.wait().await
    }

    /// Wait until the process has ended.
    ///
    /// # Panics
    /// If it does not end.
    pub async fn wait(self) -> Ended {
        self.process.wait().await
    }

    /// Wait until readiness names this phase.
    ///
    /// # Panics
    /// If that phase is never seen.
    pub async fn reaches(&self, phase: &str) {
        let admin = Client::http1(self.admin);
        self.until(&format!("phase {phase}"), async || {
            admin.try_get("/readyz").await.is_ok_and(|answer| answer.text().trim() == phase)
        })
        .await;
    }

    /// Ask again and again until it is so.
    ///
    /// # Panics
    /// If it never is.
    pub async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let asking = async {
            while !holds().await {
                // What is waited for happens in another process: there is nothing to await, and it wants the CPU.
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        assert!(tokio::time::timeout(HANGS, asking).await.is_ok(), "never came about: {what}\n{}", self.log().text());
    }

    /// The value of a metric, written with its labels as in the exposition, or 0 if it is not there.
    ///
    /// # Panics
    /// If the admin listener does not answer.
    pub async fn metric(&self, series: &str) -> f64 {
        let text = Client::http1(self.admin).get("/metrics").await.text();
        let value = |line: &str| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok();
        text.lines().find_map(value).unwrap_or_default()
    }

    /// How often a hook has ended like this.
    ///
    /// # Panics
    /// If the admin listener does not answer.
    pub async fn calls(&self, plugin: &str, hook: &str, outcome: &str) -> f64 {
        let labels = format!("plugin=\"{plugin}\",hook=\"{hook}\",outcome=\"{outcome}\"");
        self.metric(&format!("tidegate_plugin_calls_total{{{labels}}}")).await
    }

    /// Resident memory of the process in bytes.
    ///
    /// # Panics
    /// If the process is gone.
    #[must_use]
    pub fn resident(&self) -> usize {
        let pid = self.process.pid().as_raw_nonzero();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_else(|error| panic!("{error}"));
        let kib = |line: &str| line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?.trim().parse::<usize>().ok();
        status.lines().find_map(kib).unwrap_or_else(|| panic!("the process has no memory:\n{status}")) << 10
    }

    /// What it has logged so far. Lines are written by a thread of their own, so the last ones may be missing.
    #[must_use]
    pub fn log(&self) -> Log {
        self.process.log()
    }
}

impl StartingGateway {
    /// Wait until it serves.
    ///
    /// # Panics
    /// If it ends instead; the message has its log.
    pub async fn ready(self) -> TestGateway {
        let ended = match self.ready_or_ended().await {
            Ok(gateway) => return gateway,
            Err(ended) => ended,
        };
        panic!("the gateway did not become ready: {:?}\n{}", ended.code, ended.log.text());
    }

    /// Wait until it serves, or has ended instead.
    ///
    /// # Errors
    /// What it leaves behind, if it does not become ready.
    ///
    /// # Panics
    /// If it does neither.
    pub async fn ready_or_ended(self) -> Result<TestGateway, Ended> {
        let Self { process, stdout } = self;
        let first = tokio::task::spawn_blocking(move || BufReader::new(stdout).lines().next().transpose());
        let line = match tokio::time::timeout(HANGS, first).await {
            Ok(Ok(Ok(Some(line)))) => line,
            // It has closed its stdout.
            Ok(Ok(Ok(None))) => return Err(process.wait().await),
            other => panic!("the gateway did not become ready: {other:?}\n{}", process.log().text()),
        };
        let mut addresses = line.split([' ', ',']).filter_map(|word| word.parse().ok());
        let (Some(address), Some(admin)) = (addresses.next(), addresses.next_back()) else {
            panic!("the gateway is ready, but does not say where: {line}")
        };
        Ok(TestGateway { process, address, admin })
    }

    /// Wait until the log has a line with this text.
    ///
    /// # Panics
    /// If that line never comes.
    pub async fn says(&self, text: &str) {
        let reading = async {
            while !self.process.log().text().contains(text) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let said = tokio::time::timeout(HANGS, reading).await;
        assert!(said.is_ok(), "never said: {text}\n{}", self.process.log().text());
    }

    /// Send a signal.
    ///
    /// # Panics
    /// If the process is gone.
    pub fn signal(&mut self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Wait until the process has ended.
    ///
    /// # Panics
    /// If it does not end.
    pub async fn wait(self) -> Ended {
        self.process.wait().await
    }
}

/// The process and its files. Dropped, it is killed.
struct Process {
    /// Gone once somebody waits for it.
    child: Option<Child>,
    signalled: Option<Instant>,
    folder: TempDir,
}

impl Process {
    fn pid(&self) -> Pid {
        let id = self.child.as_ref().and_then(|child| i32::try_from(child.id()).ok());
        id.and_then(Pid::from_raw).unwrap_or_else(|| panic!("the process is gone"))
    }

    fn signal(&mut self, signal: Signal) {
        self.signalled.get_or_insert_with(Instant::now);
        kill_process(self.pid(), signal).unwrap_or_else(|error| panic!("{signal:?} cannot be sent: {error}"));
    }

    fn log(&self) -> Log {
        Log::read(&self.folder.path().join("log"))
    }

    async fn wait(mut self) -> Ended {
        let (pid, began) = (self.pid(), self.signalled.unwrap_or_else(Instant::now));
        let mut child = self.child.take().unwrap_or_else(|| panic!("the process is gone"));
        let mut waiting = tokio::task::spawn_blocking(move || (child.wait(), Instant::now()));
        let Ok(waited) = tokio::time::timeout(HANGS, &mut waiting).await else {
            let _ = kill_process(pid, Signal::KILL);
            panic!("the gateway does not end\n{}", self.log().text());
        };
        let (status, ended) = waited.unwrap_or_else(|error| panic!("{error}"));
        let status = status.unwrap_or_else(|error| panic!("cannot be waited for: {error}"));
        let log = self.log();
        // A task that panics takes nothing down with it; it is a bug all the same.
        let panicked = log.text().lines().find(|line| line.starts_with("thread ") && line.contains(" panicked at "));
        assert!(panicked.is_none(), "the gateway panicked: {}", log.text());
        Ended {
            code: status.code(),
            took: ended.saturating_duration_since(began),
            report: Report::read(&self.folder.path().join("report.json")),
            log,
            folder: std::mem::replace(&mut self.folder, no_folder()),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Fails if it has ended, which is what is wanted.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// In the place of a folder that has been moved out.
fn no_folder() -> TempDir {
    tempfile::tempdir().unwrap_or_else(|error| panic!("no temporary folder: {error}"))
}

/// The program under test: `$TIDEGATE_BIN`, or what `cargo build` makes.
///
/// # Panics
/// If it is not there; the message says how to build it.
#[must_use]
pub fn binary() -> PathBuf {
    let built = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/debug/tidegate");
    let file = std::env::var_os("TIDEGATE_BIN").map_or_else(built, PathBuf::from);
    assert!(file.is_file(), "there is no {}; run `cargo build -p tidegate` first, or set TIDEGATE_BIN", file.display());
    file
}
