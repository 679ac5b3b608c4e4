//! An exchange as a test states it, and what came of it.

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use tidegate_runtime::{CallError, Hook};

use crate::ledger::Call;

/// A request, as a client sends it.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub target: String,
    /// The fields.
    pub headers: HeaderMap,
    /// The body, whole.
    pub body: Bytes,
}

impl Request {
    /// A request without fields and body.
    #[must_use]
    pub fn new(method: Method, target: &str) -> Self {
        Self { method, target: target.to_owned(), headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// `GET target`.
    #[must_use]
    pub fn get(target: &str) -> Self {
        Self::new(Method::GET, target)
    }

    /// `POST target` with a body.
    #[must_use]
    pub fn post(target: &str, body: impl Into<Bytes>) -> Self {
        Self::new(Method::POST, target).body(body)
    }

    /// With one more field.
    ///
    /// # Panics
    /// If it is none that can be sent.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        append(&mut self.headers, name, value);
        self
    }

    /// With this body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }
}

/// An answer of an upstream, or of a server that a plugin asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The fields.
    pub headers: HeaderMap,
    /// The body, whole.
    pub body: Bytes,
}

impl Response {
    /// An answer without fields and body.
    ///
    /// # Panics
    /// If the status is not between 100 and 999.
    #[must_use]
    pub fn new(status: u16) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or_else(|_| panic!("{status} is no status"));
        Self { status, headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// With one more field.
    ///
    /// # Panics
    /// If it is none that can be sent.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        append(&mut self.headers, name, value);
        self
    }

    /// With this body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }
}

fn append(headers: &mut HeaderMap, name: &str, value: &str) {
    let field: Result<HeaderName, _> = name.parse();
    let field = field.unwrap_or_else(|_| panic!("{name:?} is no name of a field"));
    let value = HeaderValue::from_str(value).unwrap_or_else(|_| panic!("{value:?} is no value of a field"));
    headers.append(field, value);
}

/// Who made an answer.
#[derive(Debug, Clone)]
pub enum By {
    /// The upstream; the plugin may have changed it.
    Upstream,
    /// The plugin, in this hook.
    Plugin(Hook),
    /// The gateway, since the plugin failed and stands in the way (`on_failure = "closed"`).
    Failure(CallError),
}

/// What became of a request.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// Who made it.
    pub by: By,
    /// The request as the upstream got it, if it got one.
    pub forwarded: Option<Request>,
    /// The name of the upstream that the plugin chose, if it chose one.
    pub upstream: Option<String>,
    /// The notes that the plugin has taken about this exchange.
    pub notes: Vec<(String, Vec<u8>)>,
    /// Calls that failed, those included after which it went on (`on_failure = "open"`).
    pub failures: Vec<CallError>,
    /// The calls of hooks that ended while it was under way; when several are, those of others, too.
    pub calls: Vec<Call>,
    /// The virtual time it took.
    pub took: std::time::Duration,
}

impl Answer {
    /// The first value of a field, if it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The first value of a field of the request as the upstream got it, if it is text.
    #[must_use]
    pub fn forwarded_header(&self, name: &str) -> Option<&str> {
        self.forwarded.as_ref()?.headers.get(name)?.to_str().ok()
    }

    /// The body as text, whatever is not replaced by U+FFFD.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Whether the plugin answered it itself.
    #[must_use]
    pub fn is_from_plugin(&self) -> bool {
        matches!(self.by, By::Plugin(_))
    }

    /// How the call ended because of which there is no other answer, if there is one.
    #[must_use]
    pub fn failure(&self) -> Option<&CallError> {
        match &self.by {
            By::Failure(error) => Some(error),
            By::Upstream | By::Plugin(_) => None,
        }
    }

    /// A note that the plugin has taken.
    #[must_use]
    pub fn note(&self, key: &str) -> Option<&[u8]> {
        self.notes.iter().find(|(name, _)| name == key).map(|(_, value)| &**value)
    }
}
