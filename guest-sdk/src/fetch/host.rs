//! `wasi:http/outgoing-handler` of the host. The whole request has one time limit, whatever the host's own are.

use std::time::Duration;

use super::url::Url;
use super::{FetchError, Request, Response};
use crate::bindings::clients::wasi::clocks::monotonic_clock;
use crate::bindings::clients::wasi::http::outgoing_handler;
use crate::bindings::clients::wasi::http::types::{
    ErrorCode, Fields, IncomingResponse, Method, OutgoingBody, OutgoingRequest, RequestOptions, Scheme, http_error_code,
};
use crate::bindings::clients::wasi::io::poll::{Pollable, poll};
use crate::bindings::clients::wasi::io::streams::{InputStream, OutputStream, StreamError};
use crate::clock;

/// Bytes read at a time.
const CHUNK: u64 = 64 << 10;

/// When it has to be done.
struct Limit(Duration);

impl Limit {
    fn left(&self) -> Result<Duration, FetchError> {
        let left = self.0.saturating_sub(clock::now());
        if left.is_zero() { Err(FetchError::Timeout) } else { Ok(left) }
    }

    /// Wait until it is ready.
    fn wait(&self, pollable: &Pollable) -> Result<(), FetchError> {
        let left = self.left()?;
        if pollable.ready() {
            return Ok(());
        }
        let alarm = monotonic_clock::subscribe_duration(nanos(left));
        poll(&[pollable, &alarm]);
        if pollable.ready() { Ok(()) } else { Err(FetchError::Timeout) }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

pub(super) fn send(request: Request, url: &Url, time: Duration) -> Result<Response, FetchError> {
    let limit = Limit(clock::now().saturating_add(time));
    let Request { method, headers, body, max_body, .. } = request;
    let headers = Fields::from_list(&headers).map_err(|_| FetchError::InvalidRequest)?;
    let outgoing = OutgoingRequest::new(headers);
    let scheme = if url.is_https { Scheme::Https } else { Scheme::Http };
    let set = outgoing
        .set_method(&as_method(method))
        .and_then(|()| outgoing.set_scheme(Some(&scheme)))
        .and_then(|()| outgoing.set_authority(Some(&url.authority)))
        .and_then(|()| outgoing.set_path_with_query(Some(&url.path_with_query)));
    let out = set.and_then(|()| outgoing.body()).map_err(|()| FetchError::InvalidRequest)?;

    let options = RequestOptions::new();
    // A host that does not know one of them says so; the limit holds anyway.
    let _ = options.set_connect_timeout(Some(nanos(time)));
    let _ = options.set_first_byte_timeout(Some(nanos(time)));
    let _ = options.set_between_bytes_timeout(Some(nanos(time)));
    let answer = outgoing_handler::handle(outgoing, Some(options)).map_err(failed)?;
    // A server may answer before it has read everything: then its answer is what counts.
    let written = write(out, &body, &limit);

    let response = loop {
        match answer.get() {
            Some(Ok(response)) => break response.map_err(failed)?,
            Some(Err(())) => return Err(FetchError::Broken("the host gave its answer twice".to_owned())),
            None => {
                if let Err(FetchError::Timeout) = written {
                    return Err(FetchError::Timeout);
                }
                limit.wait(&answer.subscribe())?;
            }
        }
    };
    read(&response, max_body, &limit)
}

fn write(out: OutgoingBody, body: &[u8], limit: &Limit) -> Result<(), FetchError> {
    if !body.is_empty() {
        let stream = out.write().map_err(|()| FetchError::InvalidRequest)?;
        write_all(&stream, body, limit)?;
    }
    OutgoingBody::finish(out, None).map_err(failed)
}

fn write_all(stream: &OutputStream, mut body: &[u8], limit: &Limit) -> Result<(), FetchError> {
    while !body.is_empty() {
        let room = stream.check_write().map_err(broken)?;
        if room == 0 {
            limit.wait(&stream.subscribe())?;
            continue;
        }
        let (piece, rest) = body.split_at(body.len().min(usize::try_from(room).unwrap_or(usize::MAX)));
        stream.write(piece).map_err(broken)?;
        body = rest;
    }
    stream.flush().map_err(broken)?;
    while stream.check_write().map_err(broken)? == 0 {
        limit.wait(&stream.subscribe())?;
    }
    Ok(())
}

fn read(response: &IncomingResponse, max_body: usize, limit: &Limit) -> Result<Response, FetchError> {
    let (status, headers) = (response.status(), response.headers().entries());
    let incoming = response.consume().map_err(|()| FetchError::Broken("the response has no body".to_owned()))?;
    let stream = incoming.stream().map_err(|()| FetchError::Broken("the response has no body".to_owned()))?;
    let body = read_all(&stream, max_body, limit)?;
    // A stream is a child of its body.
    drop(stream);
    drop(incoming);
    Ok(Response { status, headers, body })
}

fn read_all(stream: &InputStream, max_body: usize, limit: &Limit) -> Result<Vec<u8>, FetchError> {
    let mut body = Vec::new();
    loop {
        match stream.read(CHUNK) {
            Ok(piece) if piece.is_empty() => limit.wait(&stream.subscribe())?,
            Ok(piece) if body.len() + piece.len() > max_body => return Err(FetchError::BodyTooLarge(max_body)),
            Ok(piece) => {
                body.extend_from_slice(&piece);
                // One byte at a time is also a way not to answer.
                limit.left()?;
            }
            Err(StreamError::Closed) => return Ok(body),
            Err(error) => return Err(broken(error)),
        }
    }
}

fn as_method(method: String) -> Method {
    match method.as_str() {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        "PATCH" => Method::Patch,
        _ => Method::Other(method),
    }
}

fn broken(error: StreamError) -> FetchError {
    match error {
        StreamError::Closed => FetchError::Broken("the connection was closed".to_owned()),
        StreamError::LastOperationFailed(error) => match http_error_code(&error) {
            Some(code) => failed(code),
            None => FetchError::Broken(error.to_debug_string()),
        },
    }
}

fn failed(code: ErrorCode) -> FetchError {
    match code {
        ErrorCode::HttpRequestDenied | ErrorCode::DestinationIpProhibited => FetchError::Denied,
        ErrorCode::DnsTimeout
        | ErrorCode::ConnectionTimeout
        | ErrorCode::ConnectionReadTimeout
        | ErrorCode::ConnectionWriteTimeout
        | ErrorCode::HttpResponseTimeout => FetchError::Timeout,
        ErrorCode::ConnectionLimitReached => FetchError::TooManyRequests,
        ErrorCode::DnsError(_)
        | ErrorCode::DestinationNotFound
        | ErrorCode::DestinationUnavailable
        | ErrorCode::DestinationIpUnroutable
        | ErrorCode::ConnectionRefused => FetchError::Unreachable(code.to_string()),
        ErrorCode::HttpRequestMethodInvalid | ErrorCode::HttpRequestUriInvalid => FetchError::InvalidRequest,
        ErrorCode::InternalError(Some(why)) => FetchError::Broken(why),
        code => FetchError::Broken(code.to_string()),
    }
}
