//! The gateway of `tidegate plugin dev`: a process of its own, as an operator would start it.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::cli::Failure;

/// How long the plugin may take to compile and to be configured.
const RELOAD_LIMIT: Duration = Duration::from_secs(120);

/// Bytes of an answer of the admin API.
const LONGEST_ANSWER: usize = 1 << 20;

/// Between two looks at whether it has ended. (Of a child, only a signal would tell, and those are the signals' to hear.)
const LOOK: Duration = Duration::from_millis(100);

/// A gateway that serves. Dropping it kills it.
pub(super) struct DevGateway {
    child: Running,
    ready: String,
    address: SocketAddr,
    admin: SocketAddr,
}

/// A process that does not outlive its owner.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Fails if it has ended, which is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What became of a reload.
pub(super) enum Reload {
    /// It serves something new.
    Done {
        /// How the gateway counts what it has served.
        generation: u64,
    },
    /// It goes on with what it had: why.
    Refused(String),
}

fn broken(text: impl std::fmt::Display) -> Failure {
    Failure::gateway(format!("the gateway: {text}"))
}

impl DevGateway {
    /// Start it, and wait until it is ready. `None` if it ended instead; it has said why on stderr then.
    pub(super) async fn start(config: &Path, report: &Path) -> Result<Option<Self>, Failure> {
        let executable = std::env::current_exe().map_err(broken)?;
        let mut command = Command::new(executable);
        command.args(["run", "--config"]).arg(config).arg("--shutdown-report").arg(report);
        // A group of its own: Ctrl-C is this process's to hear, and a second signal would end the gateway at once.
        command.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
        let mut child = Running(command.spawn().map_err(broken)?);
        let stdout = child.0.stdout.take();
        let read = move || stdout.and_then(|stdout| BufReader::new(stdout).lines().next()?.ok());
        let Some(ready) = tokio::task::spawn_blocking(read).await.ok().flatten() else { return Ok(None) };
        let words = ready.split(|letter: char| letter.is_whitespace() || letter == ',');
        let addresses: Vec<SocketAddr> = words.filter_map(|word| word.parse().ok()).collect();
        match addresses.as_slice() {
            [address, .., admin] => Ok(Some(Self { child, address: *address, admin: *admin, ready })),
            _ => Err(broken(format!("it does not say where it listens: {ready}"))),
        }
    }

    /// What it said when it was ready.
    pub(super) fn ready_line(&self) -> &str {
        &self.ready
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Have it read its config and its plugin again.
    pub(super) async fn reload(&self) -> Reload {
        let answer = tokio::time::timeout(RELOAD_LIMIT, self.ask_to_reload()).await;
        match answer {
            Ok(Ok((StatusCode::OK, answer))) => {
                Reload::Done { generation: answer.get("generation").and_then(Value::as_u64).unwrap_or_default() }
            }
            Ok(Ok((status, answer))) => {
                let detail = answer.get("detail").and_then(Value::as_str);
                let mut text = detail.map_or_else(|| format!("the gateway answered {status}"), str::to_owned);
                for problem in answer.get("problems").and_then(Value::as_array).into_iter().flatten() {
                    let problem = problem.as_str().map_or_else(|| problem.to_string(), str::to_owned);
                    text.push_str("\n  ");
                    text.push_str(&problem);
                }
                Reload::Refused(text)
            }
            Ok(Err(error)) => Reload::Refused(format!("the gateway cannot be asked: {error}")),
            Err(_) => Reload::Refused(format!("the gateway has not answered within {RELOAD_LIMIT:?}")),
        }
    }

    async fn ask_to_reload(&self) -> anyhow::Result<(StatusCode, Value)> {
        let client: Client<HttpConnector, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
        let request = Request::post(format!("http://{}/v1/reload", self.admin)).body(Empty::new())?;
        let (head, body) = client.request(request).await?.into_parts();
        let body = Limited::new(body, LONGEST_ANSWER).collect().await.map_err(anyhow::Error::from_boxed)?;
        Ok((head.status, serde_json::from_slice(&body.to_bytes()).unwrap_or_default()))
    }

    /// Ready when it has ended, without having been asked to: how.
    pub(super) async fn ended(&mut self) -> String {
        match self.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        }
    }

    async fn wait(&mut self) -> std::io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.child.0.try_wait()? {
                return Ok(status);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Stop it as a supervisor would, and wait for its end: its grace period bounds that.
    pub(super) async fn stop(mut self) -> Result<(), Failure> {
        let pid = i32::try_from(self.child.0.id()).ok().and_then(Pid::from_raw);
        let signalled = pid.map(|pid| kill_process(pid, Signal::TERM));
        if let Some(Err(error)) = signalled {
            return Err(broken(format!("it cannot be signalled: {error}")));
        }
        self.wait().await.map(|_| ()).map_err(broken)
    }
}
