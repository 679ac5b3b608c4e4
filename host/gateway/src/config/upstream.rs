//! `[[upstream]]`

use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use http::uri::Authority;

use super::diagnostic::Diagnostic;
use super::names::name;
use super::reader::{DAY, MILLISECOND, Table};

/// `[[upstream]]`: where requests go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// `name`
    pub name: Arc<str>,
    /// `targets`, tried in turn (round robin).
    pub targets: Vec<Authority>,
    /// `connect_timeout`: for a TCP connection.
    pub connect_timeout: Duration,
    /// `response_timeout`: from the end of the request to the head of the response.
    pub response_timeout: Duration,
    /// `idle_timeout`: how long an unused connection is kept.
    pub idle_timeout: Duration,
    /// `max_idle`: unused connections kept per target.
    pub max_idle: usize,
}

/// Read one `[[upstream]]`. What is wrong in it is reported; what comes back is for references to it.
pub(super) fn upstream(table: Table<'_>) -> Upstream {
    let upstream = Upstream {
        name: name(&table).unwrap_or_else(|| Arc::from("")),
        targets: targets(&table),
        connect_timeout: table.duration("connect_timeout", MILLISECOND..=DAY, Duration::from_secs(5)),
        response_timeout: table.duration("response_timeout", MILLISECOND..=DAY, Duration::from_secs(60)),
        idle_timeout: table.duration("idle_timeout", MILLISECOND..=DAY, Duration::from_secs(60)),
        max_idle: table.count("max_idle", 0..=100_000, 64),
    };
    table.finish();
    upstream
}

fn targets(table: &Table<'_>) -> Vec<Authority> {
    let Some(texts) = table.strings("targets") else {
        if table.span_of("targets").is_none() {
            table.missing("targets", "[\"http://127.0.0.1:9000\"]");
        }
        return Vec::new();
    };
    if texts.is_empty() {
        if let Some(span) = table.span_of("targets") {
            table.problems().push(Diagnostic::at(span, "`targets` is empty").label("expected at least one target"));
        }
        return Vec::new();
    }
    let mut targets: Vec<Authority> = Vec::new();
    for text in texts {
        match target(text.get_ref()) {
            Ok(target) if targets.contains(&target) => {
                table.problems().push(Diagnostic::at(text.span(), format!("`targets` has `{target}` twice")));
            }
            Ok(target) => targets.push(target),
            Err(problem) => {
                let diagnostic = Diagnostic::at(text.span(), "this target cannot be used").label(problem.label);
                table.problems().push(match problem.hint {
                    Some(hint) => diagnostic.hint(hint),
                    None => diagnostic,
                });
            }
        }
    }
    targets
}

#[derive(Debug)]
struct BadTarget {
    label: &'static str,
    hint: Option<String>,
}

/// `http://host:port` and nothing else; the port is 80 if there is none.
fn target(text: &str) -> Result<Authority, BadTarget> {
    let bad = |label, hint: Option<String>| BadTarget { label, hint };
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(bad("expected a URL", Some(format!("write \"http://{text}\""))));
    };
    match scheme {
        "http" => {}
        "https" => {
            let hint = "put a TLS-terminating proxy in between, or use the upstream's cleartext port";
            return Err(bad("https to an upstream is not supported in this version", Some(hint.to_owned())));
        }
        _ => return Err(bad("expected the scheme http", None)),
    }
    let uri: Uri = text.parse().map_err(|_| bad("this is not a valid URL", None))?;
    let Some(authority) = uri.authority().filter(|authority| !authority.host().is_empty()) else {
        return Err(bad("the host is missing", None));
    };
    if authority.as_str().contains('@') {
        return Err(bad("a user name or password cannot be given here", None));
    }
    if rest.trim_end_matches('/') != authority.as_str() {
        let hint = format!("write \"http://{authority}\"; a request keeps its own path");
        return Err(bad("a target is a host and a port, without a path", Some(hint)));
    }
    match (authority.port(), authority.port_u16()) {
        (None, _) if !authority.as_str().ends_with(':') => {
            format!("{authority}:80").parse().map_err(|_| bad("this is not a valid URL", None))
        }
        (Some(_), Some(1..)) => Ok(authority.clone()),
        _ => Err(bad("the port is not one", Some("ports go from 1 to 65535".to_owned()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_host_and_a_port() {
        let ok = |text| target(text).map(|authority| authority.to_string()).map_err(|bad| bad.label);
        assert_eq!(ok("http://127.0.0.1:9000"), Ok("127.0.0.1:9000".into()));
        assert_eq!(ok("http://[::1]:9000/"), Ok("[::1]:9000".into()));
        assert_eq!(ok("http://origin"), Ok("origin:80".into()));
        for wrong in [
            "127.0.0.1:9000",
            "https://a:1",
            "ftp://a:1",
            "http://",
            "http://:80",
            "http://a:1/x",
            "http://a:1?x",
            "http://u:p@a:1",
            "http://a:0",
            "http://a:70000",
            "http://a:",
            "http://a b:1",
            "http://[::1:9000",
        ] {
            assert!(ok(wrong).is_err(), "{wrong}");
        }
    }
}
