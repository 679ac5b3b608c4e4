//! The key-value buckets of the configuration: opened once, when the gateway starts, so that what is in them outlives every
//! reload. What a plugin gets of them are the ones that it has been granted, in a namespace of its own unless a bucket is
//! shared.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::join_all;
use tidegate_keyvalue::{
    Bounds, Counts, Credentials, Memory, Namespace, Nats, NatsConfig, OpenError, PluginBucket, Sqlite, SqliteConfig,
    Store, Usage,
};
use tidegate_runtime::grants::{self, Bucket, BucketError};

use crate::config::{self, BucketKind, Login, NatsBucket};
use crate::secrets::{self, SecretProblem};

/// A bucket that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("the bucket `{bucket}` cannot be opened: {error}")]
pub struct BucketProblem {
    /// Its name in the configuration.
    pub bucket: Arc<str>,
    /// Why.
    pub error: BucketOpenError,
}

/// Why a bucket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum BucketOpenError {
    /// The store.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// What the gateway logs in with.
    #[error(transparent)]
    Secret(#[from] SecretProblem),
}

/// All buckets.
#[derive(Debug, Default)]
pub struct Buckets {
    opened: BTreeMap<Arc<str>, Opened>,
    counts: Mutex<BTreeMap<Owned, Arc<Counts>>>,
}

/// A plugin and a bucket.
type Owned = (Arc<str>, Arc<str>);

#[derive(Debug)]
struct Opened {
    store: Store,
    bounds: Bounds,
    shared: bool,
    namespaces: Mutex<Namespaces>,
}

/// By plugin; the shared one under no name. One that has been asked for stays: it may hold entries.
#[derive(Default)]
struct Namespaces(BTreeMap<Arc<str>, Arc<dyn Namespace>>);

impl std::fmt::Debug for Namespaces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

impl Buckets {
    /// Open them.
    ///
    /// # Errors
    /// The first one that cannot be opened. A broker that is away is no reason: it is connected to when it is there.
    pub async fn open(buckets: &[config::Bucket]) -> Result<Self, BucketProblem> {
        let mut opened = BTreeMap::new();
        for bucket in buckets {
            let store = open(bucket).await;
            let store = store.map_err(|error| BucketProblem { bucket: Arc::clone(&bucket.name), error })?;
            opened.insert(Arc::clone(&bucket.name), Opened::new(bucket, store));
        }
        Ok(Self { opened, counts: Mutex::default() })
    }

    /// The same names and bounds, and nothing behind them but memory.
    #[must_use]
    pub fn stand_ins(buckets: &[config::Bucket]) -> Self {
        let stand_in = |bucket: &config::Bucket| {
            let store = Store::Memory(Memory::new(bucket.bounds));
            (Arc::clone(&bucket.name), Opened::new(bucket, store))
        };
        Self { opened: buckets.iter().map(stand_in).collect(), counts: Mutex::default() }
    }

    /// What a plugin with these grants has of them; `None` if it has been granted none.
    #[must_use]
    pub fn grant(&self, plugin: &Arc<str>, granted: &BTreeSet<Arc<str>>) -> Option<Arc<dyn grants::Buckets>> {
        if granted.is_empty() {
            return None;
        }
        let bucket = |name: &Arc<str>| {
            let opened = self.opened.get(name)?;
            let (namespace, counts) = (opened.namespace(plugin), self.counters(plugin, name));
            let bucket = PluginBucket::new(namespace, opened.bounds.max_value, counts);
            Some((Arc::clone(name), Arc::new(bucket) as Arc<dyn Bucket>))
        };
        let granted = granted.iter().filter_map(bucket).collect();
        Some(Arc::new(Granted { granted, known: self.opened.keys().cloned().collect() }))
    }

    fn counters(&self, plugin: &Arc<str>, bucket: &Arc<str>) -> Arc<Counts> {
        let owned = (Arc::clone(plugin), Arc::clone(bucket));
        Arc::clone(lock(&self.counts).entry(owned).or_default())
    }

    /// How often what was done, by plugin and bucket. Counters of plugins that are gone go.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<Owned, Arc<Counts>> {
        let mut counts = lock(&self.counts);
        counts.retain(|_, counts| Arc::strong_count(counts) > 1);
        counts.clone()
    }

    /// What the namespaces hold, by bucket and plugin, where that is known here. The shared one is nobody's.
    #[must_use]
    pub fn usage(&self) -> Vec<(Arc<str>, Arc<str>, Usage)> {
        let of = |(name, opened): (&Arc<str>, &Opened)| {
            let namespaces = lock(&opened.namespaces);
            let used = |(plugin, namespace): (&Arc<str>, &Arc<dyn Namespace>)| {
                Some((Arc::clone(name), Arc::clone(plugin), namespace.usage()?))
            };
            namespaces.0.iter().filter_map(used).collect::<Vec<_>>()
        };
        self.opened.iter().flat_map(of).collect()
    }

    /// Close them: files are checkpointed. Nothing is lost if this does not end.
    pub async fn close(&self) {
        join_all(self.opened.values().map(|opened| opened.store.close())).await;
    }
}

impl Opened {
    fn new(bucket: &config::Bucket, store: Store) -> Self {
        Self { store, bounds: bucket.bounds, shared: bucket.shared, namespaces: Mutex::default() }
    }

    fn namespace(&self, plugin: &Arc<str>) -> Arc<dyn Namespace> {
        let (name, owner) = if self.shared { ("".into(), None) } else { (Arc::clone(plugin), Some(&**plugin)) };
        let mut namespaces = lock(&self.namespaces);
        Arc::clone(namespaces.0.entry(name).or_insert_with(|| self.store.namespace(owner)))
    }
}

// Nothing that is done under these locks leaves them half-changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The buckets of one plugin.
struct Granted {
    granted: BTreeMap<Arc<str>, Arc<dyn Bucket>>,
    known: BTreeSet<Arc<str>>,
}

impl grants::Buckets for Granted {
    fn open(&self, name: &str) -> Result<Arc<dyn Bucket>, BucketError> {
        match self.granted.get(name) {
            Some(bucket) => Ok(Arc::clone(bucket)),
            None if self.known.contains(name) => Err(BucketError::AccessDenied),
            None => Err(BucketError::NoSuchStore),
        }
    }
}

async fn open(bucket: &config::Bucket) -> Result<Store, BucketOpenError> {
    let (name, bounds) = (Arc::clone(&bucket.name), bucket.bounds);
    Ok(match &bucket.kind {
        BucketKind::Memory => Store::Memory(Memory::new(bounds)),
        BucketKind::Sqlite { path, timeout } => {
            let config = SqliteConfig { name, path: path.clone(), bounds, timeout: *timeout };
            Store::Sqlite(blocking(move || Sqlite::open(config)).await?)
        }
        BucketKind::Nats(nats) => {
            let login = nats.login.clone();
            let credentials = blocking(move || credentials(&login)).await?;
            let NatsBucket { urls, bucket, login: _, ca, timeout, history, replicas, storage } = &**nats;
            let config = NatsConfig {
                name,
                urls: urls.clone(),
                bucket: bucket.clone(),
                credentials,
                ca: ca.clone(),
                timeout: *timeout,
                ttl: bounds.ttl,
                max_bytes: bounds.max_bytes,
                max_value: bounds.max_value,
                history: *history,
                replicas: *replicas,
                storage: *storage,
            };
            Store::Nats(Box::new(Nats::connect(config).await?))
        }
    })
}

/// Do what waits for a disk beside the async runtime.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        // A panic is a bug of ours, and goes on here; nobody cancels it.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

fn credentials(login: &Login) -> Result<Credentials, SecretProblem> {
    let read = |key: &str, source| secrets::read(key, source);
    Ok(match login {
        Login::None => Credentials::None,
        Login::Credentials(source) => Credentials::File(read("credentials", source)?),
        Login::Token(source) => Credentials::Token(read("token", source)?),
        Login::User(user, source) => Credentials::User(user.clone(), read("password", source)?),
    })
}
