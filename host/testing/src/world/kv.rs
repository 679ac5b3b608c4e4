//! Buckets in memory: those of the gateway, on the test's clock, which fail when the test says so.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::{BoxFuture, ready};
use tidegate_keyvalue::{Bounds, Counts, Memory, PluginBucket, Store, WhenFull};
use tidegate_runtime::environment::Clock;
use tidegate_runtime::grants::{self, Bucket as _, BucketError, Entry, Keys};

use super::Failures;

/// Bounds of a bucket whose test names none: those of `[[kv]]` in the gateway.
const BOUNDS: Bounds =
    Bounds { max_entries: 100_000, max_bytes: 64 << 20, max_value: 64 << 10, ttl: None, when_full: WhenFull::Refuse };

/// The buckets of the plugin, by name.
#[derive(Debug, Default)]
pub(crate) struct Buckets {
    buckets: BTreeMap<String, Bucket>,
    pub(crate) failures: Arc<Failures<BucketError>>,
}

impl Buckets {
    pub(crate) fn new(names: &[(String, Option<std::time::Duration>)], clock: &Arc<dyn Clock>) -> Self {
        let failures = Arc::<Failures<BucketError>>::default();
        let open = |ttl| {
            let bounds = Bounds { ttl, ..BOUNDS };
            let store = Store::Memory(Memory::on(bounds, Arc::clone(clock)));
            let bucket = PluginBucket::new(store.namespace(None), bounds.max_value, Arc::new(Counts::default()));
            Bucket { bucket: Arc::new(bucket), failures: Arc::clone(&failures) }
        };
        Self { buckets: names.iter().map(|(name, ttl)| (name.clone(), open(*ttl))).collect(), failures }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Bucket> {
        self.buckets.get(name)
    }
}

impl grants::Buckets for Buckets {
    fn open(&self, name: &str) -> Result<Arc<dyn grants::Bucket>, BucketError> {
        let bucket = self.buckets.get(name).ok_or(BucketError::AccessDenied)?;
        Ok(Arc::new(bucket.clone()))
    }
}

/// A bucket, as the plugin and the test see it.
#[derive(Clone)]
pub struct Bucket {
    bucket: Arc<PluginBucket>,
    failures: Arc<Failures<BucketError>>,
}

impl std::fmt::Debug for Bucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bucket").finish_non_exhaustive()
    }
}

impl Bucket {
    /// A value, if it is there.
    ///
    /// # Panics
    /// If the key is none that a bucket takes.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<Vec<u8>> {
        let entry = now(self.bucket.get(key.to_owned()));
        entry.unwrap_or_else(|error| panic!("{key:?}: {error}")).map(|entry| entry.value)
    }

    /// Put a value in.
    ///
    /// # Panics
    /// If the key or the value is none that a bucket takes.
    pub fn put(&self, key: &str, value: impl Into<Vec<u8>>) {
        now(self.bucket.set(key.to_owned(), value.into())).unwrap_or_else(|error| panic!("{key:?}: {error}"));
    }

    /// A call of the plugin's: it fails, or goes to the bucket.
    fn or_fail<'a, T: Send + 'a>(
        &'a self,
        call: BoxFuture<'a, Result<T, BucketError>>,
    ) -> BoxFuture<'a, Result<T, BucketError>> {
        match self.failures.next() {
            Some(error) => Box::pin(ready(Err(error))),
            None => call,
        }
    }
}

/// What memory does, it does at once.
fn now<T>(future: BoxFuture<'_, T>) -> T {
    futures_util::FutureExt::now_or_never(future).unwrap_or_else(|| unreachable!("a bucket in memory does not wait"))
}

impl grants::Bucket for Bucket {
    fn get(&self, key: String) -> BoxFuture<'_, Result<Option<Entry>, BucketError>> {
        self.or_fail(self.bucket.get(key))
    }

    fn set(&self, key: String, value: Vec<u8>) -> BoxFuture<'_, Result<(), BucketError>> {
        self.or_fail(self.bucket.set(key, value))
    }

    fn delete(&self, key: String) -> BoxFuture<'_, Result<(), BucketError>> {
        self.or_fail(self.bucket.delete(key))
    }

    fn keys(&self, cursor: Option<String>) -> BoxFuture<'_, Result<Keys, BucketError>> {
        self.or_fail(self.bucket.keys(cursor))
    }

    fn swap(&self, key: String, revision: Option<u64>, value: Vec<u8>) -> BoxFuture<'_, Result<bool, BucketError>> {
        self.or_fail(self.bucket.swap(key, revision, value))
    }

    fn increment(&self, key: String, delta: i64) -> BoxFuture<'_, Result<i64, BucketError>> {
        self.or_fail(self.bucket.increment(key, delta))
    }
}
