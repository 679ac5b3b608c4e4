//! Clients of a gateway: one for ordinary requests, one that says what it is told byte by byte, and a crowd that
//! never stops asking.

mod raw;
mod steady;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, Scheme};
use http::{HeaderMap, Request, Uri};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client as Pooled;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use crate::origin::MAX_FIELDS;

pub use self::raw::{RawClient, RawReply};
pub use self::steady::{Crowd, LINGER, Moment, Tally, steady_load};

/// No answer takes longer, on however busy a machine.
const HANGS: Duration = Duration::from_secs(60);

/// A client with a pool of connections.
#[derive(Clone, Debug)]
pub struct Client {
    pool: Pooled<HttpConnector, Full<Bytes>>,
    address: SocketAddr,
}

impl Client {
    /// HTTP/1.1.
    #[must_use]
    pub fn http1(address: SocketAddr) -> Self {
        Self { pool: Pooled::builder(TokioExecutor::new()).http1_max_headers(MAX_FIELDS).build_http(), address }
    }

    /// HTTP/2 in cleartext, by prior knowledge.
    #[must_use]
    pub fn http2(address: SocketAddr) -> Self {
        Self { pool: Pooled::builder(TokioExecutor::new()).http2_only(true).build_http(), address }
    }

    /// Send a request and take the whole answer. The URI needs only a path.
    ///
    /// # Errors
    /// When no whole answer comes, with the causes of that.
    pub async fn try_send(&self, request: Request<impl Into<Bytes>>) -> Result<Answer, String> {
        let (mut head, body) = request.into_parts();
        let mut uri = head.uri.into_parts();
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = Authority::try_from(self.address.to_string()).ok();
        head.uri = Uri::from_parts(uri).map_err(|error| error.to_string())?;
        let exchange = async {
            let request = Request::from_parts(head, Full::new(body.into()));
            let (head, body) = self.pool.request(request).await.map_err(|error| causes(&error))?.into_parts();
            let body = body.collect().await.map_err(|error| causes(&error))?.to_bytes();
            Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
        };
        tokio::time::timeout(HANGS, exchange).await.unwrap_or_else(|_| Err("no answer in a minute".to_owned()))
    }

    /// Send a request that must be answered.
    ///
    /// # Panics
    /// If it is not.
    pub async fn send(&self, request: Request<impl Into<Bytes>>) -> Answer {
        let what = format!("{} {}", request.method(), request.uri());
        self.try_send(request).await.unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    /// GET a path that must be answered.
    ///
    /// # Panics
    /// If it is not.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(get(path, &[])).await
    }

    /// GET a path.
    ///
    /// # Errors
    /// As [`Client::try_send`].
    pub async fn try_get(&self, path: &str) -> Result<Answer, String> {
        self.try_send(get(path, &[])).await
    }
}

/// A GET with these fields.
///
/// # Panics
/// If they are malformed.
#[must_use]
pub fn get(path: &str, fields: &[(&str, &str)]) -> Request<Bytes> {
    let mut request = Request::get(path);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(Bytes::new()).unwrap_or_else(|error| panic!("{path} {fields:?}: {error}"))
}

/// A POST with these fields and this body.
///
/// # Panics
/// If the fields are malformed.
#[must_use]
pub fn post(path: &str, fields: &[(&str, &str)], body: impl Into<Bytes>) -> Request<Bytes> {
    let mut request = get(path, fields);
    *request.method_mut() = http::Method::POST;
    *request.body_mut() = body.into();
    request
}

/// What a client got.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The fields.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Answer {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON: what the origin says of the request it saw, or a problem document.
    ///
    /// # Panics
    /// If it is not JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.text()))
    }

    /// A field, or nothing.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// An error with what caused it.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
