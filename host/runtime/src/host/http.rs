//! `tidegate:plugin/http`: the exchange as a guest reads and edits it.

use std::sync::Arc;

use http::uri::PathAndQuery;
use http::{HeaderMap, Version};
use wasmtime::component::Resource;

use crate::bindings::http::{self as contract, EditError, Field};
use crate::bindings::{RequestHandle, ResponseHandle};
use crate::exchange::{Exchange, ResponseHead};
use crate::fields;
use crate::host::Guest;

/// The outer error traps (the host's invariants), the inner one is the guest's to handle.
type Edit = wasmtime::Result<Result<(), EditError>>;

impl Guest {
    /// Edit the request, unless it has been sent.
    fn edit_request(&mut self, edit: impl FnOnce(&mut Exchange) -> Result<(), EditError>) -> Edit {
        self.meter.fence()?;
        if self.exchange.response.is_some() {
            return Ok(Err(EditError::TooLate));
        }
        Ok(edit(&mut self.exchange))
    }

    fn edit_response(&mut self, edit: impl FnOnce(&mut ResponseHead) -> Result<(), EditError>) -> Edit {
        self.meter.fence()?;
        Ok(edit(self.response()?))
    }

    /// Handles of the response are lent to the response hooks only, and those are called with one.
    fn response(&mut self) -> wasmtime::Result<&mut ResponseHead> {
        self.exchange.response.as_mut().ok_or_else(|| wasmtime::Error::msg("this exchange has no response"))
    }
}

fn first(fields: &HeaderMap, name: &str) -> Option<Vec<u8>> {
    fields.get(name).map(|value| value.as_bytes().to_vec())
}

fn all(fields: &HeaderMap) -> Vec<Field> {
    fields
        .iter()
        .map(|(name, value)| Field { name: name.as_str().to_owned(), value: value.as_bytes().to_vec() })
        .collect()
}

impl contract::Host for Guest {}

impl contract::HostRequest for Guest {
    fn id(&mut self, _: Resource<RequestHandle>) -> wasmtime::Result<String> {
        Ok(self.exchange.request.id.to_string())
    }

    fn method(&mut self, _: Resource<RequestHandle>) -> wasmtime::Result<String> {
        Ok(self.exchange.request.method.as_str().to_owned())
    }

    fn scheme(&mut self, _: Resource<RequestHandle>) -> wasmtime::Result<String> {
        Ok(self.exchange.request.scheme.as_str().to_owned())
    }

    fn authority(&mut self, _: Resource<RequestHandle>) -> wasmtime::Result<String> {
        Ok(self.exchange.request.authority.to_string())
    }

    fn path(&mut self, _: Resource<RequestHandle>) -> wasmtime::Result<String> {
        Ok(self.exchange.request.target.path().to_owned())
    }

    fn query(&mut self, _: Resource<RequestHandle>) -> wasmtime::Result<Option<String>> {
        Ok(self.exchange.request.target.query().map(str::to_owned))
    }

    fn client_address(&mut self, _: Resource<RequestHandle>) -> wasmtime::Result<String> {
        Ok(self.exchange.request.client.to_string())
    }

    fn version(&mut self, _: Resource<RequestHandle>) -> wasmtime::Result<contract::Version> {
        Ok(match self.exchange.request.version {
            Version::HTTP_2 => contract::Version::Http2,
            Version::HTTP_10 => contract::Version::Http10,
            _ => contract::Version::Http11,
        })
    }

    fn header(&mut self, _: Resource<RequestHandle>, name: String) -> wasmtime::Result<Option<Vec<u8>>> {
        Ok(first(&self.exchange.request.headers, &name))
    }

    fn headers(&mut self, _: Resource<RequestHandle>) -> wasmtime::Result<Vec<Field>> {
        Ok(all(&self.exchange.request.headers))
    }

    fn set_header(&mut self, _: Resource<RequestHandle>, name: String, value: Vec<u8>) -> Edit {
        self.edit_request(|exchange| fields::set(&mut exchange.request.headers, &name, value))
    }

    fn append_header(&mut self, _: Resource<RequestHandle>, name: String, value: Vec<u8>) -> Edit {
        self.edit_request(|exchange| fields::append(&mut exchange.request.headers, &name, value))
    }

    fn remove_header(&mut self, _: Resource<RequestHandle>, name: String) -> Edit {
        self.edit_request(|exchange| fields::remove(&mut exchange.request.headers, &name))
    }

    fn set_path(&mut self, _: Resource<RequestHandle>, path: String) -> Edit {
        self.edit_request(|exchange| {
            let target = fields::target(&path, exchange.request.target.query())?;
            exchange.request.target = target;
            Ok(())
        })
    }

    fn set_query(&mut self, _: Resource<RequestHandle>, query: Option<String>) -> Edit {
        self.edit_request(|exchange| {
            let target: PathAndQuery = fields::target(exchange.request.target.path(), query.as_deref())?;
            exchange.request.target = target;
            Ok(())
        })
    }

    fn set_upstream(&mut self, _: Resource<RequestHandle>, name: String) -> Edit {
        self.edit_request(|exchange| exchange.choose_upstream(&name))
    }

    fn set_note(&mut self, _: Resource<RequestHandle>, key: String, value: Vec<u8>) -> Edit {
        self.meter.fence()?;
        let plugin = Arc::clone(&self.plugin);
        Ok(self.exchange.set_note(&plugin, key, value))
    }

    fn note(&mut self, _: Resource<RequestHandle>, key: String) -> wasmtime::Result<Option<Vec<u8>>> {
        let plugin = Arc::clone(&self.plugin);
        Ok(self.exchange.note(&plugin, &key).map(<[u8]>::to_vec))
    }

    fn drop(&mut self, _: Resource<RequestHandle>) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl contract::HostResponse for Guest {
    fn status(&mut self, _: Resource<ResponseHandle>) -> wasmtime::Result<u16> {
        Ok(self.response()?.status.as_u16())
    }

    fn set_status(&mut self, _: Resource<ResponseHandle>, status: u16) -> Edit {
        self.edit_response(|response| fields::status(status).map(|status| response.status = status))
    }

    fn header(&mut self, _: Resource<ResponseHandle>, name: String) -> wasmtime::Result<Option<Vec<u8>>> {
        Ok(first(&self.response()?.headers, &name))
    }

    fn headers(&mut self, _: Resource<ResponseHandle>) -> wasmtime::Result<Vec<Field>> {
        Ok(all(&self.response()?.headers))
    }

    fn set_header(&mut self, _: Resource<ResponseHandle>, name: String, value: Vec<u8>) -> Edit {
        self.edit_response(|response| fields::set(&mut response.headers, &name, value))
    }

    fn append_header(&mut self, _: Resource<ResponseHandle>, name: String, value: Vec<u8>) -> Edit {
        self.edit_response(|response| fields::append(&mut response.headers, &name, value))
    }

    fn remove_header(&mut self, _: Resource<ResponseHandle>, name: String) -> Edit {
        self.edit_response(|response| fields::remove(&mut response.headers, &name))
    }

    fn drop(&mut self, _: Resource<ResponseHandle>) -> wasmtime::Result<()> {
        Ok(())
    }
}
