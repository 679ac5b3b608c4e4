//! Publishes every exchange to the outbox, before its client has the answer.
//!
//! `publish` returns when the event is the host's, and the response goes out after that: there is no answered request that the
//! audit does not know. That costs each response one wait for the outbox (which commits the events of many responses together). If
//! the outbox does not take the event, the hook fails, and the operator's `on_failure` decides: `closed` answers 503, `open`
//! lets the response through without an audit.
//!
//! It keeps nothing, so it has nothing to do at the end. A plugin that would rather lose an event than make a client wait
//! collects them: see `webhook-events`.

use serde::{Deserialize, Serialize};
use tidegate_sdk::outbox::{self, Message};
use tidegate_sdk::prelude::*;

struct Audit(Config);

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    /// Where the events go. The plugin has to be granted it: `outbox = ["audit.exchange"]`.
    topic: String,
    /// A request field whose value stands in the event, and orders it: events of the same user stay in order.
    user_header: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self { topic: "audit.exchange".to_owned(), user_header: None }
    }
}

/// What is noted of an exchange. (The host adds when, and which plugin says so.)
#[derive(Serialize)]
struct Exchange {
    request: String,
    client: String,
    method: String,
    authority: String,
    path: String,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
}

#[tidegate_sdk::plugin]
impl Plugin for Audit {
    type Config = Config;

    fn configure(config: Config) -> Result<Self> {
        Ok(Self(config))
    }

    fn on_response(&mut self, request: &Request, response: &mut Response) -> Result<()> {
        let user = self.0.user_header.as_deref().and_then(|name| request.header(name));
        let exchange = Exchange {
            request: request.id(),
            client: request.client_address(),
            method: request.method(),
            authority: request.authority(),
            path: request.path(),
            status: response.status(),
            user: user.clone(),
        };
        let message = Message::json(&exchange)?;
        outbox::publish(
            &self.0.topic,
            match user {
                Some(user) => message.key(user),
                None => message,
            },
        )?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_sdk::outbox::PublishError;
    use tidegate_sdk::testing;

    fn exchange(audit: &mut Audit) -> Result<()> {
        let request = Request::builder().method("PUT").target("/orders/7?token=secret").header("x-user", "ada").build();
        audit.on_response(&request, &mut Response::builder().status(201).build())
    }

    #[test]
    fn each_exchange_is_an_event_without_its_query() -> Result<()> {
        let mut audit = Audit::configure(Config::default())?;
        exchange(&mut audit)?;
        let published = testing::outbox::take();
        let [event] = &published[..] else { return Err(format!("one event: {published:?}").into()) };
        let body: serde_json::Value = serde_json::from_slice(event.message.body())?;
        let expected = serde_json::json!({
            "request": body.get("request"), "client": body.get("client"), "method": "PUT",
            "authority": body.get("authority"), "path": "/orders/7", "status": 201,
        });
        assert_eq!((event.topic.as_str(), &body), ("audit.exchange", &expected));
        assert_eq!(event.message.ordering_key(), None);
        Ok(())
    }

    #[test]
    fn events_of_a_user_carry_their_key() -> Result<()> {
        let config = Config { topic: "audit.user".to_owned(), user_header: Some("x-user".to_owned()) };
        exchange(&mut Audit::configure(config)?)?;
        let published = testing::outbox::take();
        let found: Vec<_> = published.iter().map(|it| (it.topic.as_str(), it.message.ordering_key())).collect();
        assert_eq!(found, [("audit.user", Some("ada"))]);
        Ok(())
    }

    #[test]
    fn an_event_that_is_not_taken_fails_the_call() -> Result<()> {
        let mut audit = Audit::configure(Config::default())?;
        testing::outbox::refuse(PublishError::Full);
        let error = exchange(&mut audit).err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some("the outbox is full"));
        Ok(())
    }
}
