//! `campaign`: long proofs against real processes, built and run.

use crate::{bench, plugins, step};
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
}

/// How much of it.
#[derive(clap::Args, Default)]
pub(crate) struct StopArgs {
    /// Stops, at least; 1000 if nothing is said
    #[arg(long, value_name = "N", conflicts_with = "short")]
    stops: Option<u64>,
    /// Repeat the decisions of a campaign that has printed this number
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Every kind of stop once or twice, in less than a minute
    #[arg(long)]
    short: bool,
    /// Build with optimisations throughout, not only the dependencies: compiles for minutes, and the figures are those
    /// of a release
    #[arg(long)]
    release: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let Campaign::Stop(args) = &args.campaign;
    stop(args)
}

/// The form that is short enough for every change.
pub(crate) fn short_stop() -> Result<()> {
    stop(&StopArgs { short: true, ..StopArgs::default() })
}

fn stop(args: &StopArgs) -> Result<()> {
    plugins::build_default()?;
    let (mut build, profile) = (step::cargo(), if args.release { "release" } else { "debug" });
    match args.release {
        true => build.args(["build", "--release"]).args(bench::PACKAGES),
        // The whole workspace, as the tests do.
        false => build.args(["build", "--workspace", "--bins"]),
    };
    step::run("tidegate", &mut build)?;
    step::run("the campaign", target(args).arg("--no-run"))?;
    let mut campaign = target(args);
    campaign.arg("--quiet").env("TIDEGATE_BIN", step::target().join(profile).join("tidegate")).arg("--");
    for (name, number) in [("--stops", args.stops), ("--seed", args.seed)] {
        if let Some(number) = number {
            campaign.args([name, &number.to_string()]);
        }
    }
    if args.short {
        campaign.arg("--short");
    }
    step::run("campaign: stop", &mut campaign)
}

fn target(args: &StopArgs) -> Command {
    let mut cargo = step::cargo();
    cargo.arg("bench");
    match args.release {
        true => cargo.args(bench::PACKAGES),
        false => cargo.args(["--profile", "dev", "--workspace"]),
    };
    cargo.args(["--bench", "stop-campaign"]);
    cargo
}
