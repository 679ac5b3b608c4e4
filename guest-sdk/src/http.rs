//! The exchange: [`Request`] and [`Response`], lent by the host for one call.
//!
//! Built for WebAssembly, each method is one call to the host and copies just what it returns. Built for any other
//! target they are plain values in memory, so that a plugin's logic can be tested with `cargo test`; see
//! [`Request::builder`] and [`Response::builder`] there.

#[cfg(not(target_arch = "wasm32"))]
mod in_memory;
#[cfg(target_arch = "wasm32")]
mod lent;
mod request;
mod response;

#[cfg(not(target_arch = "wasm32"))]
pub use in_memory::{RequestBuilder, ResponseBuilder};
pub use request::Request;
pub use response::Response;

#[cfg(not(target_arch = "wasm32"))]
use in_memory as backend;
#[cfg(target_arch = "wasm32")]
use lent as backend;

use crate::bindings::imports::tidegate::plugin::http as wit;
use std::fmt;

/// One header field: its name in lower case, and its value as it stands on the wire.
pub type Field = (String, Vec<u8>);

/// Why the host refused an edit. The message is as it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EditError {
    /// Not the syntax of a field name, field value, path, query or status.
    InvalidSyntax,
    /// A field that belongs to the connection or the framing, which the host owns (`content-length`, `host`,
    /// `connection`, `transfer-encoding` and the like).
    Forbidden,
    /// Over the host's cap on the size or the number of header fields or notes.
    TooLarge,
    /// No upstream of this name is configured.
    UnknownUpstream,
    /// The request has already been sent to its upstream.
    TooLate,
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InvalidSyntax => "the host refused an edit: invalid syntax",
            Self::Forbidden => "the host refused an edit: this field belongs to the connection or the framing",
            Self::TooLarge => "the host refused an edit: over the cap on size or number",
            Self::UnknownUpstream => "the host refused an edit: no upstream of this name is configured",
            Self::TooLate => "the host refused an edit: the request has already been sent",
        })
    }
}

impl std::error::Error for EditError {}

impl From<wit::EditError> for EditError {
    fn from(error: wit::EditError) -> Self {
        match error {
            wit::EditError::InvalidSyntax => Self::InvalidSyntax,
            wit::EditError::Forbidden => Self::Forbidden,
            wit::EditError::TooLarge => Self::TooLarge,
            wit::EditError::UnknownUpstream => Self::UnknownUpstream,
            wit::EditError::TooLate => Self::TooLate,
        }
    }
}

/// The version of HTTP that the client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2.
    Http2,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        })
    }
}

impl From<wit::Version> for Version {
    fn from(version: wit::Version) -> Self {
        match version {
            wit::Version::Http10 => Self::Http10,
            wit::Version::Http11 => Self::Http11,
            wit::Version::Http2 => Self::Http2,
        }
    }
}

/// The text of a field value, with U+FFFD in the place of what is not UTF-8.
fn text(value: Vec<u8>) -> String {
    String::from_utf8(value).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}
