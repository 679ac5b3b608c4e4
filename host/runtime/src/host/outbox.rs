//! `tidegate:plugin/outbox`: events that the host delivers.

use crate::bindings::outbox;
use crate::grants::{Message, PublishError};
use crate::host::Guest;

impl outbox::Host for Guest {
    async fn publish(
        &mut self,
        topic: String,
        message: outbox::Message,
    ) -> wasmtime::Result<Result<outbox::EventId, outbox::PublishError>> {
        let published = self.publish_all(topic, vec![message]).await?;
        Ok(published.and_then(|ids| {
            let id = ids.into_iter().next();
            id.ok_or_else(|| outbox::PublishError::Unavailable("the outbox gave no id".to_owned()))
        }))
    }

    async fn publish_all(
        &mut self,
        topic: String,
        messages: Vec<outbox::Message>,
    ) -> wasmtime::Result<Result<Vec<outbox::EventId>, outbox::PublishError>> {
        self.meter.fence()?;
        let Some(outbox) = &self.grants.outbox else { return Ok(Err(outbox::PublishError::NotGranted)) };
        Ok(outbox.publish(topic, messages.into_iter().map(Message::from).collect()).await.map_err(Into::into))
    }
}

impl From<outbox::Message> for Message {
    fn from(outbox::Message { key, content_type, attributes, body }: outbox::Message) -> Self {
        Self { key, content_type, attributes, body }
    }
}

impl From<PublishError> for outbox::PublishError {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Full => Self::Full,
            PublishError::TooLarge => Self::TooLarge,
            PublishError::NotGranted => Self::NotGranted,
            PublishError::Invalid(what) => Self::Invalid(what),
            PublishError::Unavailable(why) => Self::Unavailable(why),
        }
    }
}
