//! `[outbox]` and `[[outbox.sink]]`: where events are kept, and where they go. One function per kind of sink.

mod nats;
mod secret;
mod webhook;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tidegate_outbox::sink::file::FileOptions;
use tidegate_outbox::sink::nats::NatsConfig;
use tidegate_outbox::sink::webhook::WebhookConfig;
use tidegate_outbox::topic::Pattern;
use tidegate_outbox::{Backoff, Durability, Limits};
use toml::Spanned;
use toml::de::DeValue;

use self::secret::Place;
use super::diagnostic::{Diagnostic, Problems};
use super::names::name;
use super::reader::{DAY, MILLISECOND, Table, nearest};
use super::source::Files;

/// Sinks of one outbox.
const MOST_SINKS: usize = 64;
/// Patterns of one sink.
const MOST_TOPICS: usize = 64;

/// `[outbox]`: events are kept in a file until every sink has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outbox {
    /// `path`: the file.
    pub path: PathBuf,
    /// `durability`
    pub durability: Durability,
    /// `max_events`, `max_bytes`, `max_event`
    pub limits: Limits,
    /// `[[outbox.sink]]`, in file order.
    pub sinks: Vec<OutboxSink>,
}

/// `[[outbox.sink]]`: where events of some topics go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxSink {
    /// `name`, or made of the kind and the first topic.
    pub name: Arc<str>,
    /// `topic`, one pattern or a list.
    pub topics: Vec<Pattern>,
    /// `attempts`: of an event that the sink refuses, before it is a dead letter.
    pub attempts: u32,
    /// `backoff` and `max_backoff`: between two attempts.
    pub backoff: Backoff,
    /// `timeout`: of one call.
    pub timeout: Duration,
    /// `kind`, and its own keys.
    pub kind: SinkKind,
}

/// `kind`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SinkKind {
    /// A file of lines.
    File(FileOptions),
    /// The process's stdout.
    Stdout,
    /// A web server.
    Webhook(Box<WebhookConfig>),
    /// A stream of a NATS server.
    Nats(Box<NatsConfig>),
}

/// What is known of the outbox where a plugin is granted topics.
pub(super) enum Topics {
    /// There is none.
    NoOutbox,
    /// There is one that was misread: complaints about it would be wrong.
    Unsure,
    /// What its sinks take.
    Of(Vec<Pattern>),
}

impl Topics {
    /// `sound`: nothing was wrong with the outbox.
    pub(super) fn of(outbox: Option<&Outbox>, there: bool, sound: bool) -> Self {
        match outbox {
            _ if !sound => Self::Unsure,
            Some(outbox) => Self::Of(outbox.sinks.iter().flat_map(|sink| sink.topics.iter().cloned()).collect()),
            None if there => Self::Unsure,
            None => Self::NoOutbox,
        }
    }

    /// Report a pattern of which no sink takes anything.
    fn check(&self, pattern: &Pattern, span: Range<usize>, problems: &Problems) {
        let Self::Of(taken) = self else { return };
        if taken.iter().any(|other| other.overlaps(pattern)) {
            return;
        }
        let topics: Vec<&str> = taken.iter().map(Pattern::as_str).collect();
        let problem = Diagnostic::at(span, format!("no sink takes anything of `{pattern}`"));
        problems.push(match nearest(pattern.as_str(), &topics) {
            Some(near) => problem.hint(format!("did you mean \"{near}\"?")),
            None if topics.is_empty() => problem.hint("add an [[outbox.sink]] with this topic"),
            None => {
                problem.hint(format!("the sinks take {}; add an [[outbox.sink]] with this topic", topics.join(", ")))
            }
        });
    }
}

/// `outbox` under `[plugin.grants]`: the topics to which a plugin may publish.
pub(super) fn grant(table: &Table<'_>, topics: &Topics) -> Vec<Pattern> {
    let Some(texts) = table.strings("outbox") else { return Vec::new() };
    if let (Topics::NoOutbox, Some(span)) = (topics, table.span_of("outbox")) {
        table.problems().push(
            Diagnostic::at(span, "events are granted, but there is no outbox")
                .hint("add `[outbox]` with a `path`, and an [[outbox.sink]] for each topic"),
        );
    }
    let mut patterns = Vec::new();
    for text in texts {
        if let Some(pattern) = pattern("outbox", &text, table.problems()) {
            topics.check(&pattern, text.span(), table.problems());
            patterns.push(pattern);
        }
    }
    patterns
}

/// Read `[outbox]`; paths are taken from `folder`, and secrets are looked for there.
pub(super) fn outbox(table: Table<'_>, folder: &Path, files: Files) -> Option<Outbox> {
    let default = Limits::default();
    let path = path(&table, "outbox.db", folder);
    let durability = table.word(
        "durability",
        &[("process", Durability::Process), ("power", Durability::Power)],
        Durability::Process,
    );
    let size = |key, range, default: u64| table.size(key, range, usize::try_from(default).unwrap_or(usize::MAX)) as u64;
    let limits = Limits {
        max_events: table.count("max_events", 1..=100_000_000, 100_000) as u64,
        max_bytes: size("max_bytes", 1 << 10..=1 << 40, default.max_bytes),
        max_event: size("max_event", 1..=64 << 20, default.max_event),
    };
    if limits.max_event > limits.max_bytes
        && let Some(span) = table.span_of("max_event").or_else(|| table.span_of("max_bytes"))
    {
        table.problems().push(
            Diagnostic::at(span, "`max_event` is greater than `max_bytes`")
                .label("an event of this size would never fit")
                .hint("raise `max_bytes` or lower `max_event`"),
        );
    }
    let mut sinks: Vec<(OutboxSink, Range<usize>)> = Vec::new();
    for inner in table.tables_titled("sink", "[[outbox.sink]]") {
        let span = inner.span_of("name").unwrap_or(inner.span());
        let Some(sink) = sink(inner, Place { folder, files }, durability) else { continue };
        clashes(&sink, &span, &sinks, table.problems());
        sinks.push((sink, span));
    }
    if sinks.len() > MOST_SINKS {
        let problem =
            Diagnostic::at(table.span(), format!("there are {} sinks; at most {MOST_SINKS} fit", sinks.len()));
        table.problems().push(problem);
    }
    if table.span_of("sink").is_none() {
        table.problems().push(
            Diagnostic::at(table.span(), "the outbox has no sink, so no event would go anywhere")
                .hint("add an [[outbox.sink]] with `topic` and `kind`"),
        );
    }
    table.finish();
    let sinks = sinks.into_iter().map(|(sink, _)| sink).collect();
    Some(Outbox { path: path?, durability, limits, sinks })
}

/// Two sinks that cannot be told apart, or that would write into each other's file.
fn clashes(sink: &OutboxSink, span: &Range<usize>, others: &[(OutboxSink, Range<usize>)], problems: &Problems) {
    for (other, first) in others {
        if other.name == sink.name {
            problems.push(
                Diagnostic::at(span.clone(), format!("there are two sinks named `{}`", sink.name))
                    .label("again here")
                    .related(first.clone(), "first here")
                    .hint("give each a `name`: their deliveries are known by it"),
            );
        }
        if let (SinkKind::File(a), SinkKind::File(b)) = (&other.kind, &sink.kind)
            && a.path == b.path
        {
            problems.push(
                Diagnostic::at(span.clone(), format!("two sinks write to {}", a.path.display()))
                    .label("again here")
                    .related(first.clone(), "first here")
                    .hint("give one sink both topics"),
            );
        }
    }
}

/// One `[[outbox.sink]]`.
fn sink(table: Table<'_>, place: Place<'_>, durability: Durability) -> Option<OutboxSink> {
    let topics = topics(&table);
    let given = if table.span_of("name").is_some() { name(&table) } else { table.value("name").and(None) };
    let attempts = table.count("attempts", 1..=1_000_000, 20);
    let default = Backoff::default();
    let backoff = Backoff {
        first: table.duration("backoff", MILLISECOND..=DAY, default.first),
        longest: table.duration("max_backoff", MILLISECOND..=DAY, default.longest),
    };
    if backoff.first > backoff.longest
        && let Some(span) = table.span_of("backoff").or_else(|| table.span_of("max_backoff"))
    {
        let problem = Diagnostic::at(span, "`backoff` is greater than `max_backoff`");
        table.problems().push(problem.hint("raise `max_backoff` or lower `backoff`"));
    }
    let timeout = table.duration("timeout", MILLISECOND..=DAY, Duration::from_secs(30));
    let Some(word) = table.string("kind") else {
        if table.span_of("kind").is_none() {
            table.missing("kind", "\"file\"");
        }
        // Its own keys are unknown only because the kind is.
        return None;
    };
    let kind = match *word.get_ref() {
        "file" => file(&table, place.folder, durability),
        "stdout" => Some(SinkKind::Stdout),
        "webhook" => webhook::webhook(&table, timeout, place).map(|config| SinkKind::Webhook(Box::new(config))),
        "nats" => nats::nats(&table, &topics, timeout, place).map(|config| SinkKind::Nats(Box::new(config))),
        _ => {
            let kinds = ["file", "stdout", "webhook", "nats"];
            let problem = Diagnostic::at(word.span(), "`kind` has no such value")
                .label("expected \"file\", \"stdout\", \"webhook\" or \"nats\"");
            table.problems().push(match nearest(word.get_ref(), &kinds) {
                Some(near) => problem.hint(format!("did you mean \"{near}\"?")),
                None => problem,
            });
            return None;
        }
    };
    let name = given.or_else(|| topics.first().map(|topic| Arc::from(format!("{}:{topic}", word.get_ref()))));
    table.finish();
    let attempts = u32::try_from(attempts).unwrap_or(u32::MAX);
    Some(OutboxSink { name: name?, topics, attempts, backoff, timeout, kind: kind? })
}

/// `kind = "file"`
fn file(table: &Table<'_>, folder: &Path, durability: Durability) -> Option<SinkKind> {
    let path = path(table, "events.ndjson", folder);
    let rotate = table.size("rotate", 1..=1 << 40, 64 << 20) as u64;
    let keep = table.count("keep", 0..=10_000, 8);
    Some(SinkKind::File(FileOptions { path: path?, rotate, keep, durability }))
}

/// `path`, which has to be there.
fn path(table: &Table<'_>, example: &str, folder: &Path) -> Option<PathBuf> {
    match table.string("path") {
        Some(path) if path.get_ref().is_empty() => {
            table.problems().push(Diagnostic::at(path.span(), "`path` is empty").hint("name a file"));
            None
        }
        Some(path) => Some(folder.join(path.get_ref())),
        None => {
            if table.span_of("path").is_none() {
                table.missing("path", &format!("\"{example}\""));
            }
            None
        }
    }
}

/// `topic`: one pattern or a list of them.
fn topics(table: &Table<'_>) -> Vec<Pattern> {
    let Some(value) = table.value("topic") else {
        table.missing("topic", "\"audit.*\"");
        return Vec::new();
    };
    let texts = match value.get_ref() {
        DeValue::String(text) => vec![Spanned::new(value.span(), text.as_ref())],
        DeValue::Array(items) if !items.is_empty() && items.len() <= MOST_TOPICS => table.strings_in("topic", items),
        _ => {
            table.wrong("topic", value, &format!("a pattern such as \"audit.*\", or a list of 1 to {MOST_TOPICS}"));
            return Vec::new();
        }
    };
    texts.iter().filter_map(|text| pattern("topic", text, table.problems())).collect()
}

fn pattern(key: &str, text: &Spanned<&str>, problems: &Problems) -> Option<Pattern> {
    match Pattern::parse(text.get_ref()) {
        Ok(pattern) => Some(pattern),
        Err(label) => {
            problems.push(
                Diagnostic::at(text.span(), format!("`{key}` has something that is no pattern of topics"))
                    .label(label)
                    .hint("for example \"audit.login\", \"audit.*\" or \"audit.>\""),
            );
            None
        }
    }
}
