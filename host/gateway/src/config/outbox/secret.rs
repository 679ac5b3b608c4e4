//! Secrets of sinks: in a file of their own or in a variable of the environment, never in the config.

use std::io::Read as _;
use std::ops::Range;
use std::path::Path;

use tidegate_outbox::sink::tls::Authorities;

use crate::config::diagnostic::Diagnostic;
use crate::config::reader::Table;
use crate::config::source::Files;

/// The longest file that holds secrets or certificates, bytes.
const LONGEST: u64 = 1 << 20;

/// Where files are looked for, and whether they are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'f> {
    pub(super) folder: &'f Path,
    pub(super) files: Files,
}

/// What two keys say of a secret.
#[derive(Debug)]
pub(super) enum Given {
    /// Neither is there.
    Nothing,
    /// It is somewhere, and what it is, is not known: that has been reported, or nobody looks.
    Unknown,
    /// This text, without white space around it, from there.
    Text(String, Range<usize>),
}

/// The secret that is in a file or in a variable, by one of two keys.
pub(super) fn secret(table: &Table<'_>, file: &'static str, variable: &'static str, place: Place<'_>) -> Given {
    let problems = table.problems();
    let (spans, before) = ((table.span_of(file), table.span_of(variable)), problems.count());
    let (path, name) = (table.string(file), table.string(variable));
    if let (Some(first), Some(second)) = spans {
        problems.push(
            Diagnostic::at(second, format!("`{file}` and `{variable}` are both there"))
                .label("one of them is enough")
                .related(first, "the other"),
        );
    }
    if problems.count() > before || place.files != Files::Checked {
        return if path.is_none() && name.is_none() && problems.count() == before {
            Given::Nothing
        } else {
            Given::Unknown
        };
    }
    let (found, span, what) = match (path, name) {
        (Some(path), _) => (read(&place.folder.join(path.get_ref())), path.span(), "file"),
        (None, Some(name)) => {
            let found = std::env::var(name.get_ref()).map_err(|error| match error {
                std::env::VarError::NotPresent => "it is not set".to_owned(),
                std::env::VarError::NotUnicode(_) => "it is not UTF-8 text".to_owned(),
            });
            (found, name.span(), "variable")
        }
        (None, None) => return Given::Nothing,
    };
    let found = found.map(|text| text.trim().to_owned());
    match found.and_then(|text| if text.is_empty() { Err("it is empty".to_owned()) } else { Ok(text) }) {
        Ok(text) => Given::Text(text, span),
        Err(label) => {
            problems.push(Diagnostic::at(span, format!("the {what} with the secret cannot be used")).label(label));
            Given::Unknown
        }
    }
}

/// `ca_file`: who may sign the receiver's certificate.
pub(super) fn authorities(table: &Table<'_>, place: Place<'_>) -> Option<Authorities> {
    let path = table.string("ca_file")?;
    if place.files != Files::Checked {
        return None;
    }
    let found = read(&place.folder.join(path.get_ref()));
    let found = found.and_then(|pem| Authorities::from_pem(pem.as_bytes()).map_err(|error| error.to_string()));
    found
        .map_err(|label| {
            let problem = Diagnostic::at(path.span(), "the authorities cannot be used").label(label);
            table.problems().push(problem.hint("it takes a PEM file with certificates"));
        })
        .ok()
}

/// `source`: what comes before `/plugins/NAME` in the events' source.
pub(super) fn source(table: &Table<'_>) -> String {
    let Some(source) = table.string("source") else { return String::new() };
    let text = source.get_ref().trim_end_matches('/');
    if text.is_empty() || url::Url::parse(text).is_ok() {
        return text.to_owned();
    }
    table.problems().push(
        Diagnostic::at(source.span(), "`source` is not a URI")
            .label("comes before /plugins/NAME in each event's source")
            .hint("for example \"https://gateway.example.com\", or \"urn:gateway:east\""),
    );
    String::new()
}

/// The text of a file, or why there is none.
fn read(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(LONGEST).read_to_string(&mut text));
    read.map(|_| text).map_err(|error| format!("{}: {error}", path.display()))
}
