//! An event as a CloudEvent (CloudEvents 1.0.2) in binary mode: the body is the body, and the rest stands in header
//! fields whose names begin with `ce-`. HTTP and NATS carry the same fields. What says who published it is made here for
//! every kind of sink.

use std::fmt::Write as _;

use super::Problem;
use super::json::timestamp;
use crate::event::Event;

/// The fields of an event but for the content type. Values are printable ASCII.
///
/// `source` comes before `/plugins/NAME` in the field `ce-source`.
pub(super) fn fields(event: &Event, source: &str) -> Vec<(String, String)> {
    let mut fields = Vec::with_capacity(7 + event.attributes.len());
    let mut field = |name: &str, value: &str| fields.push((format!("ce-{name}"), percent_encoded(value)));
    field("specversion", "1.0");
    field("id", &event.id.to_string());
    field("source", &source_of(event, source));
    field("type", &event.topic);
    field("time", &timestamp(event.accepted));
    if let Some(key) = &event.key {
        field("subject", key);
    }
    for (name, value) in &event.attributes {
        field(name, value);
    }
    fields
}

/// Who published an event, as CloudEvents wants it: a URI reference. The names of plugins need no encoding in one.
///
/// `before` comes first: empty, or a URI without a slash at its end.
pub(super) fn source_of(event: &Event, before: &str) -> String {
    format!("{before}/plugins/{}", event.source)
}

/// The content type, if there is one. One that makes the receiver look for the whole event in the body, names of its own
/// choice among them, is refused: then the fields would not be those of the gateway.
pub(super) fn content_type(event: &Event) -> Result<Option<&str>, Problem> {
    let Some(content_type) = event.content_type.as_deref() else { return Ok(None) };
    let media_type = content_type.trim_start().to_ascii_lowercase();
    if media_type.starts_with("application/cloudevents") {
        let problem = "its content type is that of a CloudEvent in structured mode, and events are sent in binary mode";
        return Err(Problem::Refused(problem.to_owned()));
    }
    Ok(Some(content_type))
}

/// HTTP Protocol Binding for CloudEvents 1.0.2, section 3.1.3.2: space, `"`, `%` and whatever is not printable ASCII.
fn percent_encoded(value: &str) -> String {
    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'"' | b'%' => drop(write!(encoded, "%{byte:02X}")),
            b'!'..=b'~' => encoded.push(char::from(byte)),
            _ => drop(write!(encoded, "%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use uuid::Uuid;

    use super::*;

    fn event() -> Event {
        Event {
            id: Uuid::from_u128(7),
            source: "audit".into(),
            topic: "audit.login".into(),
            key: Some("Ü 1%".into()),
            content_type: Some("application/json".into()),
            attributes: vec![("tenant".into(), "a \"b\"".into()), ("empty".into(), String::new())],
            accepted: Duration::from_millis(1_790_000_000_123),
            body: Bytes::new(),
        }
    }

    #[test]
    fn an_event_has_the_fields_of_a_cloud_event() {
        let fields = fields(&event(), "https://gateway.example");
        let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(
            fields,
            [
                ("ce-specversion", "1.0"),
                ("ce-id", "00000000-0000-0000-0000-000000000007"),
                ("ce-source", "https://gateway.example/plugins/audit"),
                ("ce-type", "audit.login"),
                ("ce-time", "2026-09-21T14:13:20.123000Z"),
                ("ce-subject", "%C3%9C%201%25"),
                ("ce-tenant", "a%20%22b%22"),
                ("ce-empty", ""),
            ]
        );
    }

    #[test]
    fn a_body_that_would_speak_for_the_gateway_is_refused() {
        for content_type in ["application/cloudevents+json", " Application/CloudEvents; charset=utf-8"] {
            let event = Event { content_type: Some(content_type.into()), ..event() };
            assert!(matches!(super::content_type(&event), Err(Problem::Refused(_))), "{content_type}");
        }
        assert_eq!(super::content_type(&event()), Ok(Some("application/json")));
    }
}
