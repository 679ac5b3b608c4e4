//! Notes every exchange, writes the notes out in batches, and loses none of them at shutdown.

use serde::Deserialize;
use std::collections::VecDeque;
use std::time::Duration;
use tidegate_sdk::prelude::*;

struct Audit {
    config: Config,
    queue: VecDeque<Event>,
    /// Events that found the queue full.
    dropped: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    /// How many events are written at a time.
    batch: usize,
    /// How many may wait in memory; what comes on top is dropped, and counted.
    capacity: usize,
    /// How long writing one event takes, in milliseconds: stands for a slow sink.
    flush_delay_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { batch: 100, capacity: 10_000, flush_delay_ms: 0 }
    }
}

/// What is noted of an exchange.
struct Event {
    id: String,
    method: String,
    path: String,
    status: u16,
}

#[tidegate_sdk::plugin]
impl Plugin for Audit {
    type Config = Config;

    fn configure(config: Config) -> Result<Self> {
        if config.batch == 0 || config.batch > config.capacity {
            return Err(format!("`batch` has to be 1 to {} (`capacity`)", config.capacity).into());
        }
        Ok(Self { config, queue: VecDeque::new(), dropped: 0 })
    }

    fn on_response(&mut self, request: &Request, response: &mut Response) -> Result<()> {
        if self.queue.len() >= self.config.capacity {
            self.dropped += 1;
            return Ok(());
        }
        self.queue.push_back(Event {
            id: request.id(),
            method: request.method(),
            path: request.path(),
            status: response.status(),
        });
        // A slow sink would hold up the client: then everything waits for the shutdown.
        if self.queue.len() >= self.config.batch && self.config.flush_delay_ms == 0 {
            self.flush(Deadline::of_this_call())?;
        }
        Ok(())
    }

    fn shutdown(&mut self, deadline: Deadline) -> Result<()> {
        if self.dropped > 0 {
            log::warn!("{} events were dropped, the queue was full", self.dropped);
        }
        let waiting = self.queue.len();
        self.flush(deadline)?;
        log::info!("flushed {waiting} events");
        Ok(())
    }
}

impl Audit {
    /// Writes what waits, oldest first, until all is written or the time is nearly up.
    fn flush(&mut self, deadline: Deadline) -> Result<()> {
        let delay = Duration::from_millis(self.config.flush_delay_ms);
        // An event leaves the queue once it is written, so that what is left is what was not.
        while let Some(event) = self.queue.front() {
            if deadline.expired() || deadline.remaining() < delay {
                return Err(format!("the deadline came with {} events not written", self.queue.len()).into());
            }
            if !delay.is_zero() {
                std::thread::sleep(delay);
            }
            log::info!("{} {} {} {}", event.id, event.method, event.path, event.status);
            self.queue.pop_front();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audit(exchanges: usize, config: Config) -> Result<Audit> {
        let mut audit = Audit::configure(config)?;
        for _ in 0..exchanges {
            audit.on_response(&Request::builder().build(), &mut Response::builder().build())?;
        }
        Ok(audit)
    }

    #[test]
    fn a_full_batch_is_written_and_a_part_of_one_waits_for_shutdown() -> Result<()> {
        let mut audit = audit(7, Config { batch: 5, ..Config::default() })?;
        assert_eq!(audit.queue.len(), 2);
        audit.shutdown(Deadline::never())?;
        assert!(audit.queue.is_empty());
        Ok(())
    }

    #[test]
    fn a_deadline_that_comes_too_early_leaves_the_rest_and_says_how_many() -> Result<()> {
        let mut audit = audit(7, Config { flush_delay_ms: 20, ..Config::default() })?;
        let error = audit.shutdown(Deadline::after(Duration::from_millis(50))).err().ok_or("must fail")?;
        let left = audit.queue.len();
        assert!((4..=6).contains(&left), "{left}");
        assert_eq!(error.to_string(), format!("the deadline came with {left} events not written"));
        Ok(())
    }

    #[test]
    fn memory_is_bounded() -> Result<()> {
        let config = Config { batch: 3, capacity: 3, flush_delay_ms: 1 };
        let audit = audit(10, config)?;
        assert_eq!((audit.queue.len(), audit.dropped), (3, 7));
        Ok(())
    }
}
