//! Tells each client its number, counts responses by status, and writes the counts to the log when it is stopped.

use std::collections::BTreeMap;

use serde::Deserialize;
use tidegate_sdk::prelude::*;

struct Visits {
    config: Config,
    /// Responses by status. Each instance has a map of its own.
    counts: BTreeMap<u16, u64>,
    total: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    /// The name of the field that tells the number.
    header: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { header: "x-visit".to_owned() }
    }
}

#[tidegate_sdk::plugin]
impl Plugin for Visits {
    type Config = Config;

    fn configure(config: Config) -> Result<Self> {
        Ok(Self { config, counts: BTreeMap::new(), total: 0 })
    }

    fn on_response(&mut self, _request: &Request, response: &mut Response) -> Result<()> {
        self.total += 1;
        *self.counts.entry(response.status()).or_default() += 1;
        response.set_header(&self.config.header, self.total.to_string())?;
        Ok(())
    }

    /// What is kept in memory is lost unless it is dealt with here, before the deadline.
    fn shutdown(&mut self, deadline: Deadline) -> Result<()> {
        while let Some((status, count)) = self.counts.pop_first() {
            if deadline.expired() {
                return Err(format!("{} counts were not written: the time is up", self.counts.len() + 1).into());
            }
            log::info!("status {status}: {count}");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_their_number() -> Result<()> {
        let mut visits = Visits::configure(Config::default())?;
        for number in ["1", "2"] {
            let mut response = Response::builder().status(200).build();
            visits.on_response(&Request::builder().build(), &mut response)?;
            assert_eq!(response.header("x-visit").as_deref(), Some(number));
        }
        Ok(())
    }

    #[test]
    fn nothing_is_left_when_it_has_been_stopped() -> Result<()> {
        let mut visits = Visits::configure(Config::default())?;
        visits.on_response(&Request::builder().build(), &mut Response::builder().status(404).build())?;
        visits.shutdown(Deadline::never())?;
        assert!(visits.counts.is_empty());
        Ok(())
    }
}
