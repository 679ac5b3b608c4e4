//! `tidegate outbox`: looking at events, and deciding what becomes of those that were given up.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use tidegate_outbox::offline::{self, Filter, Listing, OfflineError, Row, State};
use tidegate_outbox::sink::json::timestamp;
use tidegate_outbox::topic::Pattern;
use uuid::Uuid;

use super::table::Table;
use super::{
    Failure, OutboxCommand, OutboxFile, OutboxLsArgs, OutboxPurgeArgs, OutboxRepairArgs, OutboxReplayArgs, print,
};
use crate::config::{Config, HumanDuration, HumanSize};

/// Do what was asked for.
pub(super) fn outbox(command: &OutboxCommand) -> Result<(), Failure> {
    match command {
        OutboxCommand::Ls(args) => ls(args),
        OutboxCommand::Replay(args) => replay(args),
        OutboxCommand::Purge(args) => purge(args),
        OutboxCommand::Repair(args) => repair(args),
    }
}

impl From<OfflineError> for Failure {
    fn from(error: OfflineError) -> Self {
        let hint = match &error {
            OfflineError::Open(tidegate_outbox::OpenError::InUse { .. }) => {
                Some("stop the gateway first; `tidegate outbox ls` works beside it".to_owned())
            }
            OfflineError::Open(error) => Some(error.hint()),
            OfflineError::File { .. } => None,
        };
        Self::Gateway(super::failure::Message { text: error.to_string(), hint })
    }
}

/// An outbox.
struct Found {
    path: PathBuf,
    /// The sinks that the config has, if there is a config.
    sinks: Option<Vec<Arc<str>>>,
}

impl OutboxFile {
    fn find(&self) -> Result<Found, Failure> {
        if let Some(path) = &self.path {
            return Ok(Found { path: path.clone(), sinks: None });
        }
        let config = Config::load(&self.config)?;
        let Some(outbox) = config.outbox else {
            let text = format!("{} has no [outbox]", self.config.display());
            return Err(Failure::usage(text, Some("name the file itself with `--path FILE`")));
        };
        Ok(Found { path: outbox.path, sinks: Some(outbox.sinks.into_iter().map(|sink| sink.name).collect()) })
    }
}

fn pattern(text: Option<&str>) -> Result<Option<Pattern>, Failure> {
    let hint = "for example \"audit.login\", \"audit.*\" or \"audit.>\"";
    let parse =
        |text| Pattern::parse(text).map_err(|problem| Failure::usage(format!("`{text}`: {problem}"), Some(hint)));
    text.map(parse).transpose()
}

fn ids(texts: &[String]) -> Result<Vec<Uuid>, Failure> {
    let parse = |text: &String| {
        let hint = Some("`tidegate outbox ls` shows them");
        text.parse().map_err(|_| Failure::usage(format!("`{text}` is no id of an event"), hint))
    };
    texts.iter().map(parse).collect()
}

fn ls(args: &OutboxLsArgs) -> Result<(), Failure> {
    let Found { path, sinks: configured } = args.file.find()?;
    let state = match (args.pending, args.dead, args.damaged) {
        (true, ..) => Some(State::Pending),
        (_, true, _) => Some(State::Dead),
        (_, _, true) => Some(State::Damaged),
        _ => None,
    };
    let filter = Filter { state, topic: pattern(args.topic.as_deref())?, ..Filter::default() };
    let listing = offline::list(&path, &filter, args.limit)?;
    if args.json {
        return print(&listing.rows.iter().map(json).collect::<String>());
    }
    let mut text = table(&listing);
    if let Some(configured) = configured {
        for (sink, count) in offline::orphans(&path, &configured)? {
            let _ = writeln!(text, "{count} for sink `{}`, which the config does not have", printable(&sink));
        }
    }
    print(&text)
}

fn table(listing: &Listing) -> String {
    let Listing { rows, total } = listing;
    if rows.is_empty() {
        return format!("{total} events\n");
    }
    let mut table = Table::default();
    table.row(["ID", "TOPIC", "KEY", "FROM", "SIZE", "AGE", "SINK", "STATE", "TRIES", "LAST PROBLEM"]);
    for row in rows {
        let Row { seq, sink, state, attempts, problem, event } = row;
        let (attempts, problem) = (attempts.to_string(), printable(problem.as_deref().unwrap_or_default()));
        let sink = printable(sink);
        match event {
            Some(event) => table.row([
                &event.id.to_string(),
                &event.topic,
                &printable(event.key.as_deref().unwrap_or_default()),
                &event.source,
                &HumanSize(event.body.len() as u64).to_string(),
                &HumanDuration(std::time::Duration::from_secs(offline::age(event).as_secs())).to_string(),
                &sink,
                state.as_str(),
                &attempts,
                &problem,
            ]),
            None => {
                table.row([&format!("(row {seq})"), "", "", "", "", "", &sink, state.as_str(), &attempts, &problem])
            }
        }
    }
    let mut text = table.render();
    if rows.len() < *total {
        let _ = writeln!(text, "and {} more; `--limit` shows them", total - rows.len());
    }
    text
}

/// Text of a plugin or a receiver on a terminal.
fn printable(text: &str) -> String {
    const LONGEST: usize = 60;
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST + 1).collect();
    if clean.chars().count() > LONGEST { clean.chars().take(LONGEST - 1).chain(['…']).collect() } else { clean }
}

/// A line of `ls --json`.
#[derive(Debug, Serialize)]
struct Line<'a> {
    /// Its place in the order.
    seq: i64,
    id: Option<String>,
    topic: Option<&'a str>,
    key: Option<&'a str>,
    source: Option<&'a str>,
    content_type: Option<&'a str>,
    accepted: Option<String>,
    bytes: Option<usize>,
    sink: &'a str,
    state: &'static str,
    attempts: u32,
    problem: Option<&'a str>,
}

fn json(row: &Row) -> String {
    let event = row.event.as_ref();
    let line = Line {
        seq: row.seq,
        id: event.map(|event| event.id.to_string()),
        topic: event.map(|event| &*event.topic),
        key: event.and_then(|event| event.key.as_deref()),
        source: event.map(|event| &*event.source),
        content_type: event.and_then(|event| event.content_type.as_deref()),
        accepted: event.map(|event| timestamp(event.accepted)),
        bytes: event.map(|event| event.body.len()),
        sink: &row.sink,
        state: row.state.as_str(),
        attempts: row.attempts,
        problem: row.problem.as_deref(),
    };
    // Strings and numbers always become JSON.
    serde_json::to_string(&line).unwrap_or_default() + "\n"
}

fn replay(args: &OutboxReplayArgs) -> Result<(), Failure> {
    let filter = Filter { topic: pattern(args.topic.as_deref())?, ids: ids(&args.ids)?, ..Filter::default() };
    let Found { path, .. } = args.file.find()?;
    let replayed = offline::replay(&path, &filter)?;
    print(&format!("{replayed} dead letters are pending again\n"))
}

fn purge(args: &OutboxPurgeArgs) -> Result<(), Failure> {
    let state = match (args.dead, args.damaged) {
        (true, _) => Some(State::Dead),
        (_, true) => Some(State::Damaged),
        _ => None,
    };
    let filter = Filter { state, topic: None, sink: args.sink.clone(), ids: ids(&args.ids)? };
    let Found { path, .. } = args.file.find()?;
    if !args.yes {
        let total = offline::list(&path, &filter, 0)?.total;
        let text = format!("{total} events would be gone for good");
        return Err(Failure::usage(text, Some("add `--yes` if that is what you want")));
    }
    let purged = offline::purge(&path, &filter)?;
    print(&format!("{purged} events are gone\n"))
}

fn repair(args: &OutboxRepairArgs) -> Result<(), Failure> {
    let Found { path, .. } = args.file.find()?;
    if !args.yes {
        let text = format!("{} would be put aside, and a new file made of what can be read of it", path.display());
        return Err(Failure::usage(text, Some("add `--yes` if that is what you want")));
    }
    let offline::Repaired { saved, damaged, aside } = offline::repair(&path)?;
    let kept = aside.display();
    print(&format!("{saved} events are saved, at least {damaged} are not; the damaged file is kept as {kept}\n"))
}
