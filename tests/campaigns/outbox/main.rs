//! The outbox under everything that may happen to it: gateways that are killed, brokers that go, disks that are full or
//! lie. `cargo xtask campaign outbox`.
//!
//! Real gateway processes with a plugin that publishes numbered events, under traffic. The client notes what the plugin
//! answered, the receivers note what they took, and at the end the two are compared (`evidence`): whatever was accepted
//! has arrived at every sink, nothing else has, and the order of each key holds, up to duplicates.

#![expect(clippy::indexing_slicing, reason = "JSON that lacks a key gives null")]

mod damage;
mod evidence;
mod kills;
mod ledger;
mod scene;
mod traffic;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tidegate_tests::measure::machine;
use tidegate_tests::measure::table::say;
use tidegate_tests::nats;

use crate::evidence::Findings;

struct Args {
    /// Gateways that are killed under traffic.
    kills: usize,
    /// Rounds of each kind of damage to the file.
    rounds: usize,
    seed: u64,
}

impl Args {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut args = Self { kills: 120, rounds: 20, seed: rand::rng().random() };
        while let Some(argument) = arguments.next() {
            let mut number = || {
                let given = arguments.next().with_context(|| format!("{argument} wants a number"))?;
                given.parse::<u64>().with_context(|| format!("{argument} wants a number, not {given:?}"))
            };
            match &*argument {
                // Cargo says that it is `cargo bench` that runs this.
                "--bench" => {}
                "--kills" => args.kills = usize::try_from(number()?)?,
                "--seed" => args.seed = number()?,
                "--short" => (args.kills, args.rounds) = (6, 2),
                other => bail!("there is no argument `{other}`: `cargo xtask campaign outbox --help` lists them"),
            }
        }
        Ok(args)
    }
}

fn main() -> Result<ExitCode> {
    let args = Args::parse(std::env::args().skip(1))?;
    say(&format!("{}\nseed {}", machine::description(), args.seed))?;
    if let (Some(why), None) = (std::env::var_os(nats::WITHOUT), nats::installed()) {
        say(&format!("SKIPPED, there is no nats-server: {}", why.to_string_lossy()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let (began, load) = (Instant::now(), machine::load());
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let findings = tokio.block_on(campaign(&args))?;
    for what in &findings.wrong {
        say(&format!("WRONG: {what}"))?;
    }
    say(&format!(
        "\n{} violations; took {:.0} s; load average {load} before, {} after",
        findings.wrong.len(),
        began.elapsed().as_secs_f64(),
        machine::load()
    ))?;
    Ok(if findings.wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn campaign(args: &Args) -> Result<Findings> {
    let mut random = StdRng::seed_from_u64(args.seed);
    let mut findings = kills::run(args.kills, random.random()).await?;
    findings.add(damage::run(args.rounds, random.random()).await?);
    Ok(findings)
}
