//! Events to a web server: one POST for each, as a CloudEvent in binary mode (HTTP Protocol Binding for CloudEvents
//! 1.0.2), signed by Standard Webhooks 1.0.0 if there is a key.
//!
//! Any 2xx means that the event has arrived. A status that says "not now" is no fault of the event; any other says that
//! the receiver does not want it. Nothing of the answer is needed but its status: of its body a few KiB are read, so
//! that the connection can be used again and an error can say what the receiver said.

mod retry_after;
mod signature;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use reqwest::{Client, Response};
use url::Url;

pub use self::signature::{SigningKey, SigningKeyError};
use super::lanes::Lanes;
use super::secret::Secret;
use super::tls::Authorities;
use super::{Problem, Sink, SinkError, cloud_event, text};
use crate::event::Event;

/// Events in one call of [`Sink::deliver`].
const BATCH: usize = 64;

/// So much of an answer's body is read, bytes.
const MOST_OF_AN_ANSWER: usize = 4 << 10;

/// For so long, once the status is known.
const PATIENCE_WITH_AN_ANSWER: Duration = Duration::from_secs(1);

/// The longest list of fields that an answer may have over HTTP/2, bytes. Over HTTP/1.1 hyper takes 100 fields.
const LONGEST_FIELDS: u32 = 64 << 10;

/// What a receiver is told about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookConfig {
    /// Where to: `http` or `https`.
    pub url: Url,
    /// The keys that each event is signed with: none, one, or an old and a new one while they are exchanged.
    pub keys: Vec<SigningKey>,
    /// The field `Authorization`.
    pub authorization: Option<Secret>,
    /// More fields for each request. Those that an event has anyway cannot be among them.
    pub headers: HeaderMap,
    /// Who may sign the receiver's certificate; those of this machine if there is nothing here.
    pub authorities: Option<Authorities>,
    /// For one request, from connecting to the status of the answer.
    pub timeout: Duration,
    /// Requests at a time.
    pub concurrency: usize,
    /// Comes before `/plugins/NAME` in the event's source; empty, or a URI without a slash at its end.
    pub source: String,
}

/// A webhook that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// The URL is not one for HTTP, or has a user or a password in it.
    #[error("the URL {0}")]
    Url(&'static str),
    /// A field that the sink sets itself, or that belongs to the connection.
    #[error("the field `{0}` cannot be set here")]
    Field(HeaderName),
    /// The value of `Authorization` is nothing that a field can carry.
    #[error("the value for `Authorization` has characters that a field cannot carry")]
    Authorization,
    /// The HTTP client cannot be made: why.
    #[error("no HTTP client: {0}")]
    Client(String),
}

/// Delivers to a web server.
pub struct Webhook {
    client: Client,
    config: WebhookConfig,
    lanes: Lanes,
}

impl Webhook {
    /// A sink for this receiver. Nothing is sent yet.
    ///
    /// # Errors
    /// When the configuration cannot be, see [`WebhookError`].
    pub fn new(mut config: WebhookConfig) -> Result<Self, WebhookError> {
        check_url(&config.url).map_err(WebhookError::Url)?;
        if let Some(name) = config.headers.keys().find(|name| is_taken(name)) {
            return Err(WebhookError::Field(name.clone()));
        }
        if let Some(authorization) = &config.authorization {
            let value = HeaderValue::from_str(authorization.expose()).map_err(|_| WebhookError::Authorization)?;
            config.headers.insert(AUTHORIZATION, value);
        }
        // Whatever stands in them, nobody has to see it.
        config.headers.values_mut().for_each(|value| value.set_sensitive(true));
        let failed = |error: &dyn std::error::Error| WebhookError::Client(text::causes(error));
        let authorities = config.authorities.clone().unwrap_or_else(Authorities::of_this_machine);
        let mut tls = authorities.client().map_err(|error| failed(&error))?;
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")))
            .timeout(config.timeout)
            .pool_max_idle_per_host(config.concurrency)
            .http2_max_header_list_size(LONGEST_FIELDS)
            .build()
            .map_err(|error| failed(&error))?;
        Ok(Self { client, lanes: Lanes::new(config.concurrency), config })
    }

    async fn send(&self, event: &Event) -> Result<(), Problem> {
        let now = SystemTime::now();
        let head = self.fields(event, now)?;
        let request = self.client.post(self.config.url.clone()).headers(head).body(event.body.clone());
        let answer = request.send().await.map_err(|error| {
            let error = error.without_url();
            let what = if error.is_timeout() {
                format!("no answer within {:?}", self.config.timeout)
            } else {
                text::causes(&error)
            };
            Problem::Unreachable(what)
        })?;
        self.judge(answer, now).await
    }

    fn fields(&self, event: &Event, now: SystemTime) -> Result<HeaderMap, Problem> {
        let mut head = self.config.headers.clone();
        let mut set = |name: &str, value: &str| {
            let refused = || Problem::Refused(format!("its field `{name}` cannot be sent over HTTP"));
            let name = name.parse::<HeaderName>().map_err(|_| refused())?;
            head.insert(name, HeaderValue::from_str(value).map_err(|_| refused())?);
            Ok(())
        };
        for (name, value) in cloud_event::fields(event, &self.config.source) {
            set(&name, &value)?;
        }
        if let Some(content_type) = cloud_event::content_type(event)? {
            set(CONTENT_TYPE.as_str(), content_type)?;
        }
        if !self.config.keys.is_empty() {
            for (name, value) in signature::fields(&self.config.keys, event, now) {
                set(name, &value)?;
            }
        }
        Ok(head)
    }

    async fn judge(&self, answer: Response, now: SystemTime) -> Result<(), Problem> {
        let status = answer.status();
        let wait = answer.headers().get(RETRY_AFTER).and_then(|value| retry_after::wait(value, now));
        let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let said = self.read(answer).await;
        if status.is_success() {
            return Ok(());
        }
        let mut problem = format!("answered {status}");
        if status.is_redirection() {
            problem.push_str(", and redirects are not followed");
            if let Some(location) = location {
                problem = format!("{problem} (to {})", text::shown(location.as_bytes()));
            }
        } else if !said.is_empty() {
            problem = format!("{problem}: {said}");
        }
        Err(match (not_now(status), wait) {
            (true, Some(after)) => Problem::Later { what: problem, after },
            (true, None) => Problem::Unreachable(problem),
            (false, _) => Problem::Refused(problem),
        })
    }

    /// The beginning of the body, as far as it comes in time, and as one line that can be shown.
    async fn read(&self, answer: Response) -> String {
        let (mut body, mut said) = (answer.bytes_stream(), Vec::new());
        let reading = async {
            while let Some(Ok(part)) = body.next().await {
                let room = MOST_OF_AN_ANSWER - said.len();
                said.extend(part.iter().take(room));
                if said.len() >= MOST_OF_AN_ANSWER {
                    break;
                }
            }
        };
        // Whatever comes too late is not needed.
        let _ = tokio::time::timeout(PATIENCE_WITH_AN_ANSWER, reading).await;
        let said = text::shown(&said);
        match &self.config.authorization {
            // A receiver that says what it was sent.
            Some(secret) if !secret.expose().is_empty() => said.replace(secret.expose(), ".."),
            _ => said,
        }
    }
}

impl Sink for Webhook {
    fn deliver(&self, events: Vec<Arc<Event>>) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async move { self.lanes.deliver(&events, async |event| self.send(&event).await).await })
    }

    fn batch(&self) -> usize {
        BATCH
    }
}

/// Whether events can be sent to this address.
///
/// # Errors
/// What is wrong with it: completes "the URL ..".
pub fn check_url(url: &Url) -> Result<(), &'static str> {
    match url.scheme() {
        "http" | "https" if !url.username().is_empty() || url.password().is_some() => {
            Err("has a user or a password in it, where logs would show them")
        }
        "http" | "https" if url.host_str().is_some_and(|host| !host.is_empty()) => Ok(()),
        "http" | "https" => Err("has no host"),
        _ => Err("is not one of http or https"),
    }
}

/// Whether a field is the sink's or the connection's to set.
#[must_use]
pub fn is_taken(name: &HeaderName) -> bool {
    const TAKEN: [&str; 12] = [
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    let name = name.as_str();
    TAKEN.contains(&name) || name.starts_with("ce-") || name.starts_with("webhook-")
}

/// Statuses that say nothing about the event: Request Timeout, Too Early, Too Many Requests, and the server's own faults.
fn not_now(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(url: &str) -> WebhookConfig {
        WebhookConfig {
            url: url.parse().expect("a URL"),
            keys: Vec::new(),
            authorization: None,
            headers: HeaderMap::new(),
            authorities: None,
            timeout: Duration::from_secs(1),
            concurrency: 1,
            source: String::new(),
        }
    }

    #[test]
    fn what_would_show_a_secret_or_break_a_request_is_refused() {
        let wrong = |config: WebhookConfig| Webhook::new(config).map(drop).expect_err("refused").to_string();
        assert_eq!(wrong(config("ftp://a/")), "the URL is not one of http or https");
        let in_the_url = "the URL has a user or a password in it, where logs would show them";
        assert_eq!(wrong(config("http://u@a/")), in_the_url);
        assert_eq!(wrong(config("https://:p@a/")), in_the_url);
        let with = |name: &'static str| {
            let mut config = config("http://a/");
            config.headers.insert(name, HeaderValue::from_static("x"));
            config
        };
        for name in ["host", "content-type", "content-length", "ce-id", "webhook-signature", "transfer-encoding"] {
            assert_eq!(wrong(with(name)), format!("the field `{name}` cannot be set here"));
        }
        assert!(Webhook::new(with("x-tenant")).is_ok());
        let broken = WebhookConfig { authorization: Some(Secret::new("a\r\nb: c")), ..config("http://a/") };
        assert!(!wrong(broken).contains("b: c"));
    }

    #[test]
    fn secrets_are_in_no_debugging_output() {
        let mut config = config("http://a/");
        config.authorization = Some(Secret::new("Bearer s3cr3t"));
        config.keys = vec![SigningKey::parse("whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz").expect("a key")];
        let shown = format!("{config:?}");
        assert!(!shown.contains("s3cr3t") && !shown.contains("0123") && !shown.contains("MDEy"), "{shown}");
    }
}
