//! Which header fields a plugin may write, and how much of them.
//!
//! What passes here can be sent: the syntax is that of RFC 9110, section 5, and the fields that belong to the
//! connection or the framing stay with the host, so no plugin can break a message or smuggle another into it.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{StatusCode, Uri};

use crate::bindings::http::EditError;

/// Fields in one message, those from the wire included.
pub(crate) const MAX_FIELDS: usize = 256;

/// Bytes of one field value.
pub(crate) const MAX_VALUE: usize = 16 << 10;

/// Bytes of one field name.
pub(crate) const MAX_NAME: usize = 256;

/// Bytes of a path or a query.
pub(crate) const MAX_TARGET: usize = 16 << 10;

/// A field name that a plugin may write.
pub(crate) fn name(name: &str) -> Result<HeaderName, EditError> {
    if name.len() > MAX_NAME {
        return Err(EditError::TooLarge);
    }
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| EditError::InvalidSyntax)?;
    if is_the_hosts(&name) { Err(EditError::Forbidden) } else { Ok(name) }
}

/// A field value. `http` refuses CR, LF, NUL and the other controls but tab.
pub(crate) fn value(value: Vec<u8>) -> Result<HeaderValue, EditError> {
    if value.len() > MAX_VALUE {
        return Err(EditError::TooLarge);
    }
    HeaderValue::from_maybe_shared(bytes::Bytes::from(value)).map_err(|_| EditError::InvalidSyntax)
}

/// Fields of the connection (RFC 9110, section 7.6.1), of the framing, and the one that names the target.
fn is_the_hosts(name: &HeaderName) -> bool {
    match *name {
        header::CONNECTION
        | header::CONTENT_LENGTH
        | header::HOST
        | header::TE
        | header::TRAILER
        | header::TRANSFER_ENCODING
        | header::UPGRADE => true,
        _ => matches!(name.as_str(), "keep-alive" | "proxy-connection"),
    }
}

/// Replace every value of a field.
pub(crate) fn set(fields: &mut HeaderMap, field: &str, new: Vec<u8>) -> Result<(), EditError> {
    let field = name(field)?;
    let new = value(new)?;
    if fields.len() >= MAX_FIELDS && !fields.contains_key(&field) {
        return Err(EditError::TooLarge);
    }
    fields.try_insert(field, new).map_err(|_| EditError::TooLarge)?;
    Ok(())
}

/// Add a value.
pub(crate) fn append(fields: &mut HeaderMap, field: &str, new: Vec<u8>) -> Result<(), EditError> {
    let field = name(field)?;
    let new = value(new)?;
    if fields.len() >= MAX_FIELDS {
        return Err(EditError::TooLarge);
    }
    fields.try_append(field, new).map_err(|_| EditError::TooLarge)?;
    Ok(())
}

/// Remove every value.
pub(crate) fn remove(fields: &mut HeaderMap, field: &str) -> Result<(), EditError> {
    fields.remove(name(field)?);
    Ok(())
}

/// A status a plugin may answer with: informational ones are the host's.
pub(crate) fn status(status: u16) -> Result<StatusCode, EditError> {
    match StatusCode::from_u16(status) {
        Ok(status) if status.as_u16() >= 200 => Ok(status),
        _ => Err(EditError::InvalidSyntax),
    }
}

/// Path and query of a request, from parts.
pub(crate) fn target(path: &str, query: Option<&str>) -> Result<http::uri::PathAndQuery, EditError> {
    let length = path.len() + query.map_or(0, str::len);
    if length > MAX_TARGET {
        return Err(EditError::TooLarge);
    }
    // `?` would begin a query and `#` a fragment, which is never sent.
    if !path.starts_with('/') || path.contains(['?', '#']) || query.is_some_and(|query| query.contains('#')) {
        return Err(EditError::InvalidSyntax);
    }
    let target = match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    // Checked as a whole URI would be: what `http` lets through here, the client sends as it is.
    let uri = Uri::try_from(target).map_err(|_| EditError::InvalidSyntax)?;
    uri.path_and_query().cloned().ok_or(EditError::InvalidSyntax)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_hosts_fields_are_refused_in_any_case() {
        for field in [
            "connection",
            "Content-Length",
            "HOST",
            "keep-alive",
            "Proxy-Connection",
            "te",
            "Trailer",
            "Transfer-Encoding",
            "upgrade",
        ] {
            assert_eq!(name(field), Err(EditError::Forbidden), "{field}");
        }
    }

    #[test]
    fn a_line_break_is_refused_in_names_values_and_targets() {
        assert_eq!(name("x\r\ny"), Err(EditError::InvalidSyntax));
        assert_eq!(value(b"a\r\nset-cookie: b".to_vec()), Err(EditError::InvalidSyntax));
        assert_eq!(value(b"a\0b".to_vec()), Err(EditError::InvalidSyntax));
        assert_eq!(target("/a\r\nb", None), Err(EditError::InvalidSyntax));
        assert_eq!(target("/a b", None), Err(EditError::InvalidSyntax));
        assert_eq!(target("/a", Some("q HTTP/1.1\r\n")), Err(EditError::InvalidSyntax));
    }

    #[test]
    fn a_path_cannot_carry_a_query_or_an_authority() {
        assert_eq!(target("/a?b", None), Err(EditError::InvalidSyntax));
        assert_eq!(target("a", None), Err(EditError::InvalidSyntax));
        assert_eq!(target("http://evil/", None), Err(EditError::InvalidSyntax));
        assert_eq!(target("//evil/x", None).expect("a path may begin with two slashes").as_str(), "//evil/x");
    }

    #[test]
    fn a_message_never_has_more_fields_than_the_cap() {
        let mut fields = HeaderMap::new();
        let refused = (0..40_000).filter(|n| append(&mut fields, &format!("x-{n}"), vec![b'v']).is_err()).count();
        assert_eq!((fields.len(), refused), (MAX_FIELDS, 40_000 - MAX_FIELDS));
        assert_eq!(set(&mut fields, "x-0", vec![]), Ok(()));
        assert_eq!(set(&mut fields, "x-new", vec![]), Err(EditError::TooLarge));
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_has_no_line_break(raw_name in ".{0,300}", raw_value in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut fields = HeaderMap::new();
            if append(&mut fields, &raw_name, raw_value).is_ok() {
                for (name, value) in &fields {
                    prop_assert!(!is_the_hosts(name));
                    prop_assert!(name.as_str().bytes().all(|byte| byte.is_ascii_graphic()));
                    prop_assert!(value.as_bytes().iter().all(|byte| !matches!(byte, b'\r' | b'\n' | 0)));
                }
            }
        }

        #[test]
        fn an_accepted_target_is_one_token_of_the_request_line(path in ".{0,64}", query in proptest::option::of(".{0,64}")) {
            if let Ok(target) = target(&path, query.as_deref()) {
                prop_assert!(target.as_str().starts_with('/'));
                prop_assert!(target.as_str().bytes().all(|byte| byte > b' ' && byte != 0x7f));
            }
        }
    }
}
