//! Buckets in memory, for tests. Every bucket is there unless a test says otherwise.

use super::{KvError, Swapped};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Keys of a page: few, so that tests meet the end of one.
const PAGE: usize = 3;

#[derive(Default)]
struct Store {
    /// By bucket and key: the value and its revision.
    values: BTreeMap<(String, String), (Vec<u8>, u64)>,
    revisions: u64,
    refusal: Option<KvError>,
    /// Writes of others that come between the reading and the writing of the next updates.
    rivals: usize,
}

thread_local! {
    static STORE: RefCell<Store> = RefCell::default();
}

/// From here on, every operation fails like this; `None` lets them succeed again.
pub fn refuse(refusal: impl Into<Option<KvError>>) {
    STORE.with_borrow_mut(|store| store.refusal = refusal.into());
}

/// Let somebody else be faster in the next `times` conditional writes.
pub fn contend(times: usize) {
    STORE.with_borrow_mut(|store| store.rivals = times);
}

/// Everything in a bucket, sorted by key.
#[must_use]
pub fn contents(bucket: &str) -> Vec<(String, Vec<u8>)> {
    STORE.with_borrow(|store| {
        let own = store.values.iter().filter(|((name, _), _)| name == bucket);
        own.map(|((_, key), (value, _))| (key.clone(), value.clone())).collect()
    })
}

impl Store {
    fn put(&mut self, bucket: &str, key: &str, value: &[u8]) {
        self.revisions += 1;
        self.values.insert((bucket.to_owned(), key.to_owned()), (value.to_vec(), self.revisions));
    }

    fn find(&self, bucket: &str, key: &str) -> Option<&(Vec<u8>, u64)> {
        self.values.get(&(bucket.to_owned(), key.to_owned()))
    }
}

fn with<T>(operation: impl FnOnce(&mut Store) -> Result<T, KvError>) -> Result<T, KvError> {
    STORE.with_borrow_mut(|store| match &store.refusal {
        Some(refusal) => Err(refusal.clone()),
        None => operation(store),
    })
}

#[derive(Debug)]
pub(super) struct Bucket(String);

pub(super) struct Claim {
    bucket: String,
    key: String,
    seen: Option<(Vec<u8>, u64)>,
}

impl Bucket {
    pub(super) fn open(name: &str) -> Result<Self, KvError> {
        with(|_| Ok(Self(name.to_owned())))
    }
    pub(super) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, KvError> {
        with(|store| Ok(store.find(&self.0, key).map(|(value, _)| value.clone())))
    }
    pub(super) fn set(&self, key: &str, value: &[u8]) -> Result<(), KvError> {
        with(|store| {
            store.put(&self.0, key, value);
            Ok(())
        })
    }
    pub(super) fn delete(&self, key: &str) -> Result<(), KvError> {
        with(|store| {
            store.values.remove(&(self.0.clone(), key.to_owned()));
            Ok(())
        })
    }
    pub(super) fn exists(&self, key: &str) -> Result<bool, KvError> {
        Ok(self.get(key)?.is_some())
    }
    pub(super) fn keys(&self, cursor: Option<String>) -> Result<(Vec<String>, Option<String>), KvError> {
        with(|store| {
            let own = store.values.keys().filter(|(bucket, _)| *bucket == self.0).map(|(_, key)| key);
            let rest = own.filter(|key| cursor.as_ref().is_none_or(|cursor| *key > cursor));
            let keys: Vec<String> = rest.take(PAGE).cloned().collect();
            let cursor = keys.last().filter(|_| keys.len() == PAGE).cloned();
            Ok((keys, cursor))
        })
    }
    pub(super) fn increment(&self, key: &str, delta: i64) -> Result<i64, KvError> {
        with(|store| {
            let old = match store.find(&self.0, key) {
                None => 0,
                Some((value, _)) => std::str::from_utf8(value)
                    .ok()
                    .and_then(|text| text.parse::<i64>().ok())
                    .ok_or_else(|| KvError::Other("the value is not a number".to_owned()))?,
            };
            let sum = old.checked_add(delta).ok_or_else(|| KvError::Other("the sum is too large".to_owned()))?;
            store.put(&self.0, key, sum.to_string().as_bytes());
            Ok(sum)
        })
    }
    pub(super) fn claim(&self, key: &str) -> Result<Claim, KvError> {
        with(|store| {
            let seen = store.find(&self.0, key).cloned();
            Ok(Claim { bucket: self.0.clone(), key: key.to_owned(), seen })
        })
    }
}

impl Claim {
    pub(super) fn current(&self) -> Result<Option<Vec<u8>>, KvError> {
        Ok(self.seen.as_ref().map(|(value, _)| value.clone()))
    }
    pub(super) fn swap(self, value: &[u8]) -> Result<Swapped, KvError> {
        with(|store| {
            let now = store.find(&self.bucket, &self.key).map(|(_, revision)| *revision);
            if store.rivals > 0 || now != self.seen.map(|(_, revision)| revision) {
                store.rivals = store.rivals.saturating_sub(1);
                return Ok(Swapped::Lost);
            }
            store.put(&self.bucket, &self.key, value);
            Ok(Swapped::Done)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{contend, contents, refuse};
    use crate::kv::{Bucket, KvError};

    #[test]
    fn what_is_stored_is_found_and_buckets_are_apart() -> crate::Result<()> {
        let (a, b) = (Bucket::open("a")?, Bucket::open("b")?);
        a.set("k", "1")?;
        b.set_json("k", &[2])?;
        assert_eq!((a.get("k")?, b.get_json("k")?), (Some(b"1".to_vec()), Some(vec![2])));
        a.delete("k")?;
        assert_eq!((a.exists("k")?, b.exists("k")?), (false, true));
        assert!(matches!(b.get_json::<String>("k"), Err(KvError::NotJson(..))));
        refuse(KvError::AccessDenied);
        assert_eq!(a.get("k"), Err(KvError::AccessDenied));
        Ok(())
    }

    #[test]
    fn the_keys_of_all_pages_are_listed() -> crate::Result<()> {
        for count in [0, 1, 3, 4, 9] {
            let name = format!("b{count}");
            let bucket = Bucket::open(&name)?;
            let keys: Vec<String> = (0..count).map(|n| format!("k{n}")).collect();
            for key in &keys {
                bucket.set(key, "")?;
            }
            assert_eq!(bucket.keys().collect::<Result<Vec<_>, _>>()?, keys);
        }
        Ok(())
    }

    #[test]
    fn an_update_tries_again_when_somebody_else_was_faster_but_not_forever() -> crate::Result<()> {
        let bucket = Bucket::open("a")?;
        let add = |seen: Option<u32>| Some(seen.unwrap_or(0) + 1);
        contend(15);
        bucket.update_json("n", add)?;
        bucket.update_json("n", add)?;
        assert_eq!(contents("a"), [("n".to_owned(), b"2".to_vec())]);
        contend(16);
        assert_eq!(bucket.update_json("n", add), Err(KvError::Contended));
        bucket.update("n", |_| None)?;
        assert_eq!(bucket.increment("n", 3)?, 5);
        bucket.set("n", "five")?;
        assert!(matches!(bucket.increment("n", 1), Err(KvError::Other(_))));
        Ok(())
    }
}
