//! What a request must be before anything else looks at it: rules of HTTP that hyper leaves to its user.
//!
//! hyper itself refuses malformed heads, conflicting or invalid `content-length`, and a `transfer-encoding` that does
//! not end in `chunked`. Where `content-length` stands beside `transfer-encoding` it drops the length, reads the chunks,
//! and closes the connection afterwards (RFC 9112, section 6.1); the request is framed anew for the upstream, so no
//! request can be smuggled in that way.

use http::header::{HOST, MAX_FORWARDS};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Version};

use super::reply::Refusal;

/// How long a request's head may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeadLimits {
    /// Fields.
    pub(super) fields: usize,
    /// Bytes, as HTTP/1 would write it.
    pub(super) bytes: usize,
}

/// Put the request into the form the rest relies on: at most one `host` field, which agrees with the target; a path
/// that begins with `/` (or is `*`); the target without scheme and host. Returns that target.
pub(super) fn admit(head: &mut http::request::Parts, limits: HeadLimits) -> Result<PathAndQuery, Refusal> {
    if head.method == Method::CONNECT || head.method == Method::TRACE {
        // Neither is of use behind a gateway; TRACE would echo credentials.
        return Err(Refusal::Method);
    }
    if head.headers.len() > limits.fields || length(head) > limits.bytes {
        return Err(Refusal::HeadTooLarge);
    }
    settle_host(head)?;
    let Some(target) = head.uri.path_and_query().cloned() else {
        return Err(Refusal::Malformed("The request target has no path."));
    };
    match target.path() {
        "*" if head.method == Method::OPTIONS => {}
        path if path.starts_with('/') => {}
        _ => return Err(Refusal::Malformed("The request target is not a path.")),
    }
    Ok(target)
}

/// Bytes of the head, near enough: what is in it, and the separators between.
fn length(head: &http::request::Parts) -> usize {
    let target = head.uri.path_and_query().map_or(0, |target| target.as_str().len());
    let line = head.method.as_str().len() + target + "  HTTP/1.1\r\n\r\n".len();
    head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len()).sum::<usize>() + line
}

/// RFC 9112, section 3.2, and RFC 9113, section 8.3.1: one host, and the same one everywhere.
fn settle_host(head: &mut http::request::Parts) -> Result<(), Refusal> {
    let mut fields = head.headers.get_all(HOST).iter();
    let (field, second) = (fields.next(), fields.next());
    if second.is_some() {
        return Err(Refusal::Malformed("The request has more than one Host field."));
    }
    if field.is_some_and(|field| !is_authority(field.as_bytes())) {
        return Err(Refusal::Malformed("The Host field is not a host."));
    }
    match (field, head.uri.authority()) {
        (Some(_), None) => Ok(()),
        (None, None) if head.version == Version::HTTP_10 => Ok(()),
        (None, authority) if head.version == Version::HTTP_11 || authority.is_none() => {
            Err(Refusal::Malformed("The request has no Host field."))
        }
        (_, Some(authority)) if !is_authority(authority.as_str().as_bytes()) => {
            Err(Refusal::Malformed("The request target's host is not a host."))
        }
        (Some(field), Some(authority)) => {
            if same_host(field.as_bytes(), authority.as_str().as_bytes()) {
                Ok(())
            } else {
                Err(Refusal::Malformed("The Host field and the request target name different hosts."))
            }
        }
        (None, Some(authority)) => {
            let host = HeaderValue::from_str(authority.as_str())
                .map_err(|_| Refusal::Malformed("The request target's host is not a host."))?;
            head.headers.insert(HOST, host);
            Ok(())
        }
        // Covered above; the compiler cannot know.
        (None, None) => Err(Refusal::Malformed("The request has no Host field.")),
    }
}

/// Host and port without user information (RFC 3986, section 3.2). Empty is allowed: there are targets without a host.
fn is_authority(value: &[u8]) -> bool {
    value.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%:[]".contains(byte))
}

fn same_host(one: &[u8], other: &[u8]) -> bool {
    let bare = |host: &[u8]| host.strip_suffix(b":80").map_or_else(|| host.to_vec(), <[u8]>::to_vec);
    one.eq_ignore_ascii_case(other) || bare(one).eq_ignore_ascii_case(&bare(other))
}

/// The host of an authority, without its port.
pub(super) fn without_port(authority: &str) -> &str {
    if authority.starts_with('[') {
        return authority.find(']').and_then(|end| authority.get(..=end)).unwrap_or(authority);
    }
    authority.split_once(':').map_or(authority, |(host, _port)| host)
}

/// Count down `Max-Forwards` of an OPTIONS request (RFC 9110, section 7.6.2). True if the gateway is its last stop and
/// has to answer itself.
pub(super) fn is_last_stop(head: &mut http::request::Parts) -> bool {
    if head.method != Method::OPTIONS {
        return false;
    }
    let left =
        head.headers.get(MAX_FORWARDS).and_then(|value| value.to_str().ok()).and_then(|left| left.parse::<u32>().ok());
    match left {
        None => false,
        Some(0) => true,
        Some(left) => {
            head.headers.insert(MAX_FORWARDS, HeaderValue::from(left - 1));
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    const LIMITS: HeadLimits = HeadLimits { fields: 100, bytes: 4096 };

    fn head(version: Version, method: Method, uri: &str, hosts: &[&str]) -> http::request::Parts {
        let mut request = Request::builder().version(version).method(method).uri(uri);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        request.body(()).expect("a valid request").into_parts().0
    }

    fn admitted(version: Version, uri: &str, hosts: &[&str]) -> Result<String, String> {
        let mut head = head(version, Method::GET, uri, hosts);
        match admit(&mut head, LIMITS) {
            Ok(target) => Ok(format!(
                "{} {}",
                head.headers.get(HOST).map_or("-", |host| host.to_str().expect("ASCII")),
                target.as_str()
            )),
            Err(refusal) => Err(refusal.to_string()),
        }
    }

    #[test]
    fn http_1_1_needs_exactly_one_host() {
        assert_eq!(admitted(Version::HTTP_11, "/x?y", &["a.example:8080"]), Ok("a.example:8080 /x?y".into()));
        assert!(admitted(Version::HTTP_11, "/", &[]).is_err());
        assert!(admitted(Version::HTTP_11, "http://a.example/", &[]).is_err());
        assert!(admitted(Version::HTTP_11, "/", &["a", "a"]).is_err());
        assert!(admitted(Version::HTTP_10, "/", &["a", "b"]).is_err());
        assert_eq!(admitted(Version::HTTP_10, "/", &[]), Ok("- /".into()));
        assert_eq!(admitted(Version::HTTP_11, "/", &[""]), Ok(" /".into()));
    }

    #[test]
    fn a_host_that_is_none_is_refused() {
        for host in ["a/b", "user@a", "a b", "a?b", "a#b", "a\\b", "a\"b"] {
            assert!(admitted(Version::HTTP_11, "/", &[host]).is_err(), "{host}");
        }
        assert!(admitted(Version::HTTP_2, "http://user@a.example/", &[]).is_err());
    }

    #[test]
    fn the_target_and_the_host_field_must_agree() {
        assert_eq!(admitted(Version::HTTP_11, "http://A.example/x", &["a.example:80"]), Ok("a.example:80 /x".into()));
        assert!(admitted(Version::HTTP_11, "http://a.example/x", &["b.example"]).is_err());
        assert!(admitted(Version::HTTP_11, "http://a.example:81/x", &["a.example"]).is_err());
        assert!(admitted(Version::HTTP_2, "http://a.example/x", &["b.example"]).is_err());
        assert_eq!(admitted(Version::HTTP_2, "http://a.example/x", &[]), Ok("a.example /x".into()));
        assert!(admitted(Version::HTTP_2, "/x", &[]).is_err());
    }

    #[test]
    fn the_target_must_be_a_path() {
        assert!(admitted(Version::HTTP_11, "a.example:80", &["a.example:80"]).is_err());
        assert!(admitted(Version::HTTP_11, "*", &["a.example"]).is_err());
        let mut options = head(Version::HTTP_11, Method::OPTIONS, "*", &["a.example"]);
        assert!(admit(&mut options, LIMITS).is_ok());
    }

    #[test]
    fn connect_and_trace_are_not_supported() {
        for method in [Method::CONNECT, Method::TRACE] {
            let mut head = head(Version::HTTP_11, method, "/", &["a.example"]);
            assert!(matches!(admit(&mut head, LIMITS), Err(Refusal::Method)));
        }
    }

    #[test]
    fn a_head_over_the_limits_is_refused() {
        let mut head = head(Version::HTTP_2, Method::GET, "http://a.example/", &[]);
        for _ in 0..11 {
            head.headers.append("x", HeaderValue::from_static("1"));
        }
        let few = HeadLimits { fields: 10, ..LIMITS };
        assert!(matches!(admit(&mut head, few), Err(Refusal::HeadTooLarge)));
        let short = HeadLimits { bytes: 60, ..LIMITS };
        assert!(matches!(admit(&mut head, short), Err(Refusal::HeadTooLarge)));
        assert!(admit(&mut head, LIMITS).is_ok());
    }

    #[test]
    fn max_forwards_counts_down_to_this_gateway() {
        let mut head = head(Version::HTTP_11, Method::OPTIONS, "/", &["a"]);
        head.headers.insert(MAX_FORWARDS, HeaderValue::from_static("1"));
        assert!(!is_last_stop(&mut head));
        assert_eq!(head.headers.get(MAX_FORWARDS), Some(&HeaderValue::from_static("0")));
        assert!(is_last_stop(&mut head));
    }

    #[test]
    fn the_port_is_cut_off() {
        assert_eq!(without_port("a.example:80"), "a.example");
        assert_eq!(without_port("a.example"), "a.example");
        assert_eq!(without_port("[::1]:80"), "[::1]");
        assert_eq!(without_port("[::1]"), "[::1]");
        assert_eq!(without_port(""), "");
    }
}
