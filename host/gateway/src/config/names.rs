//! The names of plugins, upstreams and buckets.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::diagnostic::{Diagnostic, Problems};
use super::reader::{Table, nearest};

/// Names appear in metrics labels, log lines and tables on a terminal; this is what fits all of them.
const LONGEST: usize = 64;

/// The table's `name`; `None` if it is missing or malformed, which has been reported.
pub(super) fn name(table: &Table<'_>) -> Option<Arc<str>> {
    let Some(text) = table.string("name") else {
        if table.span_of("name").is_none() {
            table.missing("name", "\"..\"");
        }
        return None;
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if (1..=LONGEST).contains(&text.get_ref().len()) && text.get_ref().chars().all(fits) {
        return Some(Arc::from(*text.get_ref()));
    }
    table.problems().push(
        Diagnostic::at(text.span(), "this name cannot be used")
            .label(format!("expected 1 to {LONGEST} of the characters a-z A-Z 0-9 - _ .")),
    );
    None
}

/// The names of one kind of thing, and which number each thing has.
pub(super) struct Names<'p> {
    /// `plugin`, `upstream` or `kv`.
    kind: &'static str,
    numbers: HashMap<Arc<str>, (usize, Range<usize>)>,
    problems: &'p Problems,
}

impl<'p> Names<'p> {
    pub(super) fn new(kind: &'static str, problems: &'p Problems) -> Self {
        Self { kind, numbers: HashMap::new(), problems }
    }

    /// Note a thing's name. Empty names have been reported already.
    pub(super) fn insert(&mut self, name: &Arc<str>, number: usize, span: Range<usize>) {
        if name.is_empty() {
            return;
        }
        match self.numbers.get(name) {
            Some((_, first)) => self.problems.push(
                Diagnostic::at(span, format!("there are two {}s named `{name}`", self.kind))
                    .label("again here")
                    .related(first.clone(), "first here"),
            ),
            None => {
                self.numbers.insert(name.clone(), (number, span));
            }
        }
    }

    /// The number of the thing with this name, or a report that there is none.
    pub(super) fn find(&self, name: &str, span: Range<usize>) -> Option<usize> {
        if let Some((number, _)) = self.numbers.get(name) {
            return Some(*number);
        }
        let mut names: Vec<&str> = self.numbers.keys().map(|name| &**name).collect();
        names.sort_unstable();
        let hint = match nearest(name, &names) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None if names.is_empty() => format!("add a [[{}]] with this name", self.kind),
            None => format!("there are {}", names.join(", ")),
        };
        self.problems.push(Diagnostic::at(span, format!("there is no {} named `{name}`", self.kind)).hint(hint));
        None
    }
}
