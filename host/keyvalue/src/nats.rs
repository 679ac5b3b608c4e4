//! Buckets at a NATS server with JetStream, shared by replicas of the gateway.
//!
//! A bucket that is not shared is one JetStream bucket per plugin, so that the server's own bounds are the plugin's. Buckets
//! are looked for when they are first needed, and made if they are missing. The client connects by itself, again and
//! again; while it is not connected, operations fail at once and nothing waits in a queue.
//!
//! A change that depends on what is there is a write with the revision that was seen: the server refuses it if another one
//! was first.

mod name;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::kv::{self, CreateErrorKind, EntryErrorKind, Operation, UpdateErrorKind};
use async_nats::jetstream::stream::{self, DiscardPolicy, StorageType};
use async_nats::jetstream::{self, Context};
use async_nats::{Client, ConnectOptions, Event};
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use tidegate_runtime::grants::Entry;
use tokio_util::sync::CancellationToken;

use self::name::{decoded, encoded, owned_bucket};
use crate::bucket::PAGE;
use crate::error::{OpenError, StoreError};
use crate::store::{Namespace, Page, Usage, sum};

/// How often an increment that others get ahead of is tried.
const ATTEMPTS: u32 = 100;

/// Commands that may wait for the connection's task.
const QUEUE: usize = 256;

/// The longest pause between two attempts to connect.
const RECONNECT: Duration = Duration::from_secs(1);

/// Bytes of a message beside its subject and value: the field with the revision, and some air.
const FIELDS: usize = 256;

/// The server's error for a write that would go over `max_bytes`.
const STORE_FAILED: u64 = 10_077;

/// Where a bucket is, and what it is made like if it is missing.
#[derive(Debug, Clone)]
pub struct NatsConfig {
    /// The name in the configuration, for the log.
    pub name: Arc<str>,
    /// Servers, `nats://host:port` or `tls://host:port`.
    pub urls: Vec<String>,
    /// The bucket at the server; the beginning of its name, if each plugin has its own.
    pub bucket: String,
    /// Who the gateway is.
    pub credentials: Credentials,
    /// A file of certificates that the server's has to be signed by; those of the system without it.
    pub ca: Option<PathBuf>,
    /// How long an operation may take.
    pub timeout: Duration,
    /// How long an entry lives after it was written.
    pub ttl: Option<Duration>,
    /// Bytes that a bucket may hold at the server.
    pub max_bytes: usize,
    /// Bytes of one value.
    pub max_value: usize,
    /// Values of a key that the server keeps, the current one included.
    pub history: u8,
    /// Servers that have a copy.
    pub replicas: usize,
    /// What a copy is kept in.
    pub storage: Storage,
}

/// What the server keeps a bucket in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// Files.
    File,
    /// Its memory.
    Memory,
}

/// Who the gateway is, to the server. `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// Anybody.
    None,
    /// The text of a `.creds` file.
    File(String),
    /// A token.
    Token(String),
    /// A name and a password.
    User(String, String),
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(..)")
    }
}

/// Buckets at a server.
pub struct Nats {
    config: Arc<NatsConfig>,
    client: Client,
    context: Context,
    closed: CancellationToken,
}

impl Nats {
    /// Begin to connect. A server that is away is connected to when it is back.
    ///
    /// # Errors
    /// When the addresses or the credentials can never work.
    pub async fn connect(config: NatsConfig) -> Result<Self, OpenError> {
        let broker = |error: &dyn std::fmt::Display| OpenError::Broker(error.to_string());
        let options = match &config.credentials {
            Credentials::None => ConnectOptions::new(),
            // What is wrong with them may quote them.
            Credentials::File(text) => ConnectOptions::with_credentials(text)
                .map_err(|_| OpenError::Broker("the credentials are not those of a .creds file".to_owned()))?,
            Credentials::Token(token) => ConnectOptions::with_token(token.clone()),
            Credentials::User(user, password) => ConnectOptions::with_user_and_password(user.clone(), password.clone()),
        };
        let name = Arc::clone(&config.name);
        let mut options = options
            .name("tidegate")
            .retry_on_initial_connect()
            .max_reconnects(None)
            .reconnect_delay_callback(|attempt| {
                RECONNECT.min(Duration::from_millis(u64::try_from(attempt).unwrap_or(u64::MAX).saturating_mul(50)))
            })
            .connection_timeout(Duration::from_secs(5))
            .request_timeout(Some(config.timeout))
            .client_capacity(QUEUE)
            .event_callback(move |event| {
                let bucket = Arc::clone(&name);
                async move {
                    match event {
                        Event::Connected => tracing::info!(bucket = &*bucket, "connected to the broker of a bucket"),
                        Event::Disconnected => {
                            tracing::warn!(
                                bucket = &*bucket,
                                "the broker of a bucket is away; trying to connect again"
                            );
                        }
                        event => tracing::debug!(bucket = &*bucket, %event, "the broker of a bucket"),
                    }
                }
            });
        if let Some(ca) = &config.ca {
            options = options.add_root_certificates(ca.clone());
        }
        let client = options.connect(config.urls.clone()).await.map_err(|error| broker(&error))?;
        let mut context = jetstream::new(client.clone());
        context.set_timeout(config.timeout);
        Ok(Self { config: Arc::new(config), client, context, closed: CancellationToken::new() })
    }

    pub(crate) fn namespace(&self, owner: Option<&str>) -> Arc<dyn Namespace> {
        let bucket = match owner {
            Some(owner) => owned_bucket(&self.config.bucket, owner),
            None => self.config.bucket.clone(),
        };
        Arc::new(Remote {
            config: Arc::clone(&self.config),
            client: self.client.clone(),
            context: self.context.clone(),
            closed: self.closed.clone(),
            bucket,
            found: Mutex::default(),
            increments: tokio::sync::Mutex::default(),
        })
    }

    /// Every operation waits for its answer, so nothing is on its way that matters: the connection goes with the process.
    pub(crate) fn close(&self) {
        self.closed.cancel();
    }
}

impl std::fmt::Debug for Nats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nats").field("bucket", &self.config.bucket).finish_non_exhaustive()
    }
}

/// One bucket at the server.
struct Remote {
    config: Arc<NatsConfig>,
    client: Client,
    context: Context,
    closed: CancellationToken,
    bucket: String,
    /// Looked for again after a failure: somebody may have removed it.
    found: Mutex<Option<Arc<kv::Store>>>,
    /// Those of this process go one after the other, so that only other processes can get ahead of one.
    increments: tokio::sync::Mutex<()>,
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// What came of a conditional write.
enum Written {
    Done,
    /// Another one was first.
    Late,
}

impl Remote {
    fn found(&self) -> std::sync::MutexGuard<'_, Option<Arc<kv::Store>>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn store(&self) -> Result<Arc<kv::Store>, StoreError> {
        if let Some(found) = &*self.found() {
            return Ok(Arc::clone(found));
        }
        let store = match self.context.get_key_value(&self.bucket).await {
            Ok(store) => store,
            Err(_) => {
                // Another replica may be making it at this moment: whether it is there in the end is what counts.
                let made = self.context.create_stream(self.made_like()).await;
                match (self.context.get_key_value(&self.bucket).await, made) {
                    (Ok(store), _) => store,
                    (Err(_), Err(error)) => return Err(self.failed(error)),
                    (Err(error), Ok(_)) => return Err(self.failed(error)),
                }
            }
        };
        let store = Arc::new(store);
        *self.found() = Some(Arc::clone(&store));
        Ok(store)
    }

    /// The stream of a bucket, as every client of JetStream makes it. (The client's own way asks the server for its account
    /// first, whose answer it cannot read from servers older than 2.10.)
    fn made_like(&self) -> stream::Config {
        let config = &self.config;
        stream::Config {
            name: format!("KV_{}", self.bucket),
            description: Some(format!("bucket {} of tidegate", config.name)),
            subjects: vec![format!("$KV.{}.>", self.bucket)],
            max_messages_per_subject: i64::from(config.history),
            max_bytes: i64::try_from(config.max_bytes).unwrap_or(i64::MAX),
            max_age: config.ttl.unwrap_or_default(),
            max_message_size: i32::try_from(config.max_value + FIELDS).unwrap_or(i32::MAX),
            storage: match config.storage {
                Storage::File => StorageType::File,
                Storage::Memory => StorageType::Memory,
            },
            num_replicas: config.replicas,
            discard: DiscardPolicy::New,
            allow_rollup: true,
            deny_delete: true,
            allow_direct: true,
            ..stream::Config::default()
        }
    }

    /// Do something, within the time of an operation, while there is somebody to ask.
    async fn within<T>(&self, operation: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        if self.closed.is_cancelled() {
            return Err(StoreError::Unavailable("it is closed"));
        }
        if self.client.connection_state() != State::Connected {
            return Err(StoreError::Unavailable("its broker is away"));
        }
        tokio::time::timeout(self.config.timeout, operation).await.unwrap_or(Err(StoreError::TimedOut))
    }

    /// What a failure of the client means. The bucket is looked for again next time.
    fn failed(&self, error: impl Into<Failed>) -> StoreError {
        let error = error.into();
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&*error);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<jetstream::Error>()
                && error.error_code().0 == STORE_FAILED
            {
                return StoreError::Full;
            }
            cause = error.source();
        }
        *self.found() = None;
        tracing::debug!(bucket = self.bucket, error = %causes(&*error), "an operation failed at the broker");
        StoreError::Unavailable("its broker refuses")
    }

    /// The entry of a key, and the revision of whatever the server has of it, a removal for example.
    async fn look(&self, store: &kv::Store, name: &str) -> Result<Option<Entry>, StoreError> {
        match store.entry(name).await {
            Ok(Some(entry)) if entry.operation == Operation::Put => {
                Ok(Some(Entry { value: entry.value.to_vec(), revision: entry.revision }))
            }
            Ok(_) => Ok(None),
            Err(error) if error.kind() == EntryErrorKind::TimedOut => Err(StoreError::TimedOut),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// The server refuses what is longer than it takes, names and fields included, by closing the connection.
    fn check_payload(&self, name: &str, value: &[u8]) -> Result<(), StoreError> {
        let limit = self.client.server_info().max_payload.saturating_sub(name.len() + FIELDS);
        if value.len() > limit {
            return Err(StoreError::TooLarge { length: value.len(), limit });
        }
        Ok(())
    }

    async fn write_if(
        &self,
        store: &kv::Store,
        name: &str,
        revision: Option<u64>,
        value: Vec<u8>,
    ) -> Result<Written, StoreError> {
        self.check_payload(name, &value)?;
        match revision {
            None => match store.create(name, value.into()).await {
                Ok(_) => Ok(Written::Done),
                Err(error) if error.kind() == CreateErrorKind::AlreadyExists => Ok(Written::Late),
                Err(error) => Err(self.failed(error)),
            },
            Some(revision) => match store.update(name, value.into(), revision).await {
                Ok(_) => Ok(Written::Done),
                Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => Ok(Written::Late),
                Err(error) => Err(self.failed(error)),
            },
        }
    }

    async fn add(&self, key: String, delta: i64) -> Result<i64, StoreError> {
        let store = self.store().await?;
        let name = encoded(&key);
        let _turn = self.increments.lock().await;
        for _ in 0..ATTEMPTS {
            let seen = self.look(&store, &name).await?;
            let sum = sum(seen.as_ref().map(|seen| &*seen.value), delta)?;
            let revision = seen.map(|seen| seen.revision);
            if let Written::Done = self.write_if(&store, &name, revision, sum.to_string().into()).await? {
                return Ok(sum);
            }
        }
        Err(StoreError::Contended)
    }

    /// The first keys after this one. The server has no order of keys: each page looks at all of them, and keeps no more
    /// than fit.
    async fn list(&self, after: Option<String>) -> Result<Page, StoreError> {
        let store = self.store().await?;
        let mut all = store.keys().await.map_err(|error| self.failed(error))?;
        let mut first = std::collections::BTreeSet::new();
        while let Some(name) = all.next().await {
            let name = name.map_err(|error| self.failed(error))?;
            // Names that none of our keys has are somebody else's.
            let Some(key) = decoded(&name) else { continue };
            if after.as_ref().is_none_or(|after| key > *after) {
                first.insert(key);
                if first.len() > PAGE + 1 {
                    first.pop_last();
                }
            }
        }
        let more = first.len() > PAGE;
        let keys: Vec<String> = first.into_iter().take(PAGE).collect();
        let next = keys.last().filter(|_| more).cloned();
        Ok(Page { keys, next })
    }
}

impl Namespace for Remote {
    fn get(&self, key: String) -> BoxFuture<'_, Result<Option<Entry>, StoreError>> {
        Box::pin(self.within(async move {
            let store = self.store().await?;
            self.look(&store, &encoded(&key)).await
        }))
    }

    fn set(&self, key: String, value: Vec<u8>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.within(async move {
            let store = self.store().await?;
            let name = encoded(&key);
            self.check_payload(&name, &value)?;
            store.put(name, value.into()).await.map(|_| ()).map_err(|error| self.failed(error))
        }))
    }

    fn delete(&self, key: String) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.within(async move {
            let store = self.store().await?;
            let name = encoded(&key);
            // The server remembers a removal, and need not remember one of nothing.
            if self.look(&store, &name).await?.is_none() {
                return Ok(());
            }
            store.delete(name).await.map_err(|error| self.failed(error))
        }))
    }

    fn page(&self, after: Option<String>) -> BoxFuture<'_, Result<Page, StoreError>> {
        Box::pin(self.within(self.list(after)))
    }

    fn swap(&self, key: String, revision: Option<u64>, value: Vec<u8>) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(self.within(async move {
            let store = self.store().await?;
            let written = self.write_if(&store, &encoded(&key), revision, value).await?;
            Ok(matches!(written, Written::Done))
        }))
    }

    fn increment(&self, key: String, delta: i64) -> BoxFuture<'_, Result<i64, StoreError>> {
        Box::pin(self.within(self.add(key, delta)))
    }

    fn usage(&self) -> Option<Usage> {
        None
    }
}

/// An error and what it comes from, for the log.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
