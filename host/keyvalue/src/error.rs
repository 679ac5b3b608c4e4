//! Why a store did not do what it was asked, or could not be opened.

use std::path::PathBuf;

use tidegate_runtime::grants::BucketError;

/// Why an operation was not done. What a plugin reads names no file, no address and no other plugin; the log says those.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The key is empty or too long.
    #[error("invalid key: a key has 1 to {limit} bytes, this one has {length}")]
    Key {
        /// Bytes it has.
        length: usize,
        /// Bytes it may have.
        limit: usize,
    },
    /// The cursor is none that a page has given.
    #[error("invalid cursor")]
    Cursor,
    /// The value is longer than `max_value`, or than what the broker takes.
    #[error("too large: the value has {length} bytes, at most {limit} are taken")]
    TooLarge {
        /// Bytes it has.
        length: usize,
        /// Bytes it may have.
        limit: usize,
    },
    /// The namespace holds as much as it may, and nothing is evicted from it.
    #[error("the bucket is full")]
    Full,
    /// The value that was to be added to is no decimal number.
    #[error("the value is not a number")]
    NotANumber,
    /// The sum does not fit into 64 bits.
    #[error("the sum does not fit into 64 bits")]
    Overflow,
    /// Others changed the key again and again.
    #[error("others changed the key too often")]
    Contended,
    /// It took longer than the store's time. Whether it was done is not known.
    #[error("the bucket did not answer in time")]
    TimedOut,
    /// The store does not work: a broken file, a full disk, a broker that is away.
    #[error("the bucket is unavailable: {0}")]
    Unavailable(&'static str),
}

impl From<StoreError> for BucketError {
    fn from(error: StoreError) -> Self {
        Self::Other(error.to_string())
    }
}

/// A store that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The file cannot be opened, or is no database.
    #[error("cannot open {}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        reason: String,
    },
    /// The file was written by a version of Tidegate that this one does not know.
    #[error("{} was written by another version of tidegate (format {found}, this one reads {known})", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The format it has.
        found: i64,
        /// The format that is known here.
        known: i64,
    },
    /// There is no thread for it.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
    /// The broker's address or the credentials cannot be used.
    #[error("cannot use the broker: {0}")]
    Broker(String),
}
