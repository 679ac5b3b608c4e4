//! What a plugin may do beyond what every plugin may: a grant each, served by an object that belongs to this plugin and knows
//! what exactly has been granted.
//!
//! The interfaces are linked once, for all plugins. A plugin's [`Grants`] are made when it is loaded, by whoever owns the
//! sockets, files and brokers behind them; its imports must be covered by them. Every instance holds a clone. A
//! harness puts scripted objects in their place.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::metrics::Metrics;
use crate::outbound::Outbound;

/// A grant, by its key in `[plugin.grants]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// Events of some topics.
    Outbox,
    /// Requests to some origins.
    Http,
    /// Some buckets.
    Kv,
    /// Some values of the plugin's configuration, or secrets, by name.
    Config,
    /// Numbers in the gateway's metrics.
    Metrics,
    /// Work that is put off.
    Background,
}

impl Grant {
    /// The key.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Outbox => "outbox",
            Self::Http => "http",
            Self::Kv => "kv",
            Self::Config => "config",
            Self::Metrics => "metrics",
            Self::Background => "background",
        }
    }

    /// The key with a value, as an operator may write it.
    #[must_use]
    pub fn example(self) -> &'static str {
        match self {
            Self::Outbox => "outbox = [\"events.*\"]",
            Self::Http => "http = [\"https://api.example.com\"]",
            Self::Kv => "kv = [\"bucket\"]",
            Self::Config => "config = [\"key\"]",
            Self::Metrics => "metrics = true",
            Self::Background => "background = true",
        }
    }
}

/// What an import takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Needs {
    /// Every plugin has it.
    Nothing,
    /// A grant.
    Grant(Grant),
    /// No grant helps. What to do instead.
    Another(String),
}

impl Needs {
    /// What has to change before a plugin without any grant loads.
    #[must_use]
    pub fn advice(&self) -> Option<String> {
        match self {
            Self::Nothing => None,
            Self::Grant(grant) => Some(format!("grant it with `{}` under [plugin.grants]", grant.example())),
            Self::Another(advice) => Some(advice.clone()),
        }
    }
}

/// What one plugin has been granted.
#[derive(Clone, Default)]
pub struct Grants {
    /// Where its events go.
    pub outbox: Option<Arc<dyn Outbox>>,
    /// How its requests are made.
    pub http: Option<Arc<dyn Outbound>>,
    /// Its buckets.
    pub kv: Option<Arc<dyn Buckets>>,
    /// Values that it may ask for by name.
    pub values: Option<Arc<Values>>,
    /// Where its numbers are kept.
    pub metrics: Option<Arc<Metrics>>,
    /// Whether it may put work off.
    pub background: bool,
}

impl Grants {
    pub(crate) fn cover(&self, needs: &Needs) -> bool {
        match needs {
            Needs::Nothing => true,
            Needs::Grant(Grant::Outbox) => self.outbox.is_some(),
            Needs::Grant(Grant::Http) => self.http.is_some(),
            Needs::Grant(Grant::Kv) => self.kv.is_some(),
            Needs::Grant(Grant::Config) => self.values.is_some(),
            Needs::Grant(Grant::Metrics) => self.metrics.is_some(),
            Needs::Grant(Grant::Background) => self.background,
            Needs::Another(_) => false,
        }
    }
}

impl std::fmt::Debug for Grants {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not what is in them: `values` has secrets.
        let all = [Grant::Outbox, Grant::Http, Grant::Kv, Grant::Config, Grant::Metrics, Grant::Background];
        let granted = all.into_iter().filter(|grant| self.cover(&Needs::Grant(*grant)));
        f.debug_list().entries(granted.map(Grant::key)).finish()
    }
}

/// Takes the events of one plugin.
pub trait Outbox: Send + Sync + 'static {
    /// Take all of these events or none. Once the future has returned ok they will be delivered; dropped before that, it
    /// may have taken them or not. The ids come in the order of the messages.
    fn publish(&self, topic: String, messages: Vec<Message>) -> BoxFuture<'static, Result<Vec<String>, PublishError>>;
}

/// An event that a plugin hands over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Events of a topic with the same key stay in order.
    pub key: Option<String>,
    /// The media type of the body.
    pub content_type: Option<String>,
    /// Names and values beside the body.
    pub attributes: Vec<(String, String)>,
    /// The event.
    pub body: Vec<u8>,
}

/// Why an outbox took nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// It holds as much as it may.
    #[error("the outbox is full")]
    Full,
    /// More than it takes at a time.
    #[error("too large")]
    TooLarge,
    /// The topic is not the plugin's, or nobody's.
    #[error("the topic has not been granted")]
    NotGranted,
    /// Not the syntax.
    #[error("{0}")]
    Invalid(String),
    /// It takes nothing now.
    #[error("the outbox takes nothing now: {0}")]
    Unavailable(String),
}

/// The key-value buckets of one plugin.
pub trait Buckets: Send + Sync + 'static {
    /// The bucket of this name.
    ///
    /// # Errors
    /// When there is none, or it is not the plugin's.
    fn open(&self, name: &str) -> Result<Arc<dyn Bucket>, BucketError>;
}

/// A key-value bucket, as one plugin sees it. A future that is dropped may have had its effect or not.
pub trait Bucket: Send + Sync + 'static {
    /// The value of a key and the revision it has, if it is there.
    fn get(&self, key: String) -> BoxFuture<'_, Result<Option<Entry>, BucketError>>;
    /// Store a value.
    fn set(&self, key: String, value: Vec<u8>) -> BoxFuture<'_, Result<(), BucketError>>;
    /// Remove a key.
    fn delete(&self, key: String) -> BoxFuture<'_, Result<(), BucketError>>;
    /// A page of the keys, from a cursor that an earlier page gave; and the next cursor.
    fn keys(&self, cursor: Option<String>) -> BoxFuture<'_, Result<Keys, BucketError>>;
    /// Store a value if the key still has this revision (`None`: is still absent); `false` if it has not.
    fn swap(&self, key: String, revision: Option<u64>, value: Vec<u8>) -> BoxFuture<'_, Result<bool, BucketError>>;
    /// Add to a decimal number; the sum.
    fn increment(&self, key: String, delta: i64) -> BoxFuture<'_, Result<i64, BucketError>>;
}

/// A page of keys, and the cursor of the next one if there may be more.
pub type Keys = (Vec<String>, Option<String>);

/// A value of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The value.
    pub value: Vec<u8>,
    /// Changes with every change of the key.
    pub revision: u64,
}

/// Why a bucket did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BucketError {
    /// There is no such bucket.
    #[error("there is no such bucket")]
    NoSuchStore,
    /// It is not the plugin's.
    #[error("the bucket has not been granted")]
    AccessDenied,
    /// What is the matter.
    #[error("{0}")]
    Other(String),
}

/// Values of one plugin by name. Its `Debug` shows no value.
#[derive(Default, PartialEq, Eq)]
pub struct Values {
    /// What may be listed.
    pub config: BTreeMap<String, String>,
    /// What is given only by name, and never shows in the log.
    pub secrets: BTreeMap<String, String>,
}

impl std::fmt::Debug for Values {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.config.keys().chain(self.secrets.keys())).finish()
    }
}
