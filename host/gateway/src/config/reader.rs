//! A typed reader over a parsed TOML document that keeps every span and goes on after a problem.
//!
//! A key that is asked for is a known key; what was never asked for when the table is done is reported. So the code
//! that reads a table is its schema, and there is no second list to keep in step.

use std::cell::RefCell;
use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeArray, DeInteger, DeTable, DeValue};

use super::diagnostic::{Diagnostic, Problems};
use super::units::{self, HumanDuration, HumanSize};

/// No configured time is longer; a longer one is a slip of the keyboard.
pub(super) const DAY: Duration = Duration::from_secs(24 * 3600);
/// The shortest time-out: shorter ones fire before anything can happen.
pub(super) const MILLISECOND: Duration = Duration::from_millis(1);

/// A value and where it stands.
pub(super) type Value<'t> = &'t Spanned<DeValue<'t>>;

/// A table of the document.
pub(super) struct Table<'t> {
    entries: &'t DeTable<'t>,
    /// As in the file: `[server]`, `[[plugin]]`; empty for the top level.
    title: String,
    span: Range<usize>,
    known: RefCell<Vec<&'static str>>,
    problems: &'t Problems,
}

impl<'t> Table<'t> {
    /// A table under the name it has in the file, brackets included.
    pub(super) fn new(
        entries: &'t DeTable<'t>,
        title: impl Into<String>,
        span: Range<usize>,
        problems: &'t Problems,
    ) -> Self {
        Self { entries, title: title.into(), span, known: RefCell::default(), problems }
    }

    /// Where the table stands, for problems of the table as a whole.
    pub(super) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Where problems go.
    pub(super) fn problems(&self) -> &'t Problems {
        self.problems
    }

    /// Where the value of a key stands, if it is there.
    pub(super) fn span_of(&self, key: &str) -> Option<Range<usize>> {
        self.entries.get(key).map(Spanned::span)
    }

    /// The table under a key, for a look at its spans; it is read elsewhere.
    pub(super) fn peek(&self, key: &str) -> Option<Table<'t>> {
        match self.entries.get(key)?.get_ref() {
            DeValue::Table(entries) => Some(Table::new(entries, key, 0..0, self.problems)),
            _ => None,
        }
    }

    /// The value of a key, which is thereby known.
    pub(super) fn value(&self, key: &'static str) -> Option<Value<'t>> {
        self.known.borrow_mut().push(key);
        self.entries.get(key)
    }

    /// Report a value of the wrong type or form; `expected` completes "expected ..".
    pub(super) fn wrong(&self, key: &str, value: Value<'t>, expected: &str) {
        self.problems.push(
            Diagnostic::at(value.span(), format!("`{key}` has the wrong type"))
                .label(format!("expected {expected}, found {}", kind(value.get_ref()))),
        );
    }

    /// Report a missing key that has no default.
    pub(super) fn missing(&self, key: &str, example: &str) {
        self.problems.push(
            Diagnostic::at(self.span(), format!("{} has no `{key}`", self.title))
                .hint(format!("add `{key} = {example}`")),
        );
    }

    /// Report a value outside its range.
    fn out_of_range(&self, key: &str, span: Range<usize>, least: impl Display, most: impl Display) {
        self.problems.push(
            Diagnostic::at(span, format!("`{key}` is out of range")).label(format!("must be from {least} to {most}")),
        );
    }

    /// A string.
    pub(super) fn string(&self, key: &'static str) -> Option<Spanned<&'t str>> {
        let value = self.value(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some(Spanned::new(value.span(), text.as_ref())),
            _ => {
                self.wrong(key, value, "a string");
                None
            }
        }
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self, key: &'static str, default: bool) -> bool {
        match self.value(key).map(|value| (value, value.get_ref())) {
            None => default,
            Some((_, DeValue::Boolean(yes))) => *yes,
            Some((value, _)) => {
                self.wrong(key, value, "true or false");
                default
            }
        }
    }

    /// A count.
    pub(super) fn count(&self, key: &'static str, range: RangeInclusive<usize>, default: usize) -> usize {
        self.value(key).and_then(|value| self.count_in(key, value, range)).unwrap_or(default)
    }

    /// A count that has been looked up already.
    pub(super) fn count_in(&self, key: &str, value: Value<'t>, range: RangeInclusive<usize>) -> Option<usize> {
        let DeValue::Integer(integer) = value.get_ref() else {
            self.wrong(key, value, "a whole number");
            return None;
        };
        let count = whole(integer).and_then(|n| usize::try_from(n).ok()).filter(|n| range.contains(n));
        if count.is_none() {
            self.out_of_range(key, value.span(), range.start(), range.end());
        }
        count
    }

    /// A size in bytes: a string with a unit, or a plain number of bytes.
    pub(super) fn size(&self, key: &'static str, range: RangeInclusive<usize>, default: usize) -> usize {
        let Some(value) = self.value(key) else { return default };
        let bytes = match value.get_ref() {
            DeValue::Integer(integer) => whole(integer).unwrap_or(u64::MAX),
            DeValue::String(text) => match units::size(text) {
                Ok(bytes) => bytes,
                Err(message) => {
                    self.problems.push(
                        Diagnostic::at(value.span(), format!("`{key}` is not a size"))
                            .label(message)
                            .hint("for example \"64MiB\""),
                    );
                    return default;
                }
            },
            _ => {
                self.wrong(key, value, "a size such as \"64MiB\"");
                return default;
            }
        };
        match usize::try_from(bytes).ok().filter(|bytes| range.contains(bytes)) {
            Some(bytes) => bytes,
            None => {
                let shown = |bytes: usize| HumanSize(bytes as u64);
                self.out_of_range(key, value.span(), shown(*range.start()), shown(*range.end()));
                default
            }
        }
    }

    /// A duration with a unit.
    pub(super) fn duration(&self, key: &'static str, range: RangeInclusive<Duration>, default: Duration) -> Duration {
        let Some(value) = self.value(key) else { return default };
        let text = match value.get_ref() {
            DeValue::String(text) => text.as_ref(),
            DeValue::Integer(number) => {
                self.problems.push(
                    Diagnostic::at(value.span(), format!("`{key}` has no unit"))
                        .label("expected a duration such as \"5s\"")
                        .hint(format!("write \"{number}s\" or \"{number}ms\"")),
                );
                return default;
            }
            _ => {
                self.wrong(key, value, "a duration such as \"5s\"");
                return default;
            }
        };
        match units::duration(text) {
            Ok(duration) if range.contains(&duration) => duration,
            Ok(_) => {
                self.out_of_range(key, value.span(), HumanDuration(*range.start()), HumanDuration(*range.end()));
                default
            }
            Err(message) => {
                self.problems.push(
                    Diagnostic::at(value.span(), format!("`{key}` is not a duration"))
                        .label(message)
                        .hint("for example \"250ms\", \"5s\" or \"2m\""),
                );
                default
            }
        }
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&self, key: &'static str, words: &[(&'static str, T)], default: T) -> T {
        let Some(text) = self.string(key) else { return default };
        match words.iter().find(|(word, _)| *word == *text.get_ref()) {
            Some((_, value)) => *value,
            None => {
                let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                let mut problem = Diagnostic::at(text.span(), format!("`{key}` has no such value"))
                    .label(format!("expected {}", quoted_list(&names, "or")));
                if let Some(near) = nearest(text.get_ref(), &names) {
                    problem = problem.hint(format!("did you mean \"{near}\"?"));
                }
                self.problems.push(problem);
                default
            }
        }
    }

    /// A list of strings.
    pub(super) fn strings(&self, key: &'static str) -> Option<Vec<Spanned<&'t str>>> {
        let value = self.value(key)?;
        let DeValue::Array(items) = value.get_ref() else {
            self.wrong(key, value, "a list of strings");
            return None;
        };
        Some(self.strings_in(key, items))
    }

    /// The strings of a list; anything else in it is reported and left out.
    pub(super) fn strings_in(&self, key: &str, items: &'t DeArray<'t>) -> Vec<Spanned<&'t str>> {
        let text = |item: Value<'t>| match item.get_ref() {
            DeValue::String(text) => Some(Spanned::new(item.span(), text.as_ref())),
            _ => {
                self.wrong(key, item, "a string");
                None
            }
        };
        items.iter().filter_map(text).collect()
    }

    /// A table under a key.
    pub(super) fn table(&self, key: &'static str, title: &str) -> Option<Table<'t>> {
        let value = self.value(key)?;
        match value.get_ref() {
            DeValue::Table(entries) => Some(Table::new(entries, title, value.span(), self.problems)),
            _ => {
                self.wrong(key, value, &format!("a table; write it under {title}"));
                None
            }
        }
    }

    /// The tables of `[[key]]`.
    pub(super) fn tables(&self, key: &'static str) -> Vec<Table<'t>> {
        self.tables_titled(key, &format!("[[{key}]]"))
    }

    /// The same, below another table: `title` is what they have in the file.
    pub(super) fn tables_titled(&self, key: &'static str, title: &str) -> Vec<Table<'t>> {
        let Some(value) = self.value(key) else { return Vec::new() };
        match value.get_ref() {
            DeValue::Array(items) => items
                .iter()
                .filter_map(|item| match item.get_ref() {
                    DeValue::Table(entries) => Some(Table::new(entries, title, item.span(), self.problems)),
                    _ => {
                        self.wrong(key, item, "a table");
                        None
                    }
                })
                .collect(),
            DeValue::Table(_) => {
                self.problems.push(
                    Diagnostic::at(value.span(), format!("`{key}` can be there several times"))
                        .label("expected double brackets")
                        .hint(format!("write {title}")),
                );
                Vec::new()
            }
            _ => {
                self.wrong(key, value, &format!("tables; write each under {title}"));
                Vec::new()
            }
        }
    }

    /// Report the keys that nobody asked for.
    pub(super) fn finish(self) {
        let known = self.known.into_inner();
        for (key, _) in self.entries {
            let name = key.get_ref().as_ref();
            if known.contains(&name) {
                continue;
            }
            let place =
                if self.title.is_empty() { "at the top level".to_owned() } else { format!("in {}", self.title) };
            let hint = if let Some(near) = nearest(name, &known) {
                format!("did you mean `{near}`?")
            } else if name == "cache" && !self.title.is_empty() {
                // The one value of the top level: written below a table it becomes a key of that table.
                "`cache` stands above the first table of the file".to_owned()
            } else {
                let names: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
                format!("the keys {place} are {}", names.join(", "))
            };
            self.problems.push(Diagnostic::at(key.span(), format!("unknown key `{name}` {place}")).hint(hint));
        }
    }
}

/// A non-negative whole number.
fn whole(integer: &DeInteger<'_>) -> Option<u64> {
    u64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// What a value is, for "found ..".
fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(true) => "true",
        DeValue::Boolean(false) => "false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// The candidate that was probably meant: at most one slip for every three letters.
pub(crate) fn nearest<'c>(name: &str, candidates: &[&'c str]) -> Option<&'c str> {
    let limit = name.chars().count().div_ceil(3).min(3);
    candidates
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), *candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// `"a", "b" or "c"`
pub(super) fn quoted_list(words: &[&str], last: &str) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    match quoted.split_last() {
        Some((end, rest)) if !rest.is_empty() => format!("{} {last} {end}", rest.join(", ")),
        _ => quoted.concat(),
    }
}
