//! Which names there are over all plugins, of which kind; and what a name may be.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Kind, Label, MAX_NAME, MAX_VALUE, Refused};

/// Ends of names that an exposition has for itself: `queue_count` is a sample of the histogram `queue` (OpenMetrics 1.0).
const RESERVED: [&str; 5] = ["_total", "_created", "_count", "_sum", "_bucket"];

/// Labels that the exposition has for itself: whose number it is, and a bucket's bound.
const RESERVED_LABELS: [&str; 2] = ["plugin", "le"];

/// The kind of each name, and how many plugins use it.
#[derive(Debug, Default)]
pub(super) struct Names(Mutex<HashMap<String, (Kind, usize)>>);

impl Names {
    // Nothing below leaves the map half-changed, so a poisoned lock is as good as a sound one.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, (Kind, usize)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more plugin wants to use the name; `false` if it is of another kind.
    pub(super) fn claim(&self, name: &str, kind: Kind) -> bool {
        match self.lock().entry(name.to_owned()).or_insert((kind, 0)) {
            (known, users) if *known == kind => {
                *users += 1;
                true
            }
            _ => false,
        }
    }

    /// One that uses the name wants it to be of another kind; `false` if it is not the only one.
    pub(super) fn change(&self, name: &str, kind: Kind) -> bool {
        match self.lock().get_mut(name) {
            Some((known, 1)) => {
                *known = kind;
                true
            }
            _ => false,
        }
    }

    /// One that used these names is gone.
    pub(super) fn release<'n>(&self, gone: impl Iterator<Item = &'n String>) {
        let mut names = self.lock();
        for name in gone {
            if let Some((_, users)) = names.get_mut(name) {
                *users -= 1;
                if *users == 0 {
                    names.remove(name);
                }
            }
        }
    }
}

/// Whether these can be a series: the names are those of the Prometheus data model, the labels differ.
pub(super) fn check(name: &str, labels: &[Label]) -> Result<(), Refused> {
    let is_reserved = RESERVED.iter().any(|end| name.ends_with(end));
    let are_distinct = labels.windows(2).all(|pair| match pair {
        [(a, _), (b, _)] => a != b,
        _ => true,
    });
    let fits = |(name, value): &Label| {
        let is_reserved = RESERVED_LABELS.contains(&name.as_str()) || name.starts_with("__");
        is_name(name) && !is_reserved && value.len() <= MAX_VALUE
    };
    if is_name(name) && !is_reserved && are_distinct && labels.iter().all(fits) {
        Ok(())
    } else {
        Err(Refused::Invalid)
    }
}

/// Letters, digits and `_`, no digit first. (Colons are for the rules of whoever scrapes.)
fn is_name(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    name.len() <= MAX_NAME
        && name.bytes().next().is_some_and(is_letter)
        && name.bytes().all(|byte| is_letter(byte) || byte.is_ascii_digit())
}
