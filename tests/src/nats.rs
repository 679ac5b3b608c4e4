//! A NATS server of the test's own, with JetStream: a real one, in a process of its own, that can be stopped, killed,
//! frozen and started again where it was.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::{self, Context};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tempfile::TempDir;

/// Set where there is no NATS server and none can be had; says why. Tests that need one are skipped then.
pub const WITHOUT: &str = "TIDEGATE_TEST_WITHOUT_NATS";

/// Nothing takes longer, on however busy a machine.
const HANGS: Duration = Duration::from_secs(60);

/// A server. Dropped, it is killed.
pub struct NatsServer {
    binary: PathBuf,
    folder: TempDir,
    /// Gone while it does not run.
    child: Option<Child>,
    port: u16,
}

/// Who may connect: a way in for a test.
#[derive(Debug, Clone, Copy)]
pub struct Way<'a>(&'a str);

impl<'a> Way<'a> {
    /// Lines of a config file of NATS.
    #[must_use]
    pub fn of(lines: &'a str) -> Self {
        Self(lines)
    }
}

/// The server's program, if it is installed.
#[must_use]
pub fn installed() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian has it where the PATH of ordinary users does not look.
    let folders =
        std::env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin", "/usr/local/bin"].map(PathBuf::from));
    folders.map(|folder| folder.join("nats-server")).find(|file| file.is_file())
}

impl NatsServer {
    /// Start a server that everybody may connect to. `None` where there can be none, which is said.
    ///
    /// # Panics
    /// If it is not installed, or does not start.
    pub async fn start() -> Option<Self> {
        Self::start_with(Way("")).await
    }

    /// Start a server with more lines in its config.
    ///
    /// # Panics
    /// If it is not installed, or does not start.
    #[expect(clippy::print_stderr, reason = "whoever reads the tests' output has to see what was not tested")]
    pub async fn start_with(way: Way<'_>) -> Option<Self> {
        if let Some(why) = std::env::var_os(WITHOUT) {
            eprintln!("SKIPPED, there is no nats-server: {}", why.to_string_lossy());
            return None;
        }
        let Some(binary) = installed() else {
            panic!("nats-server is not installed: `cargo xtask test` installs it, or `apt-get install nats-server`");
        };
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("no temporary folder: {error}"));
        fs::write(folder.path().join("config"), way.0).unwrap_or_else(|error| panic!("{error}"));
        let mut server = Self { binary, folder, child: None, port: 0 };
        server.restart().await;
        Some(server)
    }

    /// Start it again, on the same port and with the same files.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn restart(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let port = if self.port == 0 { "-1".to_owned() } else { self.port.to_string() };
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log());
        let log = log.unwrap_or_else(|error| panic!("{error}"));
        let child = Command::new(&self.binary)
            .args(["--addr", "127.0.0.1", "--port", &port, "--jetstream", "--store_dir"])
            .arg(self.folder.path())
            .arg("--config")
            .arg(self.folder.path().join("config"))
            .arg("--ports_file_dir")
            .arg(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", self.binary.display()));
        let ports = self.folder.path().join(format!("nats-server_{}.ports", child.id()));
        self.child = Some(child);
        let starting = async {
            loop {
                // It writes the file when it listens.
                match port_in(&ports) {
                    Some(port) => break port,
                    None => tokio::time::sleep(Duration::from_millis(5)).await,
                }
                let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
                assert!(ended.is_none(), "nats-server has ended: {ended:?}\n{}", self.said());
            }
        };
        let started = tokio::time::timeout(HANGS, starting).await;
        self.port = started.unwrap_or_else(|_| panic!("nats-server does not start\n{}", self.said()));
    }

    /// Stop it with SIGTERM.
    ///
    /// # Panics
    /// If it does not run.
    pub fn stop(&mut self) {
        self.end(Signal::TERM);
    }

    /// Kill it: it does nothing more.
    ///
    /// # Panics
    /// If it does not run.
    pub fn kill(&mut self) {
        self.end(Signal::KILL);
    }

    /// Freeze it: connections stay, and nothing is answered. When this returns each of its threads stands still; until
    /// then those on other processors go on, and may answer.
    ///
    /// # Panics
    /// If it does not run.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
        let stopped = waitid(WaitId::Pid(self.pid()), WaitIdOptions::STOPPED);
        stopped.unwrap_or_else(|error| panic!("nats-server does not stand still: {error}"));
    }

    /// Let it go on.
    ///
    /// # Panics
    /// If it does not run.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Whether it runs.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.child.is_some()
    }

    /// Its address as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// What it has logged.
    #[must_use]
    pub fn said(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// A client of the test's own, as anybody.
    ///
    /// # Panics
    /// If it cannot connect.
    pub async fn jetstream(&self) -> Context {
        self.jetstream_as(async_nats::ConnectOptions::new()).await
    }

    /// A client of the test's own.
    ///
    /// # Panics
    /// If it cannot connect.
    pub async fn jetstream_as(&self, options: async_nats::ConnectOptions) -> Context {
        let client = options.connect(self.url()).await;
        jetstream::new(client.unwrap_or_else(|error| panic!("{}: {error}", self.url())))
    }

    /// Make a stream for these subjects.
    ///
    /// # Panics
    /// If it cannot be made.
    pub async fn make_stream(&self, name: &str, subjects: &[&str]) {
        let subjects = subjects.iter().map(|subject| (*subject).to_owned()).collect();
        let config = jetstream::stream::Config { name: name.to_owned(), subjects, ..Default::default() };
        let made = self.jetstream().await.create_stream(config).await;
        made.unwrap_or_else(|error| panic!("the stream {name}: {error}"));
    }

    /// Everything that is in a stream, in its order; nothing if there is no such stream yet.
    ///
    /// # Panics
    /// If the server does not answer.
    pub async fn stored(&self, stream: &str) -> Vec<StreamMessage> {
        let context = self.jetstream().await;
        let Ok(mut stream) = context.get_stream(stream).await else { return Vec::new() };
        let state = stream.info().await.unwrap_or_else(|error| panic!("{error}")).state.clone();
        let mut stored = Vec::new();
        for sequence in state.first_sequence.max(1)..=state.last_sequence {
            let message = stream.get_raw_message(sequence).await;
            stored.push(message.unwrap_or_else(|error| panic!("message {sequence}: {error}")));
        }
        stored
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn pid(&self) -> Pid {
        let id = self.child.as_ref().and_then(|child| i32::try_from(child.id()).ok()).and_then(Pid::from_raw);
        id.unwrap_or_else(|| panic!("it does not run"))
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap_or_else(|error| panic!("{signal:?} cannot be sent: {error}"));
    }

    fn end(&mut self, signal: Signal) {
        self.signal(signal);
        if let Some(mut child) = self.child.take() {
            child.wait().unwrap_or_else(|error| panic!("cannot be waited for: {error}"));
        }
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}

/// The port in a file that says on which ones a server listens.
fn port_in(file: &Path) -> Option<u16> {
    let ports: serde_json::Value = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
    let url = ports.get("nats")?.as_array()?.first()?.as_str()?.to_owned();
    url.rsplit_once(':')?.1.parse().ok()
}

/// A header of a message, or nothing.
#[must_use]
pub fn header<'a>(message: &'a StreamMessage, name: &str) -> &'a str {
    message.headers.get(name).map(async_nats::HeaderValue::as_str).unwrap_or_default()
}
