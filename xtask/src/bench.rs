//! `bench`: the release binary and the benchmarks, built and run.

use crate::{languages, plugins, step};
use anyhow::Result;
use clap::ValueEnum;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which of them; all, if none is named
    #[arg(value_enum)]
    suites: Vec<Suite>,
    /// Short runs: to see whether everything works, and about where things stand
    #[arg(long)]
    quick: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Suite {
    /// What one hook call costs
    Calls,
    /// What plugins cost the gateway
    Throughput,
    /// What a plugin that spins costs those who have nothing to do with it
    Bystander,
    /// How late a stop ends
    Stops,
    /// What an instance and an idle gateway hold
    Memory,
    /// How fast events are accepted, and what publishing costs a request
    Outbox,
    /// What it costs to record, and whether the recorder keeps up
    Recording,
    /// What the language of a plugin costs; only if it is named, because it takes their tools
    Languages,
}

/// What is built in release, always together: for other packages, cargo would choose other features for shared
/// dependencies, and compile wasmtime again.
pub(crate) const PACKAGES: [&str; 4] = ["--package", "tidegate", "--package", "tidegate-tests"];

pub(crate) fn bench(args: &Args) -> Result<()> {
    plugins::build_default()?;
    if args.suites.contains(&Suite::Languages) {
        languages::build(languages::Wanted::All)?;
    }
    step::run("tidegate", step::cargo().args(["build", "--release"]).args(PACKAGES))?;
    let mut build = step::cargo();
    step::run("the benchmarks", build.arg("bench").args(PACKAGES).args(["--bench", "figures", "--no-run"]))?;

    let mut bench = step::cargo();
    bench.args(["bench", "--quiet"]).args(PACKAGES).args(["--bench", "figures", "--"]);
    let suites = args.suites.iter().filter_map(ValueEnum::to_possible_value);
    bench.args(suites.map(|suite| suite.get_name().to_owned()));
    if args.quick {
        bench.arg("--quick");
    }
    step::run("benchmarks", &mut bench)
}
