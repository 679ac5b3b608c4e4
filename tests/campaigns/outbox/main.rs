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

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tidegate_tests::measure::arguments::Arguments;
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
    fn parse(mut arguments: Arguments) -> Result<Self> {
        let mut args = Self { kills: 120, rounds: 20, seed: rand::rng().random() };
        while let Some(argument) = arguments.next() {
            match &*argument {
                "--kills" => args.kills = usize::try_from(arguments.number(&argument)?)?,
                "--seed" => args.seed = arguments.number(&argument)?,
                "--short" => (args.kills, args.rounds) = (6, 2),
                other => return Err(arguments.unknown(other)),
            }
        }
        Ok(args)
    }
}

fn main() -> Result<ExitCode> {
    let args = Args::parse(Arguments::of("outbox"))?;
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
