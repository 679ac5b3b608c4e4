//! Publishes what a request asks for, and says in the response's headers what became of it.
//!
//! | request header | is |
//! |---|---|
//! | `x-publish` | the topic; without it nothing is published |
//! | `x-count` | how many events, 1 by default |
//! | `x-key` | the key of each |
//! | `x-size` | bytes of each body; without it, the body is `x-body` |
//! | `x-body` | the body, followed by the event's number if there are several |
//! | `x-content-type` | of each |
//! | `x-at-once` | anything: all in one call |
//!
//! With `topic` in its config it also publishes one event of 200 bytes for each request, and says nothing of it; with `topic`
//! and `quiet`, it makes that event and does not publish it.
//!
//! `x-published` on the response is `ok`, or what the first call that was refused was told; `x-ids` has the ids.

use tidegate_sdk::bindings::imports::tidegate::plugin::outbox::{self, Message, PublishError};
use tidegate_sdk::prelude::*;

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Publisher {
    topic: Option<String>,
    quiet: bool,
}

#[tidegate_sdk::plugin]
impl Plugin for Publisher {
    type Config = Self;

    fn configure(config: Self) -> Result<Self> {
        Ok(config)
    }

    fn on_request(&mut self, request: &mut Request) -> Result<()> {
        if let Some(topic) = &self.topic {
            let message = record(request);
            if !self.quiet {
                outbox::publish(topic, &message).map_err(describe)?;
            }
        }
        let Some(topic) = request.header("x-publish") else { return Ok(()) };
        let (result, ids) = publish(&topic, messages(request), request.header("x-at-once").is_some());
        request.set_note("published", result)?;
        request.set_note("ids", ids.join(" "))?;
        Ok(())
    }

    fn on_response(&mut self, request: &Request, response: &mut Response) -> Result<()> {
        for (note, header) in [("published", "x-published"), ("ids", "x-ids")] {
            if let Some(value) = request.note(note) {
                response.set_header(header, value)?;
            }
        }
        Ok(())
    }
}

/// As an audit has it.
fn record(request: &Request) -> Message {
    let body = format!("{{\"method\":{:?},\"path\":{:?},\"note\":\"{:0>140}\"}}", request.method(), request.path(), 0);
    Message {
        key: None,
        content_type: Some("application/json".to_owned()),
        attributes: Vec::new(),
        body: body.into_bytes(),
    }
}

fn messages(request: &Request) -> Vec<Message> {
    let number = |name| request.header(name).and_then(|text| text.parse::<usize>().ok());
    let count = number("x-count").unwrap_or(1);
    let body = |nth| match (number("x-size"), request.header("x-body")) {
        (Some(size), _) => vec![b'x'; size],
        (None, body) if count == 1 => body.unwrap_or_default().into_bytes(),
        (None, body) => format!("{}{nth}", body.unwrap_or_default()).into_bytes(),
    };
    let message = |nth| Message {
        key: request.header("x-key"),
        content_type: request.header("x-content-type"),
        attributes: Vec::new(),
        body: body(nth),
    };
    (0..count).map(message).collect()
}

fn publish(topic: &str, messages: Vec<Message>, at_once: bool) -> (String, Vec<String>) {
    if at_once {
        return match outbox::publish_all(topic, &messages) {
            Ok(ids) => ("ok".to_owned(), ids),
            Err(error) => (describe(error), Vec::new()),
        };
    }
    let mut ids = Vec::new();
    for message in &messages {
        match outbox::publish(topic, message) {
            Ok(id) => ids.push(id),
            Err(error) => return (describe(error), ids),
        }
    }
    ("ok".to_owned(), ids)
}

fn describe(error: PublishError) -> String {
    match error {
        PublishError::Full => "full".to_owned(),
        PublishError::TooLarge => "too-large".to_owned(),
        PublishError::NotGranted => "not-granted".to_owned(),
        PublishError::Invalid(what) => format!("invalid: {what}"),
        PublishError::Unavailable(reason) => format!("unavailable: {reason}"),
    }
}
