//! The file: its tables, and what is asked of them. Everything here blocks.
//!
//! A change is one immediate transaction, so that two gateways over one file lose nothing. A row's revision is its row
//! number, which SQLite gives out once; so the order of revisions is the order of writes. What each owner holds is kept
//! by triggers, in the same transaction.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, Transaction, TransactionBehavior, params};
use tidegate_runtime::environment::Clock;
use tidegate_runtime::grants::Entry;

use crate::bucket::PAGE;
use crate::error::{OpenError, StoreError};
use crate::store::{Bounds, Page, Usage, WhenFull, sum};

/// The format of the file, in its `user_version`.
const FORMAT: i64 = 1;

/// Expired rows that a change sweeps on its way.
const SWEEP: i64 = 64;

const TABLES: &str = "
    CREATE TABLE entries (
        revision INTEGER PRIMARY KEY AUTOINCREMENT,
        owner TEXT NOT NULL,
        key TEXT NOT NULL,
        value BLOB NOT NULL,
        expires INTEGER,
        UNIQUE (owner, key)
    ) STRICT;
    CREATE INDEX by_write ON entries (owner, revision);
    CREATE INDEX by_expiry ON entries (expires) WHERE expires IS NOT NULL;
    CREATE TABLE usage (owner TEXT PRIMARY KEY, entries INTEGER NOT NULL, bytes INTEGER NOT NULL) STRICT;
    CREATE TRIGGER entry_added AFTER INSERT ON entries BEGIN
        INSERT INTO usage VALUES (new.owner, 1, octet_length(new.key) + length(new.value))
        ON CONFLICT (owner) DO UPDATE SET entries = entries + 1, bytes = bytes + excluded.bytes;
    END;
    CREATE TRIGGER entry_removed AFTER DELETE ON entries BEGIN
        UPDATE usage SET entries = entries - 1, bytes = bytes - octet_length(old.key) - length(old.value)
        WHERE owner = old.owner;
    END;
    PRAGMA user_version = 1;
";

/// Why a job failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The store works, and refuses.
    Refused(StoreError),
    /// The file does not work.
    Database(rusqlite::Error),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        let error = match failure {
            Failure::Refused(error) => return error,
            Failure::Database(error) => error,
        };
        match error.sqlite_error_code() {
            // Another process holds the file for longer than an operation may take.
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::TimedOut,
            Some(ErrorCode::DiskFull) => Self::Unavailable("its disk is full"),
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Self::Unavailable("its file is read-only"),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Unavailable("its file is damaged"),
            Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => Self::Unavailable("its disk fails"),
            _ => Self::Unavailable("its file cannot be used"),
        }
    }
}

/// An open file.
pub(super) struct Database {
    /// Gone once it is closed.
    connection: Option<Connection>,
    bounds: Bounds,
    clock: Arc<dyn Clock>,
}

impl Database {
    pub(super) fn open(
        path: &Path,
        bounds: Bounds,
        timeout: Duration,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        let failed = |error: rusqlite::Error| OpenError::File { path: path.to_owned(), reason: error.to_string() };
        // Nobody else's business. What cannot be made here, SQLite cannot make either, and says why.
        let _ = File::options().create(true).truncate(false).write(true).mode(0o600).open(path);
        // Some names mean something else to SQLite; one with a folder means a file.
        let file = Path::new(".").join(path);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(file, flags).map_err(failed)?;
        connection.busy_timeout(timeout).map_err(failed)?;
        // Says so at once if the file cannot be written or is something else.
        connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
        connection.pragma_update(None, "synchronous", "NORMAL").map_err(failed)?;
        let format = prepare(&mut connection).map_err(failed)?;
        if format != FORMAT {
            return Err(OpenError::Format { path: path.to_owned(), found: format, known: FORMAT });
        }
        Ok(Self { connection: Some(connection), bounds, clock })
    }

    /// Write everything back into the one file, and let go of it.
    pub(super) fn close(&mut self) -> Result<(), Failure> {
        let Some(connection) = self.connection.take() else { return Ok(()) };
        // The last connection to a file checkpoints and removes its log.
        connection.close().map_err(|(_, error)| Failure::Database(error))
    }

    fn connection(&mut self) -> Result<&mut Connection, Failure> {
        self.connection.as_mut().ok_or(Failure::Refused(StoreError::Unavailable("it is closed")))
    }

    /// Milliseconds since the Unix epoch: an entry's time goes on while nobody has the file open.
    fn now(&self) -> i64 {
        i64::try_from(self.clock.unix().as_millis()).unwrap_or(i64::MAX)
    }

    /// Do all of it or nothing.
    fn change<T>(&mut self, change: impl FnOnce(&Writing<'_>) -> Result<T, Failure>) -> Result<T, Failure> {
        let (bounds, now) = (self.bounds, self.now());
        let transaction = self.connection()?.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let writing = Writing { transaction, bounds, now };
        // Dropped after an error, it is rolled back.
        let result = change(&writing)?;
        writing.transaction.commit()?;
        Ok(result)
    }

    pub(super) fn usage(&mut self, owner: &str) -> Result<Usage, Failure> {
        usage(self.connection()?, owner)
    }

    pub(super) fn get(&mut self, owner: &str, key: &str) -> Result<Option<Entry>, Failure> {
        let now = self.now();
        entry(self.connection()?, owner, key, now)
    }

    pub(super) fn set(&mut self, owner: &str, key: &str, value: &[u8]) -> Result<(), Failure> {
        self.change(|writing| writing.put(owner, key, value))
    }

    pub(super) fn delete(&mut self, owner: &str, key: &str) -> Result<(), Failure> {
        self.change(|writing| {
            writing.remove(owner, key)?;
            writing.sweep()?;
            Ok(())
        })
    }

    pub(super) fn page(&mut self, owner: &str, after: Option<&str>) -> Result<Page, Failure> {
        let now = self.now();
        let mut statement = self.connection()?.prepare_cached(
            "SELECT key FROM entries WHERE owner = ?1 AND key > ?2 AND (expires IS NULL OR expires > ?3)
             ORDER BY key LIMIT ?4",
        )?;
        let most = i64::try_from(PAGE + 1).unwrap_or(i64::MAX);
        // Every key is greater than the empty one, which is none.
        let rows = statement.query_map(params![owner, after.unwrap_or_default(), now, most], |row| row.get(0))?;
        let mut keys = rows.collect::<Result<Vec<String>, _>>()?;
        let more = keys.len() > PAGE;
        keys.truncate(PAGE);
        let next = keys.last().filter(|_| more).cloned();
        Ok(Page { keys, next })
    }

    pub(super) fn swap(
        &mut self,
        owner: &str,
        key: &str,
        revision: Option<u64>,
        value: &[u8],
    ) -> Result<bool, Failure> {
        self.change(|writing| {
            let found = entry(&writing.transaction, owner, key, writing.now)?.map(|entry| entry.revision);
            if found != revision {
                return Ok(false);
            }
            writing.put(owner, key, value).map(|()| true)
        })
    }

    pub(super) fn increment(&mut self, owner: &str, key: &str, delta: i64) -> Result<i64, Failure> {
        self.change(|writing| {
            let found = entry(&writing.transaction, owner, key, writing.now)?;
            let sum = sum(found.as_ref().map(|entry| &*entry.value), delta)?;
            writing.put(owner, key, sum.to_string().as_bytes())?;
            Ok(sum)
        })
    }

    #[cfg(test)]
    pub(super) fn tamper(&mut self, sql: &str) -> Result<(), Failure> {
        Ok(self.connection()?.execute_batch(sql)?)
    }
}

/// Make the tables if there are none. The format of the file.
fn prepare(connection: &mut Connection) -> Result<i64, rusqlite::Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let format = |transaction: &Transaction<'_>| transaction.pragma_query_value(None, "user_version", |row| row.get(0));
    if format(&transaction)? == 0_i64 {
        transaction.execute_batch(TABLES)?;
    }
    let found = format(&transaction)?;
    transaction.commit()?;
    Ok(found)
}

fn usage(connection: &Connection, owner: &str) -> Result<Usage, Failure> {
    let mut statement = connection.prepare_cached("SELECT entries, bytes FROM usage WHERE owner = ?1")?;
    let number = |number: i64| usize::try_from(number).unwrap_or_default();
    let usage = statement
        .query_row([owner], |row| Ok(Usage { entries: number(row.get(0)?), bytes: number(row.get(1)?) }))
        .optional()?;
    Ok(usage.unwrap_or_default())
}

/// The entry of a key, if it is there and has not expired.
fn entry(connection: &Connection, owner: &str, key: &str, now: i64) -> Result<Option<Entry>, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT value, revision FROM entries
         WHERE owner = ?1 AND key = ?2 AND (expires IS NULL OR expires > ?3)",
    )?;
    let found = statement
        .query_row(params![owner, key, now], |row| {
            Ok(Entry { value: row.get(0)?, revision: row.get::<_, i64>(1)?.unsigned_abs() })
        })
        .optional()?;
    Ok(found)
}

/// A change in progress.
struct Writing<'c> {
    transaction: Transaction<'c>,
    bounds: Bounds,
    now: i64,
}

impl Writing<'_> {
    fn put(&self, owner: &str, key: &str, value: &[u8]) -> Result<(), Failure> {
        let size = key.len() + value.len();
        if size > self.bounds.max_bytes {
            return Err(StoreError::Full.into());
        }
        self.remove(owner, key)?;
        self.sweep()?;
        loop {
            let Usage { entries, bytes } = usage(&self.transaction, owner)?;
            if entries < self.bounds.max_entries && bytes + size <= self.bounds.max_bytes {
                break;
            }
            // First whatever has expired, of this owner or another.
            if self.sweep()? > 0 {
                continue;
            }
            if self.bounds.when_full == WhenFull::Refuse || !self.evict_one(owner)? {
                return Err(StoreError::Full.into());
            }
        }
        let ttl = self.bounds.ttl.map(|ttl| i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX));
        self.transaction
            .prepare_cached("INSERT INTO entries (owner, key, value, expires) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![owner, key, value, ttl.map(|ttl| self.now.saturating_add(ttl))])?;
        Ok(())
    }

    fn remove(&self, owner: &str, key: &str) -> Result<(), Failure> {
        let mut statement = self.transaction.prepare_cached("DELETE FROM entries WHERE owner = ?1 AND key = ?2")?;
        statement.execute([owner, key])?;
        Ok(())
    }

    /// Remove some of the rows that have expired; how many it were.
    fn sweep(&self) -> Result<usize, Failure> {
        let mut statement = self.transaction.prepare_cached(
            "DELETE FROM entries WHERE revision IN (SELECT revision FROM entries WHERE expires <= ?1 LIMIT ?2)",
        )?;
        Ok(statement.execute([self.now, SWEEP])?)
    }

    /// Remove the row of this owner that was not written for the longest time; whether there was one.
    fn evict_one(&self, owner: &str) -> Result<bool, Failure> {
        let mut statement = self.transaction.prepare_cached(
            "DELETE FROM entries WHERE revision = (SELECT min(revision) FROM entries WHERE owner = ?1)",
        )?;
        Ok(statement.execute([owner])? > 0)
    }
}
