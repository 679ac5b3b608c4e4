//! HTTP requests of the plugin's own. Granted by `http = ["https://api.example.com"]`.
//!
//! (The exchange that the gateway serves is [`Request`](crate::Request) and [`Response`](crate::Response); these are others.)
//!
//! ```
//! use tidegate_sdk::fetch::{Request, Response};
//!
//! # fn main() -> tidegate_sdk::Result<()> {
//! // In a native test nothing is sent: the test answers.
//! tidegate_sdk::testing::fetch::answer(|request| {
//!     assert_eq!(request.url(), "https://api.example.com/rates?of=EUR");
//!     Ok(Response::new(200).body(r#"{"USD":1.1}"#))
//! });
//!
//! let response = Request::get("https://api.example.com/rates?of=EUR").header("accept", "application/json").send()?;
//! if !response.is_success() {
//!     return Err(format!("the rates cannot be had: {}", response.status()).into());
//! }
//! let rates: std::collections::BTreeMap<String, f64> = response.json()?;
//! assert_eq!(rates["USD"], 1.1);
//! # Ok(())
//! # }
//! ```
//!
//! A request takes at most the time that the call has left, less a tenth (50 ms at most) for the plugin to make something of its
//! failure; [`timeout`](Request::timeout) makes that shorter. An instance waits while its request is under way, so a plugin
//! that sends requests while clients wait needs more instances, and a longer `wall`; better is to do it in `on_deferred`.
//!
//! The body of a response is read whole, up to [`max_body`](Request::max_body).

#[cfg(target_arch = "wasm32")]
mod host;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) mod in_memory;
mod url;

#[cfg(target_arch = "wasm32")]
use host as backend;
#[cfg(not(target_arch = "wasm32"))]
use in_memory as backend;

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use self::url::Url;
pub use self::url::form_value;
use crate::Deadline;

/// Bytes of the body of a response, unless the request says otherwise.
pub const MAX_BODY: usize = 1 << 20;

/// The most that is left of a call's time for what comes after a request.
const MOST_RESERVED: Duration = Duration::from_millis(50);

/// A request to be sent.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    url: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    timeout: Option<Duration>,
    max_body: usize,
}

impl Request {
    /// A request of any method. `url` is absolute, `https://` or `http://`.
    #[must_use]
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
        Self {
            method: method.into(),
            url: url.into(),
            headers: Vec::new(),
            body: Vec::new(),
            timeout: None,
            max_body: MAX_BODY,
        }
    }

    /// `GET`
    #[must_use]
    pub fn get(url: impl Into<String>) -> Self {
        Self::new("GET", url)
    }

    /// `POST`
    #[must_use]
    pub fn post(url: impl Into<String>) -> Self {
        Self::new("POST", url)
    }

    /// `PUT`
    #[must_use]
    pub fn put(url: impl Into<String>) -> Self {
        Self::new("PUT", url)
    }

    /// `DELETE`
    #[must_use]
    pub fn delete(url: impl Into<String>) -> Self {
        Self::new("DELETE", url)
    }

    /// One header field more. What is not the syntax of one is refused when the request is sent.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The body.
    #[must_use]
    pub fn body(self, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..self }
    }

    /// A value as JSON for a body, and its content type.
    ///
    /// # Errors
    /// When the value cannot be written as JSON.
    pub fn json<T: Serialize + ?Sized>(self, value: &T) -> Result<Self, serde_json::Error> {
        Ok(self.header("content-type", "application/json").body(serde_json::to_vec(value)?))
    }

    /// The fields of a form for a body, and its content type.
    #[must_use]
    pub fn form(self, fields: &[(&str, &str)]) -> Self {
        self.header("content-type", "application/x-www-form-urlencoded").body(url::form(fields))
    }

    /// Take at most so long, from the connection to the last byte of the answer.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self }
    }

    /// Read at most so many bytes of the body of the response; a longer one is [`FetchError::BodyTooLarge`].
    #[must_use]
    pub fn max_body(self, bytes: usize) -> Self {
        Self { max_body: bytes, ..self }
    }

    /// Its method.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.method
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The first value of one of its header fields.
    #[must_use]
    pub fn header_value(&self, name: &str) -> Option<&[u8]> {
        first(&self.headers, name)
    }

    /// Its body.
    #[must_use]
    pub fn body_bytes(&self) -> &[u8] {
        &self.body
    }

    /// Send it and wait for the whole answer. An answer of any status is ok: see [`Response::is_success`].
    ///
    /// # Errors
    /// When there is no answer, or not in time, or not of a size that was asked for.
    pub fn send(self) -> Result<Response, FetchError> {
        let url = Url::parse(&self.url)?;
        let left = Deadline::of_this_call().remaining();
        let time = left.saturating_sub((left / 10).min(MOST_RESERVED));
        let time = self.timeout.map_or(time, |timeout| timeout.min(time));
        if time.is_zero() {
            return Err(FetchError::Timeout);
        }
        backend::send(self, &url, time)
    }
}

/// The answer to a request.
#[derive(Clone, Debug)]
pub struct Response {
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

impl Response {
    /// An answer, for tests.
    #[must_use]
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    /// The same with one header field more.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The same with this body.
    #[must_use]
    pub fn body(self, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..self }
    }

    /// The status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Whether the status is 200 to 299.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The first value of a header field.
    #[must_use]
    pub fn header_value(&self, name: &str) -> Option<&[u8]> {
        first(&self.headers, name)
    }

    /// All header fields.
    #[must_use]
    pub fn headers(&self) -> &[(String, Vec<u8>)] {
        &self.headers
    }

    /// The body.
    #[must_use]
    pub fn body_bytes(&self) -> &[u8] {
        &self.body
    }

    /// The body as text; bytes that are not UTF-8 become U+FFFD.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as a value.
    ///
    /// # Errors
    /// When it is not the JSON of one.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }
}

fn first<'f>(fields: &'f [(String, Vec<u8>)], name: &str) -> Option<&'f [u8]> {
    fields.iter().find(|(have, _)| have.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_slice())
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FetchError {
    /// Not an absolute `http` or `https` URL: what is wrong with it.
    InvalidUrl(String),
    /// Not the syntax of a method or header field, or a field that the host owns.
    InvalidRequest,
    /// The plugin has not been granted this origin, or the address behind it.
    Denied,
    /// The name has no address, or nobody answers there: what the host says.
    Unreachable(String),
    /// Not in time.
    Timeout,
    /// As many requests are under way as the plugin may have.
    TooManyRequests,
    /// The connection broke, or what came was not HTTP: what the host says. The request may have had its effect.
    Broken(String),
    /// The body of the response is longer than `max_body`, which is this many bytes.
    BodyTooLarge(usize),
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidUrl(what) => write!(f, "not the URL of a request: {what}"),
            Self::InvalidRequest => f.write_str("the request's method or a header field is invalid"),
            Self::Denied => f.write_str("the request has been denied: its origin has not been granted"),
            Self::Unreachable(why) => write!(f, "the server cannot be reached: {why}"),
            Self::Timeout => f.write_str("the server did not answer in time"),
            Self::TooManyRequests => f.write_str("too many requests of the plugin are under way"),
            Self::Broken(why) => write!(f, "the request failed: {why}"),
            Self::BodyTooLarge(limit) => write!(f, "the body of the response is longer than {limit} bytes"),
        }
    }
}

impl std::error::Error for FetchError {}
