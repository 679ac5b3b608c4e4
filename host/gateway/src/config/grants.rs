//! `[plugin.grants]`: what a plugin may do beyond what every plugin may. One function per key.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use tidegate_outbound::Granted;
use tidegate_outbox::topic::Pattern;
use tidegate_runtime::metrics::DEFAULT_SERIES;
use toml::de::DeValue;

use super::diagnostic::Diagnostic;
use super::names::{Names, name};
use super::outbound;
use super::outbox::{self, Topics};
use super::reader::{Table, nearest};
use super::secret::{self, SecretSource};

/// Secrets of one plugin.
const MOST_SECRETS: usize = 64;

/// Series that a plugin may be allowed.
const MOST_SERIES: usize = 10_000;

/// What one plugin has been granted. Nothing, by default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grants {
    /// `outbox`: the topics to which it may publish events.
    pub outbox: Vec<Pattern>,
    /// `http`: it may make requests to these origins; `None` if it may not even import what makes them.
    pub http: Option<Vec<Granted>>,
    /// `background`: it may put work off.
    pub background: bool,
    /// `metrics`: how many series it may keep in the gateway's metrics.
    pub metrics: Option<usize>,
    /// `kv`: its buckets, by name.
    pub kv: BTreeSet<Arc<str>>,
    /// `config`: values of its own configuration that it may ask for by name.
    pub config: BTreeMap<String, String>,
    /// `secrets`: what it may ask for by name, and where that is.
    pub secrets: BTreeMap<Arc<str>, SecretSource>,
}

/// What the rest of the file has to be granted.
#[derive(Clone, Copy)]
pub(super) struct Grantable<'a> {
    /// The names of `[[kv]]`.
    pub(super) buckets: &'a Names<'a>,
    /// What the sinks of `[outbox]` take.
    pub(super) topics: &'a Topics,
}

/// What grants refer to.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    /// What there is.
    pub(super) there_is: Grantable<'a>,
    /// Files are looked for here.
    pub(super) folder: &'a Path,
    /// `[plugin.config]` of the plugin, as JSON.
    pub(super) config: &'a str,
}

/// Read `[plugin.grants]`.
pub(super) fn grants(table: Table<'_>, context: Context<'_>) -> Grants {
    let grants = Grants {
        outbox: outbox::grant(&table, context.there_is.topics),
        http: outbound::http(&table),
        background: table.boolean("background", false),
        metrics: metrics(&table),
        kv: kv(&table, context.there_is.buckets),
        config: config(&table, context.config),
        secrets: secrets(&table, context.folder),
    };
    for name in grants.secrets.keys().filter(|name| grants.config.contains_key(&***name)) {
        if let Some(span) = table.span_of("secrets") {
            table.problems().push(
                Diagnostic::at(span, format!("`{name}` is both a value of `config` and a secret"))
                    .hint("give one of them another name"),
            );
        }
    }
    table.finish();
    grants
}

/// `kv`: names of buckets.
fn kv(table: &Table<'_>, buckets: &Names<'_>) -> BTreeSet<Arc<str>> {
    let mut granted = BTreeSet::new();
    for text in table.strings("kv").unwrap_or_default() {
        let name = Arc::<str>::from(*text.get_ref());
        if buckets.find(&name, text.span()).is_some() && !granted.insert(Arc::clone(&name)) {
            table.problems().push(Diagnostic::at(text.span(), format!("`kv` has `{name}` twice")));
        }
    }
    granted
}

/// `config`: keys of `[plugin.config]`, and what they have there as text: strings as they are, everything else as JSON.
fn config(table: &Table<'_>, config: &str) -> BTreeMap<String, String> {
    let values: serde_json::Map<String, serde_json::Value> = serde_json::from_str(config).unwrap_or_default();
    let mut granted = BTreeMap::new();
    for text in table.strings("config").unwrap_or_default() {
        let key = *text.get_ref();
        match values.get(key) {
            Some(_) if granted.contains_key(key) => {
                table.problems().push(Diagnostic::at(text.span(), format!("`config` has `{key}` twice")));
            }
            Some(serde_json::Value::String(value)) => {
                granted.insert(key.to_owned(), value.clone());
            }
            Some(value) => {
                granted.insert(key.to_owned(), value.to_string());
            }
            None => {
                let keys: Vec<&str> = values.keys().map(String::as_str).collect();
                let hint = match nearest(key, &keys) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => format!("add `{key} = ..` under [plugin.config]"),
                };
                let problem = Diagnostic::at(text.span(), format!("[plugin.config] has no `{key}`"));
                table.problems().push(problem.hint(hint));
            }
        }
    }
    granted
}

/// `secrets`: a list of `{ name, file }` or `{ name, env }`.
fn secrets(table: &Table<'_>, folder: &Path) -> BTreeMap<Arc<str>, SecretSource> {
    const EXPECTED: &str = "a list of { name = .., file = .. } or { name = .., env = .. }";
    let mut secrets = BTreeMap::new();
    let Some(value) = table.value("secrets") else { return secrets };
    let DeValue::Array(items) = value.get_ref() else {
        table.wrong("secrets", value, EXPECTED);
        return secrets;
    };
    for item in items {
        let DeValue::Table(entries) = item.get_ref() else {
            table.wrong("secrets", item, EXPECTED);
            continue;
        };
        let secret = Table::new(entries, "a secret", item.span(), table.problems());
        let (name, source) = (name(&secret), secret::source(&secret, folder));
        secret.finish();
        let (Some(name), Some(source)) = (name, source) else { continue };
        if secrets.insert(Arc::clone(&name), source).is_some() {
            table.problems().push(Diagnostic::at(item.span(), format!("there are two secrets named `{name}`")));
        }
    }
    if secrets.len() > MOST_SECRETS {
        let count = secrets.len();
        table.problems().push(
            Diagnostic::at(value.span(), format!("there are {count} secrets"))
                .label(format!("a plugin has at most {MOST_SECRETS}")),
        );
    }
    secrets
}

/// `true`, `false`, or `{ series }`.
fn metrics(table: &Table<'_>) -> Option<usize> {
    let value = table.value("metrics")?;
    match value.get_ref() {
        DeValue::Boolean(yes) => yes.then_some(DEFAULT_SERIES),
        DeValue::Table(entries) => {
            let inner = Table::new(entries, "`metrics`", value.span(), table.problems());
            let series = inner.count("series", 1..=MOST_SERIES, DEFAULT_SERIES);
            inner.finish();
            Some(series)
        }
        _ => {
            table.wrong("metrics", value, "true, false or { series = .. }");
            None
        }
    }
}
