//! The file: an SQLite database in WAL mode.
//!
//! One event is a row of `event`, with a checksum over all of it; what each sink still has to do is a row of `delivery`.
//! An event leaves the file with its last delivery. A gateway that runs holds a lock beside the file, so that
//! there is one writer; others may read.
//!
//! Nothing in here waits for anything but the disk, and everything in here runs on threads of its own.

pub(crate) mod lock;
mod log;
pub(crate) mod read;
mod row;
pub(crate) mod write;

use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use self::lock::Lock;

/// Marks a database as an outbox: "tgob".
const APPLICATION_ID: i32 = 0x7467_6f62;
/// The schema that is written, and the only one that is read.
const SCHEMA: i32 = 1;
/// A log that has grown longer is cut back when it begins anew, bytes.
const LONGEST_LOG: i64 = 64 << 20;

/// The log is copied into the database once it has so many pages. Each time costs two syncs of the disk, during which
/// everybody waits; on the other side stands the room that the log takes up, 16 MiB. SQLite's default is 1,000.
const CHECKPOINT_PAGES: u32 = 4_000;
/// No locks within SQLite: a connection is one thread's at a time, which rusqlite's type sees to.
const FLAGS: OpenFlags = OpenFlags::SQLITE_OPEN_READ_WRITE.union(OpenFlags::SQLITE_OPEN_NO_MUTEX);

/// States of a delivery.
pub(crate) const PENDING: i64 = 0;
pub(crate) const DEAD: i64 = 1;
pub(crate) const DAMAGED: i64 = 2;

const TABLES: &str = "
    CREATE TABLE sink (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE
    ) STRICT;
    CREATE TABLE event (
        seq INTEGER PRIMARY KEY,
        id BLOB NOT NULL,
        checksum BLOB NOT NULL,
        size INTEGER NOT NULL,
        accepted INTEGER NOT NULL,
        source TEXT NOT NULL,
        topic TEXT NOT NULL,
        key TEXT,
        content_type TEXT,
        attributes TEXT,
        body BLOB NOT NULL
    ) STRICT;
    CREATE TABLE delivery (
        seq INTEGER NOT NULL,
        sink INTEGER NOT NULL,
        state INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        problem TEXT,
        PRIMARY KEY (seq, sink)
    ) STRICT, WITHOUT ROWID;
";

/// What an event survives once it has been accepted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Durability {
    /// The end of the process, `kill -9` included. The system may hold it in memory only.
    #[default]
    Process,
    /// The end of the machine, too: it is on the disk.
    Power,
}

/// An outbox that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file, or its folder, is not there or not ours to write to.
    #[error("the outbox {} cannot be opened: {problem}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        problem: String,
    },
    /// Another process has it.
    #[error("the outbox {} is in use{}", path.display(), owner.map(|pid| format!(" by process {pid}")).unwrap_or_default())]
    InUse {
        /// The file.
        path: PathBuf,
        /// Its process id, if that can be told.
        owner: Option<u32>,
    },
    /// A database, but not an outbox.
    #[error("{} is not an outbox", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A later version has written it.
    #[error("the outbox {} has schema {found}; this version reads {SCHEMA}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i32,
    },
    /// Its pages do not fit together.
    #[error("the outbox {} is damaged: {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the check says.
        problem: String,
    },
}

impl OpenError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Unusable { .. } => "the file and its folder must be there and be writable for this user".to_owned(),
            Self::InUse { .. } => {
                "each gateway needs an outbox of its own; stop the other process, or set another `[outbox] path`"
                    .to_owned()
            }
            Self::Foreign { .. } => "set `[outbox] path` to a file that does not exist yet".to_owned(),
            Self::Newer { .. } => "run the version of tidegate that wrote it, until it is empty".to_owned(),
            Self::Damaged { .. } => {
                "`tidegate outbox repair` saves what can be read, and keeps the damaged file".to_owned()
            }
        }
    }
}

/// The file, open for changes.
#[derive(Debug)]
pub(crate) struct Store {
    connection: Connection,
    path: PathBuf,
    /// Held for as long as this is here.
    _lock: Lock,
}

impl Store {
    /// Open the file, or make it, and look it over.
    pub(crate) fn open(path: &Path, durability: Durability) -> Result<Self, OpenError> {
        let unusable = |problem: String| OpenError::Unusable { path: path.to_owned(), problem };
        // Bodies may be anybody's business but not everybody's. SQLite gives its other files the mode of this one.
        create(path).map_err(|error| unusable(error.to_string()))?;
        // However it is called, it is one file.
        let path = &path.canonicalize().map_err(|error| unusable(error.to_string()))?;
        let lock = Lock::take(path)?;
        log::inspect(path);
        let connection = Connection::open_with_flags(path, FLAGS).map_err(|error| opening(path, &error))?;
        prepare(&connection, durability).map_err(|error| opening(path, &error))?;
        if connection.is_readonly("main").unwrap_or(true) {
            return Err(OpenError::Unusable { path: path.clone(), problem: "it can only be read".to_owned() });
        }
        let store = Self { connection, path: path.clone(), _lock: lock };
        store.claim_schema()?;
        look_over(&store.connection, path)?;
        Ok(store)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// An empty file becomes an outbox; anything else has to be one.
    fn claim_schema(&self) -> Result<(), OpenError> {
        let (path, connection) = (&self.path, &self.connection);
        if is_empty(connection).map_err(|error| opening(path, &error))? {
            let make = format!(
                "BEGIN IMMEDIATE; {TABLES} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA}; COMMIT;"
            );
            connection.execute_batch(&make).map_err(|error| opening(path, &error))?;
            // The name of a new file is on the disk when its folder is.
            let folder = path.parent().and_then(|folder| std::fs::File::open(folder).ok());
            if let Some(Err(error)) = folder.map(|folder| folder.sync_all()) {
                return Err(OpenError::Unusable { path: path.clone(), problem: error.to_string() });
            }
        }
        check_schema(connection, path)
    }
}

/// Open the file for looking at it, beside whoever changes it.
pub(crate) fn open_for_reading(path: &Path) -> Result<Connection, OpenError> {
    if let Err(error) = std::fs::metadata(path) {
        return Err(OpenError::Unusable { path: path.to_owned(), problem: error.to_string() });
    }
    // Not read-only: a reader has to make the index of a log that nobody has open.
    let connection = Connection::open_with_flags(path, FLAGS).map_err(|error| opening(path, &error))?;
    guard(&connection).map_err(|error| opening(path, &error))?;
    connection.pragma_update(None, "query_only", true).map_err(|error| opening(path, &error))?;
    check_schema(&connection, path)?;
    Ok(connection)
}

fn create(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map(drop)
}

fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))
}

/// What holds for every connection: a file that somebody has tampered with is data and no program.
fn guard(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(32);
    connection.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.execute_batch(
        "PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -4096;",
    )
}

fn prepare(connection: &Connection, durability: Durability) -> rusqlite::Result<()> {
    guard(connection)?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        let problem = format!("the file system does not let it be in WAL mode, but only in {mode} mode");
        return Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN),
            Some(problem),
        ));
    }
    connection.pragma_update(None, "journal_size_limit", LONGEST_LOG)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    let synchronous = match durability {
        // What has been written outlives the process without being synced. NORMAL, and not OFF, since it syncs the
        // log before it is copied into the database: after a power cut the latest events may be missing, but the file is
        // sound. It costs two syncs per [`CHECKPOINT_PAGES`].
        Durability::Process => "NORMAL",
        Durability::Power => "FULL",
    };
    connection.pragma_update(None, "synchronous", synchronous)
}

fn check_schema(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let number = |pragma: &str| connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get::<_, i32>(0));
    let (application, schema) = number("application_id")
        .and_then(|application| Ok((application, number("user_version")?)))
        .map_err(|error| opening(path, &error))?;
    match (application, schema) {
        (APPLICATION_ID, SCHEMA) => Ok(()),
        (APPLICATION_ID, found) => Err(OpenError::Newer { path: path.to_owned(), found }),
        _ => Err(OpenError::Foreign { path: path.to_owned() }),
    }
}

/// Whether the pages fit together, and every event has its deliveries.
fn look_over(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let damaged = |problem: String| OpenError::Damaged { path: path.to_owned(), problem };
    let verdict: Result<String, _> = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0));
    match verdict {
        Ok(verdict) if verdict == "ok" => {}
        Ok(verdict) => return Err(damaged(verdict.lines().collect::<Vec<_>>().join(" "))),
        Err(error) => return Err(opening(path, &error)),
    }
    let orphans = |query: &str| connection.query_row(query, [], |row| row.get::<_, i64>(0));
    let events =
        orphans("SELECT count(*) FROM event e WHERE NOT EXISTS (SELECT 1 FROM delivery d WHERE d.seq = e.seq)");
    let deliveries =
        orphans("SELECT count(*) FROM delivery d WHERE NOT EXISTS (SELECT 1 FROM event e WHERE e.seq = d.seq)");
    match (events, deliveries) {
        (Ok(0), Ok(0)) => Ok(()),
        (Ok(events), Ok(deliveries)) => {
            Err(damaged(format!("{events} events without a delivery, {deliveries} deliveries without an event")))
        }
        (Err(error), _) | (_, Err(error)) => Err(opening(path, &error)),
    }
}

/// An error of SQLite's while the file is opened.
fn opening(path: &Path, error: &rusqlite::Error) -> OpenError {
    let problem = describe(error);
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            OpenError::Damaged { path: path.to_owned(), problem }
        }
        _ => OpenError::Unusable { path: path.to_owned(), problem },
    }
}

/// What an error of SQLite's means, in the words of an operator.
pub(crate) fn describe(error: &rusqlite::Error) -> String {
    let what = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "the disk is full",
        Some(ErrorCode::ReadOnly) => "the file can only be read",
        Some(ErrorCode::DatabaseCorrupt) => "the file is damaged",
        Some(ErrorCode::NotADatabase) => "the file is no database, or its first page is damaged",
        Some(ErrorCode::SystemIoFailure) => "the disk reports an error",
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => "another process keeps the file busy",
        _ => return error.to_string(),
    };
    format!("{what} ({error})")
}

#[cfg(test)]
mod tests;
