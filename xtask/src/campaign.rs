//! `campaign`: long proofs against real processes, built and run.

use crate::{bench, nats, plugins, step};
use anyhow::Result;
use std::process::Command;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    campaign: Campaign,
}

#[derive(clap::Subcommand)]
enum Campaign {
    /// Stop plugins that misbehave in every way, for every reason, in real processes under load; check how each stop
    /// ends and that no request is lost, and measure how late stops end
    Stop(StopArgs),
    /// Kill gateways and brokers while plugins publish events, fill disks and damage files; check that every event that
    /// was accepted arrives at every sink, in the order of its key, and that none is lost in silence
    Outbox(OutboxArgs),
}

/// How much of it.
#[derive(clap::Args, Default)]
pub(crate) struct StopArgs {
    /// Stops, at least; 1000 if nothing is said
    #[arg(long, value_name = "N", conflicts_with = "short")]
    stops: Option<u64>,
    #[command(flatten)]
    common: CommonArgs,
}

/// How much of it.
#[derive(clap::Args, Default)]
pub(crate) struct OutboxArgs {
    /// Gateways that are killed; 120 if nothing is said
    #[arg(long, value_name = "N", conflicts_with = "short")]
    kills: Option<u64>,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(clap::Args, Default)]
struct CommonArgs {
    /// Repeat the decisions of a campaign that has printed this number
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Everything once or twice, in less than a minute
    #[arg(long)]
    short: bool,
    /// Build with optimisations throughout, not only the dependencies: compiles for minutes, and the figures are those
    /// of a release
    #[arg(long)]
    release: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.campaign {
        Campaign::Stop(args) => stop(args),
        Campaign::Outbox(args) => outbox(args),
    }
}

/// The forms that are short enough for every change.
pub(crate) fn short() -> Result<()> {
    let common = || CommonArgs { short: true, ..CommonArgs::default() };
    stop(&StopArgs { stops: None, common: common() })?;
    outbox(&OutboxArgs { kills: None, common: common() })
}

fn stop(args: &StopArgs) -> Result<()> {
    plugins::build_default()?;
    let mut campaign = built("stop-campaign", &args.common)?;
    add(&mut campaign, &[("--stops", args.stops)], &args.common);
    step::run("campaign: stop", &mut campaign)
}

fn outbox(args: &OutboxArgs) -> Result<()> {
    plugins::build_default()?;
    let nats = nats::prepare();
    let mut campaign = built("outbox-campaign", &args.common)?;
    add(&mut campaign, &[("--kills", args.kills)], &args.common);
    step::run("campaign: outbox", nats.tell(&mut campaign))
}

/// The gateway and the campaign, built; what runs the latter.
fn built(target: &str, args: &CommonArgs) -> Result<Command> {
    let (mut build, profile) = (step::cargo(), if args.release { "release" } else { "debug" });
    match args.release {
        true => build.args(["build", "--release"]).args(bench::PACKAGES),
        // The whole workspace, as the tests do.
        false => build.args(["build", "--workspace", "--bins"]),
    };
    step::run("tidegate", &mut build)?;
    step::run("the campaign", bench_target(target, args).arg("--no-run"))?;
    let mut campaign = bench_target(target, args);
    campaign.arg("--quiet").env("TIDEGATE_BIN", step::target().join(profile).join("tidegate")).arg("--");
    Ok(campaign)
}

fn add(campaign: &mut Command, numbers: &[(&str, Option<u64>)], args: &CommonArgs) {
    for (name, number) in numbers.iter().chain(&[("--seed", args.seed)]) {
        if let Some(number) = number {
            campaign.args([*name, &number.to_string()]);
        }
    }
    if args.short {
        campaign.arg("--short");
    }
}

fn bench_target(target: &str, args: &CommonArgs) -> Command {
    let mut cargo = step::cargo();
    cargo.arg("bench");
    match args.release {
        true => cargo.args(bench::PACKAGES),
        false => cargo.args(["--profile", "dev", "--workspace"]),
    };
    cargo.args(["--bench", target]);
    cargo
}
