//! HTTP requests that plugins make: what the runtime asks of whoever makes them.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::combinators::UnsyncBoxBody;

/// A body of a request or an answer, as it comes.
pub type Body = UnsyncBoxBody<Bytes, OutboundError>;

/// Makes the requests of one plugin.
pub trait Outbound: Send + Sync + 'static {
    /// Make a request and wait for the head of its answer. Dropped, it gives the request up.
    fn send(
        &self,
        request: http::Request<Body>,
        timeouts: Timeouts,
    ) -> BoxFuture<'static, Result<http::Response<Body>, OutboundError>>;
}

/// How long the plugin wants to wait at most; its call's budget may be shorter.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timeouts {
    /// For a connection.
    pub connect: Option<Duration>,
    /// For the head of the answer.
    pub first_byte: Option<Duration>,
    /// Between two pieces of its body.
    pub between_bytes: Option<Duration>,
}

/// Why a request was not made, or not to its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OutboundError {
    /// The plugin has not been granted this origin.
    #[error("the origin has not been granted")]
    Denied,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}
