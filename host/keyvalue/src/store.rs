//! What every backend does.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tidegate_runtime::grants::Entry;

use crate::Memory;
#[cfg(feature = "nats")]
use crate::Nats;
#[cfg(feature = "sqlite")]
use crate::Sqlite;
use crate::error::StoreError;

/// How much a namespace may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Keys.
    pub max_entries: usize,
    /// Bytes of keys and values together.
    pub max_bytes: usize,
    /// Bytes of one value.
    pub max_value: usize,
    /// How long an entry lives after it was written; for ever without it.
    pub ttl: Option<Duration>,
    /// What happens to a write that finds no room.
    pub when_full: WhenFull,
}

/// What happens to a write that finds no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// It is refused.
    Refuse,
    /// Other entries of the namespace go: in memory those that were not used for the longest time, in a file those that
    /// were not written for the longest time (a read of a file writes nothing).
    Evict,
}

/// What a namespace holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Entries, those that have expired and are not swept yet included.
    pub entries: usize,
    /// Bytes of their keys and values.
    pub bytes: usize,
}

/// Some keys, in the order of their bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// The keys. There may be fewer than fit, or none, and more to come all the same.
    pub keys: Vec<String>,
    /// The key after which to go on, if there may be more.
    pub next: Option<String>,
}

/// The entries that somebody sees under the name of a bucket. Keys and values have been checked. A future that is dropped
/// may have had its effect or not.
pub trait Namespace: Send + Sync + 'static {
    /// The value of a key, and its revision.
    fn get(&self, key: String) -> BoxFuture<'_, Result<Option<Entry>, StoreError>>;
    /// Store a value; its time to live begins.
    fn set(&self, key: String, value: Vec<u8>) -> BoxFuture<'_, Result<(), StoreError>>;
    /// Remove a key, if it is there.
    fn delete(&self, key: String) -> BoxFuture<'_, Result<(), StoreError>>;
    /// At most [`crate::PAGE`] of the keys after this one.
    fn page(&self, after: Option<String>) -> BoxFuture<'_, Result<Page, StoreError>>;
    /// Store a value if the key has this revision (`None`: is absent); `false` if it has not.
    fn swap(&self, key: String, revision: Option<u64>, value: Vec<u8>) -> BoxFuture<'_, Result<bool, StoreError>>;
    /// Add to a decimal number; the sum. An absent key counts as 0.
    fn increment(&self, key: String, delta: i64) -> BoxFuture<'_, Result<i64, StoreError>>;
    /// What it holds, where that is known without asking somebody else.
    fn usage(&self) -> Option<Usage>;
}

/// An opened backend.
#[derive(Debug)]
pub enum Store {
    /// In this process.
    Memory(Memory),
    /// In a file.
    #[cfg(feature = "sqlite")]
    Sqlite(Sqlite),
    /// At a broker.
    #[cfg(feature = "nats")]
    Nats(Box<Nats>),
}

impl Store {
    /// The namespace of a plugin, or the shared one. Asked again, it is the same one.
    #[must_use]
    pub fn namespace(&self, owner: Option<&str>) -> Arc<dyn Namespace> {
        match self {
            Self::Memory(memory) => memory.namespace(owner),
            #[cfg(feature = "sqlite")]
            Self::Sqlite(sqlite) => sqlite.namespace(owner),
            #[cfg(feature = "nats")]
            Self::Nats(nats) => nats.namespace(owner),
        }
    }

    /// End it: what a file holds is checkpointed. What is asked of it afterwards is refused.
    pub async fn close(&self) {
        match self {
            Self::Memory(_) => {}
            #[cfg(feature = "sqlite")]
            Self::Sqlite(sqlite) => sqlite.close().await,
            #[cfg(feature = "nats")]
            Self::Nats(nats) => nats.close(),
        }
    }
}

/// Add to the decimal number that a value is.
pub(crate) fn sum(value: Option<&[u8]>, delta: i64) -> Result<i64, StoreError> {
    let number = match value {
        None => 0,
        Some(value) => {
            std::str::from_utf8(value).ok().and_then(|text| text.parse::<i64>().ok()).ok_or(StoreError::NotANumber)?
        }
    };
    number.checked_add(delta).ok_or(StoreError::Overflow)
}
