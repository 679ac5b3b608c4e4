//! The host's outbox.

use super::{Message, PublishError};
use crate::bindings::imports::tidegate::plugin::outbox as wit;

pub(super) fn publish(topic: &str, message: Message) -> Result<String, PublishError> {
    Ok(wit::publish(topic, &message.into())?)
}

pub(super) fn publish_all(topic: &str, messages: Vec<Message>) -> Result<Vec<String>, PublishError> {
    let messages: Vec<wit::Message> = messages.into_iter().map(Into::into).collect();
    Ok(wit::publish_all(topic, &messages)?)
}

impl From<Message> for wit::Message {
    fn from(Message { key, content_type, attributes, body }: Message) -> Self {
        Self { key, content_type, attributes, body }
    }
}

impl From<wit::PublishError> for PublishError {
    fn from(error: wit::PublishError) -> Self {
        match error {
            wit::PublishError::Full => Self::Full,
            wit::PublishError::TooLarge => Self::TooLarge,
            wit::PublishError::NotGranted => Self::NotGranted,
            wit::PublishError::Invalid(what) => Self::Invalid(what),
            wit::PublishError::Unavailable(why) => Self::Unavailable(why),
        }
    }
}
