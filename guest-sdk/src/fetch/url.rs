//! The parts of a URL that a request needs, and the encoding of forms.

use super::FetchError;

/// An absolute URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) is_https: bool,
    /// Host and, if given, port.
    pub(crate) authority: String,
    /// From the first `/` on, without a fragment.
    pub(crate) path_with_query: String,
}

impl Url {
    pub(crate) fn parse(text: &str) -> Result<Self, FetchError> {
        let invalid = |what: &str| FetchError::InvalidUrl(what.to_owned());
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(invalid("it has spaces, or characters that have to be percent-encoded"));
        }
        let (scheme, rest) = text.split_once("://").ok_or_else(|| invalid("it does not begin with https://"))?;
        let is_https = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(invalid("its scheme is neither https nor http")),
        };
        let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.is_empty() {
            return Err(invalid("it has no host"));
        }
        if authority.contains('@') {
            return Err(invalid("it has a user; credentials belong into a header field"));
        }
        let path_with_query = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { is_https, authority: authority.to_owned(), path_with_query })
    }
}

/// A value as it stands in a form (`application/x-www-form-urlencoded`). [`form`](super::Request::form) does that for its
/// fields; this is for the id and the secret of an OAuth client, before they become `Authorization: Basic` (RFC 6749, section 2.3.1).
///
/// ```
/// assert_eq!(tidegate_sdk::fetch::form_value("s3cr:t +1"), "s3cr%3At+%2B1");
/// ```
#[must_use]
pub fn form_value(text: &str) -> String {
    let mut encoded = String::new();
    encode(text, &mut encoded);
    encoded
}

/// `application/x-www-form-urlencoded`.
pub(super) fn form(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut text = String::new();
    for (name, value) in fields {
        if !text.is_empty() {
            text.push('&');
        }
        encode(name, &mut text);
        text.push('=');
        encode(value, &mut text);
    }
    text.into_bytes()
}

fn encode(part: &str, text: &mut String) {
    for byte in part.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'*' | b'-' | b'.' | b'_' => text.push(byte.into()),
            b' ' => text.push('+'),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_a_scheme_a_host_and_a_path() {
        let check = |text: &str, is_https, authority: &str, path: &str| {
            let (authority, path_with_query) = (authority.to_owned(), path.to_owned());
            assert_eq!(Url::parse(text), Ok(Url { is_https, authority, path_with_query }), "{text}");
        };
        check("https://a.example", true, "a.example", "/");
        check("HTTP://a.example:81/b/c?d=e#f", false, "a.example:81", "/b/c?d=e");
        check("https://[2001:db8::1]:8443?q", true, "[2001:db8::1]:8443", "/?q");
        for bad in ["", "/path", "a.example", "ftp://a", "https://", "https:///x", "https://u:p@a/", "https://a/b c"] {
            assert!(matches!(Url::parse(bad), Err(FetchError::InvalidUrl(_))), "{bad}");
        }
    }

    #[test]
    fn a_form_is_encoded() {
        assert_eq!(form(&[("token", "a+b/c="), ("hint", "ü x")]), b"token=a%2Bb%2Fc%3D&hint=%C3%BC+x");
    }
}
