//! What the client asked for, and what it was answered.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// An event as the client knows it: the number of a key, and which part of a request with several. Its body is made of
/// these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Number {
    pub(crate) key: usize,
    pub(crate) number: u64,
    /// `None` where the request has one event.
    pub(crate) part: Option<u64>,
}

impl Number {
    pub(crate) fn of(body: &[u8]) -> Option<Self> {
        let (key, number) = std::str::from_utf8(body).ok()?.trim_end_matches('_').split_once('-')?;
        let (number, part) = match number.split_once('.') {
            Some((number, part)) => (number, Some(part.parse().ok()?)),
            None => (number, None),
        };
        Some(Self { key: key.parse().ok()?, number: number.parse().ok()?, part })
    }
}

/// What is known of an event's fate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// No answer came, or not that of the plugin: it may be the outbox's or not.
    None,
    /// It is the outbox's, under this id.
    Accepted(String),
    /// It is not.
    Refused(String),
}

/// Every event that was asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger(Arc<Mutex<BTreeMap<Number, Answer>>>);

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Number, Answer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Write down what was answered; first that nothing was.
    pub(crate) fn note(&self, number: Number, answer: Answer) {
        self.lock().insert(number, answer);
    }

    pub(crate) fn entries(&self) -> BTreeMap<Number, Answer> {
        self.lock().clone()
    }

    /// How many were accepted.
    pub(crate) fn accepted(&self) -> usize {
        self.lock().values().filter(|answer| matches!(answer, Answer::Accepted(_))).count()
    }
}
