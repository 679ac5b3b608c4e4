//! An event as one line of JSON, in the JSON format of CloudEvents 1.0.
//!
//! | member | is |
//! |---|---|
//! | `specversion` | `1.0` |
//! | `id`, `type` | the event's id, its topic |
//! | `source` | its publisher, `/plugins/NAME` |
//! | `subject` | the key, if there is one |
//! | `time` | when it was accepted, RFC 3339 in UTC |
//! | `datacontenttype` | the media type, if there is one |
//! | each attribute | under its name |
//! | `data` | the body: as it is if it is JSON, a string if it is UTF-8 text |
//! | `data_base64` | the body otherwise |

use std::fmt::Write as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::cloud_event::source_of;
use crate::event::Event;

/// Nesting that readers of JSON may be trusted with. A body that has more of it goes as a string.
const DEEPEST: usize = 64;

/// The line, with its newline. It has no other.
#[must_use]
pub fn line(event: &Event) -> String {
    let mut line = String::with_capacity(event.body.len() + 256);
    line.push_str("{\"specversion\":\"1.0\"");
    member(&mut line, "id", &event.id.hyphenated().to_string());
    member(&mut line, "source", &source_of(event, ""));
    member(&mut line, "type", &event.topic);
    if let Some(key) = &event.key {
        member(&mut line, "subject", key);
    }
    member(&mut line, "time", &timestamp(event.accepted));
    if let Some(content_type) = &event.content_type {
        member(&mut line, "datacontenttype", content_type);
    }
    for (name, value) in &event.attributes {
        member(&mut line, name, value);
    }
    let text = std::str::from_utf8(&event.body).ok();
    let json = text.filter(|_| event.content_type.as_deref().is_some_and(is_json)).and_then(one_line);
    match (json, text) {
        (Some(json), _) => {
            line.push_str(",\"data\":");
            line.push_str(&json);
        }
        (None, Some(text)) => member(&mut line, "data", text),
        (None, None) => member(&mut line, "data_base64", &STANDARD.encode(&event.body)),
    }
    line.push_str("}\n");
    line
}

fn member(line: &mut String, name: &str, value: &str) {
    // Strings always become JSON.
    let _ = write!(line, ",\"{name}\":{}", serde_json::Value::from(value));
}

/// `application/json`, or anything in `+json`, whatever parameters follow.
fn is_json(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || kind == "text/json" || kind.ends_with("+json")
}

/// The same JSON without line breaks; `None` if it is none. Numbers, and the order of members, stay as they are.
fn one_line(text: &str) -> Option<String> {
    serde_json::from_str::<serde::de::IgnoredAny>(text).ok()?;
    let (mut line, mut in_string, mut escaped, mut depth) = (String::with_capacity(text.len()), false, false, 0_usize);
    for c in text.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => in_string = !in_string,
            _ if in_string => {}
            // Control characters are not allowed in strings, so these are between things.
            '\n' | '\r' | '\t' => continue,
            '{' | '[' => depth += 1,
            '}' | ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEEPEST {
            return None;
        }
        line.push(c);
    }
    Some(line)
}

/// A time since the Unix epoch as RFC 3339 has it, in UTC, with microseconds.
#[must_use]
pub fn timestamp(since_epoch: Duration) -> String {
    let (days, second) = (since_epoch.as_secs() / 86_400, since_epoch.as_secs() % 86_400);
    // Days are counted from the first of March of year 0, so that the leap day is the last of a year; an era has 400 years.
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + next;
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:06}Z", since_epoch.subsec_micros())
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a missing member fails the test")]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn event(content_type: Option<&str>, body: &[u8]) -> Event {
        Event {
            id: Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_0000_0001),
            source: Arc::from("audit"),
            topic: Arc::from("audit.login"),
            key: Some("alice \"a\"".to_owned()),
            content_type: content_type.map(str::to_owned),
            attributes: vec![("traceparent".to_owned(), "00-1".to_owned())],
            accepted: Duration::from_micros(1_700_000_000_000_001),
            body: Bytes::copy_from_slice(body),
        }
    }

    fn ending(content_type: Option<&str>, body: &[u8]) -> String {
        let line = line(&event(content_type, body));
        line.split_once("\"traceparent\":\"00-1\",").expect("the attribute").1.to_owned()
    }

    #[test]
    fn a_line_has_the_members_of_cloudevents() {
        assert_eq!(
            line(&event(Some("application/json"), b"{\"n\": 1}")),
            "{\"specversion\":\"1.0\",\"id\":\"01990000-0000-7000-8000-000000000001\",\"source\":\"/plugins/audit\",\
             \"type\":\"audit.login\",\"subject\":\"alice \\\"a\\\"\",\"time\":\"2023-11-14T22:13:20.000001Z\",\
             \"datacontenttype\":\"application/json\",\"traceparent\":\"00-1\",\"data\":{\"n\": 1}}\n"
        );
    }

    #[test]
    fn a_body_goes_as_json_as_text_or_as_base64() {
        let json = Some("application/problem+json; charset=utf-8");
        assert_eq!(
            ending(json, b"{\n \"big\": 12345678901234567890123,\n \"a\": \"x\\n\"\n}"),
            "\"data\":{ \"big\": 12345678901234567890123, \"a\": \"x\\n\"}}\n"
        );
        assert_eq!(ending(json, b"{oops"), "\"data\":\"{oops\"}\n");
        assert_eq!(ending(json, "[".repeat(100).as_bytes()), format!("\"data\":\"{}\"}}\n", "[".repeat(100)));
        let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
        assert_eq!(ending(json, deep.as_bytes()), format!("\"data\":\"{deep}\"}}\n"));
        assert_eq!(ending(None, b"{\"n\":1}"), "\"data\":\"{\\\"n\\\":1}\"}\n");
        assert_eq!(ending(Some("text/plain"), "zwei\nZeilen".as_bytes()), "\"data\":\"zwei\\nZeilen\"}\n");
        assert_eq!(ending(None, &[0xff, 0x00]), "\"data_base64\":\"/wA=\"}\n");
        assert_eq!(ending(json, b""), "\"data\":\"\"}\n");
    }

    #[test]
    fn timestamps_follow_the_calendar() {
        let at = |seconds| timestamp(Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(at(951_782_399), "2000-02-28T23:59:59.000000Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.000000Z");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00.000000Z");
    }

    proptest! {
        #[test]
        fn every_event_is_one_line_of_json(
            body in proptest::collection::vec(any::<u8>(), 0..64),
            json in any::<bool>(),
            value in "\\PC{0,8}",
        ) {
            let mut event = event(json.then_some("application/json"), &body);
            event.attributes = vec![("a".to_owned(), value.clone())];
            let line = line(&event);
            prop_assert_eq!(line.matches('\n').count(), 1);
            let read: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            prop_assert_eq!(&read["a"], &serde_json::Value::from(value));
        }
    }
}
