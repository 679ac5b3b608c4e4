//! One request and what becomes of it, in the terms of `wasi:http`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingBody, IncomingResponse, Method, OutgoingBody, OutgoingRequest,
    RequestOptions, Scheme, http_error_code,
};
use wasip2::io::streams::{InputStream, OutputStream, StreamError};

/// Bytes of an answer that are repeated.
const SHOWN: usize = 4096;

/// A request. Everything but the URL has a default.
#[derive(Deserialize, Default, Clone)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Call {
    url: String,
    method: Option<String>,
    headers: BTreeMap<String, String>,
    /// Bytes of one more field.
    field: Option<usize>,
    /// Bytes of the body.
    body: Option<usize>,
    /// Bytes of the answer after which it is let go.
    read: Option<usize>,
    connect_ms: Option<u64>,
    first_byte_ms: Option<u64>,
    between_bytes_ms: Option<u64>,
}

/// What became of a request.
#[derive(Serialize, Default)]
pub(crate) struct Became {
    status: Option<u16>,
    headers: BTreeMap<String, String>,
    /// Bytes of the answer that came.
    bytes: usize,
    /// The first of them.
    text: String,
    /// The name of the error code of `wasi:http`, with its values.
    pub(crate) error: Option<String>,
}

/// A request under way.
pub(crate) enum Pending {
    Head(FutureIncomingResponse),
    Body(IncomingResponse),
    Over(Became),
}

impl Became {
    fn error(error: impl std::fmt::Debug) -> Self {
        Self { error: Some(format!("{error:?}")), ..Self::default() }
    }
}

impl Call {
    pub(crate) fn make(&self) -> Became {
        self.begin().finish(self)
    }

    pub(crate) fn begin(&self) -> Pending {
        match self.send() {
            Ok(response) => Pending::Head(response),
            Err(became) => Pending::Over(became),
        }
    }

    fn send(&self) -> Result<FutureIncomingResponse, Became> {
        let refused = |what: &str| Became::error(format!("refused: {what}"));
        let fields = Fields::new();
        for (name, value) in &self.headers {
            fields.append(name, value.as_bytes()).map_err(Became::error)?;
        }
        if let Some(bytes) = self.field {
            fields.append("x-long", &vec![b'x'; bytes]).map_err(Became::error)?;
        }
        let request = OutgoingRequest::new(fields);
        let (scheme, rest) = self.url.split_once("://").ok_or_else(|| refused("no scheme"))?;
        let scheme = match scheme {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            other => Scheme::Other(other.to_owned()),
        };
        let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        request.set_scheme(Some(&scheme)).map_err(|()| refused("scheme"))?;
        request.set_authority(Some(authority)).map_err(|()| refused("authority"))?;
        request.set_path_with_query(Some(path)).map_err(|()| refused("path"))?;
        let method = match self.method.as_deref() {
            None => Method::Get,
            Some(other) => Method::Other(other.to_owned()),
        };
        request.set_method(&method).map_err(|()| refused("method"))?;
        let options = RequestOptions::new();
        let nanos = |ms: Option<u64>| ms.map(|ms| ms * 1_000_000);
        options.set_connect_timeout(nanos(self.connect_ms)).map_err(|()| refused("option"))?;
        options.set_first_byte_timeout(nanos(self.first_byte_ms)).map_err(|()| refused("option"))?;
        options.set_between_bytes_timeout(nanos(self.between_bytes_ms)).map_err(|()| refused("option"))?;
        let Some(bytes) = self.body else { return handle(request, Some(options)).map_err(Became::error) };
        let body = request.body().map_err(|()| refused("body"))?;
        let response = handle(request, Some(options)).map_err(Became::error)?;
        let stream = body.write().map_err(|()| refused("stream"))?;
        let written = write(&stream, bytes);
        drop(stream);
        if written.is_ok() {
            OutgoingBody::finish(body, None).map_err(Became::error)?;
        }
        // If it could not be written, the answer says why.
        Ok(response)
    }
}

fn write(stream: &OutputStream, mut bytes: usize) -> Result<(), StreamError> {
    while bytes > 0 {
        let some = bytes.min(4096);
        stream.blocking_write_and_flush(&vec![b'x'; some])?;
        bytes -= some;
    }
    Ok(())
}

impl Pending {
    /// Wait for the head of the answer.
    pub(crate) fn head(self) -> Self {
        let Self::Head(response) = self else { return self };
        response.subscribe().block();
        match response.get() {
            Some(Ok(Ok(response))) => Self::Body(response),
            Some(Ok(Err(error))) => Self::Over(Became::error(error)),
            Some(Err(())) => Self::Over(Became::error("taken before")),
            None => Self::Over(Became::error("not ready")),
        }
    }

    /// Read the answer.
    pub(crate) fn finish(self, call: &Call) -> Became {
        match self.head() {
            Self::Body(response) => read(&response, call.read),
            Self::Over(became) => became,
            Self::Head(_) => Became::error("not ready"),
        }
    }
}

fn read(response: &IncomingResponse, most: Option<usize>) -> Became {
    let entries = response.headers().entries();
    let headers = entries.into_iter().map(|(name, value)| (name, String::from_utf8_lossy(&value).into_owned()));
    let mut became = Became { status: Some(response.status()), headers: headers.collect(), ..Became::default() };
    let Ok(body) = response.consume() else {
        became.error = Some("the body was taken before".to_owned());
        return became;
    };
    became.error = read_body(&body, most, &mut became).err();
    became
}

fn read_body(body: &IncomingBody, most: Option<usize>, became: &mut Became) -> Result<(), String> {
    let stream: InputStream = body.stream().map_err(|()| "the stream was taken before".to_owned())?;
    while most.is_none_or(|most| became.bytes < most) {
        match stream.blocking_read(64 << 10) {
            Ok(bytes) => {
                let shown = bytes.get(..SHOWN.saturating_sub(became.bytes)).unwrap_or(&bytes);
                became.text.push_str(&String::from_utf8_lossy(shown));
                became.bytes += bytes.len();
            }
            Err(StreamError::Closed) => return Ok(()),
            Err(StreamError::LastOperationFailed(error)) => {
                let code: Option<ErrorCode> = http_error_code(&error);
                return Err(code.map_or_else(|| error.to_debug_string(), |code| format!("{code:?}")));
            }
        }
    }
    Ok(())
}
