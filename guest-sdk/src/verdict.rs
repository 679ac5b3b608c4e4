//! What a hook decides, and the reply it may make itself.

use crate::bindings::imports::tidegate::plugin::http as wit;
use serde::Serialize;

/// What becomes of a message whose head the hook has seen.
///
/// A hook that only looks on or edits may return `Result<()>`: that forwards. One that answers may return
/// `Result<Reply>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Pass it on, with the edits made.
    Forward,
    /// Answer the client with this. From `on_request`, nothing goes to the upstream; from `on_response`, it takes the
    /// response's place.
    Respond(Reply),
    /// Have the host gather the whole body, up to the plugin's `body` limit, and call the body hook with it.
    ReadBody,
}

/// What becomes of a message whose body the hook has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyVerdict {
    /// Pass the message on with the body it has.
    Forward,
    /// Pass it on with this body; the host adjusts the framing.
    Replace(Vec<u8>),
    /// Answer the client with this instead.
    Respond(Reply),
}

/// A whole response made by the plugin.
///
/// The host checks it like an edit: with an invalid status, a malformed or forbidden header (see
/// [`EditError`](crate::EditError)), or more of them than the host allows, the call fails. The host adds
/// `content-length`.
///
/// ```
/// use tidegate_sdk::Reply;
///
/// let reply = Reply::new(401).header("www-authenticate", "Bearer").body("who are you?\n");
/// assert_eq!(reply.status, 401);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reply {
    /// The status code, 200 to 999.
    pub status: u16,
    /// Header fields in wire order; a name may occur several times.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// An empty reply with this status.
    #[must_use]
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    /// A reply whose body is `value` as JSON, with `content-type: application/json`.
    ///
    /// # Errors
    /// If `value` has no JSON form: a map whose keys are not strings, for example.
    pub fn json(status: u16, value: &(impl Serialize + ?Sized)) -> Result<Self, serde_json::Error> {
        let body = serde_json::to_vec(value)?;
        Ok(Self::new(status).header("content-type", "application/json").body(body))
    }

    /// Add a header field, keeping those of the same name.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Set the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }
}

impl From<()> for Verdict {
    fn from((): ()) -> Self {
        Self::Forward
    }
}

impl From<Reply> for Verdict {
    fn from(reply: Reply) -> Self {
        Self::Respond(reply)
    }
}

impl From<()> for BodyVerdict {
    fn from((): ()) -> Self {
        Self::Forward
    }
}

impl From<Vec<u8>> for BodyVerdict {
    fn from(body: Vec<u8>) -> Self {
        Self::Replace(body)
    }
}

impl From<String> for BodyVerdict {
    fn from(body: String) -> Self {
        Self::Replace(body.into_bytes())
    }
}

impl From<Reply> for BodyVerdict {
    fn from(reply: Reply) -> Self {
        Self::Respond(reply)
    }
}

impl From<Reply> for wit::Reply {
    fn from(reply: Reply) -> Self {
        let headers = reply.headers.into_iter().map(|(name, value)| wit::Field { name, value }).collect();
        Self { status: reply.status, headers, body: reply.body }
    }
}

impl From<Verdict> for wit::Verdict {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Forward => Self::Forward,
            Verdict::Respond(reply) => Self::Respond(reply.into()),
            Verdict::ReadBody => Self::ReadBody,
        }
    }
}

impl From<BodyVerdict> for wit::BodyVerdict {
    fn from(verdict: BodyVerdict) -> Self {
        match verdict {
            BodyVerdict::Forward => Self::Forward,
            BodyVerdict::Replace(body) => Self::Replace(body),
            BodyVerdict::Respond(reply) => Self::Respond(reply.into()),
        }
    }
}
