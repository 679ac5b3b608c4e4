//! Publishes what it has seen in batches, and has the fault that its config names: for whoever claims to find such faults.

use std::hint::black_box;

use serde::Deserialize;
use tidegate_sdk::outbox::{self, Message};
use tidegate_sdk::prelude::*;

/// Bytes that are lost per request, by one that leaks.
const LEAK: usize = 1 << 10;

/// Rounds of work for a request, and for an event at the end.
const WORK: u64 = 2_000;

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum Fault {
    None,
    /// The end sends no batch that is not full.
    LosesLastBatch,
    /// A batch is published event by event.
    PublishesOneByOne,
    /// The end looks at its deadline after every thousandth event.
    ChecksRarely,
    /// Every request costs memory.
    Leaks,
    /// Every request costs a third more.
    Slower,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    fault: Fault,
    batch: usize,
}

struct Planted {
    config: Config,
    seen: Vec<String>,
}

#[tidegate_sdk::plugin]
impl Plugin for Planted {
    type Config = Config;

    fn configure(config: Config) -> Result<Self> {
        Ok(Self { config, seen: Vec::new() })
    }

    fn on_request(&mut self, request: &mut Request) -> Result<()> {
        match self.config.fault {
            Fault::Leaks => std::mem::forget(black_box(vec![1_u8; LEAK])),
            Fault::Slower => work(WORK + WORK / 2),
            _ => work(WORK),
        }
        self.seen.push(request.path());
        if self.seen.len() < self.config.batch {
            return Ok(());
        }
        self.publish()
    }

    fn shutdown(&mut self, deadline: Deadline) -> Result<()> {
        match self.config.fault {
            Fault::LosesLastBatch => return Ok(()),
            Fault::ChecksRarely => {
                for number in 0..u64::MAX {
                    if number % 1_000 == 0 && deadline.expired() {
                        return Err("there was no time for some".into());
                    }
                    work(WORK * 10);
                }
            }
            _ => {}
        }
        self.publish()
    }
}

impl Planted {
    fn publish(&mut self) -> Result<()> {
        let messages = self.seen.iter().map(|path| Message::new(path.clone()));
        if self.config.fault == Fault::PublishesOneByOne {
            for message in messages {
                outbox::publish("planted.seen", message)?;
            }
        } else {
            outbox::publish_all("planted.seen", messages)?;
        }
        self.seen.clear();
        Ok(())
    }
}

fn work(rounds: u64) {
    for round in 0..rounds {
        black_box(round);
    }
}
