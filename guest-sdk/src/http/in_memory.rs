//! Requests and responses in memory, for tests of a plugin's logic on the author's machine.
//!
//! They refuse what the host refuses for its syntax or because the host owns the field. The host's caps on header
//! fields and its table of upstreams are configuration and not imitated.

use super::{EditError, Field, Version};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Fields that belong to the connection or the framing.
const HOST_OWNED: [&str; 9] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// The caps on the notes of one exchange, as the contract states them.
const NOTES_MAX: usize = 64;
const NOTES_BYTES_MAX: usize = 64 * 1024;

/// Header fields in wire order, names in lower case.
#[derive(Clone, Debug, Default)]
struct Fields(Vec<Field>);

impl Fields {
    fn first(&self, name: &str) -> Option<Vec<u8>> {
        self.0.iter().find(|(have, _)| have.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
    }

    fn append(&mut self, name: &str, value: &[u8]) -> Result<(), EditError> {
        let name = editable(name)?;
        if value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            return Err(EditError::InvalidSyntax);
        }
        self.0.push((name, value.to_vec()));
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<(), EditError> {
        let name = editable(name)?;
        self.0.retain(|(have, _)| *have != name);
        Ok(())
    }

    fn set(&mut self, name: &str, value: &[u8]) -> Result<(), EditError> {
        let before = self.clone();
        self.remove(name)?;
        self.append(name, value).inspect_err(|_| *self = before)
    }
}

/// The name in lower case, if it is a token (RFC 9110, section 5.6.2) and not the host's.
fn editable(name: &str) -> Result<String, EditError> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) {
        return Err(EditError::InvalidSyntax);
    }
    let name = name.to_ascii_lowercase();
    if HOST_OWNED.contains(&name.as_str()) {
        return Err(EditError::Forbidden);
    }
    Ok(name)
}

/// Whether the text can stand in a request target: visible ASCII without the delimiters given.
fn target_part(text: &str, delimiters: &[u8]) -> Result<(), EditError> {
    let fits = |byte: u8| byte.is_ascii_graphic() && !delimiters.contains(&byte);
    if text.bytes().all(fits) { Ok(()) } else { Err(EditError::InvalidSyntax) }
}

#[derive(Debug)]
pub(crate) struct Request {
    id: String,
    method: String,
    scheme: String,
    authority: String,
    path: String,
    query: Option<String>,
    client_address: String,
    version: Version,
    fields: Fields,
    upstream: Option<String>,
    notes: RefCell<BTreeMap<String, Vec<u8>>>,
}

#[derive(Debug)]
pub(crate) struct Response {
    status: u16,
    fields: Fields,
}

/// The methods that requests and responses share.
macro_rules! fields {
    ($message:ty) => {
        impl $message {
            pub(crate) fn header(&self, name: &str) -> Option<Vec<u8>> {
                self.fields.first(name)
            }
            pub(crate) fn headers(&self) -> Vec<Field> {
                self.fields.0.clone()
            }
            pub(crate) fn set_header(&mut self, name: &str, value: &[u8]) -> Result<(), EditError> {
                self.fields.set(name, value)
            }
            pub(crate) fn append_header(&mut self, name: &str, value: &[u8]) -> Result<(), EditError> {
                self.fields.append(name, value)
            }
            pub(crate) fn remove_header(&mut self, name: &str) -> Result<(), EditError> {
                self.fields.remove(name)
            }
        }
    };
}

fields!(Request);
fields!(Response);

impl Request {
    pub(crate) fn id(&self) -> String {
        self.id.clone()
    }
    pub(crate) fn method(&self) -> String {
        self.method.clone()
    }
    pub(crate) fn scheme(&self) -> String {
        self.scheme.clone()
    }
    pub(crate) fn authority(&self) -> String {
        self.authority.clone()
    }
    pub(crate) fn path(&self) -> String {
        self.path.clone()
    }
    pub(crate) fn query(&self) -> Option<String> {
        self.query.clone()
    }
    pub(crate) fn client_address(&self) -> String {
        self.client_address.clone()
    }
    pub(crate) fn version(&self) -> Version {
        self.version
    }
    pub(crate) fn set_path(&mut self, path: &str) -> Result<(), EditError> {
        if !path.starts_with('/') {
            return Err(EditError::InvalidSyntax);
        }
        target_part(path, b"?#")?;
        path.clone_into(&mut self.path);
        Ok(())
    }
    pub(crate) fn set_query(&mut self, query: Option<&str>) -> Result<(), EditError> {
        target_part(query.unwrap_or_default(), b"#")?;
        self.query = query.map(str::to_owned);
        Ok(())
    }
    pub(crate) fn set_upstream(&mut self, name: &str) -> Result<(), EditError> {
        self.upstream = Some(name.to_owned());
        Ok(())
    }
    pub(crate) fn set_note(&self, key: &str, value: &[u8]) -> Result<(), EditError> {
        let mut notes = self.notes.borrow_mut();
        let others = notes.iter().filter(|(have, _)| *have != key);
        let (count, bytes) = others.fold((1, key.len() + value.len()), |(count, bytes), (key, value)| {
            (count + 1, bytes + key.len() + value.len())
        });
        if count > NOTES_MAX || bytes > NOTES_BYTES_MAX {
            return Err(EditError::TooLarge);
        }
        notes.insert(key.to_owned(), value.to_vec());
        Ok(())
    }
    pub(crate) fn note(&self, key: &str) -> Option<Vec<u8>> {
        self.notes.borrow().get(key).cloned()
    }
}

impl Response {
    pub(crate) fn status(&self) -> u16 {
        self.status
    }
    pub(crate) fn set_status(&mut self, status: u16) -> Result<(), EditError> {
        if !(200..=999).contains(&status) {
            return Err(EditError::InvalidSyntax);
        }
        self.status = status;
        Ok(())
    }
}

impl super::Request {
    /// A request for a test; not there in a build for WebAssembly, where requests come from the host alone.
    ///
    /// Without further ado it is a `GET /` over HTTP/1.1 from `192.0.2.1:40000` to `http://example.test`.
    ///
    /// ```
    /// use tidegate_sdk::Request;
    ///
    /// let request = Request::builder().method("POST").target("/orders?dry=1").header("x-key", "k").build();
    /// assert_eq!(request.path(), "/orders");
    /// assert_eq!(request.query().as_deref(), Some("dry=1"));
    /// assert_eq!(request.header("X-Key").as_deref(), Some("k"));
    /// ```
    pub fn builder() -> RequestBuilder {
        RequestBuilder {
            inner: Request {
                id: "test".to_owned(),
                method: "GET".to_owned(),
                scheme: "http".to_owned(),
                authority: "example.test".to_owned(),
                path: "/".to_owned(),
                query: None,
                client_address: "192.0.2.1:40000".to_owned(),
                version: Version::Http11,
                fields: Fields::default(),
                upstream: None,
                notes: RefCell::default(),
            },
        }
    }

    /// Where [`set_upstream`](Self::set_upstream) sent this request. For tests; not there in a build for WebAssembly.
    #[must_use]
    pub fn upstream(&self) -> Option<&str> {
        self.inner.upstream.as_deref()
    }
}

impl super::Response {
    /// A response for a test: status 200 and no header fields, unless it is told otherwise. Not there in a build for
    /// WebAssembly, where responses come from the host alone.
    pub fn builder() -> ResponseBuilder {
        ResponseBuilder { inner: Response { status: 200, fields: Fields::default() } }
    }
}

/// Makes a [`Request`](super::Request) for a test.
///
/// It takes header fields as they are, also those that a plugin could not set itself: a real request has them.
#[derive(Debug)]
#[must_use]
pub struct RequestBuilder {
    inner: Request,
}

impl RequestBuilder {
    /// The id of the exchange.
    pub fn id(mut self, id: &str) -> Self {
        id.clone_into(&mut self.inner.id);
        self
    }

    /// The method.
    pub fn method(mut self, method: &str) -> Self {
        method.clone_into(&mut self.inner.method);
        self
    }

    /// Path and query: `/orders?dry=1`.
    pub fn target(mut self, target: &str) -> Self {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (target, None),
        };
        path.clone_into(&mut self.inner.path);
        self.inner.query = query;
        self
    }

    /// The scheme, `http` or `https`.
    pub fn scheme(mut self, scheme: &str) -> Self {
        scheme.clone_into(&mut self.inner.scheme);
        self
    }

    /// Host and port.
    pub fn authority(mut self, authority: &str) -> Self {
        authority.clone_into(&mut self.inner.authority);
        self
    }

    /// The peer of the connection.
    pub fn client_address(mut self, address: &str) -> Self {
        address.clone_into(&mut self.inner.client_address);
        self
    }

    /// The version of HTTP.
    pub fn version(mut self, version: Version) -> Self {
        self.inner.version = version;
        self
    }

    /// Add a header field.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.inner.fields.0.push((name.to_ascii_lowercase(), value.as_ref().to_vec()));
        self
    }

    /// A note, as if an earlier hook had left it.
    pub fn note(mut self, key: &str, value: impl AsRef<[u8]>) -> Self {
        self.inner.notes.get_mut().insert(key.to_owned(), value.as_ref().to_vec());
        self
    }

    /// The request.
    #[must_use]
    pub fn build(self) -> super::Request {
        super::Request { inner: self.inner }
    }
}

/// Makes a [`Response`](super::Response) for a test.
#[derive(Debug)]
#[must_use]
pub struct ResponseBuilder {
    inner: Response,
}

impl ResponseBuilder {
    /// The status code.
    pub fn status(mut self, status: u16) -> Self {
        self.inner.status = status;
        self
    }

    /// Add a header field.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.inner.fields.0.push((name.to_ascii_lowercase(), value.as_ref().to_vec()));
        self
    }

    /// The response.
    #[must_use]
    pub fn build(self) -> super::Response {
        super::Response { inner: self.inner }
    }
}

#[cfg(test)]
mod tests {
    use crate::{EditError, Request, Response};

    #[test]
    fn setting_a_field_replaces_all_its_values_whatever_the_case() -> Result<(), EditError> {
        let mut request = Request::builder().header("X-A", "1").header("x-a", "2").build();
        request.set_header("x-A", "3")?;
        assert_eq!(request.headers(), [("x-a".to_owned(), b"3".to_vec())]);
        Ok(())
    }

    #[test]
    fn a_refused_edit_leaves_the_message_as_it_was() {
        let mut response = Response::builder().header("x-a", "1").build();
        assert_eq!(response.set_header("x-a", "2\r\nx-b: 3"), Err(EditError::InvalidSyntax));
        assert_eq!(response.set_header("x a", "2"), Err(EditError::InvalidSyntax));
        assert_eq!(response.set_header("Content-Length", "2"), Err(EditError::Forbidden));
        assert_eq!(response.set_status(101), Err(EditError::InvalidSyntax));
        assert_eq!(response.headers(), [("x-a".to_owned(), b"1".to_vec())]);
        assert_eq!(response.status(), 200);
    }

    #[test]
    fn a_value_that_is_not_utf8_is_there_but_equals_nothing() {
        let request = Request::builder().header("x-key", [b'k', 0xff]).build();
        assert_eq!(request.header("x-key").as_deref(), Some("k\u{fffd}"));
        assert_eq!(request.header_bytes("x-key"), Some(vec![b'k', 0xff]));
    }

    #[test]
    fn notes_are_capped_by_number_and_by_size() -> Result<(), EditError> {
        let request = Request::builder().build();
        for n in 0..64 {
            request.set_note(&n.to_string(), "x")?;
        }
        assert_eq!(request.set_note("one more", "x"), Err(EditError::TooLarge));
        request.set_note("7", "again")?;
        assert_eq!(request.note("7"), Some(b"again".to_vec()));
        assert_eq!(request.set_note("7", vec![0; 64 * 1024]), Err(EditError::TooLarge));
        Ok(())
    }

    #[test]
    fn a_path_or_query_that_would_break_the_request_line_is_refused() -> Result<(), EditError> {
        let mut request = Request::builder().build();
        for path in ["", "orders", "/a b", "/a?b", "/a\r\n", "/ä"] {
            assert_eq!(request.set_path(path), Err(EditError::InvalidSyntax), "{path:?}");
        }
        assert_eq!(request.set_query(Some("a b")), Err(EditError::InvalidSyntax));
        request.set_path("/new")?;
        request.set_query(Some("a=b?c"))?;
        assert_eq!((request.path(), request.query()), ("/new".to_owned(), Some("a=b?c".to_owned())));
        request.set_query(None)?;
        assert_eq!(request.query(), None);
        Ok(())
    }
}
