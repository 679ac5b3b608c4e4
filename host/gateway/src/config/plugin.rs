//! `[[plugin]]` and the tables under it.

use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tidegate_runtime::{Deferred, Instances, Isolation, Limits, Recycle};
use toml::de::DeValue;

use super::diagnostic::Diagnostic;
use super::grants::{self, Context, Grantable, Grants};
use super::names::name;
use super::reader::{DAY, MILLISECOND, Table, Value};
use super::units::{HumanDuration, HumanSize};

/// Instances of one plugin. Each has a slot of address space reserved for it.
pub(super) const MOST_INSTANCES: usize = 1_000;

/// Calls after which an instance is recycled: more than any lives to see.
const MOST_CALLS: usize = 1_000_000_000_000;

/// The sizes that a memory may have, and the limits of it.
const MEMORY: RangeInclusive<usize> = 64 << 10..=4 << 30;

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

/// Read one `[[plugin]]`; `path` is taken from `folder`, and it may be granted what `there_is`.
pub(super) fn plugin(table: Table<'_>, folder: &Path, there_is: Grantable<'_>) -> Plugin {
    let config = config(&table);
    let context = Context { there_is, folder, config: &config };
    let grants = table.table("grants", "[plugin.grants]").map(|table| grants::grants(table, context));
    let plugin = Plugin {
        name: name(&table).unwrap_or_else(|| Arc::from("")),
        path: path(&table).map(|path| folder.join(path)).unwrap_or_default(),
        sha256: sha256(&table),
        instances: instances(&table),
        recycle: recycle(&table),
        isolation: table.word("isolation", &[("warm", Isolation::Warm), ("fresh", Isolation::Fresh)], Isolation::Warm),
        on_failure: table.word(
            "on_failure",
            &[("closed", OnFailure::Closed), ("open", OnFailure::Open)],
            OnFailure::Closed,
        ),
        quarantine: quarantine(&table),
        hand_over: table.boolean("hand_over", false),
        config,
        grants: grants.unwrap_or_default(),
        limits: table.table("limits", "[plugin.limits]").map(limits).unwrap_or_default(),
        deferred: table.table("deferred", "[plugin.deferred]").map(deferred).unwrap_or_default(),
        tick: tick(&table),
    };
    fits_together(&table, &plugin);
    table.finish();
    plugin
}

/// Report what other keys make pointless: it says something its author does not know.
fn fits_together(table: &Table<'_>, plugin: &Plugin) {
    let span_of = |under: &str, key: &str| table.peek(under).and_then(|table| table.span_of(key));
    let pointless = |span: Option<Range<usize>>, key: &str, why: &str, hint: &str| {
        if let Some(span) = span {
            table.problems().push(Diagnostic::at(span, format!("`{key}` has no effect")).label(why).hint(hint));
        }
    };
    if plugin.isolation == Isolation::Fresh {
        let why = "with `isolation = \"fresh\"` no instance outlives its call";
        let hint = |key| format!("take `{key}` out, or `isolation`");
        pointless(table.span_of("recycle"), "recycle", why, &hint("recycle"));
        let hand_over = table.span_of("hand_over").filter(|_| plugin.hand_over);
        pointless(hand_over, "hand_over", why, &hint("hand_over"));
        pointless(span_of("instances", "idle"), "idle", why, &hint("idle"));
    } else if plugin.instances.min == plugin.instances.max && span_of("instances", "min").is_some() {
        // Where one of the two is a default, whether they are the same depends on the machine.
        let idle = span_of("instances", "max").and_then(|_| span_of("instances", "idle"));
        let why = "`min` and `max` are the same: there is never an instance too many";
        pointless(idle, "idle", why, "take it out, or raise `max`");
    }
    if !plugin.grants.background {
        let why = "without `grants.background` the plugin cannot put anything off";
        let hint = "grant it with `background = true` under [plugin.grants], or take [plugin.deferred] out";
        pointless(table.span_of("deferred"), "deferred", why, hint);
    } else if plugin.deferred.concurrency > plugin.instances.max && table.span_of("instances").is_some() {
        let why = format!("no more than {} instances can work on it at a time", plugin.instances.max);
        let hint = "lower `concurrency`, or raise `instances`";
        let span = span_of("deferred", "concurrency");
        if let Some(span) = span {
            let problem = Diagnostic::at(span, "`deferred.concurrency` is greater than `instances`").label(why);
            table.problems().push(problem.hint(hint));
        }
    }
    if let Some(memory) = plugin.recycle.memory.filter(|memory| *memory > plugin.limits.memory)
        && let Some(span) = span_of("recycle", "memory")
    {
        let (memory, limit) = (HumanSize(memory as u64), HumanSize(plugin.limits.memory as u64));
        let mut problem = Diagnostic::at(span, "`recycle.memory` is greater than `limits.memory`")
            .label(format!("a plugin that may use {limit} never reaches {memory}"));
        if let Some(limit) = span_of("limits", "memory") {
            problem = problem.related(limit, "");
        }
        table.problems().push(problem.hint("raise `limits.memory` or lower `recycle.memory`"));
    }
}

fn path<'t>(table: &Table<'t>) -> Option<&'t str> {
    match table.string("path") {
        Some(path) if path.get_ref().is_empty() => {
            table.problems().push(Diagnostic::at(path.span(), "`path` is empty"));
            None
        }
        Some(path) => Some(path.into_inner()),
        None => {
            if table.span_of("path").is_none() {
                table.missing("path", "\"plugins/name.wasm\"");
            }
            None
        }
    }
}

/// 64 hex digits, as `sha256sum` prints them or with the prefix that `tidegate inspect` shows.
fn sha256(table: &Table<'_>) -> Option<String> {
    let text = table.string("sha256")?;
    let digits = text.get_ref().strip_prefix("sha256:").unwrap_or(text.get_ref());
    if digits.len() == 64 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Some(digits.to_ascii_lowercase());
    }
    table.problems().push(
        Diagnostic::at(text.span(), "`sha256` is not a SHA-256 digest")
            .label(format!("expected 64 hexadecimal digits, found {} characters", digits.chars().count()))
            .hint("`tidegate inspect` prints it"),
    );
    None
}

/// A number, or `{ min, max, idle }`. By default one instance per worker thread is ready, and up to four times as many come
/// up when calls would wait: a call that sleeps holds its instance but not its thread.
fn instances(table: &Table<'_>) -> Instances {
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_INSTANCES / 4);
    let default = Instances { min: workers, max: workers * 4, idle: Instances::IDLE };
    let Some(value) = table.value("instances") else { return default };
    let DeValue::Table(entries) = value.get_ref() else {
        if matches!(value.get_ref(), DeValue::Integer(_)) {
            let count = table.count_in("instances", value, 1..=MOST_INSTANCES);
            return count.map_or(default, Instances::fixed);
        }
        table.wrong("instances", value, "a number or { min = .., max = .., idle = .. }");
        return default;
    };
    let inner = Table::new(entries, "`instances`", value.span(), table.problems());
    let given = |key| inner.value(key).and_then(|value| inner.count_in(key, value, 1..=MOST_INSTANCES));
    let (min, max) = (given("min"), given("max"));
    let instances = Instances {
        min: min.unwrap_or_else(|| default.min.min(max.unwrap_or(default.min))),
        max: max.unwrap_or_else(|| default.max.max(min.unwrap_or(default.max))),
        idle: inner.duration("idle", MILLISECOND..=DAY, default.idle),
    };
    if instances.min > instances.max {
        table.problems().push(
            Diagnostic::at(value.span(), "`min` is greater than `max`")
                .label(format!("{} is greater than {}", instances.min, instances.max)),
        );
    }
    inner.finish();
    instances
}

/// `{ calls, memory }`, one of the two at least.
fn recycle(table: &Table<'_>) -> Recycle {
    let Some(value) = table.value("recycle") else { return Recycle::default() };
    let DeValue::Table(entries) = value.get_ref() else {
        table.wrong("recycle", value, "{ calls = .., memory = .. }");
        return Recycle::default();
    };
    if entries.is_empty() {
        let problem = Diagnostic::at(value.span(), "`recycle` says neither `calls` nor `memory`");
        table.problems().push(problem.hint("for example `recycle = { calls = 100000, memory = \"48MiB\" }`"));
    }
    let inner = Table::new(entries, "`recycle`", value.span(), table.problems());
    // Zero is out of both ranges: it stands for a key that is not there, or is wrong.
    let calls = inner.count("calls", 1..=MOST_CALLS, 0);
    let memory = inner.size("memory", MEMORY, 0);
    inner.finish();
    Recycle { calls: (calls > 0).then_some(calls as u64), memory: (memory > 0).then_some(memory) }
}

/// Faults in a row that are enough, or `false` for never. The breaker opens at ten; from there on each further one is a
/// failed attempt, up to ten seconds apart. Six of those are twenty seconds without one good call.
fn quarantine(table: &Table<'_>) -> Option<u32> {
    const DEFAULT: u32 = 16;
    let Some(value) = table.value("quarantine") else { return Some(DEFAULT) };
    match value.get_ref() {
        DeValue::Boolean(false) => None,
        DeValue::Integer(_) => {
            let faults = table.count_in("quarantine", value, 10..=1_000_000);
            faults.and_then(|faults| u32::try_from(faults).ok()).or(Some(DEFAULT))
        }
        _ => {
            table.wrong("quarantine", value, "a number of faults in a row, or false");
            Some(DEFAULT)
        }
    }
}

/// `[plugin.config]` as JSON.
fn config(table: &Table<'_>) -> String {
    let none = || "{}".to_owned();
    let Some(value) = table.value("config") else { return none() };
    if !matches!(value.get_ref(), DeValue::Table(_)) {
        table.wrong("config", value, "a table; write it under [plugin.config]");
        return none();
    }
    json(table, value).map_or_else(none, |json| json.to_string())
}

/// A TOML value as JSON. Dates become strings; what JSON cannot hold is reported.
fn json(table: &Table<'_>, value: Value<'_>) -> Option<serde_json::Value> {
    let refuse = |label: &str| {
        table.problems().push(
            Diagnostic::at(value.span(), "this value cannot be handed to the plugin as JSON").label(label.to_owned()),
        );
        None
    };
    Some(match value.get_ref() {
        DeValue::String(text) => text.as_ref().into(),
        DeValue::Boolean(yes) => (*yes).into(),
        DeValue::Datetime(time) => time.to_string().into(),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => number.into(),
            Err(_) => return refuse("does not fit into 64 bits"),
        },
        DeValue::Float(number) => match number.as_str().parse().ok().and_then(serde_json::Number::from_f64) {
            Some(number) => number.into(),
            None => return refuse("JSON has no such number"),
        },
        // Every element is looked at, also after one that does not fit: each is reported.
        DeValue::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| json(table, item)).collect();
            items.into_iter().collect::<Option<Vec<_>>>()?.into()
        }
        DeValue::Table(entries) => {
            let entries: Vec<_> = entries
                .iter()
                .map(|(key, value)| Some((key.get_ref().clone().into_owned(), json(table, value)?)))
                .collect();
            entries.into_iter().collect::<Option<serde_json::Map<_, _>>>()?.into()
        }
    })
}

/// `[plugin.deferred]`
fn deferred(table: Table<'_>) -> Deferred {
    let default = Deferred::default();
    let deferred = Deferred {
        queue: table.count("queue", 1..=1_000_000, default.queue),
        bytes: table.size("bytes", 1..=1 << 30, default.bytes),
        concurrency: table.count("concurrency", 1..=MOST_INSTANCES, default.concurrency),
        drain: table.duration("drain", Duration::ZERO..=DAY, default.drain),
    };
    table.finish();
    deferred
}

/// How often `on-tick` is called.
fn tick(table: &Table<'_>) -> Option<Duration> {
    // Known, whether it is there or not.
    table.value("tick")?;
    let second = Duration::from_secs(1);
    Some(table.duration("tick", 10 * MILLISECOND..=DAY, second))
}

/// `[plugin.limits]`
fn limits(table: Table<'_>) -> Limits {
    let default = Limits::default();
    let minute = Duration::from_secs(60);
    let limits = Limits {
        configure: table.duration("configure", MILLISECOND..=10 * minute, default.configure),
        cpu: table.duration("cpu", MILLISECOND..=10 * minute, default.cpu),
        wall: table.duration("wall", MILLISECOND..=DAY, default.wall),
        deferred: table.duration("deferred", MILLISECOND..=10 * minute, default.deferred),
        shutdown: table.duration("shutdown", MILLISECOND..=DAY, default.shutdown),
        memory: table.size("memory", MEMORY, default.memory),
        queue: table.count("queue", 0..=1_000_000, default.queue),
        body: table.size("body", 1..=1 << 30, default.body),
        snapshot: table.size("snapshot", 1..=64 << 20, default.snapshot),
        log_lines: table.count("log_lines", 1..=1_000_000, default.log_lines),
        // The longest line has 8 KiB: it has to fit.
        log_bytes: table.size("log_bytes", 8 << 10..=1 << 30, default.log_bytes),
    };
    // A limit that another one makes unreachable says something its author does not know.
    if limits.cpu > limits.wall {
        let (cpu, wall) = (HumanDuration(limits.cpu), HumanDuration(limits.wall));
        unreachable(&table, "cpu", "wall", &format!("a call ends after {wall}, before it can use {cpu} of CPU time"));
    }
    if limits.body > limits.memory {
        let (body, memory) = (HumanSize(limits.body as u64), HumanSize(limits.memory as u64));
        unreachable(&table, "body", "memory", &format!("a body of {body} does not fit into {memory} of memory"));
    }
    // Its default may be greater: a plugin that leaves none has no reason to think of it.
    if limits.snapshot > limits.memory && table.span_of("snapshot").is_some() {
        let (snapshot, memory) = (HumanSize(limits.snapshot as u64), HumanSize(limits.memory as u64));
        let label = format!("a snapshot of {snapshot} does not fit into {memory} of memory");
        unreachable(&table, "snapshot", "memory", &label);
    }
    table.finish();
    limits
}

/// Report that `key` is greater than the limit `bound`, at whichever of the two is in the file.
fn unreachable(table: &Table<'_>, key: &'static str, bound: &'static str, label: &str) {
    let (own, other) = (table.span_of(key), table.span_of(bound));
    let Some(span) = own.clone().or_else(|| other.clone()) else { return };
    let mut problem = Diagnostic::at(span, format!("`{key}` is greater than `{bound}`")).label(label);
    if own.is_some()
        && let Some(other) = other
    {
        problem = problem.related(other, "");
    }
    table.problems().push(problem.hint(format!("raise `{bound}` or lower `{key}`")));
}
