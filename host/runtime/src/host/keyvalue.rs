//! `wasi:keyvalue`: the store and the atomics.
//!
//! What a guest holds open counts against the resources of its instance. A claim has a value in it, so the values of all
//! claims together are bounded, too ([`MAX_CLAIMED`]).

use std::sync::Arc;

use wasmtime::component::Resource;

use crate::bindings::{atomics, keyvalue};
use crate::grants::{Bucket, BucketError, Entry};
use crate::host::Guest;

/// Bytes of the values in the claims of an instance. One claim may always be held, whatever its value.
const MAX_CLAIMED: usize = 16 << 20;

/// A bucket that a guest has opened.
#[expect(unreachable_pub, reason = "the generated module exports it again")]
pub struct OpenBucket(Arc<dyn Bucket>);

/// What a key of a bucket had when a guest looked at it.
#[expect(unreachable_pub, reason = "the generated module exports it again")]
pub struct Claim {
    bucket: Arc<dyn Bucket>,
    key: String,
    seen: Option<Entry>,
}

impl Claim {
    /// Bytes that it holds.
    fn size(&self) -> usize {
        self.seen.as_ref().map_or(0, |seen| seen.value.len())
    }
}

type Answer<T> = wasmtime::Result<Result<T, keyvalue::Error>>;

impl Guest {
    fn bucket(&self, bucket: &Resource<OpenBucket>) -> wasmtime::Result<Arc<dyn Bucket>> {
        Ok(self.table.get(bucket)?.0.clone())
    }

    /// Hand a claim to the guest, if it does not hold too much already.
    fn hold(&mut self, claim: Claim) -> Answer<Resource<Claim>> {
        let claimed = self.claimed.saturating_add(claim.size());
        if self.claimed > 0 && claimed > MAX_CLAIMED {
            return Ok(Err(keyvalue::Error::Other(format!(
                "too many claims: the values of those that are held have {} bytes",
                self.claimed
            ))));
        }
        let held = self.table.push(claim)?;
        self.claimed = claimed;
        Ok(Ok(held))
    }

    /// Take a claim back.
    fn release(&mut self, claim: Resource<Claim>) -> wasmtime::Result<Claim> {
        let claim = self.table.delete(claim)?;
        self.claimed = self.claimed.saturating_sub(claim.size());
        Ok(claim)
    }
}

impl keyvalue::Host for Guest {
    async fn open(&mut self, identifier: String) -> Answer<Resource<OpenBucket>> {
        let opened = match &self.grants.kv {
            Some(buckets) => buckets.open(&identifier),
            None => Err(BucketError::AccessDenied),
        };
        match opened {
            Ok(bucket) => Ok(Ok(self.table.push(OpenBucket(bucket))?)),
            Err(error) => Ok(Err(error.into())),
        }
    }
}

impl keyvalue::HostBucket for Guest {
    async fn get(&mut self, bucket: Resource<OpenBucket>, key: String) -> Answer<Option<Vec<u8>>> {
        let entry = self.bucket(&bucket)?.get(key).await;
        Ok(entry.map(|entry| entry.map(|entry| entry.value)).map_err(Into::into))
    }

    async fn set(&mut self, bucket: Resource<OpenBucket>, key: String, value: Vec<u8>) -> Answer<()> {
        self.meter.fence()?;
        Ok(self.bucket(&bucket)?.set(key, value).await.map_err(Into::into))
    }

    async fn delete(&mut self, bucket: Resource<OpenBucket>, key: String) -> Answer<()> {
        self.meter.fence()?;
        Ok(self.bucket(&bucket)?.delete(key).await.map_err(Into::into))
    }

    async fn exists(&mut self, bucket: Resource<OpenBucket>, key: String) -> Answer<bool> {
        Ok(self.bucket(&bucket)?.get(key).await.map(|entry| entry.is_some()).map_err(Into::into))
    }

    async fn list_keys(
        &mut self,
        bucket: Resource<OpenBucket>,
        cursor: Option<String>,
    ) -> Answer<keyvalue::KeyResponse> {
        let page = self.bucket(&bucket)?.keys(cursor).await;
        Ok(page.map(|(keys, cursor)| keyvalue::KeyResponse { keys, cursor }).map_err(Into::into))
    }

    async fn drop(&mut self, bucket: Resource<OpenBucket>) -> wasmtime::Result<()> {
        self.table.delete(bucket)?;
        Ok(())
    }
}

impl atomics::Host for Guest {
    async fn increment(&mut self, bucket: Resource<OpenBucket>, key: String, delta: i64) -> Answer<i64> {
        self.meter.fence()?;
        Ok(self.bucket(&bucket)?.increment(key, delta).await.map_err(Into::into))
    }

    async fn swap(
        &mut self,
        claim: Resource<Claim>,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), atomics::CasError>> {
        self.meter.fence()?;
        let Claim { bucket, key, seen } = self.release(claim)?;
        let revision = seen.map(|seen| seen.revision);
        let swapped = match bucket.swap(key.clone(), revision, value).await {
            Ok(false) => bucket.get(key.clone()).await.map(|seen| Some(Claim { bucket, key, seen })),
            done => done.map(|_| None),
        };
        match swapped {
            Ok(None) => Ok(Ok(())),
            Ok(Some(claim)) => Ok(Err(match self.hold(claim)? {
                Ok(claim) => atomics::CasError::CasFailed(claim),
                Err(error) => atomics::CasError::StoreError(error),
            })),
            Err(error) => Ok(Err(atomics::CasError::StoreError(error.into()))),
        }
    }
}

impl atomics::HostCas for Guest {
    async fn new(&mut self, bucket: Resource<OpenBucket>, key: String) -> Answer<Resource<Claim>> {
        let bucket = self.bucket(&bucket)?;
        match bucket.get(key.clone()).await {
            Ok(seen) => self.hold(Claim { bucket, key, seen }),
            Err(error) => Ok(Err(error.into())),
        }
    }

    async fn current(&mut self, claim: Resource<Claim>) -> Answer<Option<Vec<u8>>> {
        Ok(Ok(self.table.get(&claim)?.seen.as_ref().map(|seen| seen.value.clone())))
    }

    async fn drop(&mut self, claim: Resource<Claim>) -> wasmtime::Result<()> {
        self.release(claim)?;
        Ok(())
    }
}

impl From<BucketError> for keyvalue::Error {
    fn from(error: BucketError) -> Self {
        match error {
            BucketError::NoSuchStore => Self::NoSuchStore,
            BucketError::AccessDenied => Self::AccessDenied,
            BucketError::Other(what) => Self::Other(what),
        }
    }
}
