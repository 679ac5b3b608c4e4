//! `kind = "webhook"`

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use tidegate_outbox::sink::secret::Secret;
use tidegate_outbox::sink::webhook::{SigningKey, WebhookConfig, check_url, is_taken};
use toml::de::DeValue;
use url::Url;

use super::secret::{Given, Place, authorities, secret, source};
use crate::config::diagnostic::Diagnostic;
use crate::config::reader::Table;

/// Keys at a time: an old one and a new one, and some to spare.
const MOST_KEYS: usize = 4;

/// Fields that can be added to each request.
const MOST_FIELDS: usize = 32;

/// The keys of a webhook.
pub(super) fn webhook(table: &Table<'_>, timeout: Duration, place: Place<'_>) -> Option<WebhookConfig> {
    let url = url(table);
    let keys = keys(table, place);
    let authorization = match secret(table, "authorization_file", "authorization_env", place) {
        Given::Text(text, span) if HeaderValue::from_str(&text).is_err() => {
            let problem = Diagnostic::at(span, "this cannot be the value of `Authorization`");
            table.problems().push(problem.label("it has more than one line, or control characters"));
            None
        }
        Given::Text(text, _) => Some(Secret::new(text)),
        Given::Nothing | Given::Unknown => None,
    };
    let headers = headers(table);
    let authorities = authorities(table, place);
    let concurrency = table.count("concurrency", 1..=256, 8);
    let source = source(table);
    Some(WebhookConfig { url: url?, keys, authorization, headers, authorities, timeout, concurrency, source })
}

/// `url`
fn url(table: &Table<'_>) -> Option<Url> {
    let Some(text) = table.string("url") else {
        if table.span_of("url").is_none() {
            table.missing("url", "\"https://events.example.com/tidegate\"");
        }
        return None;
    };
    let checked = match text.get_ref().parse::<Url>() {
        Ok(url) => check_url(&url).map(|()| url).map_err(|why| format!("it {why}")),
        Err(error) => Err(error.to_string()),
    };
    match checked {
        Ok(url) => Some(url),
        Err(label) => {
            let problem = Diagnostic::at(text.span(), "this URL cannot be used").label(label);
            let hint = "for example \"https://events.example.com/tidegate\"; credentials go to `authorization_file`";
            table.problems().push(problem.hint(hint));
            None
        }
    }
}

/// `secret_file` or `secret_env`: a key on each line.
fn keys(table: &Table<'_>, place: Place<'_>) -> Vec<SigningKey> {
    let Given::Text(text, span) = secret(table, "secret_file", "secret_env", place) else { return Vec::new() };
    let mut keys = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        match SigningKey::parse(line) {
            Ok(key) => keys.push(key),
            Err(error) => {
                let problem = Diagnostic::at(span.clone(), "a key for signatures cannot be used");
                let problem = problem.label(format!("line {}: {error}", number + 1));
                table.problems().push(problem.hint("make one with `echo whsec_$(openssl rand -base64 32)`"));
            }
        }
    }
    if keys.len() > MOST_KEYS {
        let problem = Diagnostic::at(span, format!("there are {} keys; at most {MOST_KEYS} can be used", keys.len()));
        table.problems().push(problem);
    }
    keys
}

/// `headers`: more fields for each request.
fn headers(table: &Table<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let Some(value) = table.value("headers") else { return headers };
    let DeValue::Table(entries) = value.get_ref() else {
        table.wrong("headers", value, "a table such as { x-tenant = \"blue\" }");
        return headers;
    };
    for (key, value) in entries {
        let problem = |message: String| Diagnostic::at(key.span(), message);
        let Ok(name) = key.get_ref().parse::<HeaderName>() else {
            table.problems().push(problem(format!("`{}` is not the name of a header field", key.get_ref())));
            continue;
        };
        if is_taken(&name) {
            let what = problem(format!("the field `{name}` cannot be set here"));
            table.problems().push(what.label("the event or the connection sets it"));
            continue;
        }
        if name == http::header::AUTHORIZATION {
            let what = problem("a secret does not belong in the config".to_owned());
            table.problems().push(what.hint("put the value in a file, and name it with `authorization_file`"));
            continue;
        }
        match value.get_ref() {
            DeValue::String(text) => match HeaderValue::from_str(text) {
                Ok(text) => drop(headers.insert(name, text)),
                Err(_) => {
                    let what = Diagnostic::at(value.span(), format!("`{name}` cannot have this value"));
                    table.problems().push(what.label("expected visible ASCII and spaces"));
                }
            },
            _ => table.wrong(name.as_str(), value, "a string"),
        }
    }
    if headers.len() > MOST_FIELDS {
        let what = format!("there are {} headers; at most {MOST_FIELDS} fit", headers.len());
        table.problems().push(Diagnostic::at(value.span(), what));
    }
    headers
}
