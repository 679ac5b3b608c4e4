//! What hyper's errors are to a plugin.

use std::error::Error as _;

use tidegate_runtime::outbound::OutboundError;

/// What came to nothing before the head of an answer was there, of which `most` bytes are read.
pub(crate) fn of_head(error: &hyper::Error, most: usize) -> OutboundError {
    match own(error) {
        Some(own) => own,
        None if error.is_parse_too_large() => head_too_large(most),
        None if error.is_parse() => OutboundError::Protocol(error.to_string()),
        None if error.is_body_write_aborted() => OutboundError::RequestIncomplete,
        None => OutboundError::ConnectionTerminated,
    }
}

/// The head has more than `most` bytes.
pub(crate) fn head_too_large(most: usize) -> OutboundError {
    OutboundError::ResponseHead(u32::try_from(most).unwrap_or(u32::MAX))
}

/// What came to nothing in the middle of a body.
pub(crate) fn of_body(error: &hyper::Error) -> OutboundError {
    match own(error) {
        Some(own) => own,
        None if error.is_parse() => OutboundError::Protocol(error.to_string()),
        None => OutboundError::ResponseIncomplete,
    }
}

/// The error of a request's body, which hyper hands through.
fn own(error: &hyper::Error) -> Option<OutboundError> {
    error.source().and_then(|source| source.downcast_ref::<OutboundError>()).cloned()
}
