//! Tells a webhook of every exchange, in batches, without a client waiting for it.
//!
//! Each instance collects what it has seen, and sends it off the requests' path: in `on_tick`, when a batch is full or its oldest
//! event has waited long enough. A webhook that does not answer is left alone for a while, and what finds no room meanwhile is
//! dropped and counted. At the end of the instance everything is sent within the deadline, and what cannot be sent goes to the
//! outbox, if a topic for that is configured.
//!
//! An instance that traps takes its events along. Where none may be lost, publish each before its response: see `audit`.

use serde::{Deserialize, Serialize};
use std::time::Duration;
use tidegate_sdk::prelude::*;
use tidegate_sdk::{Added, Batcher, fetch};

struct WebhookEvents {
    events: Batcher<Event>,
    /// Whether the log knows that events are being dropped.
    has_complained: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Where the batches go, as a JSON array. Its origin has to be granted: `http = ["https://hooks.example.com"]`.
    url: String,
    /// Events of a batch.
    #[serde(default = "default_batch")]
    batch: usize,
    /// How long an event waits for its batch to be full. It is looked at with every `tick`.
    #[serde(default = "default_age_ms")]
    age_ms: u64,
    /// Events that may wait; one more is dropped.
    #[serde(default = "default_capacity")]
    capacity: usize,
    /// How long the webhook may take for a batch.
    #[serde(default = "default_timeout_ms")]
    timeout_ms: u64,
    /// Where in the outbox events go that could not be sent by the end; lost without.
    missed: Option<String>,
}

fn default_batch() -> usize {
    100
}

fn default_age_ms() -> u64 {
    5_000
}

fn default_capacity() -> usize {
    10_000
}

fn default_timeout_ms() -> u64 {
    1_000
}

/// What the webhook hears of an exchange. A batch may come twice: `request` tells.
#[derive(Serialize)]
struct Event {
    request: String,
    method: String,
    path: String,
    status: u16,
}

#[tidegate_sdk::plugin]
impl Plugin for WebhookEvents {
    type Config = Config;

    fn configure(config: Config, cx: &mut Context) -> Result<Self> {
        if config.batch == 0 || config.batch > config.capacity {
            return Err(format!("`batch` has to be 1 to {} (`capacity`)", config.capacity).into());
        }
        let (url, timeout) = (config.url, Duration::from_millis(config.timeout_ms));
        let send = move |events: &[Event], deadline: Deadline| {
            let request = fetch::Request::post(&url).timeout(timeout.min(deadline.remaining())).json(events)?;
            let response = request.send()?;
            if response.is_success() { Ok(()) } else { Err(format!("the webhook says {}", response.status()).into()) }
        };
        let age = Duration::from_millis(config.age_ms);
        let mut events = Batcher::to("webhook", send).size(config.batch).age(age).capacity(config.capacity);
        if let Some(topic) = config.missed {
            events = events.or_outbox(topic);
        }
        Ok(Self { events: events.build(cx), has_complained: false })
    }

    fn on_response(&mut self, request: &Request, response: &mut Response) -> Result<()> {
        let event =
            Event { request: request.id(), method: request.method(), path: request.path(), status: response.status() };
        let is_dropped = self.events.add(event) == Added::Dropped;
        if is_dropped && !self.has_complained {
            log::warn!("events are being dropped: {} wait for the webhook", self.events.len());
        }
        self.has_complained = is_dropped;
        Ok(())
    }

    fn on_tick(&mut self) -> Result<()> {
        self.events.flush_if_due()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_sdk::testing;

    fn plugin(cx: &mut Context, extra: &str) -> Result<WebhookEvents> {
        let config = format!(r#"{{"url": "https://hooks.example.com/in", "batch": 2, "capacity": 3 {extra}}}"#);
        WebhookEvents::configure(serde_json::from_str(&config)?, cx)
    }

    fn exchanges(plugin: &mut WebhookEvents, count: usize) -> Result<()> {
        for n in 0..count {
            let request = Request::builder().target(&format!("/{n}")).build();
            plugin.on_response(&request, &mut Response::builder().build())?;
        }
        Ok(())
    }

    /// The paths of each batch that was sent.
    fn sent() -> Result<Vec<Vec<String>>> {
        let paths = |request: fetch::Request| -> Result<Vec<String>> {
            let events: Vec<serde_json::Value> = serde_json::from_slice(request.body_bytes())?;
            Ok(events.iter().filter_map(|event| event["path"].as_str().map(str::to_owned)).collect())
        };
        testing::fetch::take().into_iter().map(paths).collect()
    }

    #[test]
    fn full_batches_go_with_the_next_tick_and_the_rest_when_it_is_old() -> Result<()> {
        testing::fetch::answer(|_| Ok(fetch::Response::new(202)));
        let mut plugin = plugin(&mut Context::new(), "")?;
        exchanges(&mut plugin, 3)?;
        assert!(sent()?.is_empty(), "no client waits for the webhook");
        plugin.on_tick()?;
        assert_eq!(sent()?, [["/0", "/1"]]);
        testing::clock::advance(Duration::from_secs(5));
        plugin.on_tick()?;
        assert_eq!(sent()?, [["/2"]]);
        Ok(())
    }

    #[test]
    fn memory_is_bounded_while_the_webhook_is_down() -> Result<()> {
        testing::fetch::answer(|_| Ok(fetch::Response::new(503)));
        let mut plugin = plugin(&mut Context::new(), "")?;
        for _ in 0..10 {
            exchanges(&mut plugin, 10)?;
            let _ = plugin.on_tick();
        }
        assert_eq!((plugin.events.len(), plugin.events.dropped()), (3, 97));
        assert_eq!(sent()?.len(), 1, "it is left alone after a failure");
        Ok(())
    }

    #[test]
    fn the_end_sends_everything_or_leaves_it_to_the_outbox() -> Result<()> {
        testing::fetch::answer(|_| Ok(fetch::Response::new(202)));
        let mut cx = Context::new();
        exchanges(&mut plugin(&mut cx, "")?, 3)?;
        cx.shut_down(Deadline::never())?;
        assert_eq!(sent()?, [vec!["/0", "/1"], vec!["/2"]]);

        testing::fetch::answer(|_| Err(fetch::FetchError::Timeout));
        let mut cx = Context::new();
        exchanges(&mut plugin(&mut cx, r#", "missed": "webhook.missed""#)?, 3)?;
        cx.shut_down(Deadline::never())?;
        let published = testing::outbox::take();
        assert_eq!(published.len(), 3);
        assert!(published.iter().all(|event| event.topic == "webhook.missed"));
        Ok(())
    }

    #[test]
    fn without_a_topic_the_error_says_how_many_are_lost() -> Result<()> {
        let mut cx = Context::new();
        exchanges(&mut plugin(&mut cx, "")?, 3)?;
        let error = cx.shut_down(Deadline::never()).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.starts_with("webhook: 3 items of `webhook` were not sent"), "{error}");
        Ok(())
    }
}
