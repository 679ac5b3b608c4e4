//! How often what was done to a bucket, and how it went.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::StoreError;

/// What a plugin can ask of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// `get`, `exists`, and looking at a key before a swap.
    Get,
    /// `set`
    Set,
    /// `delete`
    Delete,
    /// `list-keys`
    ListKeys,
    /// `swap`
    Swap,
    /// `increment`
    Increment,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 6] = [Self::Get, Self::Set, Self::Delete, Self::ListKeys, Self::Swap, Self::Increment];

    /// The label in the metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Set => "set",
            Self::Delete => "delete",
            Self::ListKeys => "list-keys",
            Self::Swap => "swap",
            Self::Increment => "increment",
        }
    }
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Ok,
    /// A swap came too late, or others changed the key too often.
    Conflict,
    /// The key, the cursor or the number was none.
    Invalid,
    /// The value was too long.
    TooLarge,
    /// There was no room.
    Full,
    /// It took too long.
    TimedOut,
    /// The store does not work.
    Unavailable,
    /// The caller went away before the end.
    Dropped,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 8] = [
        Self::Ok,
        Self::Conflict,
        Self::Invalid,
        Self::TooLarge,
        Self::Full,
        Self::TimedOut,
        Self::Unavailable,
        Self::Dropped,
    ];

    /// The label in the metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Conflict => "conflict",
            Self::Invalid => "invalid",
            Self::TooLarge => "too-large",
            Self::Full => "full",
            Self::TimedOut => "timed-out",
            Self::Unavailable => "unavailable",
            Self::Dropped => "dropped",
        }
    }
}

impl From<&StoreError> for Outcome {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::Key { .. } | StoreError::Cursor | StoreError::NotANumber | StoreError::Overflow => {
                Self::Invalid
            }
            StoreError::TooLarge { .. } => Self::TooLarge,
            StoreError::Full => Self::Full,
            StoreError::Contended => Self::Conflict,
            StoreError::TimedOut => Self::TimedOut,
            StoreError::Unavailable(_) => Self::Unavailable,
        }
    }
}

/// The counters of one plugin and one bucket.
#[derive(Debug, Default)]
pub struct Counts([[AtomicU64; Outcome::ALL.len()]; Operation::ALL.len()]);

impl Counts {
    /// How often an operation has ended like this.
    #[must_use]
    pub fn of(&self, operation: Operation, outcome: Outcome) -> u64 {
        self.cell(operation, outcome).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    pub(crate) fn record(&self, operation: Operation, outcome: Outcome) {
        if let Some(count) = self.cell(operation, outcome) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn cell(&self, operation: Operation, outcome: Outcome) -> Option<&AtomicU64> {
        self.0.get(operation as usize)?.get(outcome as usize)
    }
}
