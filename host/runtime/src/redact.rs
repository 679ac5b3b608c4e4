//! Keeps a plugin's secrets out of what it writes: the lines of its log, its stdout and stderr, its error texts; and those of
//! all plugins out of what the gateway records.
//!
//! It is there for accidents: a plugin that prints its configuration, a library that quotes a token in an error. A plugin
//! that wants to tell a secret can spell it in another way. What is replaced are the secrets as they are, and each line
//! of those that have several; secrets and lines of less than [`SHORTEST`] bytes are too likely to be there by chance.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::EndCause;
use crate::grants::Values;
use crate::text::cut;

/// Bytes that a secret has to have to be looked for.
pub(crate) const SHORTEST: usize = 8;

/// Lines of one secret that are looked for.
const MAX_LINES: usize = 256;

/// Bytes that are looked for at a time: a longer secret is looked for in parts. It bounds what a text costs, whatever the
/// secrets are like.
const PART: usize = 4 << 10;

/// Bytes of a text of a guest that are kept.
const MAX_TEXT: usize = 16 << 10;

/// What has to be replaced in what plugins write. Its `Debug` shows no secret.
#[derive(Default)]
pub struct Redaction {
    /// By their first byte, the longest first.
    patterns: BTreeMap<u8, Vec<Pattern>>,
}

struct Pattern {
    text: Vec<u8>,
    replacement: Arc<[u8]>,
}

/// What there is at a place of a text.
enum Found<'p> {
    /// Nothing of a secret.
    Nothing,
    /// A whole pattern.
    Whole(&'p Pattern),
    /// The text ends within a pattern.
    Beginning(&'p Pattern),
}

impl Redaction {
    /// What stands in place of the secret of this name.
    #[must_use]
    pub fn instead_of(name: &str) -> String {
        format!("[secret {name}]")
    }

    /// For a plugin with these values.
    pub(crate) fn of(values: &Values) -> Self {
        Self::of_all([values])
    }

    /// For plugins with these values.
    pub fn of_all<'v>(values: impl IntoIterator<Item = &'v Values>) -> Self {
        let mut patterns: BTreeMap<u8, Vec<Pattern>> = BTreeMap::new();
        for (name, secret) in values.into_iter().flat_map(|values| &values.secrets) {
            let replacement: Arc<[u8]> = Self::instead_of(name).into_bytes().into();
            let lines = secret.lines().map(str::trim).take(MAX_LINES).filter(|line| *line != secret.as_str());
            let texts = std::iter::once(secret.as_str()).chain(lines);
            for text in texts.flat_map(|text| text.as_bytes().chunks(PART)).filter(|text| text.len() >= SHORTEST) {
                let pattern = Pattern { text: text.to_vec(), replacement: Arc::clone(&replacement) };
                if let Some(first) = pattern.text.first() {
                    patterns.entry(*first).or_default().push(pattern);
                }
            }
        }
        for patterns in patterns.values_mut() {
            patterns.sort_by_key(|pattern| std::cmp::Reverse(pattern.text.len()));
        }
        Self { patterns }
    }

    fn at(&self, rest: &[u8]) -> Found<'_> {
        let Some(patterns) = rest.first().and_then(|first| self.patterns.get(first)) else { return Found::Nothing };
        // The longest come first: where one may still be coming, what is shorter has to wait.
        for pattern in patterns {
            if rest.starts_with(&pattern.text) {
                return Found::Whole(pattern);
            }
            if pattern.text.starts_with(rest) {
                return Found::Beginning(pattern);
            }
        }
        Found::Nothing
    }

    /// Bytes that are whole. Those that end within a secret end with the secret's replacement.
    #[must_use]
    pub fn bytes<'t>(&self, bytes: &'t [u8]) -> Cow<'t, [u8]> {
        if self.patterns.is_empty() {
            return Cow::Borrowed(bytes);
        }
        let mut stream = Redacted::default();
        let mut clean = stream.push(self, bytes);
        clean.extend(stream.finish(self));
        if clean == bytes { Cow::Borrowed(bytes) } else { Cow::Owned(clean) }
    }

    /// A text that is whole. One that ends within a secret ends with the secret's replacement.
    pub(crate) fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match self.bytes(text.as_bytes()) {
            Cow::Borrowed(_) => Cow::Borrowed(text),
            // Secrets are text, so what is left of text without them is text.
            Cow::Owned(clean) => Cow::Owned(String::from_utf8_lossy(&clean).into_owned()),
        }
    }

    /// The first `limit` bytes of what a text is without secrets. No more of it is looked at than that takes.
    pub(crate) fn cut<'t>(&self, text: &'t str, limit: usize) -> Cow<'t, str> {
        match self.text(cut(text, limit.saturating_add(PART))) {
            Cow::Borrowed(clean) => Cow::Borrowed(cut(clean, limit)),
            Cow::Owned(clean) => Cow::Owned(cut(&clean, limit).to_owned()),
        }
    }

    /// How a call ended, without the secrets in the texts of the guest.
    pub(crate) fn cause(&self, mut cause: EndCause) -> EndCause {
        match &mut cause {
            EndCause::Trap { message } | EndCause::Returned { message } | EndCause::Refused { message } => {
                let clean = self.cut(message, MAX_TEXT).into_owned();
                *message = clean;
            }
            EndCause::Cpu { .. }
            | EndCause::Wall { .. }
            | EndCause::Memory { .. }
            | EndCause::Stack
            | EndCause::Overloaded { .. }
            | EndCause::Unavailable(_)
            | EndCause::Abandoned => {}
        }
        cause
    }
}

impl std::fmt::Debug for Redaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let patterns: usize = self.patterns.values().map(Vec::len).sum();
        f.debug_struct("Redaction").field("patterns", &patterns).finish()
    }
}

/// A stream that is written in pieces. What may be the beginning of a secret is kept back until more is known.
#[derive(Default)]
pub(crate) struct Redacted {
    /// Less than the longest pattern.
    kept: Vec<u8>,
}

impl Redacted {
    /// Take a piece, and give out what is clean by now.
    pub(crate) fn push(&mut self, redaction: &Redaction, piece: &[u8]) -> Vec<u8> {
        if redaction.patterns.is_empty() {
            return piece.to_vec();
        }
        let mut bytes = std::mem::take(&mut self.kept);
        bytes.extend_from_slice(piece);
        let mut clean = Vec::with_capacity(bytes.len());
        let mut rest = bytes.as_slice();
        while let Some((first, after)) = rest.split_first() {
            match redaction.at(rest) {
                Found::Nothing => {
                    clean.push(*first);
                    rest = after;
                }
                Found::Whole(pattern) => {
                    clean.extend_from_slice(&pattern.replacement);
                    rest = rest.get(pattern.text.len()..).unwrap_or_default();
                }
                Found::Beginning(_) => {
                    self.kept = rest.to_vec();
                    break;
                }
            }
        }
        clean
    }

    /// No more will come: what was kept back, with the secrets that are whole replaced, and so the beginning of one if it
    /// is long enough to be one.
    pub(crate) fn finish(&mut self, redaction: &Redaction) -> Vec<u8> {
        let bytes = std::mem::take(&mut self.kept);
        let mut clean = Vec::with_capacity(bytes.len());
        let mut rest = bytes.as_slice();
        while let Some((first, after)) = rest.split_first() {
            let whole = redaction.patterns.get(first).into_iter().flatten().find(|it| rest.starts_with(&it.text));
            match (whole, redaction.at(rest)) {
                (Some(pattern), _) => {
                    clean.extend_from_slice(&pattern.replacement);
                    rest = rest.get(pattern.text.len()..).unwrap_or_default();
                }
                (None, Found::Beginning(pattern)) if rest.len() >= SHORTEST => {
                    clean.extend_from_slice(&pattern.replacement);
                    break;
                }
                _ => {
                    clean.push(*first);
                    rest = after;
                }
            }
        }
        clean
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn redaction(secrets: &[(&str, &str)]) -> Redaction {
        let secrets = secrets.iter().map(|(name, secret)| ((*name).to_owned(), (*secret).to_owned())).collect();
        Redaction::of(&Values { config: BTreeMap::new(), secrets })
    }

    #[test]
    fn a_secret_is_replaced_by_its_name_wherever_it_stands() {
        let redaction = redaction(&[("token", "s3cr3t-value"), ("longer", "s3cr3t-value-and-more"), ("short", "abc")]);
        assert_eq!(redaction.text("token=s3cr3t-value;"), "token=[secret token];");
        assert_eq!(redaction.text("s3cr3t-value-and-more"), "[secret longer]");
        assert_eq!(redaction.text("s3cr3t-values3cr3t-value"), "[secret token][secret token]");
        assert_eq!(redaction.text("abc s3cr3t"), "abc s3cr3t", "too short, and not long enough to be one");
        assert_eq!(redaction.text("cut off: s3cr3t-va"), "cut off: [secret longer]");
        assert!(matches!(redaction.text("nothing of it"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_secret_of_several_lines_is_found_whole_and_line_by_line() {
        let redaction = redaction(&[("key", "-----BEGIN KEY-----\nMIIBVwIBADANBg\nkq\n-----END KEY-----")]);
        assert_eq!(
            redaction.text("a -----BEGIN KEY-----\nMIIBVwIBADANBg\nkq\n-----END KEY----- b"),
            "a [secret key] b"
        );
        assert_eq!(redaction.text("\"MIIBVwIBADANBg\\nkq\""), "\"[secret key]\\nkq\"");
    }

    proptest! {
        #[test]
        fn however_it_is_cut_into_pieces_no_secret_gets_through(
            parts in prop::collection::vec(prop_oneof!["[ab]{0,12}", Just("abababab!x".to_owned()), Just("abababab".to_owned()),
                Just("first-line\nsecond-line".to_owned())], 0..12),
            cuts in prop::collection::vec(0usize..100, 0..20),
        ) {
            let secrets = [("one", "abababab!x"), ("two", "first-line\nsecond-line"), ("three", "bbbbbbbbaa")];
            let redaction = redaction(&secrets);
            let text = parts.concat();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).chain([0, text.len()]).collect();
            cuts.sort_unstable();
            let mut stream = Redacted::default();
            let mut clean = Vec::new();
            for pair in cuts.windows(2) {
                if let [from, to] = pair {
                    clean.extend(stream.push(&redaction, text.as_bytes().get(*from..*to).unwrap_or_default()));
                }
            }
            clean.extend(stream.finish(&redaction));
            let clean = String::from_utf8_lossy(&clean).into_owned();
            for (_, secret) in secrets {
                prop_assert!(!clean.contains(secret), "{clean}");
            }
            prop_assert_eq!(&clean, &redaction.text(&text).into_owned(), "the pieces do not matter");
        }
    }
}
