//! Changes of the file. Each call is one transaction: all of it or nothing.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};

use super::row::{attributes, checksum, micros};
use super::{DAMAGED, DEAD, PENDING, Store};
use crate::account::Usage;
use crate::event::Event;

/// An event for some sinks.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) seq: i64,
    pub(crate) event: Arc<Event>,
    pub(crate) size: u64,
}

/// What has become of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The sink has it.
    Delivered,
    /// It failed, and will be tried again.
    Failed { attempts: u32, problem: String },
    /// It failed for the last time.
    Dead { attempts: u32, problem: String },
    /// The event is not what was written.
    Damaged { problem: String },
}

/// A delivery that something has become of.
#[derive(Debug, Clone)]
pub(crate) struct Settled {
    pub(crate) seq: i64,
    pub(crate) sink: i64,
    pub(crate) outcome: Outcome,
}

/// Room that an event left behind.
pub(crate) type Freed = (Arc<str>, Usage);

impl Store {
    /// Events that are accepted, each for the sinks with these numbers, and deliveries that are settled. It is least work if
    /// these come by sink and place.
    pub(crate) fn commit<'a>(
        &mut self,
        accepted: impl Iterator<Item = (&'a Accepted, &'a [i64])>,
        settled: &[Settled],
    ) -> rusqlite::Result<Vec<Freed>> {
        let transaction = Changes::begin(&self.connection)?;
        let mut freed = Vec::new();
        for run in settled.chunk_by(follows) {
            settle(&self.connection, run, &mut freed)?;
        }
        for (accepted, sinks) in accepted {
            insert(&self.connection, accepted, sinks)?;
        }
        transaction.commit()?;
        Ok(freed)
    }

    /// The numbers of sinks of these names; new ones get one.
    pub(crate) fn sinks<'a>(&mut self, names: impl Iterator<Item = &'a str>) -> rusqlite::Result<Vec<i64>> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut numbers = Vec::new();
        for name in names {
            let known =
                transaction.query_row("SELECT id FROM sink WHERE name = ?", [name], |row| row.get(0)).optional()?;
            numbers.push(match known {
                Some(number) => number,
                None => transaction
                    .query_row("INSERT INTO sink (name) VALUES (?) RETURNING id", [name], |row| row.get(0))?,
            });
        }
        transaction.commit()?;
        Ok(numbers)
    }

    /// Dead letters become pending again, as if they had never been tried.
    pub(crate) fn revive(&mut self, deliveries: &[(i64, i64)]) -> rusqlite::Result<usize> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut revived = 0;
        for (seq, sink) in deliveries {
            revived += transaction
                .prepare_cached(
                    "UPDATE delivery SET state = ?, attempts = 0, problem = NULL WHERE seq = ? AND sink = ? AND state = ?",
                )?
                .execute(params![PENDING, seq, sink, DEAD])?;
        }
        transaction.commit()?;
        Ok(revived)
    }

    /// Give deliveries up, and events that have none left.
    pub(crate) fn remove(&mut self, deliveries: &[(i64, i64)]) -> rusqlite::Result<(usize, Vec<Freed>)> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (mut removed, mut freed) = (0, Vec::new());
        for (seq, sink) in deliveries {
            removed += drop_deliveries(&transaction, *sink, *seq, *seq, &mut freed)?;
        }
        transaction.commit()?;
        Ok((removed, freed))
    }

    /// Copy the log into the database and sync both to the disk.
    pub(crate) fn checkpoint(&self) -> rusqlite::Result<()> {
        // A reader beside us may keep a part of the log in use; that is synced, too.
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        let mut log = self.path.as_os_str().to_owned();
        log.push("-wal");
        // In WAL mode a checkpoint syncs the database; the log only while there is one.
        let _ = std::fs::File::open(log).and_then(|log| log.sync_all());
        Ok(())
    }

    /// Make room in the log without making it longer, if that can be.
    pub(crate) fn make_room(&self) {
        // Whether it worked shows when the transaction is tried again.
        let _ = self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
    }
}

/// A transaction that is taken back unless it is committed. rusqlite's own compiles its statements each time.
struct Changes<'store>(&'store Connection);

impl<'store> Changes<'store> {
    fn begin(connection: &'store Connection) -> rusqlite::Result<Self> {
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        Ok(Self(connection))
    }

    fn commit(self) -> rusqlite::Result<()> {
        self.0.prepare_cached("COMMIT")?.execute([]).map(drop)
    }
}

impl Drop for Changes<'_> {
    fn drop(&mut self) {
        // Some errors end a transaction by themselves.
        if !self.0.is_autocommit() {
            // If it cannot be taken back, the next one cannot begin, and says so.
            let _ = self.0.execute_batch("ROLLBACK");
        }
    }
}

fn insert(transaction: &Connection, accepted: &Accepted, sinks: &[i64]) -> rusqlite::Result<()> {
    let Accepted { seq, event, size } = accepted;
    let attributes = attributes(event);
    transaction
        .prepare_cached(
            "INSERT INTO event (seq, id, checksum, size, accepted, source, topic, key, content_type, attributes, body)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            seq,
            event.id.as_bytes(),
            checksum(*seq, event, attributes.as_deref()),
            i64::try_from(*size).unwrap_or(i64::MAX),
            micros(event.accepted),
            &*event.source,
            &*event.topic,
            event.key,
            event.content_type,
            attributes,
            &*event.body,
        ])?;
    for sink in sinks {
        transaction
            .prepare_cached("INSERT INTO delivery (seq, sink, state, attempts) VALUES (?, ?, ?, 0)")?
            .execute(params![seq, sink, PENDING])?;
    }
    Ok(())
}

/// Whether two deliveries can be dropped together: both are delivered, one right after the other.
fn follows(one: &Settled, next: &Settled) -> bool {
    one.sink == next.sink
        && one.seq.checked_add(1) == Some(next.seq)
        && one.outcome == Outcome::Delivered
        && next.outcome == Outcome::Delivered
}

/// Deliveries of which each follows the one before it.
fn settle(connection: &Connection, run: &[Settled], freed: &mut Vec<Freed>) -> rusqlite::Result<()> {
    let (Some(Settled { seq, sink, outcome }), Some(last)) = (run.first(), run.last()) else { return Ok(()) };
    let set = |state: i64, attempts: u32, problem: &str| {
        connection
            .prepare_cached("UPDATE delivery SET state = ?, attempts = ?, problem = ? WHERE seq = ? AND sink = ?")?
            .execute(params![state, attempts, problem, seq, sink])
            .map(drop)
    };
    match outcome {
        Outcome::Delivered => drop_deliveries(connection, *sink, *seq, last.seq, freed).map(drop),
        Outcome::Failed { attempts, problem } => set(PENDING, *attempts, problem),
        Outcome::Dead { attempts, problem } => set(DEAD, *attempts, problem),
        Outcome::Damaged { problem } => set(DAMAGED, 0, problem),
    }
}

/// Drop all deliveries of a sink from the place `first` to `last`, and the events that had no others.
fn drop_deliveries(
    connection: &Connection,
    sink: i64,
    first: i64,
    last: i64,
    freed: &mut Vec<Freed>,
) -> rusqlite::Result<usize> {
    let removed = connection
        .prepare_cached("DELETE FROM delivery WHERE seq BETWEEN ? AND ? AND sink = ?")?
        .execute(params![first, last, sink])?;
    let mut statement = connection.prepare_cached(
        "DELETE FROM event WHERE seq BETWEEN ? AND ? AND NOT EXISTS (SELECT 1 FROM delivery WHERE delivery.seq = event.seq)
         RETURNING source, size",
    )?;
    let mut gone = statement.query([first, last])?;
    while let Some(row) = gone.next()? {
        let (source, bytes) = (super::read::source(row, 0)?, super::read::size(row, 1)?);
        let usage = Usage { events: 1, bytes };
        match freed.last_mut() {
            Some((before, all)) if *before == source => all.add(usage),
            _ => freed.push((source, usage)),
        }
    }
    Ok(removed)
}
