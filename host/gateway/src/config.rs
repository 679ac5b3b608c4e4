//! The configuration, as valid types. A [`Config`] that exists is one that can run (but for what only binding,
//! connecting and compiling can tell); a file that cannot become one gives every problem at once, with line and caret.
//!
//! | module | owns |
//! |---|---|
//! | `reader` | typed access to the parsed document: what a key may hold, which keys there are |
//! | `settings`, `outbound`, `outbox`, `upstream`, `bucket`, `plugin`, `grants`, `route` | one table each: keys, defaults, ranges |
//! | `secret` | where secrets are |
//! | `names` | names, and references to them |
//! | `build` | all tables together, and what only the whole can tell: clashes, the ledger |
//! | `units` | durations and sizes as text |
//! | `diagnostic` | how problems are collected and shown |

mod bucket;
mod build;
mod diagnostic;
mod grants;
mod names;
mod outbound;
mod outbox;
mod plugin;
mod reader;
mod route;
mod secret;
mod settings;
#[cfg(test)]
mod tests;
mod units;
mod upstream;

use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::uri::Authority;
use tidegate_runtime::{Deferred, Instances, Isolation, Limits, Recycle};

pub use self::bucket::{Bucket, BucketKind, Login, NatsBucket};
use self::diagnostic::Diagnostic;
pub use self::diagnostic::Diagnostics;
pub use self::grants::Grants;
pub use self::outbox::{Outbox, OutboxSink, SinkKind};
pub(crate) use self::reader::nearest;
pub use self::secret::SecretSource;
pub use self::units::{HumanDuration, HumanSize};
/// `[outbound]`: how the requests of plugins are made.
pub use tidegate_outbound::Settings as Outbound;

/// The longest config file that is read, bytes.
const LONGEST_FILE: u64 = 1 << 20;

/// Everything `tidegate run` needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[server]`
    pub server: Server,
    /// `[admin]`
    pub admin: Admin,
    /// `[shutdown]`
    pub shutdown: Shutdown,
    /// `[reload]`
    pub reload: Reload,
    /// `[log]`
    pub log: Log,
    /// `[outbound]`
    pub outbound: Outbound,
    /// `[outbox]`, if there is one.
    pub outbox: Option<Outbox>,
    /// `[[upstream]]`, in file order.
    pub upstreams: Vec<Upstream>,
    /// `[[kv]]`, in file order.
    pub buckets: Vec<Bucket>,
    /// `[[plugin]]`, in file order.
    pub plugins: Vec<Plugin>,
    /// `[[route]]`, in file order.
    pub routes: Vec<Route>,
    /// Where compiled plugins are kept between runs; `None` compiles anew at each start.
    pub cache: Option<PathBuf>,
}

impl Config {
    /// Read the file at `path`. Plugin files are looked for, but not read.
    ///
    /// # Errors
    /// Everything that is wrong with the file, in the order of the file.
    pub fn load(path: &Path) -> Result<Self, Diagnostics> {
        let source = read(path).map_err(|problem| Diagnostics::new(path, "", vec![*problem]))?;
        build::build(&source, path, build::Files::Checked)
    }

    /// Read `source`, which stands for the text of a file at `origin`: paths in it are relative to that file's folder.
    /// Looks at the text alone, not at the files it names.
    ///
    /// # Errors
    /// Everything that is wrong with it, in the order of the file.
    pub fn parse(source: &str, origin: &Path) -> Result<Self, Diagnostics> {
        build::build(source, origin, build::Files::Ignored)
    }
}

impl Config {
    /// Read the file at `path` for the sake of its plugins: it needs no routes, and the files that it names need not be there.
    ///
    /// # Errors
    /// Everything that is wrong with the file, in the order of the file.
    pub fn load_plugins(path: &Path) -> Result<Self, Diagnostics> {
        let source = read(path).map_err(|problem| Diagnostics::new(path, "", vec![*problem]))?;
        build::build(&source, path, build::Files::PluginsAlone)
    }
}

/// The text of the file, or why there is none.
fn read(path: &Path) -> Result<String, Box<Diagnostic>> {
    let unreadable = |error: std::io::Error| {
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound => Some("name the file with `--config FILE`"),
            std::io::ErrorKind::IsADirectory => Some("name the file in it, for example with `--config tidegate.toml`"),
            _ => None,
        };
        let problem = Diagnostic::of_file(format!("cannot read the config file: {}", reason(&error)));
        Box::new(match hint {
            Some(hint) => problem.hint(hint),
            None => problem,
        })
    };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(LONGEST_FILE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > LONGEST_FILE {
        let limit = HumanSize(LONGEST_FILE);
        let problem = Diagnostic::of_file(format!("the config file is longer than {limit}"));
        return Err(Box::new(problem.hint("is it the right file?")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let (good, _) = error.as_bytes().split_at(error.utf8_error().valid_up_to());
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        Box::new(Diagnostic::of_file(format!(
            "the config file is not UTF-8 text: the first bad byte is in line {line}"
        )))
    })
}

/// What the system says, without the number of the error.
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

impl Config {
    /// The longest end of any plugin: they stop side by side, so it is what the ledger reserves for them.
    #[must_use]
    pub fn longest_stop(&self) -> Duration {
        self.last_to_stop().map_or(Duration::ZERO, Plugin::longest_stop)
    }

    /// The plugin with the longest end.
    #[must_use]
    pub fn last_to_stop(&self) -> Option<&Plugin> {
        last_to_stop(&self.plugins)
    }
}

fn last_to_stop(plugins: &[Plugin]) -> Option<&Plugin> {
    plugins.iter().max_by_key(|plugin| plugin.longest_stop())
}

/// `[server]`: what clients connect to, and how much they may ask for.
#[derive(Debug, Clone)]
pub struct Server {
    /// `listen`, one address or a list.
    pub listen: Vec<SocketAddr>,
    /// `max_connections`: open client connections; further ones wait in the kernel's accept queue.
    pub max_connections: usize,
    /// `max_header_bytes`: the head of a request, all fields together.
    pub max_header_bytes: usize,
    /// `max_headers`: fields in a request.
    pub max_headers: usize,
    /// `header_timeout`: from the first byte of a request head to its last.
    pub header_timeout: Duration,
    /// `idle_timeout`: a connection without a request.
    pub idle_timeout: Duration,
    /// `body_timeout`: the longest pause between two pieces of a body, from the client or the upstream.
    pub body_timeout: Duration,
}

/// `[admin]`: health, metrics and control.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// `listen`; loopback by default.
    pub listen: SocketAddr,
    /// What is in `token_file`: without it, only health is answered.
    pub token: Option<Token>,
}

/// A secret that requests carry.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The secret itself.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

/// `[reload]`: changes while the gateway serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reload {
    /// `watch`: how often the config file and the plugins' files are looked at for changes; `None` for never.
    pub watch: Option<Duration>,
    /// `rollback`: for how long after a reload a new version of a plugin that trips its breaker is replaced by the one
    /// before it; zero for never.
    pub rollback: Duration,
}

/// `[shutdown]`: how the grace period is split. See the ledger for the sum that is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shutdown {
    /// `grace`: from the signal to the exit.
    pub grace: Duration,
    /// `drain_delay`: lame-duck time in which load balancers notice.
    pub drain_delay: Duration,
    /// `drain`: for exchanges that have begun.
    pub drain: Duration,
    /// `flush`: reserved for writing out logs and the report.
    pub flush: Duration,
    /// `min_drain`: no exit before this much time has passed.
    pub min_drain: Duration,
    /// `exit_zero`: exit 0 where the code would be 10 to 12.
    pub exit_zero: bool,
}

/// `[log]`: what is written to stderr.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// `level`: a tracing filter, `info` or `info,tidegate=debug`.
    pub level: String,
    /// `format`
    pub format: LogFormat,
    /// `access`: one line per exchange.
    pub access: bool,
}

/// `log.format`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object per line.
    Json,
}

/// `[[upstream]]`: where requests go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// `name`
    pub name: Arc<str>,
    /// `targets`, tried in turn (round robin).
    pub targets: Vec<Authority>,
    /// `connect_timeout`: for a TCP connection.
    pub connect_timeout: Duration,
    /// `response_timeout`: from the end of the request to the head of the response.
    pub response_timeout: Duration,
    /// `idle_timeout`: how long an unused connection is kept.
    pub idle_timeout: Duration,
    /// `max_idle`: unused connections kept per target.
    pub max_idle: usize,
}

/// `[[plugin]]`: a component and its limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plugin {
    /// `name`
    pub name: Arc<str>,
    /// `path`, relative to the config file's folder.
    pub path: PathBuf,
    /// `sha256`: 64 hex digits the file must have.
    pub sha256: Option<String>,
    /// `instances`
    pub instances: Instances,
    /// `recycle`
    pub recycle: Recycle,
    /// `isolation`
    pub isolation: Isolation,
    /// `on_failure`
    pub on_failure: OnFailure,
    /// `hand_over`: whether a reload hands the state of the old version to the new one.
    pub hand_over: bool,
    /// `quarantine`: faults in a row after which the plugin is taken out until somebody enables it; `None` for never.
    pub quarantine: Option<u32>,
    /// `[plugin.config]` as JSON.
    pub config: String,
    /// `[plugin.grants]`
    pub grants: Grants,
    /// `[plugin.limits]`
    pub limits: Limits,
    /// `[plugin.deferred]`
    pub deferred: Deferred,
    /// `tick`: how often `on-tick` is called.
    pub tick: Option<Duration>,
}

impl Plugin {
    /// What the work that it has put off may take of a stop: its share if it may put any off.
    #[must_use]
    pub fn deferred_share(&self) -> Duration {
        if self.grants.background { self.deferred.drain } else { Duration::ZERO }
    }

    /// The longest that a stop of it can take: that share and its `shutdown` limit.
    #[must_use]
    pub fn longest_stop(&self) -> Duration {
        self.deferred_share().saturating_add(self.limits.shutdown)
    }
}

/// `on_failure`: what a plugin's failure means for the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// Answer 503.
    Closed,
    /// Go on without the plugin. Edits it made before it failed stay.
    Open,
}

/// `[[route]]`: which requests go through which plugins to which upstream.
#[derive(Debug, Clone)]
pub struct Route {
    /// `path`: a prefix at segment borders; `/api` matches `/api` and `/api/x` but not `/apix`.
    pub path: String,
    /// `host`: exact, without port, lower case; `None` matches every host.
    pub host: Option<String>,
    /// Index into [`Config::upstreams`].
    pub upstream: usize,
    /// Indices into [`Config::plugins`], in order.
    pub plugins: Vec<usize>,
}
