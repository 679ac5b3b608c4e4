//! What the plugin is sent: ordinary exchanges, and what no client and no upstream should send.

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method};

use crate::exchange::{Request, Response};
use crate::world::Reply;

/// Fields in a request: `server.max_headers` of the gateway.
const MOST_FIELDS: usize = 100;

/// Bytes of a head: `server.max_header_bytes` of the gateway.
const MOST_BYTES: usize = 32 << 10;

/// What other fields and the names of these may take of that.
const REST: usize = 2 << 10;

/// Fields that plugins read: each of them gets values that do not belong there.
const READ: [&str; 16] = [
    "accept",
    "authorization",
    "content-length",
    "content-type",
    "cookie",
    "host",
    "if-none-match",
    "origin",
    "range",
    "traceparent",
    "user-agent",
    "x-api-key",
    "x-forwarded-for",
    "x-request-id",
    "x-tenant",
    "x-user",
];

/// What every request has in common, unless somebody says more.
pub(super) fn template() -> Request {
    Request::get("/")
}

/// What a server answers, unless somebody says more.
pub(super) fn answer() -> Response {
    Response::new(200).header("content-type", "application/json").body("{}")
}

/// Distinct ordinary requests. After so many they come again, so that what a plugin remembers of each has an end.
pub(super) const DISTINCT: u64 = 64;

/// An ordinary request, the same for the same number.
pub(super) fn ordinary(template: &Request, number: u64) -> Request {
    let number = number % DISTINCT;
    let target = match (&*template.target, number % 4) {
        ("/", 0) => format!("/orders/{number}"),
        ("/", 1) => format!("/orders?page={number}&size=20"),
        ("/", 2) => "/".to_owned(),
        ("/", _) => format!("/customers/{number}/orders"),
        (target, _) => target.to_owned(),
    };
    let has_body = number % 4 == 3;
    let method = match &template.method {
        method if *method == Method::GET && has_body => Method::POST,
        method => method.clone(),
    };
    let mut request = Request::new(method, &target)
        .header("user-agent", "tidegate-plugin-test/1")
        .header("accept", "application/json");
    if has_body {
        request = request
            .header("content-type", "application/json")
            .body(format!(r#"{{"order":{number},"items":[{{"sku":"a-{number}","count":2}}]}}"#));
    }
    if !template.body.is_empty() {
        request = request.body(template.body.clone());
    }
    for name in template.headers.keys() {
        request.headers.remove(name);
    }
    request.headers.extend(fields(&template.headers));
    request
}

/// An upstream in good order.
pub(super) fn upstream(request: &Request) -> Reply {
    let status = match request.method {
        Method::POST => 201,
        Method::DELETE => 204,
        _ => 200,
    };
    let response = Response::new(status).header("content-type", "application/json");
    Reply::Now(if status == 204 { response } else { response.body(r#"{"status":"ok","total":3}"#) })
}

/// An exchange that is not as it should be.
pub(super) struct Malformed {
    /// What is wrong with it.
    pub(super) what: String,
    pub(super) request: Request,
    /// What the upstream answers; `None` for what it always answers.
    pub(super) response: Option<Response>,
}

/// Exchanges that a gateway lets through and that nobody should send, for a plugin that takes bodies of so many bytes.
pub(super) fn malformed(template: &Request, most_body: usize) -> Vec<Malformed> {
    let mut all = Vec::new();
    let mut ask = |what: &str, request: Request| {
        all.push(Malformed { what: what.to_owned(), request, response: None });
    };
    methods(template, &mut ask);
    targets(template, &mut ask);
    heads(template, &mut ask);
    bodies(template, most_body, &mut ask);
    let mut reply = |what: &str, response: Response| {
        // One whose response hooks are called, if there are any.
        all.push(Malformed { what: what.to_owned(), request: ordinary(template, 0), response: Some(response) });
    };
    responses(most_body, &mut reply);
    all
}

fn methods(template: &Request, ask: &mut impl FnMut(&str, Request)) {
    let longest = "M".repeat(64);
    for method in ["get", "OPTIONS", "TRACE", "CONNECT", "M-SEARCH", "!#$%&'*+-.^_`|~", &longest] {
        if let Ok(known) = Method::from_bytes(method.as_bytes()) {
            ask(&format!("the method {method:.20}"), Request { method: known, ..ordinary(template, 0) });
        }
    }
}

fn targets(template: &Request, ask: &mut impl FnMut(&str, Request)) {
    let (long, query, deep) =
        (format!("/{}", "a".repeat(8_000)), format!("/?{}", "q=1&".repeat(2_000)), "/..".repeat(2_000));
    for (what, target) in [
        ("a path of 8,000 bytes", &*long),
        ("a query of 2,000 pairs", &*query),
        ("a path of 2,000 steps up", &*deep),
        ("a percent sign at the end", "/%"),
        ("half a percent-encoding", "/%4"),
        ("a percent-encoding that is none", "/%zz%%%"),
        ("an encoded NUL", "/%00"),
        ("percent-encoding that is no UTF-8", "/%ff%fe%c0%80"),
        ("an encoded line break", "/%0d%0ax-injected:%20yes"),
        ("empty segments", "//.//..//"),
        ("an empty query", "/?"),
        ("a query without names", "/?&&=&==&=%"),
        ("a colon and an at sign", "/a:b@c"),
        ("an asterisk", "/*"),
    ] {
        ask(what, Request { target: target.to_owned(), ..ordinary(template, 0) });
    }
}

fn heads(template: &Request, ask: &mut impl FnMut(&str, Request)) {
    let huge = "v".repeat(MOST_BYTES - REST);
    // What `HeaderValue` takes for the first one is what HTTP allows: visible characters, blanks, tabs and obs-text.
    let values: [(&str, &[u8]); 8] = [
        ("an empty value", b""),
        ("a value that is no UTF-8", b"\xff\xfe\xc0\x80"),
        ("a value of Latin-1", b"caf\xe9"),
        ("a value of 30 KiB", huge.as_bytes()),
        ("a number that is too large", b"99999999999999999999999999"),
        ("half a token", b"Bearer "),
        ("separators alone", b",;=\",;="),
        ("an open quote", b"\"unended"),
    ];
    let own: Vec<&HeaderName> = template.headers.keys().collect();
    for (what, value) in values {
        let Ok(value) = HeaderValue::from_bytes(value) else { continue };
        for name in READ.iter().filter_map(|name| HeaderName::try_from(*name).ok()).chain(own.iter().copied().cloned())
        {
            let mut request = ordinary(template, 0);
            request.headers.insert(name.clone(), value.clone());
            ask(&format!("{what} in `{name}`"), request);
        }
    }
    for name in READ.iter().filter_map(|name| HeaderName::try_from(*name).ok()) {
        let mut request = ordinary(template, 0);
        let (one, other) = (HeaderValue::from_static("one"), HeaderValue::from_static("other"));
        request.headers.insert(name.clone(), one);
        request.headers.append(name.clone(), other);
        ask(&format!("`{name}` twice"), request);
    }
    let mut request = ordinary(template, 0);
    for number in request.headers.len()..MOST_FIELDS {
        let Ok(name) = HeaderName::try_from(format!("x-field-{number}")) else { continue };
        request.headers.append(name, HeaderValue::from_static("value"));
    }
    ask("100 fields", request);
    let mut request = ordinary(template, 0);
    request.headers.clear();
    ask("no fields", request);
}

fn bodies(template: &Request, most: usize, ask: &mut impl FnMut(&str, Request)) {
    let nested = "[".repeat(most.min(100_000));
    let objects = r#"{"a":"#.repeat(most.min(100_000) / 5);
    let bodies: [(&str, Bytes); 10] = [
        ("an empty body", Bytes::new()),
        ("a body of one byte", "{".into()),
        ("a body as long as it may be", vec![b'x'; most].into()),
        ("a body one byte longer than it may be", vec![b'x'; most.saturating_add(1)].into()),
        ("a body of zeros", vec![0; most.min(4_096)].into()),
        ("a body that is no UTF-8", vec![0xff; most.min(4_096)].into()),
        ("lists in lists", nested.into()),
        ("objects in objects", objects.into()),
        ("a number of 10,000 digits", "9".repeat(most.min(10_000)).into()),
        ("a body that ends in the middle", r#"{"order":1,"items":[{"sku":"a"#.into()),
    ];
    for (what, body) in bodies {
        for media in ["application/json", "application/x-www-form-urlencoded", "text/plain"] {
            let mut request = ordinary(template, 3).body(body.clone());
            request.headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(media));
            ask(&format!("{what}, as {media}"), request);
        }
    }
}

fn responses(most: usize, reply: &mut impl FnMut(&str, Response)) {
    for status in [200, 204, 206, 301, 304, 400, 401, 416, 500, 503, 599, 999] {
        reply(&format!("status {status} from the upstream, without a body"), Response::new(status));
    }
    for (what, body) in [
        ("a body as long as it may be", vec![b'x'; most]),
        ("a body one byte longer than it may be", vec![b'x'; most.saturating_add(1)]),
        ("a body that is no UTF-8", vec![0xff; most.min(4_096)]),
        ("lists in lists", vec![b'['; most.min(100_000)]),
        ("a body that ends in the middle", br#"{"status":"o"#.to_vec()),
    ] {
        let response = Response::new(200).header("content-type", "application/json").body(body);
        reply(&format!("{what}, from the upstream"), response);
    }
    for name in ["content-type", "content-length", "set-cookie", "location", "cache-control", "etag", "x-request-id"] {
        for (what, value) in
            [("an empty value", &b""[..]), ("a value that is no UTF-8", b"\xff\xfe"), ("separators alone", b",;=\"")]
        {
            let mut response = Response::new(200).body("{}");
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_bytes(value)) {
                response.headers.insert(name, value);
            }
            reply(&format!("{what} in `{name}` from the upstream"), response);
        }
    }
    let fields = (0..MOST_FIELDS).fold(Response::new(200), |response, n| response.header(&format!("x-field-{n}"), "v"));
    reply("100 fields from the upstream", fields);
}

fn fields(headers: &HeaderMap) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    headers.iter().map(|(name, value)| (name.clone(), value.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_requests_repeat_themselves_and_carry_what_all_have() {
        let template = Request::get("/").header("x-api-key", "open-sesame").header("accept", "text/html");
        let all: Vec<Request> = (0..2 * DISTINCT).map(|number| ordinary(&template, number)).collect();
        let shown = |request: &Request| format!("{request:?}");
        let distinct: std::collections::BTreeSet<String> = all.iter().map(shown).collect();
        assert!(distinct.len() > 40 && distinct.len() as u64 <= DISTINCT);
        assert!(all.iter().all(|request| request.headers.get("x-api-key").is_some_and(|key| key == "open-sesame")));
        assert!(all.iter().all(|request| request.headers.get_all("accept").iter().count() == 1));
        assert!(all.iter().any(|request| !request.body.is_empty()));
        let fixed = ordinary(&Request::get("/only"), 3);
        assert_eq!((fixed.method, &*fixed.target), (Method::POST, "/only"));
    }

    #[test]
    fn what_is_malformed_could_come_through_a_gateway() {
        let all = malformed(&template(), 1 << 20);
        assert!(all.len() > 200, "{}", all.len());
        for Malformed { what, request, .. } in &all {
            assert!(request.target.parse::<http::uri::PathAndQuery>().is_ok(), "{what}");
            let head: usize = request.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
            assert!(head + request.target.len() < MOST_BYTES && request.headers.len() <= MOST_FIELDS, "{what}");
        }
    }
}
