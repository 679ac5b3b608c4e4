//! A request made with a library that knows nothing of Tidegate.

use tidegate_sdk::prelude::*;
// ANCHOR: wasi-http
use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{ErrorCode, Fields, OutgoingRequest, Scheme};

/// Asks another service whether a key is good.
fn is_good(key: &str) -> Result<bool, ErrorCode> {
    let request = OutgoingRequest::new(Fields::new());
    let bad = |()| ErrorCode::HttpRequestUriInvalid;
    request.set_scheme(Some(&Scheme::Https)).map_err(bad)?;
    request.set_authority(Some("auth.example.com")).map_err(bad)?;
    request.set_path_with_query(Some(&format!("/keys/{key}"))).map_err(bad)?;
    let answer = handle(request, None)?;
    answer.subscribe().block();
    match answer.get() {
        Some(Ok(answer)) => Ok(answer?.status() == 200),
        _ => Err(ErrorCode::InternalError(None)),
    }
}
// ANCHOR_END: wasi-http

#[derive(Default)]
struct KeyCheck;

#[tidegate_sdk::plugin]
impl Plugin for KeyCheck {
    fn on_request(&mut self, request: &mut Request) -> Result<Verdict> {
        let key = request.header("x-api-key").unwrap_or_default();
        let is_clean = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric());
        match is_clean && is_good(&key).map_err(|error| format!("the key cannot be checked: {error}"))? {
            true => Ok(Verdict::Forward),
            false => Ok(Verdict::Respond(Reply::new(401))),
        }
    }
}
