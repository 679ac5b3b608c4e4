//! The tables that are there once: `[server]`, `[admin]`, `[shutdown]`, `[reload]`, `[log]`, and `cache`.

use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use super::diagnostic::Diagnostic;
use super::reader::{DAY, MILLISECOND, Table, nearest};
use super::source::Files;

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

const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);
const DEFAULT_ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9901);

/// An address and where it was written; defaults stand nowhere.
pub(super) type Address = (SocketAddr, Option<std::ops::Range<usize>>);

/// `[server]`
pub(super) fn server(table: Option<Table<'_>>) -> (Server, Vec<Address>) {
    let mut server = Server {
        listen: vec![DEFAULT_LISTEN],
        max_connections: 10_000,
        max_header_bytes: 32 << 10,
        max_headers: 100,
        header_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(60),
        body_timeout: Duration::from_secs(30),
    };
    let mut listen = vec![(DEFAULT_LISTEN, None)];
    if let Some(table) = table {
        listen = listen_addresses(&table).unwrap_or(listen);
        server.listen = listen.iter().map(|(address, _)| *address).collect();
        server.max_connections = table.count("max_connections", 1..=1_000_000, server.max_connections);
        // hyper's buffer is never smaller than 8 KiB.
        server.max_header_bytes = table.size("max_header_bytes", 8 << 10..=1 << 20, server.max_header_bytes);
        server.max_headers = table.count("max_headers", 1..=10_000, server.max_headers);
        server.header_timeout = table.duration("header_timeout", MILLISECOND..=DAY, server.header_timeout);
        server.idle_timeout = table.duration("idle_timeout", MILLISECOND..=DAY, server.idle_timeout);
        server.body_timeout = table.duration("body_timeout", MILLISECOND..=DAY, server.body_timeout);
        table.finish();
    }
    (server, listen)
}

/// One address or a list of them. `None` leaves the default, either because nothing was said or because of a problem.
fn listen_addresses(table: &Table<'_>) -> Option<Vec<Address>> {
    let value = table.value("listen")?;
    let texts = match value.get_ref() {
        DeValue::String(text) => vec![Spanned::new(value.span(), text.as_ref())],
        DeValue::Array(items) if items.is_empty() => {
            table
                .problems()
                .push(Diagnostic::at(value.span(), "`listen` is empty").label("expected at least one address"));
            return None;
        }
        DeValue::Array(items) => table.strings_in("listen", items),
        _ => {
            table.wrong("listen", value, "an address such as \"127.0.0.1:8080\", or a list of them");
            return None;
        }
    };
    let addresses = texts.iter().filter_map(|text| address(table, text)).collect::<Vec<_>>();
    (!addresses.is_empty()).then_some(addresses)
}

/// An IP address and a port.
fn address(table: &Table<'_>, text: &Spanned<&str>) -> Option<Address> {
    if let Ok(address) = text.get_ref().parse() {
        return Some((address, Some(text.span())));
    }
    let mut problem =
        Diagnostic::at(text.span(), "`listen` is not an address").label("expected an IP address and a port");
    let port = |text: &str| text.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    problem = match (text.get_ref().strip_prefix("localhost:"), port(text.get_ref())) {
        (Some(port), _) => problem.hint(format!("write \"127.0.0.1:{port}\"")),
        (None, Some(port)) if text.get_ref().starts_with([':', '*']) => {
            problem.hint(format!("write \"0.0.0.0:{port}\" for every IPv4 address of this machine"))
        }
        (None, Some(_)) => problem.hint("names are not looked up; write the IP address"),
        (None, None) => problem.hint("for example \"127.0.0.1:8080\" or \"[::1]:8080\""),
    };
    table.problems().push(problem);
    None
}

/// `[admin]`; the token's file is looked for in `folder`.
pub(super) fn admin(table: Option<Table<'_>>, folder: &Path, files: Files) -> (Admin, Address) {
    let (mut listen, mut token) = ((DEFAULT_ADMIN, None), None);
    if let Some(table) = table {
        if let Some(text) = table.string("listen") {
            listen = address(&table, &text).unwrap_or(listen);
        }
        if let (Some(path), Files::Checked) = (table.string("token_file"), files) {
            match read_token(&folder.join(path.get_ref())) {
                Ok(found) => token = Some(found),
                Err(label) => table.problems().push(
                    Diagnostic::at(path.span(), "the token cannot be used")
                        .label(label)
                        .hint("put one line of 16 or more visible characters there, from `openssl rand -hex 32` say"),
                ),
            }
        }
        table.finish();
    }
    (Admin { listen: listen.0, token }, listen)
}

/// The first line of a file, if a header field can carry it and nobody guesses it.
fn read_token(path: &Path) -> Result<Token, String> {
    const LONGEST: u64 = 4096;
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(LONGEST).read_to_string(&mut text))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    let token = text.trim();
    match token.len() {
        0 => Err("the file is empty".to_owned()),
        1..16 => Err("it has fewer than 16 characters".to_owned()),
        _ if !token.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Err("it has characters that a header field cannot carry".to_owned())
        }
        _ => Ok(Token(token.to_owned())),
    }
}

/// `[reload]`
pub(super) fn reload(table: Option<Table<'_>>) -> Reload {
    let mut reload = Reload { watch: None, rollback: Duration::from_secs(60) };
    if let Some(table) = table {
        if table.span_of("watch").is_some() {
            let second = Duration::from_secs(1);
            reload.watch = Some(table.duration("watch", 100 * MILLISECOND..=3600 * second, second));
        } else {
            // Known, and not there.
            let _ = table.value("watch");
        }
        reload.rollback = table.duration("rollback", Duration::ZERO..=DAY, reload.rollback);
        table.finish();
    }
    reload
}

/// `[shutdown]`. Whether the parts fit is the ledger's to say.
pub(super) fn shutdown(table: Option<Table<'_>>) -> Shutdown {
    let mut shutdown = Shutdown {
        grace: Duration::from_secs(30),
        drain_delay: Duration::ZERO,
        drain: Duration::from_secs(15),
        flush: Duration::from_secs(3),
        min_drain: Duration::ZERO,
        exit_zero: false,
    };
    if let Some(table) = table {
        shutdown.grace = table.duration("grace", MILLISECOND..=DAY, shutdown.grace);
        shutdown.drain_delay = table.duration("drain_delay", Duration::ZERO..=DAY, shutdown.drain_delay);
        shutdown.drain = table.duration("drain", Duration::ZERO..=DAY, shutdown.drain);
        shutdown.flush = table.duration("flush", Duration::ZERO..=DAY, shutdown.flush);
        shutdown.min_drain = table.duration("min_drain", Duration::ZERO..=DAY, shutdown.min_drain);
        shutdown.exit_zero = table.boolean("exit_zero", shutdown.exit_zero);
        table.finish();
    }
    shutdown
}

/// The gateway tells itself when a broker goes and comes back. Its client's own lines about that are left out, unless the
/// operator writes a filter.
const DEFAULT_LEVEL: &str = "info,async_nats=error";

/// `[log]`
pub(super) fn log(table: Option<Table<'_>>) -> Log {
    let mut log = Log { level: DEFAULT_LEVEL.to_owned(), format: LogFormat::Text, access: true };
    if let Some(table) = table {
        if let Some(level) = table.string("level") {
            match level_problem(level.get_ref()) {
                None => log.level = (*level.get_ref()).to_owned(),
                Some((label, hint)) => {
                    let problem = Diagnostic::at(level.span(), "`level` is not a log level").label(label);
                    table.problems().push(match hint {
                        Some(hint) => problem.hint(hint),
                        None => problem,
                    });
                }
            }
        }
        log.format = table.word("format", &[("text", LogFormat::Text), ("json", LogFormat::Json)], log.format);
        log.access = table.boolean("access", log.access);
        table.finish();
    }
    log
}

/// What is wrong with a filter, and what to do. A lone word that is no level counts as the name of a target for
/// tracing, with everything switched on; here it is a misspelt level.
fn level_problem(filter: &str) -> Option<(String, Option<String>)> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let lone = filter.split(',').map(str::trim).find(|part| {
        part.chars().all(char::is_alphanumeric) && !LEVELS.iter().any(|level| level.eq_ignore_ascii_case(part))
    });
    if let Some(word) = lone {
        let near = nearest(word, &LEVELS).map(|level| format!("did you mean \"{level}\"?"));
        let label = "expected off, error, warn, info, debug or trace".to_owned();
        return Some((
            label,
            near.or_else(|| Some("a part of the program is set with \"info,tidegate=debug\"".to_owned())),
        ));
    }
    tracing_subscriber::EnvFilter::try_new(filter).err().map(|error| (error.to_string(), None))
}

/// `cache`: a folder, or `false` for none. Without it, the user's cache folder if there is one.
pub(super) fn cache(top: &Table<'_>, folder: &Path) -> Option<PathBuf> {
    let Some(value) = top.value("cache") else { return user_cache() };
    match value.get_ref() {
        DeValue::String(path) if !path.is_empty() => Some(folder.join(path.as_ref())),
        DeValue::Boolean(true) => user_cache(),
        DeValue::Boolean(false) => None,
        _ => {
            top.wrong("cache", value, "a folder, or false");
            None
        }
    }
}

/// `tidegate` in the user's cache folder. The XDG specification has relative paths ignored.
fn user_cache() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    folder("XDG_CACHE_HOME")
        .or_else(|| folder("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("tidegate"))
}
