//! The connection to the server, and what is known of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::Context;
use async_nats::jetstream::context::{ContextBuilder, PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::{Client, ConnectOptions, Event, ServerAddr};
use tokio::sync::watch;

use super::{NatsConfig, StreamConfig};
use crate::sink::secret::Secret;
use crate::sink::{Problem, text};

/// How often a connection that is waited for is looked at, should the library's word of it get lost.
const LOOK: Duration = Duration::from_millis(100);

/// Who the gateway is to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// Nobody.
    None,
    /// A user and a password.
    User {
        /// The user's name.
        user: String,
        /// The password.
        password: Secret,
    },
    /// A token.
    Token(Secret),
    /// The text of a credentials file, with a JWT and the seed of a key.
    File(Secret),
}

/// A sink for NATS that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum NatsError {
    /// An address of a server that is none: which, and why.
    #[error("the server {0:?} {1}")]
    Server(String, &'static str),
    /// The text of the credentials is not that of a credentials file.
    #[error("the credentials are not those of a NATS credentials file")]
    Credentials,
    /// TLS cannot be set up: why.
    #[error("no TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// Read the addresses.
///
/// # Errors
/// For the first that is none.
pub(super) fn servers(texts: &[String]) -> Result<Vec<ServerAddr>, NatsError> {
    let server = |text: &String| server(text).map_err(|why| NatsError::Server(shown(text), why));
    texts.iter().map(server).collect()
}

/// Whether this is the address of a server.
///
/// # Errors
/// What is wrong with it: completes "the server ..".
pub fn check_server(text: &str) -> Result<(), &'static str> {
    server(text).map(drop)
}

fn server(text: &str) -> Result<ServerAddr, &'static str> {
    let server: ServerAddr = text.parse().map_err(|_| "is not an address such as nats://127.0.0.1:4222")?;
    if !matches!(server.scheme(), "nats" | "tls") {
        return Err("has a scheme other than nats or tls");
    }
    if server.has_user_pass() {
        return Err("has a user or a password in it, where logs would show them");
    }
    let port = server.as_url_str().rsplit_once(':').map(|(_, port)| port.trim_end_matches('/'));
    if server.host().is_empty() || port == Some("0") {
        return Err("has no host, or a port that is none");
    }
    Ok(server)
}

/// Whether this is the text of a credentials file.
#[must_use]
pub fn check_credentials(text: &str) -> bool {
    ConnectOptions::new().credentials(text).is_ok()
}

/// An address without what may be a password.
fn shown(text: &str) -> String {
    text.rsplit_once('@').map_or_else(|| text.to_owned(), |(_, rest)| format!("..@{rest}"))
}

/// How the connection is made.
pub(super) fn options(config: &NatsConfig) -> Result<ConnectOptions, NatsError> {
    let options = ConnectOptions::new().name("tidegate").connection_timeout(config.timeout).retry_on_initial_connect();
    let mut options = match &config.credentials {
        Credentials::None => options,
        Credentials::User { user, password } => options.user_and_password(user.clone(), password.expose().to_owned()),
        Credentials::Token(token) => options.token(token.expose().to_owned()),
        Credentials::File(text) => options.credentials(text.expose()).map_err(|_| NatsError::Credentials)?,
    };
    if let Some(authorities) = &config.authorities {
        options = options.tls_client_config(authorities.clone().client()?).require_tls(true);
    }
    Ok(options)
}

/// A connection that is kept up.
pub(super) struct Connection {
    context: Context,
    client: Client,
    timeout: Duration,
    link: watch::Receiver<Link>,
    stream_is_there: AtomicBool,
}

/// What the library says of the connection.
#[derive(Debug, Clone, Default)]
struct Link {
    /// How often it has broken.
    breaks: u64,
    /// What the server, or the attempt to reach it, said last.
    complaint: Option<String>,
}

impl Connection {
    /// Begin to connect; that goes on in the background.
    pub(super) async fn open(
        options: ConnectOptions,
        servers: Vec<ServerAddr>,
        timeout: Duration,
        at_once: usize,
    ) -> Result<Self, Problem> {
        let (tell, link) = watch::channel(Link::default());
        let options = options.event_callback(move |event| {
            tell.send_modify(|link| link.hear(&event));
            std::future::ready(())
        });
        let client = options.connect(servers).await.map_err(|error| Problem::Unreachable(text::causes(&error)))?;
        // Acknowledgements that nobody waits for any more hold their places for a while.
        let context = ContextBuilder::new().timeout(timeout).ack_timeout(timeout).max_ack_inflight(4 * at_once);
        let context = context.backpressure_on_inflight(true).build(client.clone());
        Ok(Self { context, client, timeout, link, stream_is_there: AtomicBool::new(false) })
    }

    /// Wait until it is up, for a while.
    pub(super) async fn up(&self) -> Result<(), Problem> {
        let mut link = self.link.clone();
        let waiting = async {
            while self.client.connection_state() != State::Connected {
                if let Ok(Err(_)) = tokio::time::timeout(LOOK, link.changed()).await {
                    // The library has given up, and tells nothing more.
                    tokio::time::sleep(LOOK).await;
                }
            }
        };
        let up = tokio::time::timeout(self.timeout, waiting).await;
        up.map_err(|_| Problem::Unreachable(self.with_complaint("no connection to the server")))
    }

    /// Make the stream if it has to be made, once.
    pub(super) async fn ensure(&self, stream: &StreamConfig) -> Result<(), Problem> {
        if stream.create.is_empty() || self.stream_is_there.load(Ordering::Relaxed) {
            return Ok(());
        }
        let made = tokio::time::timeout(self.timeout, self.context.get_or_create_stream(stream.made())).await;
        let why = match made {
            Ok(Ok(_)) => {
                self.stream_is_there.store(true, Ordering::Relaxed);
                return Ok(());
            }
            Ok(Err(error)) => text::causes(&error),
            Err(_) => self.with_complaint("no answer"),
        };
        Err(Problem::Unreachable(format!("the stream `{}` cannot be made: {why}", stream.name)))
    }

    /// There is no stream for a message: look for it again before the next.
    pub(super) fn stream_is_gone(&self) {
        self.stream_is_there.store(false, Ordering::Relaxed);
    }

    /// Send a message and wait until it is stored, or the connection breaks: an acknowledgement does not survive that.
    pub(super) async fn publish(&self, subject: &str, message: PublishMessage) -> Result<(), PublishError> {
        let mut link = self.link.clone();
        let breaks = link.borrow_and_update().breaks;
        if self.client.connection_state() != State::Connected {
            return Err(PublishError::new(PublishErrorKind::BrokenPipe));
        }
        let stored = async {
            let acknowledgement = self.context.send_publish(subject.to_owned(), message).await?;
            acknowledgement.await.map(drop)
        };
        tokio::select! {
            stored = tokio::time::timeout(self.timeout, stored) => {
                stored.unwrap_or_else(|_| Err(PublishError::new(PublishErrorKind::TimedOut)))
            }
            Ok(_) = link.wait_for(|link| link.breaks > breaks) => Err(PublishError::new(PublishErrorKind::BrokenPipe)),
        }
    }

    /// What is the matter, and what the server said last.
    pub(super) fn with_complaint(&self, what: &str) -> String {
        match &self.link.borrow().complaint {
            Some(complaint) => format!("{what}: {complaint}"),
            None => what.to_owned(),
        }
    }
}

impl Link {
    fn hear(&mut self, event: &Event) {
        match event {
            Event::Connected => self.complaint = None,
            Event::Disconnected => self.breaks += 1,
            Event::ServerError(error) => self.complaint = Some(text::shown(error.to_string().as_bytes())),
            Event::ClientError(error) => self.complaint = Some(text::shown(error.to_string().as_bytes())),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_that_of_a_nats_server_and_shows_no_password() {
        for address in ["nats://127.0.0.1:4222", "tls://nats.example:4443", "nats://[::1]:4222", "nats.example"] {
            assert!(server(address).is_ok(), "{address}");
        }
        for address in ["", "http://a:1", "ws://a:1", "nats://u:p@a:1", "nats://t@a:1", "nats://", "nats://a:99999"] {
            assert!(server(address).is_err(), "{address}");
        }
        let error = servers(&["nats://user:s3cr3t@a:1".to_owned()]).map(drop).expect_err("refused").to_string();
        assert!(!error.contains("s3cr3t") && error.contains("..@a:1"), "{error}");
    }
}
