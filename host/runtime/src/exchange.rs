//! One request and its response, as plugins see and edit them.
//!
//! The proxy owns an [`Exchange`] and lends it to one hook call after another. It speaks `http` crate types; the
//! edits that plugins make go through `fields`, so what comes back can be sent as it is.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, Method, StatusCode, Version};

/// The names that `set-upstream` accepts.
pub type UpstreamNames = Arc<[Arc<str>]>;

/// The head of a request, on its way to the upstream.
#[derive(Debug, Clone)]
pub struct RequestHead {
    /// The exchange's id, as in the log and in `x-request-id`.
    pub id: Arc<str>,
    /// The method.
    pub method: Method,
    /// `http`, or `https` once the gateway terminates TLS.
    pub scheme: Scheme,
    /// Host and port the client asked for; empty if it named none.
    pub authority: Arc<str>,
    /// Path and query as they will be sent.
    pub target: PathAndQuery,
    /// Fields without those that belong to the connection.
    pub headers: HeaderMap,
    /// The version of the client's connection.
    pub version: Version,
    /// The peer of the client's connection.
    pub client: SocketAddr,
}

/// The head of a response, on its way to the client.
#[derive(Debug, Clone)]
pub struct ResponseHead {
    /// The status.
    pub status: StatusCode,
    /// Fields without those that belong to the connection.
    pub headers: HeaderMap,
}

/// What hooks look at and edit.
#[derive(Debug)]
pub struct Exchange {
    /// The request. Plugins can edit it until there is a response.
    pub request: RequestHead,
    /// The response, once there is one.
    pub response: Option<ResponseHead>,
    /// The upstream a plugin chose in place of the route's.
    pub upstream: Option<Arc<str>>,
    upstreams: UpstreamNames,
    notes: Notes,
}

/// Notes by plugin and key; see `set-note` in the contract.
type Notes = HashMap<(Arc<str>, String), Vec<u8>>;

impl Exchange {
    /// A request that has just come in. `upstreams` are the names a plugin may choose among.
    #[must_use]
    pub fn new(request: RequestHead, upstreams: UpstreamNames) -> Box<Self> {
        Box::new(Self { request, response: None, upstream: None, upstreams, notes: Notes::new() })
    }
}

/// A whole response made by a plugin, checked.
#[derive(Debug)]
pub struct Reply {
    /// Status and fields. No framing fields: the sender adds those.
    pub head: ResponseHead,
    /// The whole body.
    pub body: Bytes,
}

/// What a head hook decided.
#[derive(Debug)]
pub enum Verdict {
    /// Pass the message on.
    Forward,
    /// Answer the client with this.
    Respond(Reply),
    /// Gather the body, then call the body hook (the plugin has one: this is checked).
    ReadBody,
}

/// What a body hook decided.
#[derive(Debug)]
pub enum BodyVerdict {
    /// Pass the message on as it is.
    Forward,
    /// Pass it on with this body.
    Replace(Bytes),
    /// Answer the client with this.
    Respond(Reply),
}
