//! An outbox that keeps what it is given.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::{BoxFuture, ready};
use tidegate_runtime::grants::{self, Message, PublishError};
use tidegate_topics::Pattern;

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
    topics: Vec<Pattern>,
    events: Arc<Mutex<Vec<Event>>>,
    pub(crate) failures: Failures<PublishError>,
}

impl Outbox {
    pub(crate) fn new(topics: Vec<Pattern>) -> Self {
        Self { topics, events: Arc::default(), failures: Failures::default() }
    }

    fn events(&self) -> MutexGuard<'_, Vec<Event>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn all(&self) -> Vec<Event> {
        self.events().clone()
    }
}

impl grants::Outbox for Outbox {
    fn publish(&self, topic: String, messages: Vec<Message>) -> BoxFuture<'static, Result<Vec<String>, PublishError>> {
        let refusal = self.failures.next().or_else(|| match tidegate_topics::check(&topic) {
            Err(wrong) => Some(PublishError::Invalid(wrong)),
            Ok(()) if !self.topics.iter().any(|pattern| pattern.matches(&topic)) => Some(PublishError::NotGranted),
            Ok(()) => None,
        });
        let published = match refusal {
            Some(error) => Err(error),
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
    use futures_util::FutureExt as _;
    use tidegate_runtime::grants::Outbox as _;

    use super::*;

    #[test]
    fn topics_are_refused_as_a_gateway_refuses_them() {
        let outbox = Outbox::new(vec![Pattern::parse("audit.*").expect("a pattern")]);
        let publish = |topic: &str| outbox.publish(topic.to_owned(), Vec::new()).now_or_never().expect("at once");
        assert_eq!(publish("audit.login"), Ok(Vec::new()));
        assert_eq!(publish("audit.login.failed"), Err(PublishError::NotGranted));
        assert!(matches!(publish("audit.*"), Err(PublishError::Invalid(_))));
    }
}
