//! What the file says. Nothing in here changes it.

use std::sync::Arc;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::PENDING;
pub(crate) use super::row::Damage;
use super::row::{COLUMNS, WIDTH, decode};
use crate::account::Usage;
use crate::event::Event;

/// A delivery that waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) seq: i64,
    pub(crate) attempts: u32,
    pub(crate) event: Result<Event, Damage>,
}

/// How many deliveries a sink has in each state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Its number in the file.
    pub(crate) sink: i64,
    pub(crate) name: String,
    pub(crate) pending: u64,
    pub(crate) dead: u64,
    pub(crate) damaged: u64,
}

/// The deliveries of a sink that wait and come after `after`, in their order: at most `most`, and no further one once
/// their bodies have reached `bytes`.
pub(crate) fn waiting(
    connection: &Connection,
    sink: i64,
    after: i64,
    most: usize,
    bytes: usize,
) -> rusqlite::Result<Vec<Waiting>> {
    let query = format!(
        "SELECT {COLUMNS}, delivery.attempts FROM delivery JOIN event ON event.seq = delivery.seq
         WHERE delivery.sink = ? AND delivery.state = ? AND delivery.seq > ? ORDER BY delivery.seq LIMIT ?"
    );
    let mut statement = connection.prepare_cached(&query)?;
    let mut rows = statement.query(params![sink, PENDING, after, i64::try_from(most).unwrap_or(i64::MAX)])?;
    let (mut found, mut read) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let waiting = of_row(row)?;
        read += waiting.event.as_ref().map_or(0, |event| event.body.len());
        found.push(waiting);
        if read >= bytes {
            break;
        }
    }
    Ok(found)
}

/// These deliveries of a sink, those of them that wait.
pub(crate) fn waiting_among(connection: &Connection, sink: i64, seqs: &[i64]) -> rusqlite::Result<Vec<Waiting>> {
    let query = format!(
        "SELECT {COLUMNS}, delivery.attempts FROM delivery JOIN event ON event.seq = delivery.seq
         WHERE delivery.sink = ? AND delivery.state = ? AND delivery.seq = ?"
    );
    let mut statement = connection.prepare_cached(&query)?;
    let mut found = Vec::new();
    for seq in seqs {
        let mut rows = statement.query(params![sink, PENDING, seq])?;
        if let Some(row) = rows.next()? {
            found.push(of_row(row)?);
        }
    }
    Ok(found)
}

fn of_row(row: &Row<'_>) -> rusqlite::Result<Waiting> {
    let (seq, event) = decode(row)?;
    Ok(Waiting { seq, attempts: row.get(WIDTH).unwrap_or(0), event })
}

/// The room that each source takes up.
pub(crate) fn usage(connection: &Connection) -> rusqlite::Result<Vec<(Arc<str>, Usage)>> {
    let mut statement = connection.prepare("SELECT source, count(*), sum(size) FROM event GROUP BY source")?;
    let rows =
        statement.query_map([], |row| Ok((source(row, 0)?, Usage { events: size(row, 1)?, bytes: size(row, 2)? })))?;
    rows.collect()
}

/// The last place in the order that is taken.
pub(crate) fn last(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT coalesce(max(seq), 0) FROM event", [], |row| row.get(0))
}

/// Every sink that the file knows.
pub(crate) fn tallies(connection: &Connection) -> rusqlite::Result<Vec<Tally>> {
    let mut statement = connection.prepare(
        "SELECT sink.id, sink.name, count(*) FILTER (WHERE state = 0), count(*) FILTER (WHERE state = 1),
                count(*) FILTER (WHERE state = 2)
         FROM sink LEFT JOIN delivery ON delivery.sink = sink.id GROUP BY sink.id ORDER BY sink.id",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(Tally {
            sink: row.get(0)?,
            name: row.get(1)?,
            pending: size(row, 2)?,
            dead: size(row, 3)?,
            damaged: size(row, 4)?,
        })
    })?;
    rows.collect()
}

/// A delivery, to be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) seq: i64,
    pub(crate) sink: i64,
    pub(crate) sink_name: String,
    pub(crate) state: i64,
    pub(crate) attempts: u32,
    pub(crate) problem: Option<String>,
    pub(crate) event: Result<Event, Damage>,
}

/// Walk through all deliveries in the order of their events, until `visit` says that it has seen enough.
pub(crate) fn each(connection: &Connection, mut visit: impl FnMut(Entry) -> bool) -> rusqlite::Result<()> {
    let query = format!(
        "SELECT {COLUMNS}, delivery.sink, sink.name, delivery.state, delivery.attempts, delivery.problem
         FROM delivery JOIN event ON event.seq = delivery.seq LEFT JOIN sink ON sink.id = delivery.sink
         ORDER BY delivery.seq, delivery.sink"
    );
    let mut statement = connection.prepare(&query)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (seq, event) = decode(row)?;
        let entry = Entry {
            seq,
            sink: row.get(WIDTH)?,
            sink_name: text(row, WIDTH + 1)?.unwrap_or_default(),
            state: row.get(WIDTH + 2)?,
            attempts: row.get(WIDTH + 3).unwrap_or(0),
            problem: text(row, WIDTH + 4)?,
            event,
        };
        if !visit(entry) {
            break;
        }
    }
    Ok(())
}

/// The first event behind a place in the order.
pub(crate) fn event_after(
    connection: &Connection,
    place: i64,
) -> rusqlite::Result<Option<(i64, Result<Event, Damage>)>> {
    let query = format!("SELECT {COLUMNS} FROM event WHERE event.seq > ? ORDER BY event.seq LIMIT 1");
    connection.prepare_cached(&query)?.query_row([place], decode).optional()
}

/// Text that may be damaged.
fn text(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<String>> {
    Ok(match row.get_ref(at)? {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        _ => None,
    })
}

/// The name of a source, which may be damaged.
pub(crate) fn source(row: &Row<'_>, at: usize) -> rusqlite::Result<Arc<str>> {
    Ok(text(row, at)?.unwrap_or_default().into())
}

/// A number that is not negative, and may be damaged.
pub(crate) fn size(row: &Row<'_>, at: usize) -> rusqlite::Result<u64> {
    Ok(match row.get_ref(at)? {
        ValueRef::Integer(number) => u64::try_from(number).unwrap_or(0),
        _ => 0,
    })
}
