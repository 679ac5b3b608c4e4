//! The request as a hook sees it.

use super::{EditError, Field, Version, backend, text};

/// The request as it will go to the upstream, lent for one call.
///
/// Reading is cheap in what is read: [`header`](Self::header) copies one value, [`headers`](Self::headers) all of
/// them. Names of header fields are case-insensitive.
///
/// On targets other than WebAssembly it is a value in memory that a test makes with `Request::builder()`. It checks
/// the same syntax as the host; the host's caps on the size and the number of header fields are configuration, and
/// are not imitated.
#[derive(Debug)]
pub struct Request {
    pub(crate) inner: backend::Request,
}

impl Request {
    /// The id of this exchange, as in the host's log and in the `x-request-id` header.
    #[must_use]
    pub fn id(&self) -> String {
        self.inner.id()
    }

    /// The method, `GET` for example.
    #[must_use]
    pub fn method(&self) -> String {
        self.inner.method()
    }

    /// `http` or `https`, as the client used it.
    #[must_use]
    pub fn scheme(&self) -> String {
        self.inner.scheme()
    }

    /// Host and, if given, port that the client asked for; empty if it named none.
    #[must_use]
    pub fn authority(&self) -> String {
        self.inner.authority()
    }

    /// The path, percent-encoded as received.
    #[must_use]
    pub fn path(&self) -> String {
        self.inner.path()
    }

    /// The query without its `?`, if there is one.
    #[must_use]
    pub fn query(&self) -> Option<String> {
        self.inner.query()
    }

    /// The peer of the connection, `192.0.2.7:50412` or `[2001:db8::7]:50412`.
    #[must_use]
    pub fn client_address(&self) -> String {
        self.inner.client_address()
    }

    /// The version of HTTP that the client speaks.
    #[must_use]
    pub fn version(&self) -> Version {
        self.inner.version()
    }

    /// The first value of a header field as text.
    ///
    /// Bytes that are not UTF-8 become U+FFFD, so that a field which is there is never taken for absent, and never
    /// equals a text the plugin compares it with. For the exact value use [`header_bytes`](Self::header_bytes).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        self.inner.header(name).map(text)
    }

    /// The first value of a header field as it stands on the wire.
    #[must_use]
    pub fn header_bytes(&self, name: &str) -> Option<Vec<u8>> {
        self.inner.header(name)
    }

    /// All header fields in wire order. Costs what the message is long: prefer [`header`](Self::header).
    #[must_use]
    pub fn headers(&self) -> Vec<Field> {
        self.inner.headers()
    }

    /// Replace every value of a header field by one.
    ///
    /// # Errors
    /// [`EditError::InvalidSyntax`], [`EditError::Forbidden`] or [`EditError::TooLarge`].
    pub fn set_header(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), EditError> {
        self.inner.set_header(name, value.as_ref())
    }

    /// Add a value to a header field, keeping those that are there.
    ///
    /// # Errors
    /// [`EditError::InvalidSyntax`], [`EditError::Forbidden`] or [`EditError::TooLarge`].
    pub fn append_header(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), EditError> {
        self.inner.append_header(name, value.as_ref())
    }

    /// Remove every value of a header field. Removing what is not there is no error.
    ///
    /// # Errors
    /// [`EditError::InvalidSyntax`] or [`EditError::Forbidden`].
    pub fn remove_header(&mut self, name: &str) -> Result<(), EditError> {
        self.inner.remove_header(name)
    }

    /// Send a different path to the upstream. The route is already chosen and stays.
    ///
    /// # Errors
    /// [`EditError::InvalidSyntax`] unless it begins with `/` and is percent-encoded.
    pub fn set_path(&mut self, path: &str) -> Result<(), EditError> {
        self.inner.set_path(path)
    }

    /// Send a different query to the upstream; `None` removes it.
    ///
    /// # Errors
    /// [`EditError::InvalidSyntax`] unless it is percent-encoded.
    pub fn set_query(&mut self, query: Option<&str>) -> Result<(), EditError> {
        self.inner.set_query(query)
    }

    /// Send the request to another upstream of the gateway's configuration.
    ///
    /// # Errors
    /// [`EditError::UnknownUpstream`].
    pub fn set_upstream(&mut self, name: &str) -> Result<(), EditError> {
        self.inner.set_upstream(name)
    }

    /// Keep bytes under a key for the later hooks of this plugin in this exchange, whichever instance serves them.
    ///
    /// It takes `&self`: notes are not part of the request, and every hook may leave one.
    ///
    /// # Errors
    /// [`EditError::TooLarge`] past 64 notes or 64 KiB of them.
    pub fn set_note(&self, key: &str, value: impl AsRef<[u8]>) -> Result<(), EditError> {
        self.inner.set_note(key, value.as_ref())
    }

    /// What [`set_note`](Self::set_note) kept under this key.
    #[must_use]
    pub fn note(&self, key: &str) -> Option<Vec<u8>> {
        self.inner.note(key)
    }
}
