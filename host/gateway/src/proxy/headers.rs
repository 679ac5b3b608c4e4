//! Fields that must not pass a gateway, and fields it adds (RFC 9110, section 7.6).
//!
//! Upgrades (WebSocket among them) are not supported: `upgrade` is dropped like every other field of the connection,
//! so the upstream answers as if the client had not asked.

use http::header::{
    ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, DATE,
    EXPECT, Entry, FORWARDED, HOST, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::{HeaderMap, HeaderName, HeaderValue, Version};
use smallvec::SmallVec;

/// The id of an exchange, to the upstream and back to the client.
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Fields of the connection, whether `Connection` names them or not (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [HeaderName; 7] =
    [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, TE, TRANSFER_ENCODING, UPGRADE, HTTP2_SETTINGS];

/// Fields for every recipient, which `Connection` must not name (RFC 9110, section 7.6.1). If it does, they stay:
/// otherwise a client could take away what a proxy before this one has added, or what the upstream decides by.
fn is_end_to_end(name: &HeaderName) -> bool {
    [
        HOST,
        AUTHORIZATION,
        COOKIE,
        SET_COOKIE,
        CONTENT_LENGTH,
        CONTENT_TYPE,
        CONTENT_ENCODING,
        CACHE_CONTROL,
        ACCEPT,
        DATE,
    ]
    .contains(name)
        || [FORWARDED, VIA, X_REQUEST_ID].contains(name)
        || name.as_str().starts_with("x-forwarded-")
        || name.as_str() == "x-real-ip"
}

/// Remove what belongs to the connection the message came on.
pub(super) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(TRANSFER_ENCODING) {
        // It overrides the length, which must not be passed on then (RFC 9112, section 6.3).
        headers.remove(CONTENT_LENGTH);
    }
    if headers.contains_key(CONNECTION) {
        let named: SmallVec<[HeaderName; 4]> = headers
            .get_all(CONNECTION)
            .iter()
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
            .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
            .filter(|name| !is_end_to_end(name))
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Whether the client takes trailers (`TE: trailers`).
fn accepts_trailers(headers: &HeaderMap) -> bool {
    headers
        .get_all(TE)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

/// Make a client's fields ready for the upstream. `host` is already as it should be.
pub(super) fn prepare_request(headers: &mut HeaderMap, id: &HeaderValue, client: &HeaderValue, version: Version) {
    let trailers = headers.contains_key(TE) && accepts_trailers(headers);
    strip_hop_by_hop(headers);
    if trailers {
        // The one member of TE that can be passed on.
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        // Met here: hyper sends 100 as soon as the body is asked for.
        headers.remove(EXPECT);
    }
    headers.insert(X_REQUEST_ID, id.clone());
    append(headers, X_FORWARDED_FOR, client);
    append(headers, X_FORWARDED_PROTO, &HeaderValue::from_static("http"));
    if let Some(host) = headers.get(HOST).cloned() {
        append(headers, X_FORWARDED_HOST, &host);
    }
    // A gateway must say in requests that it is there (RFC 9110, section 7.6.3).
    append(
        headers,
        VIA,
        &HeaderValue::from_static(match version {
            Version::HTTP_2 => "2 tidegate",
            Version::HTTP_10 => "1.0 tidegate",
            _ => "1.1 tidegate",
        }),
    );
}

/// Add the fields of the connection to the upstream: the last step before a request is sent, after the plugins.
/// `unsized_body` says that there is a body whose length nobody knows.
pub(super) fn add_hop_by_hop(headers: &mut HeaderMap, unsized_body: bool) {
    if headers.contains_key(TE) {
        // RFC 9110, section 10.1.4, wants it named.
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
    }
    if unsized_body {
        // hyper would do so by itself, but for the methods that usually have no body, whose body it would drop.
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// Add a member to a list field, in the same line.
fn append(headers: &mut HeaderMap, name: HeaderName, member: &HeaderValue) {
    match headers.entry(name) {
        Entry::Vacant(entry) => {
            entry.insert(member.clone());
        }
        Entry::Occupied(mut entry) => {
            let mut joined = Vec::new();
            for value in entry.iter() {
                joined.extend_from_slice(value.as_bytes());
                joined.extend_from_slice(b", ");
            }
            joined.extend_from_slice(member.as_bytes());
            // Made of valid values and a comma, so it is valid; were it not, the gateway's own member must stand.
            entry.insert(HeaderValue::from_bytes(&joined).unwrap_or_else(|_| member.clone()));
        }
    }
}

/// Fit the framing to a body that is held in memory: its length is known, and it has no trailers.
pub(super) fn reframe(headers: &mut HeaderMap, length: usize) {
    headers.remove(TRAILER);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "in a test a panic is a failure")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| {
                (HeaderName::try_from(*name).expect("a name"), HeaderValue::try_from(*value).expect("a value"))
            })
            .collect()
    }

    fn prepared(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = map(fields);
        let client = HeaderValue::from_static("192.0.2.7");
        prepare_request(&mut headers, &HeaderValue::from_static("id"), &client, Version::HTTP_11);
        headers
    }

    #[test]
    fn fields_of_the_connection_do_not_pass() {
        let headers = prepared(&[
            ("connection", "close, X-Private"),
            ("connection", "x-other"),
            ("x-private", "1"),
            ("x-other", "2"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("http2-settings", "x"),
            ("te", "gzip"),
            ("accept", "*/*"),
        ]);
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "via", "x-forwarded-for", "x-forwarded-proto", "x-request-id"]);
    }

    #[test]
    fn connection_cannot_take_away_what_everyone_needs() {
        let headers = prepared(&[
            ("connection", "host, authorization, x-forwarded-for, content-length, Cookie, x-real-ip"),
            ("host", "example.com"),
            ("authorization", "x"),
            ("x-forwarded-for", "10.0.0.1"),
            ("content-length", "3"),
            ("cookie", "a=b"),
            ("x-real-ip", "10.0.0.1"),
        ]);
        assert_eq!(headers["x-forwarded-for"], "10.0.0.1, 192.0.2.7");
        for name in ["host", "authorization", "content-length", "cookie", "x-real-ip"] {
            assert!(headers.contains_key(name), "{name}");
        }
    }

    #[test]
    fn trailers_stay_asked_for() {
        let mut headers = prepared(&[("te", "gzip;q=0.5, Trailers")]);
        assert!(!headers.contains_key("connection"));
        add_hop_by_hop(&mut headers, false);
        assert_eq!(headers["te"], "trailers");
        assert_eq!(headers["connection"], "te");
    }

    #[test]
    fn a_length_beside_a_transfer_encoding_is_dropped() {
        let mut headers = map(&[("content-length", "3"), ("transfer-encoding", "chunked")]);
        strip_hop_by_hop(&mut headers);
        assert!(headers.is_empty());
    }

    #[test]
    fn forwarding_fields_are_appended_in_one_line() {
        let headers =
            prepared(&[("x-forwarded-for", "a"), ("x-forwarded-for", "b"), ("host", "h"), ("via", "1.0 fred")]);
        assert_eq!(headers.get_all("x-forwarded-for").iter().collect::<Vec<_>>(), ["a, b, 192.0.2.7"]);
        assert_eq!(headers["x-forwarded-host"], "h");
        assert_eq!(headers["x-forwarded-proto"], "http");
        assert_eq!(headers["via"], "1.0 fred, 1.1 tidegate");
        assert_eq!(headers["x-request-id"], "id");
    }

    #[test]
    fn an_expectation_of_100_is_met_here() {
        assert!(!prepared(&[("expect", "100-Continue")]).contains_key("expect"));
        assert!(prepared(&[("expect", "miracles")]).contains_key("expect"));
    }

    proptest! {
        #[test]
        fn no_field_of_the_connection_survives(
            fields in proptest::collection::vec(
                (
                    prop::sample::select(vec![
                        "connection", "keep-alive", "te", "upgrade", "transfer-encoding", "x-a", "x-b", "host", "accept",
                    ]),
                    prop::sample::select(vec!["close", "x-a", "X-B, te", "x-a,,x-b", "trailers", ", ,", "host", "a b"]),
                ),
                0..12,
            ),
        ) {
            let before = map(&fields);
            let mut headers = before.clone();
            strip_hop_by_hop(&mut headers);
            for name in &HOP_BY_HOP {
                prop_assert!(!headers.contains_key(name));
            }
            let named = |name: &str| before.get_all("connection").iter().any(|value| {
                value.to_str().unwrap_or("").split(',').any(|member| member.trim().eq_ignore_ascii_case(name))
            });
            for name in ["x-a", "x-b"] {
                prop_assert_eq!(headers.contains_key(name), before.contains_key(name) && !named(name));
            }
            prop_assert_eq!(headers.get_all("host").iter().count(), before.get_all("host").iter().count());
        }
    }
}
