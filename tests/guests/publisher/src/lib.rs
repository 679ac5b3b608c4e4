//! Publishes what the request says, and answers with the ids of the events, or with 507 and the error.
//!
//! | field | is |
//! |---|---|
//! | `x-topic` | the topic; without it the request is passed on |
//! | `x-events` | bodies, separated by `;`; more than one are published at once |
//! | `x-key` | the key of all of them |
//! | `x-tenant` | an attribute of all of them |

use tidegate_sdk::bindings::imports::tidegate::plugin::outbox::{self, Message};
use tidegate_sdk::prelude::*;

#[derive(Default)]
struct Publisher;

#[tidegate_sdk::plugin]
impl Plugin for Publisher {
    fn on_request(&mut self, request: &mut Request) -> Result<Verdict> {
        let Some(topic) = request.header("x-topic") else { return Ok(Verdict::Forward) };
        let message = |body: &str| Message {
            key: request.header("x-key"),
            content_type: Some("text/plain".to_owned()),
            attributes: request.header("x-tenant").map(|tenant| ("tenant".to_owned(), tenant)).into_iter().collect(),
            body: body.into(),
        };
        let bodies = request.header("x-events").unwrap_or_default();
        let messages: Vec<Message> = bodies.split(';').map(message).collect();
        let published = match messages.as_slice() {
            [one] => outbox::publish(&topic, one).map(|id| vec![id]),
            several => outbox::publish_all(&topic, several),
        };
        Ok(Verdict::Respond(match published {
            Ok(ids) => Reply::new(200).header("x-event-ids", ids.join(",")),
            Err(error) => Reply::new(507).body(format!("{error:?}\n")),
        }))
    }
}
