//! The one place where what went wrong becomes a status: who is told what, and what goes to the log.
//!
//! The client gets a status, a sentence that names no internals, and the exchange's id (RFC 9457). The log gets the
//! rest under the same id.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use tidegate_runtime::CallError;
use tidegate_testing::recording::Refused;

use super::Answer;
use super::content::{BodyError, Content, UploadFailure};
use super::upstream::UpstreamError;
use crate::telemetry::metrics::UpstreamFailure;

/// Why an exchange ends without the answer it asked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// The request breaks a rule of HTTP that hyper leaves to its user.
    #[error("malformed request: {0}")]
    Malformed(&'static str),
    /// The path could mean different routes to the gateway and to the upstream.
    #[error("ambiguous path")]
    AmbiguousPath,
    /// More fields, or more bytes of them, than the configuration allows.
    #[error("the head is too large")]
    HeadTooLarge,
    /// CONNECT and TRACE.
    #[error("method not supported")]
    Method,
    /// No route for this host and path.
    #[error("no route")]
    NoRoute,
    /// A plugin wants to see the body, and it is longer than its limit.
    #[error("body longer than plugin `{plugin}` takes ({limit} bytes)")]
    BodyTooLarge {
        /// The plugin.
        plugin: std::sync::Arc<str>,
        /// Its `limits.body`.
        limit: usize,
    },
    /// The client's body did not come in whole while a plugin waited for it.
    #[error("request body: {0}")]
    RequestBody(BodyError),
    /// The upstream's body did not come in whole while a plugin waited for it.
    #[error("response body: {0}")]
    ResponseBody(BodyError),
    /// A plugin failed and is configured to fail closed.
    #[error("{0}")]
    Plugin(CallError),
    /// A response is longer than the plugin that wants to see it takes, and that plugin is configured to fail closed.
    #[error("response longer than plugin `{plugin}` takes ({limit} bytes)")]
    ResponseTooLarge {
        /// The plugin.
        plugin: std::sync::Arc<str>,
        /// Its `limits.body`.
        limit: usize,
    },
    /// The upstream gave no usable response.
    #[error("{0}")]
    Upstream(#[from] UpstreamError),
    /// Something that the gateway's own code rules out.
    #[error("internal error: {0}")]
    Internal(&'static str),
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) | Self::AmbiguousPath => StatusCode::BAD_REQUEST,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Method => StatusCode::NOT_IMPLEMENTED,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::RequestBody(BodyError::Stalled(_)) => StatusCode::REQUEST_TIMEOUT,
            Self::RequestBody(BodyError::Broken(_)) => StatusCode::BAD_REQUEST,
            Self::ResponseBody(BodyError::Stalled(_)) => StatusCode::GATEWAY_TIMEOUT,
            Self::ResponseBody(BodyError::Broken(_)) => StatusCode::BAD_GATEWAY,
            Self::Plugin(_) | Self::ResponseTooLarge { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Upstream(error) => match error {
                UpstreamError::Connect { .. }
                | UpstreamError::Reset { .. }
                | UpstreamError::Garbage { .. }
                | UpstreamError::Switched { .. } => StatusCode::BAD_GATEWAY,
                UpstreamError::ConnectTimeout { .. } | UpstreamError::ResponseTimeout { .. } => {
                    StatusCode::GATEWAY_TIMEOUT
                }
                UpstreamError::Upload(UploadFailure::Stalled) => StatusCode::REQUEST_TIMEOUT,
                UpstreamError::Upload(UploadFailure::Broken) => StatusCode::BAD_REQUEST,
            },
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// What the client is told beside the status.
    fn detail(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Malformed(what) => what,
            Self::AmbiguousPath => {
                "The path has dot segments, or encoded or doubled separators that could lead to another resource."
            }
            Self::HeadTooLarge => "The request has more, or longer, header fields than this server accepts.",
            Self::Method => "This server does not support the method.",
            Self::NoRoute => "Nothing is served under this host and path.",
            Self::BodyTooLarge { limit, .. } => {
                return Cow::Owned(format!("The request body may have at most {limit} bytes."));
            }
            Self::RequestBody(BodyError::Stalled(_))
            | Self::Upstream(UpstreamError::Upload(UploadFailure::Stalled)) => {
                "The request body did not arrive in time."
            }
            Self::RequestBody(BodyError::Broken(_)) | Self::Upstream(UpstreamError::Upload(UploadFailure::Broken)) => {
                "The request body is incomplete or malformed."
            }
            Self::ResponseBody(BodyError::Stalled(_))
            | Self::Upstream(UpstreamError::ConnectTimeout { .. } | UpstreamError::ResponseTimeout { .. }) => {
                "The service behind this server did not answer in time."
            }
            Self::ResponseBody(BodyError::Broken(_))
            | Self::Upstream(
                UpstreamError::Connect { .. }
                | UpstreamError::Reset { .. }
                | UpstreamError::Garbage { .. }
                | UpstreamError::Switched { .. },
            ) => "The service behind this server gave no valid answer.",
            Self::Plugin(_) | Self::ResponseTooLarge { .. } => "The request cannot be processed at the moment.",
            Self::Internal(_) => "The request cannot be processed.",
        })
    }

    /// How it is counted, if it is the upstream's doing.
    pub(super) fn upstream_failure(&self) -> Option<UpstreamFailure> {
        match self {
            Self::Upstream(error) => match error {
                UpstreamError::Connect { .. } => Some(UpstreamFailure::Connect),
                UpstreamError::ConnectTimeout { .. } => Some(UpstreamFailure::ConnectTimeout),
                UpstreamError::ResponseTimeout { .. } => Some(UpstreamFailure::ResponseTimeout),
                UpstreamError::Reset { .. } => Some(UpstreamFailure::Reset),
                UpstreamError::Garbage { .. } | UpstreamError::Switched { .. } => Some(UpstreamFailure::Garbage),
                UpstreamError::Upload(_) => None,
            },
            Self::ResponseBody(error) => Some(error.upstream_failure()),
            Self::Malformed(_)
            | Self::AmbiguousPath
            | Self::HeadTooLarge
            | Self::Method
            | Self::NoRoute
            | Self::BodyTooLarge { .. }
            | Self::RequestBody(_)
            | Self::Plugin(_)
            | Self::ResponseTooLarge { .. }
            | Self::Internal(_) => None,
        }
    }

    /// As it is recorded.
    pub(super) fn recorded(&self) -> Refused {
        match self {
            Self::Upstream(UpstreamError::Upload(_)) => Refused::Other,
            Self::Upstream(_) | Self::ResponseBody(_) => Refused::Upstream,
            Self::Plugin(_) | Self::BodyTooLarge { .. } | Self::ResponseTooLarge { .. } => Refused::Plugin,
            Self::RequestBody(_)
            | Self::Internal(_)
            // These have been refused before they were recorded.
            | Self::Malformed(_)
            | Self::AmbiguousPath
            | Self::HeadTooLarge
            | Self::Method
            | Self::NoRoute => Refused::Other,
        }
    }

    /// The line in the log. Failures of plugins have been logged where they happened, also those that fail open; what
    /// a client did wrong is the access log's business, or else anyone could fill the log.
    fn log(&self, id: &str) {
        match self {
            Self::Upstream(UpstreamError::Upload(_))
            | Self::Malformed(_)
            | Self::AmbiguousPath
            | Self::HeadTooLarge
            | Self::Method
            | Self::NoRoute
            | Self::BodyTooLarge { .. }
            | Self::RequestBody(_) => tracing::debug!(request_id = id, reason = %self, "request refused"),
            Self::Upstream(_) | Self::ResponseBody(_) => {
                tracing::warn!(request_id = id, error = %self, "upstream failed");
            }
            Self::Plugin(_) | Self::ResponseTooLarge { .. } => {}
            Self::Internal(_) => tracing::error!(request_id = id, error = %self, "defect"),
        }
    }

    /// Log it, and make the answer to the client.
    pub(super) fn into_answer(self, id: &HeaderValue) -> Answer {
        let id = id.to_str().unwrap_or("");
        self.log(id);
        let status = self.status();
        let mut headers = HeaderMap::with_capacity(4);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        let mut document = problem(status, &self.detail());
        document.insert("request_id".to_owned(), id.into());
        let body = Bytes::from(serde_json::Value::Object(document).to_string() + "\n");
        Answer { status, headers, content: Content::Whole(body), lease: None }
    }
}

/// A problem document (RFC 9457), without what only some of them have.
pub(crate) fn problem(status: StatusCode, detail: &str) -> serde_json::Map<String, serde_json::Value> {
    let mut document = serde_json::Map::new();
    document.insert("type".to_owned(), "about:blank".into());
    document.insert("title".to_owned(), status.canonical_reason().unwrap_or("Error").into());
    document.insert("status".to_owned(), status.as_u16().into());
    document.insert("detail".to_owned(), detail.into());
    document
}
