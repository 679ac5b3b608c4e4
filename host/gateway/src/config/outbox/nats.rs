//! `kind = "nats"`

use std::time::Duration;

use tidegate_outbox::sink::nats::{Credentials, NatsConfig, StreamConfig, check_credentials, check_server};
use tidegate_outbox::sink::secret::Secret;
use tidegate_outbox::topic::{self, Pattern};
use toml::Spanned;
use toml::de::DeValue;

use super::secret::{Given, Place, authorities, secret, source};
use crate::config::diagnostic::Diagnostic;
use crate::config::reader::Table;

/// Servers of one cluster.
const MOST_SERVERS: usize = 16;

/// The longest name of a stream, bytes.
const LONGEST_STREAM: usize = 255;

/// The keys of a NATS sink that takes these topics.
pub(super) fn nats(table: &Table<'_>, topics: &[Pattern], timeout: Duration, place: Place<'_>) -> Option<NatsConfig> {
    let servers = servers(table);
    let prefix = prefix(table);
    let stream = stream(table, topics, prefix.as_deref());
    let credentials = credentials(table, place);
    let authorities = authorities(table, place);
    let source = source(table);
    Some(NatsConfig { servers: servers?, prefix, credentials, authorities, stream, timeout, source })
}

/// `url`: one server or a list of them.
fn servers(table: &Table<'_>) -> Option<Vec<String>> {
    let Some(value) = table.value("url") else {
        table.missing("url", "\"nats://127.0.0.1:4222\"");
        return None;
    };
    let texts = match value.get_ref() {
        DeValue::String(text) => vec![Spanned::new(value.span(), text.as_ref())],
        DeValue::Array(items) if (1..=MOST_SERVERS).contains(&items.len()) => table.strings_in("url", items),
        _ => {
            let expected = format!("a URL such as \"nats://127.0.0.1:4222\", or a list of 1 to {MOST_SERVERS}");
            table.wrong("url", value, &expected);
            return None;
        }
    };
    for text in &texts {
        if let Err(why) = check_server(text.get_ref()) {
            let problem = Diagnostic::at(text.span(), "this server cannot be used").label(format!("it {why}"));
            let hint = "for example \"nats://127.0.0.1:4222\"; credentials go to `credentials_file`, or `user` and \
                        `password_file`";
            table.problems().push(problem.hint(hint));
        }
    }
    Some(texts.into_iter().map(|text| (*text.get_ref()).to_owned()).collect())
}

/// `prefix`: words before each topic.
fn prefix(table: &Table<'_>) -> Option<String> {
    let prefix = table.string("prefix")?;
    match topic::check(prefix.get_ref()) {
        Ok(()) => Some((*prefix.get_ref()).to_owned()),
        Err(_) => {
            table.problems().push(
                Diagnostic::at(prefix.span(), "`prefix` cannot come before a topic")
                    .label("expected words of letters, digits, - and _, with dots between them")
                    .hint("the dot between the prefix and the topic is added"),
            );
            None
        }
    }
}

/// `stream` and `create`
fn stream(table: &Table<'_>, topics: &[Pattern], prefix: Option<&str>) -> Option<StreamConfig> {
    let (name, create) = (table.string("stream"), table.boolean("create", false));
    let Some(name) = name else {
        if let (true, None, Some(span)) = (create, table.span_of("stream"), table.span_of("create")) {
            let problem = Diagnostic::at(span, "a stream is to be created, and it has no name");
            table.problems().push(problem.hint("add `stream = \"EVENTS\"`"));
        }
        return None;
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if !(1..=LONGEST_STREAM).contains(&name.get_ref().len()) || !name.get_ref().chars().all(fits) {
        let problem = Diagnostic::at(name.span(), "this is not the name of a stream");
        let label = format!("expected 1 to {LONGEST_STREAM} of the characters a-z A-Z 0-9 - _");
        table.problems().push(problem.label(label));
        return None;
    }
    let subject = |topic: &Pattern| match prefix {
        Some(prefix) => format!("{prefix}.{topic}"),
        None => topic.to_string(),
    };
    let create = if create { topics.iter().map(subject).collect() } else { Vec::new() };
    Some(StreamConfig { name: (*name.get_ref()).to_owned(), create })
}

/// `credentials_file`, or `user` and a password, or a token.
fn credentials(table: &Table<'_>, place: Place<'_>) -> Credentials {
    let user = table.string("user");
    let password = secret(table, "password_file", "password_env", place);
    let token = secret(table, "token_file", "token_env", place);
    let file = secret(table, "credentials_file", "credentials_env", place);
    let given = |given: &Given| !matches!(given, Given::Nothing);
    let ways = [user.is_some() || given(&password), given(&token), given(&file)];
    if ways.into_iter().filter(|given| *given).count() > 1 {
        let problem = Diagnostic::at(table.span(), "this sink has more than one way to say who the gateway is");
        table
            .problems()
            .push(problem.hint("keep one: `credentials_file`, or `user` and `password_file`, or `token_file`"));
        return Credentials::None;
    }
    match (user, password) {
        (None, Given::Text(_, span)) => {
            let problem = Diagnostic::at(span, "there is a password, and nobody whose it is");
            table.problems().push(problem.hint("add `user`"));
        }
        (Some(user), Given::Nothing) => {
            let problem = Diagnostic::at(user.span(), "this user has no password");
            table.problems().push(problem.hint("add `password_file` or `password_env`"));
        }
        (Some(user), Given::Text(password, _)) => {
            return Credentials::User { user: (*user.get_ref()).to_owned(), password: Secret::new(password) };
        }
        (_, Given::Unknown) | (None, Given::Nothing) => {}
    }
    match (token, file) {
        (Given::Text(token, _), _) => Credentials::Token(Secret::new(token)),
        (_, Given::Text(text, span)) => {
            if !check_credentials(&text) {
                let problem = Diagnostic::at(span, "this is not a credentials file of NATS");
                table.problems().push(problem.hint("it has a JWT and the seed of a key; `nsc` makes one"));
            }
            Credentials::File(Secret::new(text))
        }
        _ => Credentials::None,
    }
}
