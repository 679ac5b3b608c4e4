//! Events to a NATS server with JetStream: a message for each, acknowledged when it is stored.
//!
//! The subject is the topic, after a prefix if there is one. The event's id is the message's id, so that a stream drops what
//! it has already stored within its duplicate window. The headers are those of a CloudEvent in binary mode.
//!
//! One connection, kept up in the background. While it is down nothing is queued for it: the queue is the outbox.

mod connection;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, ErrorCode};
use futures_util::future::BoxFuture;
use tokio::sync::OnceCell;

use self::connection::Connection;
pub use self::connection::{Credentials, NatsError, check_credentials, check_server};
pub use self::stream::{DUPLICATE_WINDOW, StreamConfig};
use super::lanes::Lanes;
use super::tls::Authorities;
use super::{Problem, Sink, SinkError, cloud_event, text};
use crate::event::Event;

/// Events in one call of [`Sink::deliver`].
const BATCH: usize = 256;

/// Messages that wait for their acknowledgement at a time.
const AT_ONCE: usize = 64;

/// Which server, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatsConfig {
    /// `nats://HOST:PORT` or `tls://HOST:PORT`: one of them, or the servers of a cluster.
    pub servers: Vec<String>,
    /// Words before the topic, without the dot between them.
    pub prefix: Option<String>,
    /// Who the gateway is.
    pub credentials: Credentials,
    /// Who may sign the server's certificate; those of this machine if there is nothing here. Demands TLS.
    pub authorities: Option<Authorities>,
    /// The stream that has to take the messages; any that listens for the subject if there is nothing here.
    pub stream: Option<StreamConfig>,
    /// For a connection, and for an acknowledgement.
    pub timeout: Duration,
    /// Comes before `/plugins/NAME` in the event's source; empty, or a URI without a slash at its end.
    pub source: String,
}

/// Delivers to a stream of a NATS server.
pub struct Nats {
    config: NatsConfig,
    options: async_nats::ConnectOptions,
    servers: Vec<async_nats::ServerAddr>,
    connection: OnceCell<Connection>,
    lanes: Lanes,
}

impl Nats {
    /// A sink for this server. The connection is made when the first event comes.
    ///
    /// # Errors
    /// When the configuration cannot be, see [`NatsError`].
    pub fn new(config: NatsConfig) -> Result<Self, NatsError> {
        let servers = connection::servers(&config.servers)?;
        let options = connection::options(&config)?;
        Ok(Self { config, options, servers, connection: OnceCell::new(), lanes: Lanes::new(AT_ONCE) })
    }

    async fn connection(&self) -> Result<&Connection, Problem> {
        let connect = || Connection::open(self.options.clone(), self.servers.clone(), self.config.timeout, AT_ONCE);
        let connection = self.connection.get_or_try_init(connect).await?;
        connection.up().await?;
        if let Some(stream) = &self.config.stream {
            connection.ensure(stream).await?;
        }
        Ok(connection)
    }

    async fn send(&self, connection: &Connection, event: &Event) -> Result<(), Problem> {
        let subject = match &self.config.prefix {
            Some(prefix) => format!("{prefix}.{}", event.topic),
            None => event.topic.to_string(),
        };
        let message = PublishMessage::build().payload(event.body.clone()).headers(self.headers(event)?);
        let stored = connection.publish(&subject, message).await;
        stored.map_err(|error| {
            if error.kind() == PublishErrorKind::StreamNotFound {
                connection.stream_is_gone();
            }
            problem(&error, &subject, self.config.stream.as_ref(), connection)
        })
    }

    fn headers(&self, event: &Event) -> Result<HeaderMap, Problem> {
        let mut headers = HeaderMap::new();
        let mut set = |name: &str, value: &str| {
            let refused = || Problem::Refused(format!("its header `{name}` cannot be sent to NATS"));
            let name = name.parse::<async_nats::HeaderName>().map_err(|_| refused())?;
            headers.insert(name, value.parse::<async_nats::HeaderValue>().map_err(|_| refused())?);
            Ok(())
        };
        set("Nats-Msg-Id", &event.id.to_string())?;
        if let Some(stream) = &self.config.stream {
            set("Nats-Expected-Stream", &stream.name)?;
        }
        for (name, value) in cloud_event::fields(event, &self.config.source) {
            set(&name, &value)?;
        }
        if let Some(content_type) = cloud_event::content_type(event)? {
            set("content-type", content_type)?;
        }
        Ok(headers)
    }
}

impl Sink for Nats {
    fn deliver(&self, events: Vec<Arc<Event>>) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async move {
            let connection = self.connection().await.map_err(|problem| SinkError { delivered: 0, problem })?;
            self.lanes.deliver(&events, async |event| self.send(connection, &event).await).await
        })
    }

    fn batch(&self) -> usize {
        BATCH
    }
}

/// What an error says about the event, and about the server.
fn problem(error: &PublishError, subject: &str, stream: Option<&StreamConfig>, connection: &Connection) -> Problem {
    let refusal = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<jetstream::Error>());
    match (error.kind(), refusal.map(jetstream::Error::error_code)) {
        (PublishErrorKind::MaxPayloadExceeded, _) => Problem::Refused("longer than the server's `max_payload`".into()),
        (_, Some(ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM)) => {
            Problem::Refused("longer than the stream's `max_msg_size`".into())
        }
        (_, Some(ErrorCode::STREAM_HEADER_EXCEEDS_MAXIMUM)) => {
            Problem::Refused("its headers are longer than 64 KiB, which is what a stream takes".into())
        }
        (_, Some(ErrorCode::STREAM_NOT_MATCH)) => {
            let name = stream.map_or("", |stream| &stream.name);
            Problem::Unreachable(format!(
                "another stream than `{name}` takes the subject `{subject}`: add it to the subjects of `{name}`, and \
                 remove it from the other's"
            ))
        }
        (PublishErrorKind::StreamNotFound, _) => Problem::Unreachable(match stream {
            Some(StreamConfig { name, .. }) => {
                format!("no stream takes the subject `{subject}`: add it to the subjects of `{name}`")
            }
            None => format!("no stream takes the subject `{subject}`: make one, or say `stream` and `create = true`"),
        }),
        (PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe, _) => {
            Problem::Unreachable(connection.with_complaint("no acknowledgement"))
        }
        _ => Problem::Unreachable(text::causes(error)),
    }
}
