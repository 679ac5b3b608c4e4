//! Topics of events, and patterns of topics: for the config, the outbox and the harness, so that a plugin under test may
//! publish what it may in a gateway.
//!
//! A topic is words of letters, digits, `-` and `_`, separated by dots. In a pattern, `*` stands for exactly one word, and
//! `>`, as the last one, for one or more.

use std::fmt;

/// The longest topic or pattern, bytes.
pub const LONGEST: usize = 255;

/// Whether this is a topic.
///
/// # Errors
/// What is wrong, in a few words.
pub fn check(topic: &str) -> Result<(), String> {
    if !(1..=LONGEST).contains(&topic.len()) {
        return Err(format!("a topic has 1 to {LONGEST} bytes, and not {}", topic.len()));
    }
    match topic.split('.').find(|word| !is_word(word)) {
        None => Ok(()),
        Some("") => Err("a topic has no empty words".to_owned()),
        Some(_) => Err("a topic is words of letters, digits, - and _, separated by dots".to_owned()),
    }
}

fn is_word(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// Which topics.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Pattern(Box<str>);

impl Pattern {
    /// Read a pattern.
    ///
    /// # Errors
    /// What is wrong, in a few words.
    pub fn parse(text: &str) -> Result<Self, String> {
        if !(1..=LONGEST).contains(&text.len()) {
            return Err(format!("a pattern has 1 to {LONGEST} bytes, and not {}", text.len()));
        }
        let mut words = text.split('.').peekable();
        while let Some(word) = words.next() {
            match word {
                "*" => {}
                ">" if words.peek().is_none() => {}
                ">" => return Err("`>` stands for all the words that follow, so it comes last".to_owned()),
                "" => return Err("a pattern has no empty words".to_owned()),
                word if is_word(word) => {}
                _ => {
                    return Err("a pattern is words of letters, digits, - and _, or `*`, separated by dots".to_owned());
                }
            }
        }
        Ok(Self(text.into()))
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this topic is one of them.
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        self.meets(topic)
    }

    /// Whether there is a topic that both match.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.meets(&other.0)
    }

    /// `other` is a topic or a pattern. A topic is a pattern that matches itself alone.
    fn meets(&self, other: &str) -> bool {
        let (mut ours, mut theirs) = (self.0.split('.'), other.split('.'));
        loop {
            match (ours.next(), theirs.next()) {
                (None, None) => return true,
                (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
                (Some(a), Some(b)) if a == b || a == "*" || b == "*" => {}
                _ => return false,
            }
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).expect("a pattern")
    }

    #[test]
    fn a_star_is_one_word_and_an_arrow_is_one_or_more() {
        for (text, yes, no) in [
            ("audit.login", vec!["audit.login"], vec!["audit", "audit.login.failed", "audit.logout", "Audit.login"]),
            ("audit.*", vec!["audit.login", "audit.-"], vec!["audit", "audit.login.failed", "billing.login"]),
            ("*.login", vec!["audit.login"], vec!["login", "a.b.login"]),
            ("audit.>", vec!["audit.login", "audit.login.failed"], vec!["audit", "audits.x"]),
            (">", vec!["a", "a.b.c"], vec![]),
        ] {
            let pattern = pattern(text);
            assert!(yes.iter().all(|topic| pattern.matches(topic)), "{text}");
            assert!(!no.iter().any(|topic| pattern.matches(topic)), "{text}");
        }
    }

    #[test]
    fn what_is_no_topic_or_no_pattern_is_refused() {
        for topic in ["", ".", "a.", ".a", "a..b", "a b", "a.*", "a.>", "ä", "a/b", "a\n", &"a".repeat(256)] {
            assert!(check(topic).is_err(), "{topic:?}");
        }
        for topic in ["a", "a.b-c.d_e", "A.0", &"a".repeat(255)] {
            assert_eq!(check(topic), Ok(()), "{topic:?}");
        }
        for text in ["", "a.", ">.a", "a.>.b", "a*", "**", "a.>>", "a b", &"a".repeat(256)] {
            assert!(Pattern::parse(text).is_err(), "{text:?}");
        }
    }

    fn words(letters: &'static str) -> impl Strategy<Value = String> {
        proptest::collection::vec(proptest::sample::select(letters.chars().collect::<Vec<_>>()), 1..4)
            .prop_map(|words| words.iter().map(char::to_string).collect::<Vec<_>>().join("."))
    }

    proptest! {
        #[test]
        fn patterns_overlap_exactly_if_some_topic_is_in_both(a in words("ab*"), b in words("ab*"), arrows in 0..4_u8) {
            let arrow = |text: String, yes: bool| if yes { format!("{text}.>") } else { text };
            let (a, b) = (pattern(&arrow(a, arrows & 1_u8 == 1_u8)), pattern(&arrow(b, arrows & 2_u8 == 2_u8)));
            // Every topic of up to five words over two letters: longer ones tell nothing new.
            let topics = (1..=5).flat_map(|length| {
                (0..1_u32 << length).map(move |bits| {
                    let word = |at| if bits >> at & 1_u32 == 1_u32 { "a" } else { "b" };
                    (0..length).map(word).collect::<Vec<_>>().join(".")
                })
            });
            let both = topics.clone().any(|topic| a.matches(&topic) && b.matches(&topic));
            prop_assert_eq!(a.overlaps(&b), both);
            prop_assert_eq!(b.overlaps(&a), both);
        }
    }
}
