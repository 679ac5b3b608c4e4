//! Buckets in a SQLite file: they survive the process, whatever ends it.
//!
//! Each file has a thread of its own, which owns the connection and does one job after the other. A job that nobody waits
//! for any more is not begun. The file is in WAL mode and synchronised at checkpoints: what was stored survives the end of
//! the process; a power cut may take the last moments with it, never the file.

mod database;
mod health;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tidegate_runtime::environment::{Clock, SystemClock};
use tidegate_runtime::grants::Entry;
use tokio::sync::{mpsc, oneshot};

use self::database::Database;
use self::health::Health;
use crate::error::{OpenError, StoreError};
use crate::store::{Bounds, Namespace, Page, Usage};

/// Jobs that may wait for the thread. Each may hold a value; who finds no place waits before it holds one here.
const QUEUE: usize = 64;

/// What a bucket in a file is made of.
#[derive(Debug, Clone)]
pub struct SqliteConfig {
    /// The name of the bucket, for the log.
    pub name: Arc<str>,
    /// The file; made if it is not there.
    pub path: PathBuf,
    /// How much each namespace may hold.
    pub bounds: Bounds,
    /// How long an operation may take.
    pub timeout: Duration,
}

/// A bucket in a file.
pub struct Sqlite {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    jobs: mpsc::Sender<Message>,
    timeout: Duration,
}

type Job = Box<dyn FnOnce(&mut Database, &Health) + Send>;

enum Message {
    Do(Job),
    Close(oneshot::Sender<()>),
}

impl Sqlite {
    /// Open the file, or make it.
    ///
    /// # Errors
    /// When it cannot be opened for writing, or is no database of this kind.
    pub fn open(config: SqliteConfig) -> Result<Self, OpenError> {
        Self::open_on(config, Arc::new(SystemClock::default()))
    }

    /// The same on another clock than the system's.
    ///
    /// # Errors
    /// As [`Sqlite::open`].
    pub fn open_on(config: SqliteConfig, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let SqliteConfig { name, path, bounds, timeout } = config;
        let mut database = Database::open(&path, bounds, timeout, clock)?;
        let (jobs, mut waiting) = mpsc::channel(QUEUE);
        let health = Health::new(name, path);
        let work = move || {
            while let Some(message) = waiting.blocking_recv() {
                match message {
                    Message::Do(job) => job(&mut database, &health),
                    Message::Close(closed) => {
                        waiting.close();
                        health.saw(&database.close());
                        let _ = closed.send(());
                        return;
                    }
                }
            }
            health.saw(&database.close());
        };
        let thread = std::thread::Builder::new().name("kv-sqlite".to_owned()).spawn(work)?;
        Ok(Self { shared: Arc::new(Shared { jobs, timeout }), thread: Mutex::new(Some(thread)) })
    }

    pub(crate) fn namespace(&self, owner: Option<&str>) -> Arc<dyn Namespace> {
        let owner = Arc::<str>::from(owner.unwrap_or_default());
        let part = Part { shared: Arc::clone(&self.shared), owner, usage: Arc::default() };
        let (owner, usage) = (Arc::clone(&part.owner), Arc::clone(&part.usage));
        let look: Job = Box::new(move |database, _| {
            *usage.lock().unwrap_or_else(PoisonError::into_inner) = database.usage(&owner).ok();
        });
        // Where there is no place for it now, the first change looks.
        let _ = self.shared.jobs.try_send(Message::Do(look));
        Arc::new(part)
    }

    /// Let a test do to the file what it likes.
    #[cfg(test)]
    pub(crate) async fn tamper(&self, sql: &'static str) {
        let done = self.shared.run(move |database| database.tamper(sql)).await;
        assert_eq!(done, Ok(()));
    }

    /// Checkpoint and close the file. Jobs that wait are done first.
    pub(crate) async fn close(&self) {
        let (closed, done) = oneshot::channel();
        if self.shared.jobs.send(Message::Close(closed)).await.is_ok() {
            let _ = done.await;
        }
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // It has said its last word; what is left of it is its return.
        if let Some(thread) = thread.filter(JoinHandle::is_finished) {
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sqlite").finish_non_exhaustive()
    }
}

impl Shared {
    /// Have the thread do something, and wait for it for as long as an operation may take.
    async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Database) -> Result<T, database::Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |database, health| {
            if !reply.is_closed() {
                let result = job(database);
                health.saw(&result);
                // Nobody waits any more: the time was up, or the call was.
                let _ = reply.send(result.map_err(StoreError::from));
            }
        });
        let asked = async {
            let closed = StoreError::Unavailable("it is closed");
            self.jobs.send(Message::Do(job)).await.map_err(|_| closed.clone())?;
            answer.await.unwrap_or(Err(closed))
        };
        tokio::time::timeout(self.timeout, asked).await.unwrap_or(Err(StoreError::TimedOut))
    }
}

/// One namespace: the rows with this owner, empty for the shared one.
struct Part {
    shared: Arc<Shared>,
    owner: Arc<str>,
    /// As of the last job that has looked.
    usage: Arc<Mutex<Option<Usage>>>,
}

impl Part {
    /// Change something, and remember what the namespace holds then.
    async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Database, &str) -> Result<T, database::Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (owner, usage) = (Arc::clone(&self.owner), Arc::clone(&self.usage));
        let job = move |database: &mut Database| {
            let result = change(database, &owner)?;
            *usage.lock().unwrap_or_else(PoisonError::into_inner) = database.usage(&owner).ok();
            Ok(result)
        };
        self.shared.run(job).await
    }
}

impl Namespace for Part {
    fn get(&self, key: String) -> BoxFuture<'_, Result<Option<Entry>, StoreError>> {
        let owner = Arc::clone(&self.owner);
        Box::pin(self.shared.run(move |database| database.get(&owner, &key)))
    }

    fn set(&self, key: String, value: Vec<u8>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.change(move |database, owner| database.set(owner, &key, &value)))
    }

    fn delete(&self, key: String) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.change(move |database, owner| database.delete(owner, &key)))
    }

    fn page(&self, after: Option<String>) -> BoxFuture<'_, Result<Page, StoreError>> {
        let owner = Arc::clone(&self.owner);
        Box::pin(self.shared.run(move |database| database.page(&owner, after.as_deref())))
    }

    fn swap(&self, key: String, revision: Option<u64>, value: Vec<u8>) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(self.change(move |database, owner| database.swap(owner, &key, revision, &value)))
    }

    fn increment(&self, key: String, delta: i64) -> BoxFuture<'_, Result<i64, StoreError>> {
        Box::pin(self.change(move |database, owner| database.increment(owner, &key, delta)))
    }

    fn usage(&self) -> Option<Usage> {
        *self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
