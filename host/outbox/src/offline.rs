//! Looking at a file and mending it from outside.
//!
//! Looking is possible beside a gateway that runs, and changes nothing. Everything else takes the lock, so it needs a file that
//! nobody has open.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, params};
use uuid::Uuid;

use crate::event::Event;
use crate::status::now;
use crate::store::read::{Entry, each, event_after, tallies};
use crate::store::write::Accepted;
use crate::store::{DEAD, Durability, OpenError, PENDING, Store, describe, lock, open_for_reading};
use crate::topic::Pattern;

/// What could not be done.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// The file cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It can, but what is in it cannot be read or changed.
    #[error("the outbox {}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is the matter.
        problem: String,
    },
}

impl OfflineError {
    fn file(path: &Path, problem: impl Into<String>) -> Self {
        Self::File { path: path.to_owned(), problem: problem.into() }
    }
}

/// How a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It waits.
    Pending,
    /// It has been given up.
    Dead,
    /// Its event is not what was written.
    Damaged,
}

impl State {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Dead => "dead",
            Self::Damaged => "damaged",
        }
    }

    fn of(number: i64) -> Self {
        match number {
            PENDING => Self::Pending,
            DEAD => Self::Dead,
            // Any other number is a damaged one.
            _ => Self::Damaged,
        }
    }
}

/// A delivery of an event to a sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The event's place in the order.
    pub seq: i64,
    /// To whom.
    pub sink: String,
    /// How it stands.
    pub state: State,
    /// How often it has been refused.
    pub attempts: u32,
    /// What was said last.
    pub problem: Option<String>,
    /// The event; `None` if it is damaged.
    pub event: Option<Event>,
}

/// Which deliveries; an empty filter has all.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Those that stand so.
    pub state: Option<State>,
    /// Those of topics that this matches.
    pub topic: Option<Pattern>,
    /// Those of this sink.
    pub sink: Option<String>,
    /// Those of events with these ids; all, if there are none.
    pub ids: Vec<Uuid>,
}

impl Filter {
    fn takes(&self, row: &Row) -> bool {
        let event = row.event.as_ref();
        self.state.is_none_or(|state| state == row.state)
            && self.topic.as_ref().is_none_or(|topic| event.is_some_and(|event| topic.matches(&event.topic)))
            && self.sink.as_ref().is_none_or(|sink| *sink == row.sink)
            && (self.ids.is_empty() || event.is_some_and(|event| self.ids.contains(&event.id)))
    }
}

/// What there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// In the order of their events.
    pub rows: Vec<Row>,
    /// How many there are altogether.
    pub total: usize,
}

/// Look for deliveries; at most `limit` of them are returned. Possible beside a gateway that runs.
///
/// # Errors
/// When the file cannot be read.
pub fn list(path: &Path, filter: &Filter, limit: usize) -> Result<Listing, OfflineError> {
    let connection = open_for_reading(path)?;
    let (mut rows, mut total) = (Vec::new(), 0);
    visit(&connection, filter, |_, row| {
        total += 1;
        if rows.len() < limit {
            rows.push(row);
        }
    })
    .map_err(|error| OfflineError::file(path, describe(&error)))?;
    Ok(Listing { rows, total })
}

/// Make dead letters pending again; whatever else the filter has is left alone. Returns how many there were.
///
/// # Errors
/// When the file is in use, or cannot be changed.
pub fn replay(path: &Path, filter: &Filter) -> Result<usize, OfflineError> {
    let filter = Filter { state: Some(State::Dead), ..filter.clone() };
    change(path, &filter, |store, found| store.revive(found))
}

/// Remove deliveries, and events that nobody is to get any more. Returns how many there were.
///
/// # Errors
/// When the file is in use, or cannot be changed.
pub fn purge(path: &Path, filter: &Filter) -> Result<usize, OfflineError> {
    change(path, filter, |store, found| store.remove(found).map(|(removed, _)| removed))
}

fn change(
    path: &Path,
    filter: &Filter,
    deed: impl FnOnce(&mut Store, &[(i64, i64)]) -> rusqlite::Result<usize>,
) -> Result<usize, OfflineError> {
    must_exist(path)?;
    // Somebody watches, and will want it to be so afterwards: on the disk.
    let mut store = Store::open(path, Durability::Power)?;
    let sql = |error: rusqlite::Error| OfflineError::file(path, describe(&error));
    let connection = open_for_reading(store.path())?;
    let mut found = Vec::new();
    visit(&connection, filter, |key, _| found.push(key)).map_err(sql)?;
    drop(connection);
    let changed = deed(&mut store, &found).map_err(sql)?;
    store.checkpoint().map_err(sql)?;
    Ok(changed)
}

fn must_exist(path: &Path) -> Result<(), OfflineError> {
    match std::fs::metadata(path) {
        Ok(_) => Ok(()),
        Err(error) => Err(OpenError::Unusable { path: path.to_owned(), problem: error.to_string() }.into()),
    }
}

fn visit(connection: &Connection, filter: &Filter, mut with: impl FnMut((i64, i64), Row)) -> rusqlite::Result<()> {
    each(connection, |Entry { seq, sink, sink_name, state, attempts, problem, event }| {
        let row = Row { seq, sink: sink_name, state: State::of(state), attempts, problem, event: event.ok() };
        if filter.takes(&row) {
            with((seq, sink), row);
        }
        true
    })
}

/// What a repair has brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repaired {
    /// Events that are in the new file.
    pub saved: u64,
    /// Events that could be seen but did not have their checksum, or their place.
    pub damaged: u64,
    /// The damaged file, under its new name.
    pub aside: PathBuf,
}

/// Put the file aside, and make a new one of what can be read of it. An event of which it cannot be told who has it
/// already is delivered to every sink.
///
/// # Errors
/// When the file is in use, or the new one cannot be written; the old one is in its place then.
pub fn repair(path: &Path) -> Result<Repaired, OfflineError> {
    must_exist(path)?;
    let io = |error: std::io::Error| OfflineError::file(path, error.to_string());
    let path = &path.canonicalize().map_err(io)?;
    let _lock = lock::Lock::take(path)?;
    let fresh = suffixed(path, ".repair");
    for leftover in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(suffixed(&fresh, leftover));
    }
    let (saved, damaged) = {
        let mut store = Store::open(&fresh, Durability::Power)?;
        let counts = salvage(path, &mut store)?;
        store.checkpoint().map_err(|error| OfflineError::file(&fresh, describe(&error)))?;
        counts
    };
    let aside = suffixed(path, &format!(".damaged-{}", now().as_secs()));
    // The log belongs to the damaged file: without it, less of that could be read.
    for part in ["-wal", "-shm", ""] {
        match std::fs::rename(suffixed(path, part), suffixed(&aside, part)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(error)),
            _ => {}
        }
    }
    std::fs::rename(&fresh, path).map_err(io)?;
    let _ = std::fs::remove_file(suffixed(&fresh, ".lock"));
    Ok(Repaired { saved, damaged, aside })
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Copy what can be read.
fn salvage(from: &Path, to: &mut Store) -> Result<(u64, u64), OfflineError> {
    let Ok(old) = Connection::open_with_flags(from, OpenFlags::SQLITE_OPEN_READ_WRITE) else { return Ok((0, 0)) };
    // Whatever is wrong with it, it must not be changed.
    let _ = old.pragma_update(None, "query_only", true);
    let names: HashMap<i64, String> =
        tallies(&old).unwrap_or_default().into_iter().map(|tally| (tally.sink, tally.name)).collect();
    let sql = |error: rusqlite::Error| OfflineError::file(from, describe(&error));
    let (mut saved, mut damaged, mut at, mut step) = (0, 0, 0_i64, 1_i64);
    loop {
        match event_after(&old, at) {
            Ok(None) => break,
            Ok(Some((seq, event))) => {
                step = 1;
                if seq <= at {
                    // Its place in the order is broken.
                    damaged += 1;
                    at += 1;
                    continue;
                }
                at = seq;
                match event {
                    Ok(event) => {
                        keep(&old, &names, to, seq, event).map_err(sql)?;
                        saved += 1;
                    }
                    Err(_) => damaged += 1,
                }
            }
            // A page that cannot be read: look for what comes behind it.
            Err(_) if step < i64::MAX / 4 => {
                damaged += u64::from(step == 1);
                at = at.saturating_add(step);
                step *= 2;
            }
            Err(_) => break,
        }
    }
    Ok((saved, damaged))
}

/// An event with its deliveries, as far as they can be read.
fn keep(
    old: &Connection,
    names: &HashMap<i64, String>,
    to: &mut Store,
    seq: i64,
    event: Event,
) -> rusqlite::Result<()> {
    const UNKNOWN: &str = "unknown";
    let read = || {
        let mut statement = old.prepare_cached("SELECT sink FROM delivery WHERE seq = ? AND state IN (0, 1)")?;
        statement.query_map(params![seq], |row| row.get(0))?.collect::<rusqlite::Result<Vec<i64>>>()
    };
    let sinks = match read() {
        Ok(sinks) if !sinks.is_empty() => sinks,
        _ => names.keys().copied().collect(),
    };
    let mut sinks: Vec<&str> = sinks.iter().map(|sink| names.get(sink).map_or(UNKNOWN, String::as_str)).collect();
    if sinks.is_empty() {
        sinks.push(UNKNOWN);
    }
    let numbers = to.sinks(sinks.into_iter())?;
    let size = crate::event::size_of(&event);
    let accepted = Accepted { seq, event: Arc::new(event), size };
    to.commit(std::iter::once((&accepted, numbers.as_slice())), &[]).map(drop)
}

/// How old an event is.
#[must_use]
pub fn age(event: &Event) -> Duration {
    now().saturating_sub(event.accepted)
}

/// The sinks of a file that are not among `configured`, and how many deliveries they have. Possible beside a gateway.
///
/// # Errors
/// When the file cannot be read.
pub fn orphans(path: &Path, configured: &[Arc<str>]) -> Result<Vec<(String, u64)>, OfflineError> {
    let connection = open_for_reading(path)?;
    let all = tallies(&connection).map_err(|error| OfflineError::file(path, describe(&error)))?;
    let others = all.into_iter().filter(|tally| !configured.iter().any(|name| **name == *tally.name));
    let counted = others.map(|tally| (tally.name, tally.pending + tally.dead + tally.damaged));
    Ok(counted.filter(|(_, count)| *count > 0).collect())
}

#[cfg(test)]
mod tests;
