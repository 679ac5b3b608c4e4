//! An outbox that keeps what it is given.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::{BoxFuture, ready};
use tidegate_runtime::grants::{self, Message, PublishError};

use super::Failures;

/// An event that the plugin has published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its id, as the plugin was told it.
    pub id: String,
    /// The topic.
    pub topic: String,
    /// Events of a topic with the same key stay in order.
    pub key: Option<String>,
    /// The media type of the body.
    pub content_type: Option<String>,
    /// Names and values beside the body.
    pub attributes: Vec<(String, String)>,
    /// The event.
    pub body: Vec<u8>,
}

impl Event {
    /// The body as text, whatever is not replaced by U+FFFD.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Takes events of some topics.
#[derive(Debug)]
pub(crate) struct Outbox {
    topics: Vec<String>,
    events: Arc<Mutex<Vec<Event>>>,
    pub(crate) failures: Failures<PublishError>,
}

impl Outbox {
    pub(crate) fn new(topics: Vec<String>) -> Self {
        Self { topics, events: Arc::default(), failures: Failures::default() }
    }

    fn events(&self) -> MutexGuard<'_, Vec<Event>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn all(&self) -> Vec<Event> {
        self.events().clone()
    }
}

/// Whether a pattern has this topic: `*` stands for one part, `>` at the end for one or more.
fn matches(pattern: &str, topic: &str) -> bool {
    let (mut pattern, mut topic) = (pattern.split('.'), topic.split('.'));
    loop {
        match (pattern.next(), topic.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some(wanted), Some(part)) if wanted == "*" || wanted == part => {}
            _ => return false,
        }
    }
}

impl grants::Outbox for Outbox {
    fn publish(&self, topic: String, messages: Vec<Message>) -> BoxFuture<'static, Result<Vec<String>, PublishError>> {
        let published = match self.failures.next() {
            Some(error) => Err(error),
            None if !self.topics.iter().any(|pattern| matches(pattern, &topic)) => Err(PublishError::NotGranted),
            None => {
                let mut events = self.events();
                let ids = messages.into_iter().map(|Message { key, content_type, attributes, body }| {
                    // In the form of a UUID of version 7, and the same in every run.
                    let id = format!("00000000-0000-7000-8000-{:012x}", events.len() + 1);
                    let topic = topic.clone();
                    events.push(Event { id: id.clone(), topic, key, content_type, attributes, body });
                    id
                });
                Ok(ids.collect())
            }
        };
        Box::pin(ready(published))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_have_the_topics_that_the_gateways_have() {
        for (pattern, topic, has) in [
            ("audit.request", "audit.request", true),
            ("audit.*", "audit.request", true),
            ("audit.*", "audit.request.slow", false),
            ("audit.>", "audit.request.slow", true),
            ("audit.>", "audit", false),
            (">", "audit", true),
        ] {
            assert_eq!(matches(pattern, topic), has, "{pattern} {topic}");
        }
    }
}
