//! An event: as it is handed over, and as it is stored and delivered.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

/// The longest key, bytes.
pub const LONGEST_KEY: usize = 1024;
/// The longest media type, bytes.
pub const LONGEST_CONTENT_TYPE: usize = 255;
/// The most attributes of one event.
pub const MOST_ATTRIBUTES: usize = 32;
/// The longest name of an attribute, bytes (CloudEvents 1.0, section 3.1).
pub const LONGEST_NAME: usize = 20;
/// The longest value of an attribute, bytes.
pub const LONGEST_VALUE: usize = 4096;

/// Names that an event in the form of CloudEvents has anyway.
const TAKEN: [&str; 10] = [
    "specversion",
    "id",
    "source",
    "type",
    "subject",
    "time",
    "datacontenttype",
    "dataschema",
    "data",
    // Not a name by its syntax; here so that the list is whole.
    "data_base64",
];

/// An event that has been accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// UUIDv7 (RFC 9562): the same however often it is delivered.
    pub id: Uuid,
    /// Who published it: the plugin's name.
    pub source: Arc<str>,
    /// Words separated by dots.
    pub topic: Arc<str>,
    /// Events of a topic with the same key stay in order.
    pub key: Option<String>,
    /// The media type of the body.
    pub content_type: Option<String>,
    /// Names and values beside the body.
    pub attributes: Vec<(String, String)>,
    /// When it was accepted, since the Unix epoch.
    pub accepted: Duration,
    /// The event itself.
    pub body: Bytes,
}

/// An event that is to be accepted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Draft {
    /// Events of a topic with the same key stay in order.
    pub key: Option<String>,
    /// The media type of the body.
    pub content_type: Option<String>,
    /// Names and values beside the body.
    pub attributes: Vec<(String, String)>,
    /// The event itself.
    pub body: Bytes,
}

/// What an accepted event counts for.
pub(crate) fn size_of(event: &Event) -> u64 {
    size(event.key.as_ref(), event.content_type.as_ref(), &event.attributes, &event.body)
}

fn size(key: Option<&String>, content_type: Option<&String>, attributes: &[(String, String)], body: &Bytes) -> u64 {
    let text = |text: Option<&String>| text.map_or(0, String::len);
    let attributes: usize = attributes.iter().map(|(name, value)| name.len() + value.len()).sum();
    (text(key) + text(content_type) + attributes + body.len()) as u64
}

impl Draft {
    /// What it counts for, bytes: all of its text and its body.
    #[must_use]
    pub fn size(&self) -> u64 {
        size(self.key.as_ref(), self.content_type.as_ref(), &self.attributes, &self.body)
    }

    /// Whether everything beside the body has the syntax that every sink can carry.
    ///
    /// # Errors
    /// What is wrong, in a few words.
    pub fn check(&self) -> Result<(), String> {
        if let Some(key) = &self.key {
            check_text("the key", key, 1..=LONGEST_KEY)?;
        }
        if let Some(content_type) = &self.content_type {
            check_text("the content type", content_type, 1..=LONGEST_CONTENT_TYPE)?;
            if !content_type.is_ascii() {
                return Err("the content type has characters that are not ASCII".to_owned());
            }
        }
        if self.attributes.len() > MOST_ATTRIBUTES {
            return Err(format!("there are {} attributes; at most {MOST_ATTRIBUTES} fit", self.attributes.len()));
        }
        for (at, (name, value)) in self.attributes.iter().enumerate() {
            let letters = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
            if !letters || !(1..=LONGEST_NAME).contains(&name.len()) {
                return Err(format!(
                    "the name of an attribute is 1 to {LONGEST_NAME} of the characters a-z 0-9, and not {:?}",
                    name.chars().take(40).collect::<String>()
                ));
            }
            if TAKEN.contains(&name.as_str()) {
                return Err(format!("`{name}` is no name for an attribute: every event has one"));
            }
            if self.attributes.iter().take(at).any(|(other, _)| other == name) {
                return Err(format!("there are two attributes `{name}`"));
            }
            check_text("the value of an attribute", value, 0..=LONGEST_VALUE)?;
        }
        Ok(())
    }
}

fn check_text(what: &str, text: &str, length: std::ops::RangeInclusive<usize>) -> Result<(), String> {
    if !length.contains(&text.len()) {
        let (least, most) = (length.start(), length.end());
        return Err(format!("{what} has {} bytes, and not {least} to {most}", text.len()));
    }
    if text.chars().any(char::is_control) {
        return Err(format!("{what} has control characters"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(list: &[(&str, &str)]) -> Draft {
        let attributes = list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Draft { attributes, ..Draft::default() }
    }

    #[test]
    fn what_no_sink_could_carry_is_refused_with_its_reason() {
        let says = |draft: Draft| draft.check().expect_err("refused");
        let key = |key: String| Draft { key: Some(key), ..Draft::default() };
        assert_eq!(says(key(String::new())), "the key has 0 bytes, and not 1 to 1024");
        assert_eq!(says(key("k".repeat(1025))), "the key has 1025 bytes, and not 1 to 1024");
        assert_eq!(says(key("a\r\nb".to_owned())), "the key has control characters");
        let content_type = |text: &str| Draft { content_type: Some(text.to_owned()), ..Draft::default() };
        assert_eq!(says(content_type("text/ö")), "the content type has characters that are not ASCII");
        assert_eq!(
            says(attributes(&[("Upper", "x")])),
            "the name of an attribute is 1 to 20 of the characters a-z 0-9, and not \"Upper\""
        );
        assert!(says(attributes(&[("n".repeat(21).as_str(), "x")])).contains("1 to 20"));
        assert_eq!(says(attributes(&[("id", "x")])), "`id` is no name for an attribute: every event has one");
        assert_eq!(says(attributes(&[("a", "1"), ("a", "2")])), "there are two attributes `a`");
        assert_eq!(says(attributes(&[("a", "1\n2")])), "the value of an attribute has control characters");
        let many: Vec<(String, String)> = (0..33).map(|n| (format!("a{n}"), String::new())).collect();
        assert_eq!(says(Draft { attributes: many, ..Draft::default() }), "there are 33 attributes; at most 32 fit");
    }

    #[test]
    fn the_size_counts_everything_that_is_kept() {
        let draft = Draft {
            key: Some("key".to_owned()),
            content_type: Some("text/plain".to_owned()),
            attributes: vec![("name".to_owned(), "value".to_owned())],
            body: Bytes::from_static(b"body"),
        };
        assert_eq!(draft.check(), Ok(()));
        assert_eq!(draft.size(), 3 + 10 + 4 + 5 + 4);
    }
}
