//! Tells a broker's HTTP endpoint of every exchange, in batches. What the worker pool of a Go plugin becomes.

// ANCHOR: plugin
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tidegate_sdk::prelude::*;
use tidegate_sdk::{Batcher, fetch};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    url: String,
}

#[derive(Serialize)]
struct Event {
    request: String,
    path: String,
    status: u16,
}

struct Notify {
    events: Batcher<Event>,
}

#[tidegate_sdk::plugin]
impl Plugin for Notify {
    type Config = Config;

    // ANCHOR: batcher
    fn configure(config: Config, cx: &mut Context) -> Result<Self> {
        let send = move |events: &[Event], deadline: Deadline| {
            let timeout = deadline.remaining().min(Duration::from_secs(1));
            let response = fetch::Request::post(&config.url).timeout(timeout).json(events)?.send()?;
            if response.is_success() { Ok(()) } else { Err(format!("it says {}", response.status()).into()) }
        };
        let events = Batcher::to("broker", send)
            .size(100)
            .age(Duration::from_secs(5))
            .capacity(10_000)
            .or_outbox("broker.missed")
            .build(cx);
        Ok(Self { events })
    }

    fn on_response(&mut self, request: &Request, response: &mut Response) -> Result<()> {
        // Only collects: no client waits for the broker.
        self.events.add(Event { request: request.id(), path: request.path(), status: response.status() });
        Ok(())
    }

    fn on_tick(&mut self) -> Result<()> {
        // Full batches; everything when the oldest event is `age` old.
        self.events.flush_if_due()
    }
    // ANCHOR_END: batcher
}
// ANCHOR_END: plugin

// ANCHOR: tests
#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_sdk::testing;

    fn told(plugin: &mut Notify, count: usize) -> Result<()> {
        (0..count).try_for_each(|_| plugin.on_response(&Request::builder().build(), &mut Response::builder().build()))
    }

    #[test]
    fn the_rest_of_a_batch_goes_when_it_is_old() -> Result<()> {
        testing::fetch::answer(|_| Ok(fetch::Response::new(202)));
        let mut plugin = Notify::configure(Config { url: "https://broker.example.com".into() }, &mut Context::new())?;
        told(&mut plugin, 3)?;
        plugin.on_tick()?;
        assert!(testing::fetch::take().is_empty(), "neither full nor old");
        testing::clock::advance(Duration::from_secs(5));
        plugin.on_tick()?;
        assert_eq!(testing::fetch::take().len(), 1);
        Ok(())
    }

    #[test]
    fn the_end_keeps_what_the_broker_does_not_take() -> Result<()> {
        testing::fetch::answer(|_| Ok(fetch::Response::new(503)));
        let mut cx = Context::new();
        let mut plugin = Notify::configure(Config { url: "https://broker.example.com".into() }, &mut cx)?;
        told(&mut plugin, 3)?;
        cx.shut_down(Deadline::never())?;
        assert_eq!(testing::outbox::take().len(), 3);
        Ok(())
    }
}
// ANCHOR_END: tests
