//! `wasi:keyvalue` of the host.

use super::{KvError, Swapped};
use crate::bindings::imports::wasi::keyvalue::{atomics, store};

#[derive(Debug)]
pub(super) struct Bucket(store::Bucket);

/// What a key had when it was looked at.
pub(super) struct Claim(atomics::Cas);

impl Bucket {
    pub(super) fn open(name: &str) -> Result<Self, KvError> {
        Ok(Self(store::open(name)?))
    }
    pub(super) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, KvError> {
        Ok(self.0.get(key)?)
    }
    pub(super) fn set(&self, key: &str, value: &[u8]) -> Result<(), KvError> {
        Ok(self.0.set(key, value)?)
    }
    pub(super) fn delete(&self, key: &str) -> Result<(), KvError> {
        Ok(self.0.delete(key)?)
    }
    pub(super) fn exists(&self, key: &str) -> Result<bool, KvError> {
        Ok(self.0.exists(key)?)
    }
    pub(super) fn keys(&self, cursor: Option<String>) -> Result<(Vec<String>, Option<String>), KvError> {
        let store::KeyResponse { keys, cursor } = self.0.list_keys(cursor.as_deref())?;
        Ok((keys, cursor))
    }
    pub(super) fn increment(&self, key: &str, delta: i64) -> Result<i64, KvError> {
        Ok(atomics::increment(&self.0, key, delta)?)
    }
    pub(super) fn claim(&self, key: &str) -> Result<Claim, KvError> {
        Ok(Claim(atomics::Cas::new(&self.0, key)?))
    }
}

impl Claim {
    pub(super) fn current(&self) -> Result<Option<Vec<u8>>, KvError> {
        Ok(self.0.current()?)
    }
    pub(super) fn swap(self, value: &[u8]) -> Result<Swapped, KvError> {
        match atomics::swap(self.0, value) {
            Ok(()) => Ok(Swapped::Done),
            Err(atomics::CasError::CasFailed(_)) => Ok(Swapped::Lost),
            Err(atomics::CasError::StoreError(error)) => Err(error.into()),
        }
    }
}

impl From<store::Error> for KvError {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::NoSuchStore => Self::NoSuchBucket,
            store::Error::AccessDenied => Self::AccessDenied,
            store::Error::Other(what) => Self::Other(what),
        }
    }
}
