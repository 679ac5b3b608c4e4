//! `[[route]]`

use toml::Spanned;

use super::diagnostic::Diagnostic;
use super::names::Names;
use super::reader::Table;

/// `[[route]]`: which requests go through which plugins to which upstream.
#[derive(Debug, Clone)]
pub struct Route {
    /// `path`: a prefix at segment borders; `/api` matches `/api` and `/api/x` but not `/apix`.
    pub path: String,
    /// `host`: exact, without port, lower case; `None` matches every host.
    pub host: Option<String>,
    /// Index into [`Config::upstreams`](super::Config::upstreams).
    pub upstream: usize,
    /// Indices into [`Config::plugins`](super::Config::plugins), in order.
    pub plugins: Vec<usize>,
}

/// Read one `[[route]]`. `None` if it has no usable path or upstream, which has been reported.
pub(super) fn route(table: Table<'_>, upstreams: &Names<'_>, plugins: &Names<'_>) -> Option<Route> {
    let path = match table.string("path") {
        Some(text) => path(&table, &text),
        None => {
            if table.span_of("path").is_none() {
                table.missing("path", "\"/\"");
            }
            None
        }
    };
    let host = table.string("host").map(|text| host(&table, &text));
    let upstream = match table.string("upstream") {
        Some(name) => upstreams.find(name.get_ref(), name.span()),
        None => {
            if table.span_of("upstream").is_none() {
                table.missing("upstream", "\"..\"");
            }
            None
        }
    };
    let mut chain = Vec::new();
    for name in table.strings("plugins").unwrap_or_default() {
        match plugins.find(name.get_ref(), name.span()) {
            Some(number) if chain.contains(&number) => table
                .problems()
                .push(Diagnostic::at(name.span(), format!("the route names the plugin `{}` twice", name.get_ref()))),
            Some(number) => chain.push(number),
            None => {}
        }
    }
    table.finish();
    Some(Route { path: path?, host: host.flatten(), upstream: upstream?, plugins: chain })
}

/// A literal prefix; a slash at its end means nothing and goes.
fn path(table: &Table<'_>, text: &Spanned<&str>) -> Option<String> {
    let path = *text.get_ref();
    let refuse = |label: &str, hint: Option<String>| {
        let problem = Diagnostic::at(text.span(), "this path cannot be used").label(label);
        table.problems().push(match hint {
            Some(hint) => problem.hint(hint),
            None => problem,
        });
        None
    };
    if !path.starts_with('/') {
        return refuse("a path begins with a slash", Some(format!("write \"/{path}\"")));
    }
    if path.contains(['*', '{', '}']) {
        return refuse("there are no patterns", Some("a path is a prefix: \"/api\" matches \"/api/x\" as well".into()));
    }
    if path.contains(['?', '#']) {
        return refuse("only the path of a request is looked at", Some("take out the query or fragment".into()));
    }
    if path.parse::<http::uri::PathAndQuery>().is_err() || !path.is_ascii() {
        return refuse("no request has such a path", Some("write other characters as %XX".into()));
    }
    let trimmed = path.trim_end_matches('/');
    if trimmed.split('/').skip(1).any(|segment| matches!(segment, "" | "." | "..")) {
        return refuse("a segment is empty or made of dots", None);
    }
    Some(if trimmed.is_empty() { "/".to_owned() } else { trimmed.to_owned() })
}

/// A host name or address, without a port.
fn host(table: &Table<'_>, text: &Spanned<&str>) -> Option<String> {
    let host = *text.get_ref();
    let refuse = |label: &str, hint: Option<String>| {
        let problem = Diagnostic::at(text.span(), "this host cannot be used").label(label);
        table.problems().push(match hint {
            Some(hint) => problem.hint(hint),
            None => problem,
        });
        None
    };
    if host.contains('*') {
        return refuse("there are no patterns", Some("without `host`, a route matches every host".into()));
    }
    match host.parse::<http::uri::Authority>() {
        Ok(authority) if authority.host() == host && !host.is_empty() => Some(host.to_ascii_lowercase()),
        Ok(authority) if authority.as_str() == host && !host.contains('@') => {
            refuse("the port is not looked at", Some(format!("write \"{}\"", authority.host())))
        }
        _ => refuse("expected a host name such as \"api.example.com\"", None),
    }
}
