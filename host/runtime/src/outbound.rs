//! HTTP requests that plugins make: what the runtime asks of whoever makes them.
//!
//! A request belongs to the call that makes it, and ends with it: the future of [`Outbound::send`] is dropped then, and so
//! is the body of an answer. Whoever makes requests has to let go of everything when that happens.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::combinators::UnsyncBoxBody;

use crate::contract::Hook;

/// A body of a request or an answer, as it comes.
pub type Body = UnsyncBoxBody<Bytes, OutboundError>;

/// Makes the requests of one plugin.
pub trait Outbound: Send + Sync + 'static {
    /// Make a request and wait for the head of its answer. Dropped, it gives the request up; so does dropping the body of
    /// the answer.
    fn send(
        &self,
        request: http::Request<Body>,
        caller: Caller,
        timeouts: Timeouts,
    ) -> BoxFuture<'static, Result<http::Response<Body>, OutboundError>>;

    /// Requests that one call may have under way at a time, from their beginning to the end of the answer's body.
    fn requests_per_call(&self) -> usize;
}

/// On whose behalf a request is made: for the log.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// The hook that makes it.
    pub hook: Option<Hook>,
    /// The id of the exchange that the hook looks at, if it has one.
    pub request_id: Option<Arc<str>>,
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

/// Why a request was not made, or not to its end. Texts are for the plugin's author; they say nothing of what is behind
/// an address that the plugin may not reach.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OutboundError {
    /// The plugin has not been granted this origin.
    #[error("the origin has not been granted")]
    Denied,
    /// The host has only addresses that the plugin may not reach.
    #[error("the host has no address that the plugin may reach")]
    AddressProhibited,
    /// The URI is none that a request can be made to.
    #[error("the URI cannot be used: {0}")]
    Uri(&'static str),
    /// The method is none that can be used here.
    #[error("this method cannot be used")]
    Method,
    /// As many requests or connections as there may be.
    #[error("too many requests are under way")]
    Limit,
    /// The name of the host could not be looked up.
    #[error("the host's name cannot be looked up: {0}")]
    Dns(String),
    /// The host takes no connections at this port.
    #[error("the connection was refused")]
    ConnectionRefused,
    /// No connection came about in time.
    #[error("no connection in time")]
    ConnectionTimeout,
    /// The host cannot be reached.
    #[error("the host cannot be reached: {0}")]
    Unreachable(String),
    /// The connection ended before there was an answer.
    #[error("the connection ended before there was an answer")]
    ConnectionTerminated,
    /// The certificate of the server is not valid, or not for this host.
    #[error("the certificate cannot be trusted: {0}")]
    Certificate(String),
    /// The server broke off the handshake.
    #[error("the TLS handshake was broken off: {message}")]
    TlsAlert {
        /// The number of the alert.
        id: u8,
        /// What it means.
        message: String,
    },
    /// The handshake failed in another way.
    #[error("the TLS handshake failed: {0}")]
    Tls(String),
    /// The plugin broke off the body of the request.
    #[error("the body of the request was broken off")]
    RequestIncomplete,
    /// No head of an answer in the time that the plugin gave it.
    #[error("no answer in time")]
    ResponseTimeout,
    /// No further piece of the body in the time that the plugin gave it.
    #[error("the body of the answer stalled")]
    ReadTimeout,
    /// The head of the answer is larger than so many bytes, or has more fields than are read.
    #[error("the head of the answer is larger than {0} bytes, or has too many fields")]
    ResponseHead(u32),
    /// The body of the answer is longer than so many bytes.
    #[error("the body of the answer is longer than {0} bytes")]
    ResponseBody(u64),
    /// The connection ended in the middle of the body.
    #[error("the body of the answer was broken off")]
    ResponseIncomplete,
    /// What came is not HTTP.
    #[error("what came is not HTTP: {0}")]
    Protocol(String),
    /// The call that made the request is over.
    #[error("the call that made the request is over")]
    CallOver,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}
