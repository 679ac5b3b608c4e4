//! An event, as it is stored and delivered.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

/// An event that has been accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// UUIDv7 (RFC 9562): the same however often it is delivered.
    pub id: Uuid,
    /// Who published it: the plugin's name.
    pub source: Arc<str>,
    /// Words separated by dots.
    pub topic: Arc<str>,
    /// Events of a topic with the same key stay in order.
    pub key: Option<String>,
    /// The media type of the body.
    pub content_type: Option<String>,
    /// Names and values beside the body.
    pub attributes: Vec<(String, String)>,
    /// When it was accepted, since the Unix epoch.
    pub accepted: Duration,
    /// The event itself.
    pub body: Bytes,
}
