//! Exchanges that a gateway has kept (`tidegate run --record DIR`): the format, and who reads it.
//!
//! A recording is a folder of files `exchanges-*.ndjson` with one exchange per line, in the order of their ends.

mod read;

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use serde::{Deserialize, Serialize};

pub use self::read::{LONGEST_LINE, RecordingError, read, read_where};
use crate::exchange::{Request, Response};

/// The version of the format that is written, and the only one that is read.
pub const SCHEMA: u32 = 1;

/// What stands in place of the value of a field that was not to be kept.
pub const REDACTED: &str = "[redacted]";

/// An exchange of a gateway, with its client and with its upstream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedExchange {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Its id, as in the log.
    pub id: String,
    /// When it began: milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// The plugins of its route, by their names and in its order.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub plugins: Vec<String>,
    /// What the client sent, as the first plugin saw it.
    pub request: RecordedRequest,
    /// What the upstream answered, if it was asked and answered.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub upstream: Option<RecordedResponse>,
    /// What the client got.
    pub answer: RecordedResponse,
    /// Why the gateway made the answer itself, if it did: the answer is neither the upstream's nor a plugin's then.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub refused: Option<Refused>,
}

/// Why a gateway made an answer itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Refused {
    /// The upstream could not be reached, or gave no valid answer in time.
    Upstream,
    /// A plugin failed, or a body was longer than it takes.
    Plugin,
    /// The client did not send its body, or the gateway has a defect.
    Other,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedRequest {
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// The fields, in their order.
    pub headers: Vec<(String, Content)>,
    /// The body.
    #[serde(default, skip_serializing_if = "RecordedBody::is_empty")]
    pub body: RecordedBody,
}

/// A response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedResponse {
    /// The status.
    pub status: u16,
    /// The fields, in their order.
    pub headers: Vec<(String, Content)>,
    /// The body.
    #[serde(default, skip_serializing_if = "RecordedBody::is_empty")]
    pub body: RecordedBody,
}

/// A body, or as much of it as was kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedBody {
    /// What was kept.
    pub content: Content,
    /// How many bytes of it passed, if that is more than was kept.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub length: Option<u64>,
    /// Whether all of it passed.
    #[serde(skip_serializing_if = "BodyEnd::is_reached", default)]
    pub end: BodyEnd,
}

/// Whether all of a body passed the gateway.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BodyEnd {
    /// It did.
    #[default]
    Reached,
    /// Nobody asked for the rest of it, or it broke off.
    NotReached,
}

impl BodyEnd {
    fn is_reached(&self) -> bool {
        *self == Self::Reached
    }
}

impl RecordedBody {
    /// Whether it is here from its beginning to its end.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.length.is_none() && self.end.is_reached()
    }

    fn is_empty(&self) -> bool {
        self.is_whole() && self.content.is_empty()
    }
}

/// Bytes, as text where they are UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Content {
    /// UTF-8.
    Text(String),
    /// Anything else, two hexadecimal digits per byte.
    Hex(String),
}

impl Default for Content {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

impl From<&[u8]> for Content {
    fn from(bytes: &[u8]) -> Self {
        use std::fmt::Write as _;
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Hex(bytes.iter().fold(String::new(), |mut hex, byte| {
                // Writing to a string does not fail.
                let _ = write!(hex, "{byte:02x}");
                hex
            })),
        }
    }
}

impl Content {
    fn is_empty(&self) -> bool {
        matches!(self, Self::Text(text) | Self::Hex(text) if text.is_empty())
    }

    /// Whether this stands for a value that was not to be kept.
    #[must_use]
    pub fn is_redacted(&self) -> bool {
        matches!(self, Self::Text(text) if text == REDACTED)
    }

    /// The bytes.
    ///
    /// # Errors
    /// When they are said to be hexadecimal, and are not.
    pub fn bytes(&self) -> Result<Vec<u8>, String> {
        match self {
            Self::Text(text) => Ok(text.clone().into_bytes()),
            Self::Hex(hex) => {
                let digits: Option<Vec<u8>> =
                    hex.chars().map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
                let digits = digits.filter(|digits| digits.len() % 2 == 0).ok_or("not hexadecimal")?;
                Ok(digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect())
            }
        }
    }
}

impl RecordedRequest {
    /// The request, to be sent again.
    ///
    /// # Errors
    /// When it is none: what is wrong.
    pub fn request(&self) -> Result<Request, String> {
        let method = Method::from_bytes(self.method.as_bytes()).map_err(|error| format!("the method: {error}"))?;
        http::uri::PathAndQuery::try_from(self.target.as_str()).map_err(|error| format!("the target: {error}"))?;
        let (headers, body) = (fields(&self.headers)?, self.body.content.bytes()?);
        Ok(Request { method, target: self.target.clone(), headers, body: Bytes::from(body) })
    }
}

impl RecordedResponse {
    /// The response, to be given again.
    ///
    /// # Errors
    /// When it is none: what is wrong.
    pub fn response(&self) -> Result<Response, String> {
        let status = StatusCode::from_u16(self.status).map_err(|error| error.to_string())?;
        let (headers, body) = (fields(&self.headers)?, self.body.content.bytes()?);
        Ok(Response { status, headers, body: Bytes::from(body) })
    }
}

fn fields(recorded: &[(String, Content)]) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in recorded {
        let field: HeaderName = name.parse().map_err(|error| format!("the field {name:?}: {error}"))?;
        let value =
            HeaderValue::from_bytes(&value.bytes()?).map_err(|error| format!("the value of {name}: {error}"))?;
        headers.append(field, value);
    }
    Ok(headers)
}

/// The fields as they are recorded. Values of those that are named are not kept.
#[must_use]
pub fn record_fields(headers: &HeaderMap, redact: &[HeaderName]) -> Vec<(String, Content)> {
    let kept = |name: &HeaderName, value: &HeaderValue| match redact.contains(name) || value.is_sensitive() {
        true => Content::Text(REDACTED.to_owned()),
        false => Content::from(value.as_bytes()),
    };
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), kept(name, value))).collect()
}
