//! `[[kv]]`: the buckets that plugins can be granted.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tidegate_keyvalue::{Bounds, Storage, WhenFull};
use toml::de::DeValue;

use super::diagnostic::Diagnostic;
use super::names::name;
use super::reader::{DAY, MILLISECOND, Table};
use super::secret::{self, SecretSource};
use super::units::HumanSize;

/// `[[kv]]`: a bucket and what it is kept in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// `name`
    pub name: Arc<str>,
    /// `shared`: whether all plugins see the same entries, or each its own.
    pub shared: bool,
    /// `max_entries`, `max_bytes`, `max_value`, `ttl`, `when_full`; of each namespace.
    pub bounds: Bounds,
    /// `kind`, and what belongs to it.
    pub kind: BucketKind,
}

/// `kind`: what a bucket is kept in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BucketKind {
    /// `"memory"`
    Memory,
    /// `"sqlite"`
    Sqlite {
        /// `path`, relative to the config file's folder.
        path: PathBuf,
        /// `timeout`: of an operation.
        timeout: Duration,
    },
    /// `"nats"`
    Nats(Box<NatsBucket>),
}

/// What belongs to a bucket of the kind `"nats"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatsBucket {
    /// `url`, one or a list.
    pub urls: Vec<String>,
    /// `bucket`: its name at the server.
    pub bucket: String,
    /// `credentials`, `token`, or `user` and `password`.
    pub login: Login,
    /// `ca`: a file of certificates, relative to the config file's folder.
    pub ca: Option<PathBuf>,
    /// `timeout`: of an operation.
    pub timeout: Duration,
    /// `history`: values of a key that are kept.
    pub history: u8,
    /// `replicas`
    pub replicas: usize,
    /// `storage`
    pub storage: Storage,
}

/// Who the gateway is to a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// Anybody.
    None,
    /// `credentials`: a `.creds` file.
    Credentials(SecretSource),
    /// `token`
    Token(SecretSource),
    /// `user` and `password`
    User(String, SecretSource),
}

/// The longest value that may be allowed: what every plugin can pass to the host in one call.
const MAX_VALUE: usize = 4 << 20;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Memory,
    Sqlite,
    Nats,
}

/// Read one `[[kv]]`; files are looked for in `folder`.
pub(super) fn bucket(table: Table<'_>, folder: &Path) -> Bucket {
    let name = name(&table).unwrap_or_else(|| Arc::from(""));
    let kind = kind(&table);
    let shared = table.boolean("shared", false);
    let bounds = bounds(&table, kind);
    let timeout = || table.duration("timeout", MILLISECOND..=Duration::from_secs(60), Duration::from_millis(50));
    let kind = match kind {
        Kind::Memory => BucketKind::Memory,
        Kind::Sqlite => BucketKind::Sqlite { path: path(&table, folder), timeout: timeout() },
        Kind::Nats => BucketKind::Nats(Box::new(NatsBucket {
            urls: urls(&table),
            bucket: server_bucket(&table, &name, shared),
            login: login(&table, folder),
            ca: table.string("ca").map(|ca| folder.join(ca.get_ref())),
            timeout: timeout(),
            history: u8::try_from(table.count("history", 1..=64, 1)).unwrap_or(1),
            replicas: table.count("replicas", 1..=5, 1),
            storage: table.word("storage", &[("file", Storage::File), ("memory", Storage::Memory)], Storage::File),
        })),
    };
    table.finish();
    Bucket { name, shared, bounds, kind }
}

fn kind(table: &Table<'_>) -> Kind {
    let kinds = [("memory", Kind::Memory), ("sqlite", Kind::Sqlite), ("nats", Kind::Nats)];
    let known = match table.string("kind") {
        Some(word) => kinds.iter().any(|(kind, _)| kind == word.get_ref()),
        None => false,
    };
    if table.span_of("kind").is_none() {
        table.missing("kind", "\"memory\"");
    }
    if !known {
        // Which of these belong here is not known, so none of them is wrong.
        const OF_SOME: [&str; 12] = [
            "path",
            "timeout",
            "url",
            "bucket",
            "credentials",
            "token",
            "user",
            "password",
            "ca",
            "history",
            "replicas",
            "storage",
        ];
        for key in OF_SOME {
            let _ = table.value(key);
        }
    }
    table.word("kind", &kinds, Kind::Memory)
}

fn bounds(table: &Table<'_>, kind: Kind) -> Bounds {
    let max_bytes = table.size("max_bytes", 1 << 10..=1 << 40, 64 << 20);
    let mut bounds = Bounds {
        max_entries: usize::MAX,
        max_bytes,
        max_value: table.size("max_value", 1..=MAX_VALUE, max_bytes.min(1 << 20)),
        ttl: table.span_of("ttl").map(|_| table.duration("ttl", MILLISECOND..=366 * DAY, DAY)),
        when_full: WhenFull::Refuse,
    };
    // Known, whether it is there or not.
    let _ = table.value("ttl");
    // A server counts bytes alone, and evicts nothing before its time: the keys are not known there.
    if kind != Kind::Nats {
        bounds.max_entries = table.count("max_entries", 1..=10_000_000, 100_000);
        let words = [("refuse", WhenFull::Refuse), ("evict", WhenFull::Evict)];
        bounds.when_full = table.word("when_full", &words, WhenFull::Refuse);
    }
    if bounds.max_value > bounds.max_bytes {
        let (value, bytes) = (HumanSize(bounds.max_value as u64), HumanSize(bounds.max_bytes as u64));
        if let Some(span) = table.span_of("max_value") {
            let mut problem = Diagnostic::at(span, "`max_value` is greater than `max_bytes`")
                .label(format!("a value of {value} does not fit into {bytes}"));
            if let Some(other) = table.span_of("max_bytes") {
                problem = problem.related(other, "");
            }
            table.problems().push(problem.hint("lower `max_value` or raise `max_bytes`"));
        }
    }
    bounds
}

fn path(table: &Table<'_>, folder: &Path) -> PathBuf {
    match table.string("path") {
        Some(path) if path.get_ref().is_empty() => {
            table.problems().push(Diagnostic::at(path.span(), "`path` is empty"));
            PathBuf::new()
        }
        Some(path) => folder.join(path.get_ref()),
        None => {
            if table.span_of("path").is_none() {
                table.missing("path", "\"sessions.db\"");
            }
            PathBuf::new()
        }
    }
}

/// One address or a list of them.
fn urls(table: &Table<'_>) -> Vec<String> {
    let texts = match table.value("url").map(|value| (value, value.get_ref())) {
        None => {
            table.missing("url", "\"nats://127.0.0.1:4222\"");
            return Vec::new();
        }
        Some((value, DeValue::String(text))) => vec![(value.span(), text.as_ref())],
        Some((_, DeValue::Array(items))) => {
            table.strings_in("url", items).into_iter().map(|text| (text.span(), text.into_inner())).collect()
        }
        Some((value, _)) => {
            table.wrong("url", value, "a URL, or a list of them");
            return Vec::new();
        }
    };
    if texts.is_empty()
        && let Some(span) = table.span_of("url")
    {
        table.problems().push(Diagnostic::at(span, "`url` is empty").label("expected at least one server"));
    }
    let mut urls = Vec::new();
    for (span, text) in texts {
        match server(text) {
            Ok(()) => urls.push(text.to_owned()),
            Err(label) => table.problems().push(
                Diagnostic::at(span, "this server cannot be used")
                    .label(label)
                    .hint("for example \"nats://127.0.0.1:4222\""),
            ),
        }
    }
    urls
}

/// `nats://host:port` or `tls://host:port` and nothing else.
fn server(text: &str) -> Result<(), &'static str> {
    let url = url::Url::parse(text).map_err(|_| "this is not a valid URL")?;
    if !matches!(url.scheme(), "nats" | "tls") {
        return Err("expected the scheme nats or tls");
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("the host is missing");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a user name or password cannot be given here; use `user` and `password`");
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err("a server is a host and a port, without a path");
    }
    Ok(())
}

/// The name at the server, the bucket's own by default. That of a plugin's own bucket begins with it.
fn server_bucket(table: &Table<'_>, name: &str, shared: bool) -> String {
    let given = table.string("bucket");
    let (text, span) = match &given {
        Some(given) => (*given.get_ref(), given.span()),
        None => (name, table.span_of("name").unwrap_or(table.span())),
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let is_ambiguous = !shared && (text.contains("--") || text.ends_with('-'));
    if !text.is_empty() && text.len() <= 64 && text.chars().all(fits) && !is_ambiguous {
        return text.to_owned();
    }
    // A name that is missing has been reported.
    if given.is_some() || !text.is_empty() {
        let label = if is_ambiguous {
            "a bucket of which each plugin has its own has no `--`, and no dash at its end"
        } else {
            "expected 1 to 64 of the characters a-z A-Z 0-9 - _"
        };
        table.problems().push(
            Diagnostic::at(span, "this is no name for a bucket at a NATS server")
                .label(label)
                .hint("give it another name there with `bucket = \"..\"`"),
        );
    }
    String::new()
}

fn login(table: &Table<'_>, folder: &Path) -> Login {
    let secret = |key: &'static str| {
        let title = format!("`{key}`");
        let inner = table.table(key, &title)?;
        let source = secret::source(&inner, folder);
        inner.finish();
        source
    };
    let credentials = secret("credentials").map(Login::Credentials);
    let token = secret("token").map(Login::Token);
    let user = table.string("user").map(|user| (*user.get_ref()).to_owned());
    let password = secret("password");
    let given = |key: &str| table.span_of(key);
    if let (Some(first), Some(second)) = (
        given("credentials").or_else(|| given("token")),
        given("user").or_else(|| given("password")).or_else(|| given("credentials").and_then(|_| given("token"))),
    ) {
        table.problems().push(
            Diagnostic::at(second, "there are two ways to log in").label("one of them has to go").related(first, ""),
        );
    }
    match (given("user"), given("password")) {
        (Some(span), None) => table
            .problems()
            .push(Diagnostic::at(span, "`user` has no `password`").hint("add `password = { file = \"..\" }`")),
        (None, Some(span)) => {
            table.problems().push(Diagnostic::at(span, "`password` has no `user`").hint("add `user = \"..\"`"));
        }
        _ => {}
    }
    let user = user.zip(password).map(|(user, password)| Login::User(user, password));
    credentials.or(token).or(user).unwrap_or(Login::None)
}
