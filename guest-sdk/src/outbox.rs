//! Events that the host delivers for the plugin, at least once. Granted by `outbox = ["topic.*"]`.
//!
//! Once [`publish`] has returned ok the event is the host's: it outlives the instance, the plugin and, as far as the
//! operator's `durability` promises, the process.
//!
//! ```
//! use serde::Serialize;
//! use tidegate_sdk::outbox::{self, Message};
//!
//! #[derive(Serialize)]
//! struct Order<'a> {
//!     number: u64,
//!     customer: &'a str,
//! }
//!
//! # fn main() -> tidegate_sdk::Result<()> {
//! let order = Order { number: 7, customer: "ada" };
//! // Events with the same key stay in order.
//! let id = outbox::publish("orders.placed", Message::json(&order)?.key(order.customer))?;
//! log::debug!("published as {id}");
//!
//! // In a native test events end up in memory, where the test can look at them.
//! let published = tidegate_sdk::testing::outbox::take();
//! assert_eq!(published[0].topic, "orders.placed");
//! assert_eq!(published[0].message.body(), br#"{"number":7,"customer":"ada"}"#);
//! # Ok(())
//! # }
//! ```

#[cfg(target_arch = "wasm32")]
mod host;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) mod in_memory;

#[cfg(target_arch = "wasm32")]
use host as backend;
#[cfg(not(target_arch = "wasm32"))]
use in_memory as backend;

use std::fmt;

use serde::Serialize;

/// An event to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    key: Option<String>,
    content_type: Option<String>,
    attributes: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Message {
    /// An event of these bytes.
    #[must_use]
    pub fn new(body: impl Into<Vec<u8>>) -> Self {
        Self { key: None, content_type: None, attributes: Vec::new(), body: body.into() }
    }

    /// An event of a value as JSON, with the content type `application/json`.
    ///
    /// # Errors
    /// When the value cannot be written as JSON.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        Ok(Self::new(serde_json::to_vec(value)?).content_type("application/json"))
    }

    /// Events of one topic with the same key are delivered in the order in which they were published.
    #[must_use]
    pub fn key(self, key: impl Into<String>) -> Self {
        Self { key: Some(key.into()), ..self }
    }

    /// The media type of the body.
    #[must_use]
    pub fn content_type(self, content_type: impl Into<String>) -> Self {
        Self { content_type: Some(content_type.into()), ..self }
    }

    /// One thing more to be said beside the body. The name is of lower-case letters and digits, at most 20 of them.
    #[must_use]
    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.push((name.into(), value.into()));
        self
    }

    /// The event itself.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The key it was given.
    #[must_use]
    pub fn ordering_key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// The attributes it was given.
    #[must_use]
    pub fn attributes(&self) -> &[(String, String)] {
        &self.attributes
    }
}

/// The id of a published event: a UUID, the same however often the event is delivered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EventId(String);

impl EventId {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why no event was taken. None of the call's events is the host's.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublishError {
    /// The outbox holds as many events, or bytes, as it may. Keep it, drop it, or try later.
    Full,
    /// An event is longer than the outbox takes, or there are too many of them.
    TooLarge,
    /// The plugin has not been granted this topic, or no sink takes it.
    NotGranted,
    /// Not the syntax of a topic, a key or an attribute: what is wrong with it.
    Invalid(String),
    /// The outbox takes nothing now: its disk is full or broken, or the gateway is going.
    Unavailable(String),
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the outbox is full"),
            Self::TooLarge => f.write_str("the outbox does not take events so large, or so many at a time"),
            Self::NotGranted => f.write_str("the topic has not been granted to the plugin, or no sink takes it"),
            Self::Invalid(what) => write!(f, "the event is invalid: {what}"),
            Self::Unavailable(why) => write!(f, "the outbox takes nothing now: {why}"),
        }
    }
}

impl std::error::Error for PublishError {}

/// Hand an event over. `topic` is words of letters, digits, `-` and `_`, separated by dots. Waits for the host's disk.
///
/// # Errors
/// When the host does not take it.
pub fn publish(topic: &str, message: Message) -> Result<EventId, PublishError> {
    backend::publish(topic, message).map(EventId)
}

/// Hand several events over at once: all of them or none, in this order. Costs one wait.
///
/// # Errors
/// When the host does not take them.
pub fn publish_all(topic: &str, messages: impl IntoIterator<Item = Message>) -> Result<Vec<EventId>, PublishError> {
    let ids = backend::publish_all(topic, messages.into_iter().collect())?;
    Ok(ids.into_iter().map(EventId).collect())
}
