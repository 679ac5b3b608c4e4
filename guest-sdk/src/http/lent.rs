//! Requests and responses as handles of the host's resources.

use super::{EditError, Field, Version, wit};
use std::mem::ManuallyDrop;

/// A borrowed handle.
///
/// **Invariant**: it lives no longer than the call it was lent for. A hook only ever gets a reference to it, and
/// there is no way to make a second one to swap it with. The generated code gives the handle back; this does not.
#[derive(Debug)]
pub(crate) struct Request(ManuallyDrop<wit::Request>);

/// Likewise.
#[derive(Debug)]
pub(crate) struct Response(ManuallyDrop<wit::Response>);

impl super::Request {
    #[expect(unsafe_code, reason = "wit-bindgen leaves it to the caller that a handle is valid")]
    pub(crate) fn lent(request: &wit::Request) -> Self {
        // SAFETY: the handle is valid, `request` holds it; and it is dropped by `request` alone.
        Self { inner: Request(ManuallyDrop::new(unsafe { wit::Request::from_handle(request.handle()) })) }
    }
}

impl super::Response {
    #[expect(unsafe_code, reason = "wit-bindgen leaves it to the caller that a handle is valid")]
    pub(crate) fn lent(response: &wit::Response) -> Self {
        // SAFETY: as for the request.
        Self { inner: Response(ManuallyDrop::new(unsafe { wit::Response::from_handle(response.handle()) })) }
    }
}

/// The methods that requests and responses share.
macro_rules! fields {
    ($message:ty) => {
        impl $message {
            pub(crate) fn header(&self, name: &str) -> Option<Vec<u8>> {
                self.0.header(name)
            }
            pub(crate) fn headers(&self) -> Vec<Field> {
                self.0.headers().into_iter().map(|field| (field.name, field.value)).collect()
            }
            pub(crate) fn set_header(&mut self, name: &str, value: &[u8]) -> Result<(), EditError> {
                Ok(self.0.set_header(name, value)?)
            }
            pub(crate) fn append_header(&mut self, name: &str, value: &[u8]) -> Result<(), EditError> {
                Ok(self.0.append_header(name, value)?)
            }
            pub(crate) fn remove_header(&mut self, name: &str) -> Result<(), EditError> {
                Ok(self.0.remove_header(name)?)
            }
        }
    };
}

fields!(Request);
fields!(Response);

impl Request {
    pub(crate) fn id(&self) -> String {
        self.0.id()
    }
    pub(crate) fn method(&self) -> String {
        self.0.method()
    }
    pub(crate) fn scheme(&self) -> String {
        self.0.scheme()
    }
    pub(crate) fn authority(&self) -> String {
        self.0.authority()
    }
    pub(crate) fn path(&self) -> String {
        self.0.path()
    }
    pub(crate) fn query(&self) -> Option<String> {
        self.0.query()
    }
    pub(crate) fn client_address(&self) -> String {
        self.0.client_address()
    }
    pub(crate) fn version(&self) -> Version {
        self.0.version().into()
    }
    pub(crate) fn set_path(&mut self, path: &str) -> Result<(), EditError> {
        Ok(self.0.set_path(path)?)
    }
    pub(crate) fn set_query(&mut self, query: Option<&str>) -> Result<(), EditError> {
        Ok(self.0.set_query(query)?)
    }
    pub(crate) fn set_upstream(&mut self, name: &str) -> Result<(), EditError> {
        Ok(self.0.set_upstream(name)?)
    }
    pub(crate) fn set_note(&self, key: &str, value: &[u8]) -> Result<(), EditError> {
        Ok(self.0.set_note(key, value)?)
    }
    pub(crate) fn note(&self, key: &str) -> Option<Vec<u8>> {
        self.0.note(key)
    }
}

impl Response {
    pub(crate) fn status(&self) -> u16 {
        self.0.status()
    }
    pub(crate) fn set_status(&mut self, status: u16) -> Result<(), EditError> {
        Ok(self.0.set_status(status)?)
    }
}
