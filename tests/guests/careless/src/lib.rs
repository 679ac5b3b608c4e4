//! A plugin that is right but for one mistake, which its config names: each is one that authors make, and that the
//! conformance kit has to find.
//!
//! It notes each exchange, and writes its notes up in `shutdown`, which takes a while.

use std::hint::black_box;
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use tidegate_sdk::outbox::{self, Message};
use tidegate_sdk::prelude::*;

/// What is wrong with it.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum Mistake {
    #[default]
    None,
    /// `shutdown` looks at its deadline once in 64 notes.
    Overrun,
    /// What is kept of a request is never let go.
    Leak,
    /// What a request costs depends on the hour.
    Clock,
    /// A percent sign is taken to be followed by two digits.
    Decode,
    /// An event that the outbox does not take is a panic.
    Publish,
    /// `on-tick` panics as soon as there are notes.
    Tick,
    /// `shutdown` returns an error although nothing is wrong.
    Complain,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Config {
    mistake: Mistake,
}

struct Careless {
    mistake: Mistake,
    notes: Vec<u32>,
    kept: Vec<Vec<u8>>,
}

/// More than the time that one note takes.
const MARGIN: Duration = Duration::from_millis(3);

/// Notes that it keeps; the oldest ones go first.
const MOST: usize = 200;

#[tidegate_sdk::plugin]
impl Plugin for Careless {
    type Config = Config;

    fn configure(config: Config) -> Result<Self> {
        Ok(Self { mistake: config.mistake, notes: Vec::new(), kept: Vec::new() })
    }

    fn on_request(&mut self, request: &mut Request) -> Result<Verdict> {
        match self.mistake {
            Mistake::Leak => self.kept.push(vec![7; 100]),
            Mistake::Clock => {
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
                work(now.as_secs() / 3_600 % 24 + 1);
            }
            Mistake::Decode => {
                decode(&request.path());
            }
            _ => {}
        }
        Ok(Verdict::Forward)
    }

    fn on_response(&mut self, _request: &Request, response: &mut Response) -> Result<()> {
        if self.notes.len() == MOST {
            self.notes.remove(0);
        }
        self.notes.push(u32::from(response.status()));
        if self.mistake == Mistake::Publish {
            outbox::publish("careless.notes", Message::new("noted")).expect("the outbox takes it");
        }
        Ok(())
    }

    fn on_tick(&mut self) -> Result<()> {
        assert!(self.mistake != Mistake::Tick || self.notes.is_empty(), "there are notes");
        Ok(())
    }

    fn shutdown(&mut self, deadline: Deadline) -> Result<()> {
        let every = if self.mistake == Mistake::Overrun { 64 } else { 1 };
        for (number, _) in self.notes.iter().enumerate() {
            if number % every == 0 && deadline.remaining() < MARGIN {
                return Err(format!("{} notes are lost", self.notes.len() - number).into());
            }
            // Nearly a millisecond.
            work(20);
        }
        match self.mistake {
            Mistake::Complain => Err("it has been a long day".into()),
            _ => Ok(()),
        }
    }
}

/// Compute; each unit is some thousand instructions.
fn work(units: u64) {
    let mut sum = 0_u64;
    for n in 0..units * 2_000 {
        sum = black_box(sum.wrapping_add(n));
    }
    black_box(sum);
}

/// As its author thought that percent-encoding goes.
fn decode(path: &str) -> String {
    let mut decoded = String::new();
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        let (digits, behind) = after.split_at(2);
        let byte = u8::from_str_radix(digits, 16).expect("two hexadecimal digits");
        decoded.push_str(before);
        decoded.push(char::from(byte));
        rest = behind;
    }
    decoded.push_str(rest);
    decoded
}
