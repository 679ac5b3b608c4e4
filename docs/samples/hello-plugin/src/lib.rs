//! The plugin of the tutorial.

// ANCHOR: plugin
use serde::Deserialize;
use tidegate_sdk::prelude::*;

/// Names that an instance keeps. Without a bound they would fill its memory.
const MOST: usize = 1_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    greeting: String,
}

struct Hello {
    config: Config,
    /// Who was greeted, and is not in the log yet.
    greeted: Vec<String>,
}

#[tidegate_sdk::plugin]
impl Plugin for Hello {
    type Config = Config;

    fn configure(config: Config) -> Result<Self> {
        if config.greeting.is_empty() {
            return Err("`greeting` is empty".into());
        }
        Ok(Self { config, greeted: Vec::new() })
    }

    fn on_request(&mut self, request: &mut Request) -> Result<Verdict> {
        let Some(name) = request.path().strip_prefix("/hello/").map(str::to_owned) else {
            return Ok(Verdict::Forward);
        };
        let body = format!("{}, {name}\n", self.config.greeting);
        if self.greeted.len() < MOST {
            self.greeted.push(name);
        }
        Ok(Verdict::Respond(Reply::new(200).body(body)))
    }

    fn shutdown(&mut self, deadline: Deadline) -> Result<()> {
        while let Some(name) = self.greeted.pop() {
            if deadline.expired() {
                return Err(format!("{} names were not written", self.greeted.len() + 1).into());
            }
            log::info!("greeted {name}");
        }
        Ok(())
    }
}
// ANCHOR_END: plugin

// ANCHOR: tests
#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn hello() -> Result<Hello> {
        Hello::configure(Config { greeting: "good morning".to_owned() })
    }

    #[test]
    fn it_greets_by_name() -> Result<()> {
        let verdict = hello()?.on_request(&mut Request::builder().target("/hello/ann").build())?;
        let Verdict::Respond(reply) = verdict else { return Err("it was forwarded".into()) };
        assert_eq!(reply.body, b"good morning, ann\n");
        Ok(())
    }

    #[test]
    fn it_says_what_it_had_no_time_for() -> Result<()> {
        let mut hello = hello()?;
        hello.on_request(&mut Request::builder().target("/hello/ann").build())?;
        let error = hello.shutdown(Deadline::after(Duration::ZERO)).err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some("1 names were not written"));
        Ok(())
    }
}
// ANCHOR_END: tests
