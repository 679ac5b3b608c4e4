//! What a campaign is told when it is run.

use std::env;

use anyhow::{Context as _, Error, Result, anyhow};

/// The arguments of this process, one after the other.
#[derive(Debug)]
pub struct Arguments {
    campaign: &'static str,
    rest: env::Args,
}

impl Arguments {
    /// Those of the campaign of this name.
    #[must_use]
    pub fn of(campaign: &'static str) -> Self {
        let mut rest = env::args();
        // The program.
        rest.next();
        Self { campaign, rest }
    }

    /// The number that an argument is followed by.
    ///
    /// # Errors
    /// When nothing follows, or something else.
    pub fn number(&mut self, argument: &str) -> Result<u64> {
        let given = self.rest.next().with_context(|| format!("{argument} wants a number"))?;
        given.parse().with_context(|| format!("{argument} wants a number, not {given:?}"))
    }

    /// What to say of an argument that there is not.
    #[must_use]
    pub fn unknown(&self, argument: &str) -> Error {
        anyhow!("there is no argument `{argument}`: `cargo xtask campaign {} --help` lists them", self.campaign)
    }
}

impl Iterator for Arguments {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        // Cargo says that it is `cargo bench` that runs this.
        self.rest.by_ref().find(|argument| argument != "--bench")
    }
}
