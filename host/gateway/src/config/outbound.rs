//! `[outbound]`, and the key `http` of `[plugin.grants]`: requests of plugins.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use tidegate_outbound::{Granted, Limits, Origin, Settings};
use toml::Spanned;
use toml::de::DeValue;

use super::diagnostic::Diagnostic;
use super::reader::{DAY, MILLISECOND, Table, Value};
use super::source::Files;

/// Origins that one plugin may be granted; each request is compared with all of them.
const MOST_ORIGINS: usize = 1_000;

/// Read `[outbound]`; the file of certificates is looked for in `folder`.
pub(super) fn outbound(table: Option<Table<'_>>, folder: &Path, files: Files) -> Settings {
    let mut settings = Settings::default();
    let Some(table) = table else { return settings };
    if let Some(file) = table.string("ca_file") {
        let path = folder.join(file.get_ref());
        if files == Files::Checked
            && let Err(error) = tidegate_outbound::read_certificates(&path)
        {
            let problem = Diagnostic::at(file.span(), "the certificates cannot be used").label(error.to_string());
            table.problems().push(problem.hint("put the certificates of your own authorities there, in PEM"));
        }
        settings.ca_file = Some(path);
    }
    settings.hosts = hosts(&table);
    let defaults = Limits::default();
    settings.limits = Limits {
        connect_timeout: table.duration("connect_timeout", MILLISECOND..=DAY, defaults.connect_timeout),
        max_connections: table.count("max_connections", 1..=10_000, defaults.max_connections),
        max_requests: table.count("max_requests", 1..=1_000, defaults.max_requests),
        max_response: table.size("max_response", 1..=1 << 30, defaults.max_response),
        // The buffer that a head is read into is never smaller than 8 KiB.
        max_response_headers: table.size("max_response_headers", 8 << 10..=1 << 20, defaults.max_response_headers),
    };
    table.finish();
    settings
}

/// `hosts`: names with their addresses.
fn hosts(table: &Table<'_>) -> BTreeMap<String, Vec<IpAddr>> {
    let Some(value) = table.value("hosts") else { return BTreeMap::new() };
    let DeValue::Table(entries) = value.get_ref() else {
        table.wrong("hosts", value, "{ \"name\" = [\"address\", ..] }");
        return BTreeMap::new();
    };
    let mut hosts = BTreeMap::new();
    for (name, value) in entries {
        let text = name.get_ref().as_ref();
        let is_name = !text.contains(['*', '%', ':', '[', '/', '@', ' ']) && text.parse::<IpAddr>().is_err();
        if !is_name || Origin::parse(&format!("http://{text}")).is_err() {
            let problem = Diagnostic::at(name.span(), "`hosts` has a key that is not the name of a host");
            table.problems().push(problem.hint("for example `hosts = { \"db.internal\" = [\"10.1.2.3\"] }`"));
        }
        let DeValue::Array(items) = value.get_ref() else {
            table.wrong("hosts", value, "a list of addresses for each name");
            continue;
        };
        let texts = table.strings_in("hosts", items);
        if items.is_empty() {
            table.problems().push(Diagnostic::at(value.span(), format!("`hosts` has no address for `{text}`")));
        }
        let address = |text: &Spanned<&str>| match text.get_ref().parse::<IpAddr>() {
            Ok(address) => Some(address),
            Err(_) => {
                let problem = Diagnostic::at(text.span(), "`hosts` has an address that is none");
                table.problems().push(problem.label("expected an IP address").hint("for example \"10.1.2.3\""));
                None
            }
        };
        hosts.insert(text.to_owned(), texts.iter().filter_map(address).collect());
    }
    hosts
}

/// Read `http` of `[plugin.grants]`: origins, and tables with an origin and ranges of addresses.
pub(super) fn http(table: &Table<'_>) -> Option<Vec<Granted>> {
    const EXPECTED: &str = "a list of origins such as [\"https://api.example.com\"]";
    let value = table.value("http")?;
    let DeValue::Array(items) = value.get_ref() else {
        table.wrong("http", value, EXPECTED);
        return None;
    };
    if items.len() > MOST_ORIGINS {
        let problem = Diagnostic::at(value.span(), "`http` is too long");
        table.problems().push(problem.label(format!("at most {MOST_ORIGINS} origins can be granted")));
    }
    let mut all: Vec<Granted> = Vec::new();
    for item in items.iter().take(MOST_ORIGINS) {
        let Some((granted, span)) = granted(table, item) else { continue };
        if all.iter().any(|other| other.origin == granted.origin) {
            table.problems().push(Diagnostic::at(span, format!("`http` has `{}` twice", granted.origin)));
        }
        all.push(granted);
    }
    Some(all)
}

/// One entry of the list, and where its origin stands.
fn granted(table: &Table<'_>, item: Value<'_>) -> Option<(Granted, std::ops::Range<usize>)> {
    let (text, addresses) = match item.get_ref() {
        DeValue::String(text) => (Spanned::new(item.span(), text.as_ref()), Vec::new()),
        DeValue::Table(entries) => {
            let inner = Table::new(entries, "`http`", item.span(), table.problems());
            let text = inner.string("origin");
            if inner.span_of("origin").is_none() {
                inner.missing("origin", "\"http://10.1.2.3:8080\"");
            }
            let addresses = ranges(&inner);
            inner.finish();
            (text?, addresses)
        }
        _ => {
            table.wrong("http", item, "an origin, or { origin = \"..\", addresses = [..] }");
            return None;
        }
    };
    let span = text.span();
    let origin = match Origin::parse(text.get_ref()) {
        Ok(origin) => origin,
        Err(error) => {
            let problem = Diagnostic::at(span, "this origin cannot be granted").label(error.to_string());
            table.problems().push(problem.hint(error.hint(text.get_ref())));
            return None;
        }
    };
    if let Some(address) = origin.address()
        && !tidegate_outbound::may_reach(address, &addresses)
    {
        let range = IpNet::from(address);
        let problem = Diagnostic::at(span.clone(), "this origin could never be reached")
            .label(format!("{address} is not a public address"))
            .hint(format!("write {{ origin = \"{origin}\", addresses = [\"{range}\"] }}"));
        table.problems().push(problem);
    }
    Some((Granted { origin, addresses }, span))
}

/// `addresses`: ranges, or addresses alone.
fn ranges(table: &Table<'_>) -> Vec<IpNet> {
    let texts = table.strings("addresses").unwrap_or_default();
    let range = |text: &Spanned<&str>| {
        let range = text.get_ref().parse::<IpNet>().or_else(|_| text.get_ref().parse::<IpAddr>().map(IpNet::from));
        match range {
            Ok(range) if range.trunc() == range => Some(range),
            Ok(range) => {
                let problem = Diagnostic::at(text.span(), "`addresses` has a range that does not begin where it says")
                    .hint(format!("write \"{}\"", range.trunc()));
                table.problems().push(problem);
                None
            }
            Err(_) => {
                let problem = Diagnostic::at(text.span(), "`addresses` has a range that is none")
                    .label("expected an address and the length of its prefix")
                    .hint("for example \"10.1.2.0/24\"");
                table.problems().push(problem);
                None
            }
        }
    };
    texts.iter().filter_map(range).collect()
}
