//! The response as a hook sees it.

use super::{EditError, Field, backend, text};

/// The response as it will go to the client, lent for one call.
///
/// On targets other than WebAssembly it is a value in memory that a test makes with `Response::builder()`.
#[derive(Debug)]
pub struct Response {
    pub(crate) inner: backend::Response,
}

impl Response {
    /// The status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.inner.status()
    }

    /// Change the status.
    ///
    /// # Errors
    /// [`EditError::InvalidSyntax`] unless it is 200 to 999.
    pub fn set_status(&mut self, status: u16) -> Result<(), EditError> {
        self.inner.set_status(status)
    }

    /// The first value of a header field as text; bytes that are not UTF-8 become U+FFFD.
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
}
