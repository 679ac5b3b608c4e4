//! A gateway as operators run it: the release binary, a config file, and a signal at the end.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;
use tidegate_tests::components;
use tidegate_tests::load::{Load, Measured};

use crate::machine;

/// The core the gateway has to itself.
pub(crate) const CORE: usize = 0;

/// What is configured.
pub(crate) struct Setup {
    /// Names of example plugins and their configs in TOML; one may be there more than once.
    pub(crate) plugins: Vec<(&'static str, &'static str)>,
    /// Whether it writes its access log, to /dev/null.
    pub(crate) access_log: bool,
    /// Where requests go.
    pub(crate) upstream: SocketAddr,
    /// More of the config file.
    pub(crate) more: String,
    /// Record, and keep so much of each body.
    pub(crate) record: Option<&'static str>,
    /// Keep it on [`CORE`].
    pub(crate) pinned: bool,
}

pub(crate) struct Gateway {
    process: Child,
    address: SocketAddr,
    folder: TempDir,
}

/// What a gateway says of its recording at its end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recorded {
    /// Exchanges that were written.
    pub(crate) kept: u64,
    /// Exchanges that were not.
    pub(crate) dropped: u64,
    /// What was written.
    pub(crate) bytes: u64,
}

impl Gateway {
    pub(crate) fn start(setup: &Setup) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let config = folder.path().join("tidegate.toml");
        std::fs::write(&config, setup.toml()?)?;
        let binary = binary();
        let binary = binary.to_str().context("a path that is not UTF-8")?;
        let mut command = if setup.pinned { machine::pinned(CORE, binary) } else { Command::new(binary) };
        command.args(["run", "--config"]).arg(config).stdout(Stdio::piped());
        match setup.record {
            Some(body) => {
                command.arg("--record").arg(folder.path().join("recording")).args(["--record-body", body]);
                command.stderr(File::create(folder.path().join("log"))?);
            }
            None => {
                command.stderr(File::create("/dev/null")?);
            }
        }
        let mut process = command.spawn().with_context(|| format!("cannot run {binary}"))?;
        let mut line = String::new();
        if let Some(stdout) = process.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let mut gateway = Self { process, address: ([127, 0, 0, 1], 0).into(), folder };
        let listening = line.split("listening on ").nth(1).and_then(|rest| rest.split([',', '\n']).next());
        match listening.and_then(|address| address.trim().parse().ok()) {
            Some(address) => gateway.address = address,
            None => {
                bail!("{binary} is not ready: it says {line:?} (built by `cargo build --release --package tidegate`)")
            }
        }
        Ok(gateway)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn process(&self) -> u32 {
        self.process.id()
    }

    /// Put it under load, and take its CPU time while that is measured.
    pub(crate) async fn under(&self, load: Load) -> Result<(Measured, Duration)> {
        let load = Load { target: self.address, ..load };
        let cpu = async {
            tokio::time::sleep(load.warm_up).await;
            let before = machine::cpu_time(self.process())?;
            tokio::time::sleep(load.measure).await;
            anyhow::Ok(machine::cpu_time(self.process())?.saturating_sub(before))
        };
        let (measured, cpu) = tokio::join!(load.run(), cpu);
        let (measured, cpu) = (measured?, cpu?);
        ensure!(!measured.latencies.is_empty(), "no request was answered");
        Ok((measured, cpu))
    }

    /// SIGTERM, and the way it exits must be the clean one.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.end()
    }

    /// The same, and what it has recorded.
    pub(crate) fn recorded(mut self) -> Result<Recorded> {
        self.end()?;
        let log = std::fs::read_to_string(self.folder.path().join("log"))?;
        let mut lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let ended = lines.find(|line| line["message"] == "recording ended").context("it did not record")?;
        let number = |name: &str| {
            let number = ended.get(name).and_then(serde_json::Value::as_u64);
            number.with_context(|| format!("no `{name}` in {ended}"))
        };
        Ok(Recorded { kept: number("recorded")?, dropped: number("dropped")?, bytes: number("bytes")? })
    }

    fn end(&mut self) -> Result<()> {
        let signalled = Command::new("kill").arg(self.process.id().to_string()).status()?;
        let asked = Instant::now();
        while asked.elapsed() < Duration::from_secs(30) {
            match self.process.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("the gateway ended with {status}"),
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
        bail!("the gateway does not end (kill: {signalled})");
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // After `stop` there is nothing left to kill.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Setup {
    fn toml(&self) -> Result<String> {
        let Self { access_log, upstream, more, .. } = self;
        let mut text = format!(
            "server.listen = \"127.0.0.1:0\"\nadmin.listen = \"127.0.0.1:0\"\nlog.access = {access_log}\n\
             log.format = \"json\"\n[[upstream]]\nname = \"origin\"\ntargets = [\"http://{upstream}\"]\n"
        );
        let mut names = Vec::new();
        for (number, (plugin, config)) in self.plugins.iter().enumerate() {
            let path = std::fs::canonicalize(components::plugin(plugin))
                .with_context(|| format!("{plugin} is not built: run `cargo xtask plugins`"))?;
            let name = format!("{plugin}-{number}");
            write!(text, "[[plugin]]\nname = \"{name}\"\npath = \"{}\"\n[plugin.config]\n{config}\n", path.display())?;
            names.push(format!("\"{name}\""));
        }
        writeln!(text, "[[route]]\npath = \"/\"\nupstream = \"origin\"\nplugins = [{}]\n{more}", names.join(", "))?;
        Ok(text)
    }
}

/// `$TIDEGATE_BIN`, or the release build.
fn binary() -> PathBuf {
    let built = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/tidegate"));
    std::env::var_os("TIDEGATE_BIN").map_or_else(built, PathBuf::from)
}
