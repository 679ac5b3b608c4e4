//! The outbox of the gateway, and what each plugin sees of it.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tidegate_outbox::event::Draft;
use tidegate_outbox::sink::Sink;
use tidegate_outbox::sink::file::FileSink;
use tidegate_outbox::sink::nats::{Nats, NatsConfig};
use tidegate_outbox::sink::stdout::StdoutSink;
use tidegate_outbox::sink::webhook::{Webhook, WebhookConfig};
use tidegate_outbox::{OpenError, Options, Outbox, Publisher, SinkSpec};
use tidegate_runtime::grants::{self, Message};

use crate::config::{self, SinkKind};

/// An outbox that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// The file.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A sink.
    #[error("sink `{name}`: {problem}")]
    Sink {
        /// Its name.
        name: Arc<str>,
        /// What is the matter.
        problem: String,
    },
}

impl OutboxError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Open(error) => Some(error.hint()),
            Self::Sink { .. } => None,
        }
    }
}

/// Open it and begin to deliver.
pub(super) async fn open(config: &config::Outbox) -> Result<Arc<Outbox>, OutboxError> {
    let options = Options { path: config.path.clone(), durability: config.durability, limits: config.limits };
    let sinks = config.sinks.iter().map(spec).collect::<Result<Vec<_>, _>>()?;
    let opened = tokio::task::spawn_blocking(move || Outbox::open(&options, sinks)).await;
    let (outbox, delivery) = match opened {
        Ok(opened) => opened?,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    };
    outbox.start(delivery);
    let status = outbox.status();
    tracing::info!(
        path = %config.path.display(), events = status.events, pending = status.pending, dead = status.dead,
        "the outbox is open"
    );
    Ok(Arc::new(outbox))
}

fn spec(config: &config::OutboxSink) -> Result<SinkSpec, OutboxError> {
    let wrong = |error: &dyn std::error::Error| OutboxError::Sink {
        name: Arc::clone(&config.name),
        problem: error.to_string(),
    };
    let sink: Arc<dyn Sink> = match &config.kind {
        SinkKind::File(options) => Arc::new(FileSink::new(options.clone()).map_err(|error| wrong(&error))?),
        SinkKind::Stdout => Arc::new(StdoutSink::new().map_err(|error| wrong(&error))?),
        SinkKind::Webhook(webhook) => {
            Arc::new(Webhook::new(WebhookConfig::clone(webhook)).map_err(|error| wrong(&error))?)
        }
        SinkKind::Nats(nats) => Arc::new(Nats::new(NatsConfig::clone(nats)).map_err(|error| wrong(&error))?),
    };
    let timeout = match &config.kind {
        SinkKind::File(_) | SinkKind::Stdout => config.timeout,
        // What is configured holds for one event, and these see to it. A call has many, perhaps one after the other.
        SinkKind::Webhook(_) | SinkKind::Nats(_) => {
            config.timeout.saturating_mul(u32::try_from(sink.batch()).unwrap_or(u32::MAX))
        }
    };
    Ok(SinkSpec {
        name: Arc::clone(&config.name),
        topics: config.topics.clone(),
        attempts: config.attempts,
        backoff: config.backoff,
        timeout,
        sink,
    })
}

/// Takes the events of one plugin.
struct PluginOutbox(Publisher);

/// What a plugin publishes through, if it has been granted topics.
pub(super) fn grant(outbox: &Outbox, plugin: &config::Plugin) -> Option<Arc<dyn grants::Outbox>> {
    let topics = &plugin.grants.outbox;
    (!topics.is_empty()).then(|| Arc::new(PluginOutbox(outbox.publisher(&plugin.name, topics.clone()))) as _)
}

impl grants::Outbox for PluginOutbox {
    fn publish(
        &self,
        topic: String,
        messages: Vec<Message>,
    ) -> BoxFuture<'static, Result<Vec<String>, grants::PublishError>> {
        let publisher = self.0.clone();
        Box::pin(async move {
            let drafts = messages.into_iter().map(draft).collect();
            let ids = publisher.publish(&topic, drafts).await.map_err(refusal)?;
            Ok(ids.iter().map(ToString::to_string).collect())
        })
    }
}

fn draft(message: Message) -> Draft {
    let Message { key, content_type, attributes, body } = message;
    Draft { key, content_type, attributes, body: body.into() }
}

fn refusal(error: tidegate_outbox::PublishError) -> grants::PublishError {
    use tidegate_outbox::PublishError as Outbox;
    match error {
        Outbox::Full => grants::PublishError::Full,
        Outbox::TooLarge(_) => grants::PublishError::TooLarge,
        Outbox::NotGranted => grants::PublishError::NotGranted,
        Outbox::Invalid(what) => grants::PublishError::Invalid(what),
        Outbox::Unavailable(reason) => grants::PublishError::Unavailable(reason),
    }
}

/// Takes nothing, and says why.
pub(super) struct Closed(&'static str);

impl Closed {
    pub(super) const CHECKING: Self = Self("nothing is published while a config is checked");
    pub(super) const NEEDS_RESTART: Self = Self("the outbox is new, and opens with the next start");
}

impl grants::Outbox for Closed {
    fn publish(&self, _: String, _: Vec<Message>) -> BoxFuture<'static, Result<Vec<String>, grants::PublishError>> {
        Box::pin(std::future::ready(Err(grants::PublishError::Unavailable(self.0.to_owned()))))
    }
}
