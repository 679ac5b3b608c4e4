//! Buckets of values under keys, shared by all instances of the plugin, and with the backend `nats` by a whole fleet of gateways.
//! Granted by `kv = ["name"]`.
//!
//! ```
//! use tidegate_sdk::kv::Bucket;
//!
//! # fn main() -> tidegate_sdk::Result<()> {
//! let sessions = Bucket::open("sessions")?;
//! sessions.set("ada", "1815")?;
//! assert_eq!(sessions.get("ada")?.as_deref(), Some(&b"1815"[..]));
//!
//! // A counter, whoever else counts.
//! assert_eq!(sessions.increment("visits", 2)?, 2);
//!
//! // Read, change, write; again if somebody else was faster.
//! sessions.update_json("last", |seen: Option<Vec<String>>| {
//!     let mut seen = seen.unwrap_or_default();
//!     seen.push("ada".to_owned());
//!     Some(seen)
//! })?;
//! # Ok(())
//! # }
//! ```
//!
//! In a native test the buckets are in memory, and every one is there.

#[cfg(target_arch = "wasm32")]
mod host;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) mod in_memory;

#[cfg(target_arch = "wasm32")]
use host as backend;
#[cfg(not(target_arch = "wasm32"))]
use in_memory as backend;

use std::collections::VecDeque;
use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// How often [`Bucket::update`] tries.
const ATTEMPTS: usize = 16;

/// Why an operation did not happen, or not to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KvError {
    /// There is no bucket of this name.
    NoSuchBucket,
    /// The bucket has not been granted to the plugin.
    AccessDenied,
    /// Others changed the value again and again between the reading and the writing of an update.
    Contended,
    /// The value under this key is not the JSON of what was asked for: the key, and what is wrong.
    NotJson(String, String),
    /// Anything else: what the host says.
    Other(String),
}

impl fmt::Display for KvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchBucket => f.write_str("there is no such bucket"),
            Self::AccessDenied => f.write_str("the bucket has not been granted to the plugin"),
            Self::Contended => write!(f, "the value was changed by others {ATTEMPTS} times in a row"),
            Self::NotJson(key, what) => write!(f, "the value of `{key}` does not fit: {what}"),
            Self::Other(what) => write!(f, "the bucket did not do it: {what}"),
        }
    }
}

impl std::error::Error for KvError {}

/// A bucket. Opening it is cheap; keep it in the plugin all the same.
#[derive(Debug)]
pub struct Bucket(backend::Bucket);

/// What a conditional write came to.
enum Swapped {
    Done,
    /// Somebody else was faster.
    Lost,
}

impl Bucket {
    /// The bucket of this name.
    ///
    /// # Errors
    /// When there is none, or the plugin has not been granted it.
    pub fn open(name: &str) -> Result<Self, KvError> {
        backend::Bucket::open(name).map(Self)
    }

    /// The value of a key.
    ///
    /// # Errors
    /// When the host cannot tell.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, KvError> {
        self.0.get(key)
    }

    /// The value of a key, from JSON.
    ///
    /// # Errors
    /// When the host cannot tell, or the value is not the JSON of a `T`.
    pub fn get_json<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, KvError> {
        self.get(key)?.map(|value| from_json(key, &value)).transpose()
    }

    /// Store a value.
    ///
    /// # Errors
    /// When the host has not stored it, or does not know.
    pub fn set(&self, key: &str, value: impl AsRef<[u8]>) -> Result<(), KvError> {
        self.0.set(key, value.as_ref())
    }

    /// Store a value as JSON.
    ///
    /// # Errors
    /// When it cannot be written as JSON, or the host has not stored it, or does not know.
    pub fn set_json<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<(), KvError> {
        self.set(key, to_json(key, value)?)
    }

    /// Remove a key. Removing what is not there is no error.
    ///
    /// # Errors
    /// When the host has not removed it, or does not know.
    pub fn delete(&self, key: &str) -> Result<(), KvError> {
        self.0.delete(key)
    }

    /// Whether there is a key.
    ///
    /// # Errors
    /// When the host cannot tell.
    pub fn exists(&self, key: &str) -> Result<bool, KvError> {
        self.0.exists(key)
    }

    /// All keys, page by page. A key that is added or removed meanwhile may be there or not.
    #[must_use]
    pub fn keys(&self) -> Keys<'_> {
        Keys { bucket: self, page: VecDeque::new(), next: Next::First }
    }

    /// Add to a decimal number, which is 0 if it is not there; the sum. Nothing is lost, whoever else counts.
    ///
    /// # Errors
    /// When the value is no number, or the host has not added, or does not know.
    pub fn increment(&self, key: &str, delta: i64) -> Result<i64, KvError> {
        self.0.increment(key, delta)
    }

    /// Read a value, make another of it, and store that if the value has not changed meanwhile; if it has, again, up to
    /// 16 times. `change` gets `None` for a key that is not there; it returns `None` to leave everything as it is. It may run
    /// several times, and what it saw last is what counts.
    ///
    /// # Errors
    /// [`KvError::Contended`], or when the host fails.
    pub fn update(&self, key: &str, mut change: impl FnMut(Option<&[u8]>) -> Option<Vec<u8>>) -> Result<(), KvError> {
        self.try_update(key, |old| Ok(change(old)))
    }

    /// The same with JSON on both sides.
    ///
    /// # Errors
    /// As [`update`](Self::update), and when the value is not the JSON of a `T`.
    pub fn update_json<T: Serialize + DeserializeOwned>(
        &self,
        key: &str,
        mut change: impl FnMut(Option<T>) -> Option<T>,
    ) -> Result<(), KvError> {
        self.try_update(key, |old| {
            let old = old.map(|old| from_json(key, old)).transpose()?;
            change(old).map(|new| to_json(key, &new)).transpose()
        })
    }

    fn try_update(
        &self,
        key: &str,
        mut change: impl FnMut(Option<&[u8]>) -> Result<Option<Vec<u8>>, KvError>,
    ) -> Result<(), KvError> {
        for _ in 0..ATTEMPTS {
            let claim = self.0.claim(key)?;
            let Some(new) = change(claim.current()?.as_deref())? else { return Ok(()) };
            if let Swapped::Done = claim.swap(&new)? {
                return Ok(());
            }
        }
        Err(KvError::Contended)
    }
}

fn from_json<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T, KvError> {
    serde_json::from_slice(value).map_err(|error| KvError::NotJson(key.to_owned(), error.to_string()))
}

fn to_json<T: Serialize + ?Sized>(key: &str, value: &T) -> Result<Vec<u8>, KvError> {
    serde_json::to_vec(value).map_err(|error| KvError::NotJson(key.to_owned(), error.to_string()))
}

/// The keys of a bucket. An error ends it.
#[derive(Debug)]
pub struct Keys<'b> {
    bucket: &'b Bucket,
    page: VecDeque<String>,
    next: Next,
}

#[derive(Debug)]
enum Next {
    First,
    From(String),
    Nothing,
}

impl Iterator for Keys<'_> {
    type Item = Result<String, KvError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(key) = self.page.pop_front() {
                return Some(Ok(key));
            }
            let cursor = match std::mem::replace(&mut self.next, Next::Nothing) {
                Next::First => None,
                Next::From(cursor) => Some(cursor),
                Next::Nothing => return None,
            };
            match self.bucket.0.keys(cursor) {
                Ok((keys, cursor)) => {
                    self.page = keys.into();
                    self.next = cursor.map_or(Next::Nothing, Next::From);
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
