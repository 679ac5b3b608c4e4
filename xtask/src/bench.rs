//! `bench`: the release binary and the benchmarks, built and run.

use crate::{plugins, step};
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

#[derive(Clone, Copy, ValueEnum)]
enum Suite {
    /// What one hook call costs
    Calls,
    /// What plugins cost the gateway
    Throughput,
    /// How late a stop ends
    Stops,
    /// What an instance and an idle gateway hold
    Memory,
}

pub(crate) fn bench(args: &Args) -> Result<()> {
    plugins::build_default()?;
    // Both for the whole workspace: with one package alone, cargo would choose other features for shared
    // dependencies, and compile wasmtime again.
    step::run("tidegate", step::cargo().args(["build", "--release", "--workspace", "--bins"]))?;
    let mut bench = step::cargo();
    bench.args(["bench", "--workspace", "--bench", "figures"]);
    step::run("benchmarks, from source", bench.arg("--no-run"))?;
    let mut bench = step::cargo();
    bench.args(["bench", "--quiet", "--workspace", "--bench", "figures", "--"]);
    bench.args(
        args.suites.iter().filter_map(|suite| suite.to_possible_value()).map(|suite| suite.get_name().to_owned()),
    );
    if args.quick {
        bench.arg("--quick");
    }
    step::run("benchmarks", &mut bench)
}
