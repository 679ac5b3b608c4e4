//! One request and its response, as plugins see and edit them.
//!
//! The proxy owns an [`Exchange`] and lends it to one hook call after another. It speaks `http` crate types; the
//! edits that plugins make go through `fields`, so what comes back can be sent as it is.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, Method, StatusCode, Version};

use crate::bindings::http::{self as contract, EditError};
use crate::fields;

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

/// Notes of all plugins. Few per exchange: a scan is cheaper than hashing, and an empty list costs nothing.
type Notes = Vec<Note>;

#[derive(Debug)]
struct Note {
    plugin: Arc<str>,
    key: String,
    value: Vec<u8>,
}

/// Notes of one plugin in one exchange; stated in the contract.
const MAX_NOTES: usize = 64;

/// Bytes of them, keys included; stated in the contract.
const MAX_NOTE_BYTES: usize = 64 << 10;

impl Exchange {
    /// A request that has just come in. `upstreams` are the names a plugin may choose among.
    #[must_use]
    pub fn new(request: RequestHead, upstreams: UpstreamNames) -> Box<Self> {
        Box::new(Self { request, response: None, upstream: None, upstreams, notes: Notes::new() })
    }

    /// The placeholder of an instance that is in no exchange.
    pub(crate) fn none() -> Box<Self> {
        let empty: Arc<str> = Arc::from("");
        let request = RequestHead {
            id: empty.clone(),
            method: Method::GET,
            scheme: Scheme::HTTP,
            authority: empty,
            target: PathAndQuery::from_static("/"),
            headers: HeaderMap::new(),
            version: Version::HTTP_11,
            client: SocketAddr::from(([0, 0, 0, 0], 0)),
        };
        Self::new(request, Arc::from([]))
    }

    /// Choose one of the configured upstreams.
    pub(crate) fn choose_upstream(&mut self, name: &str) -> Result<(), EditError> {
        let upstream = self.upstreams.iter().find(|upstream| &***upstream == name).ok_or(EditError::UnknownUpstream)?;
        self.upstream = Some(upstream.clone());
        Ok(())
    }

    /// Keep a plugin's note, replacing the one of the same key.
    pub(crate) fn set_note(&mut self, plugin: &Arc<str>, key: String, value: Vec<u8>) -> Result<(), EditError> {
        let others = || self.notes.iter().filter(|note| note.plugin == *plugin && note.key != key);
        let bytes: usize = others().map(|note| note.key.len() + note.value.len()).sum();
        if others().count() >= MAX_NOTES || bytes + key.len() + value.len() > MAX_NOTE_BYTES {
            return Err(EditError::TooLarge);
        }
        self.notes.retain(|note| note.plugin != *plugin || note.key != key);
        self.notes.push(Note { plugin: plugin.clone(), key, value });
        Ok(())
    }

    /// The notes of a plugin, in the order in which they were taken.
    #[must_use]
    pub fn notes(&self, plugin: &str) -> Vec<(String, Vec<u8>)> {
        let its = self.notes.iter().filter(|note| &*note.plugin == plugin);
        its.map(|note| (note.key.clone(), note.value.clone())).collect()
    }

    /// A plugin's note.
    pub(crate) fn note(&self, plugin: &Arc<str>, key: &str) -> Option<&[u8]> {
        self.notes.iter().find(|note| note.plugin == *plugin && note.key == key).map(|note| &*note.value)
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

/// What in a plugin's answer breaks the contract.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadReply {
    #[error("a reply with status {0}, which is not between 200 and 999")]
    Status(u16),
    #[error("a reply with {0} fields; at most {max} are sent", max = fields::MAX_FIELDS)]
    TooManyFields(usize),
    #[error("a reply whose field `{name}` is {why}")]
    Field { name: String, why: &'static str },
    #[error("a body of {size} bytes; the plugin's `body` limit is {limit}")]
    Body { size: usize, limit: usize },
    #[error("`read-body`, but the plugin has no `{0}`")]
    NoBodyHook(crate::contract::Hook),
}

impl Reply {
    /// Check what a plugin answered with.
    pub(crate) fn parse(reply: contract::Reply, body_limit: usize) -> Result<Self, BadReply> {
        let status = fields::status(reply.status).map_err(|_| BadReply::Status(reply.status))?;
        if reply.headers.len() > fields::MAX_FIELDS {
            return Err(BadReply::TooManyFields(reply.headers.len()));
        }
        let mut headers = HeaderMap::with_capacity(reply.headers.len());
        for field in reply.headers {
            fields::append(&mut headers, &field.name, field.value).map_err(|error| BadReply::Field {
                name: crate::text::cut(&field.name, 64).escape_debug().to_string(),
                why: match error {
                    EditError::Forbidden => "the host's to send",
                    EditError::TooLarge => "too large",
                    EditError::InvalidSyntax | EditError::UnknownUpstream | EditError::TooLate => "malformed",
                },
            })?;
        }
        Ok(Self { head: ResponseHead { status, headers }, body: body(reply.body, body_limit)? })
    }
}

/// Check a body that a plugin made.
pub(crate) fn body(body: Vec<u8>, limit: usize) -> Result<Bytes, BadReply> {
    if body.len() > limit {
        return Err(BadReply::Body { size: body.len(), limit });
    }
    Ok(body.into())
}
