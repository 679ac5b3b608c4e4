//! The project's own commands: `cargo xtask --help`.
//!
//! It builds first on a fresh machine, so it depends on little. What it does, it does by running cargo.

#![expect(clippy::print_stderr, reason = "a program that shows its progress on the terminal")]

mod bench;
mod book;
mod campaign;
mod checks;
mod languages;
mod nats;
mod outside;
mod plugins;
mod step;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Tidegate's own commands",
    disable_help_subcommand = true
)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build the example plugins, the book's samples and the tests' guests from source, into target/plugins, target/samples and
    /// target/guests
    Plugins(plugins::Args),
    /// Build the plugins and run every test. Arguments after `--` go to the test runner
    Test {
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// Build the plugins and show the gateway serving and shutting down. Arguments after `--` go to `tidegate demo`
    Demo {
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// Build the plugins and the release binary, and print what calls, plugins, stops and instances cost
    Bench(bench::Args),
    /// Long proofs against real processes under load
    Campaign(campaign::Args),
    /// Build the book of docs/ into target/book; takes mdbook
    Book,
    /// Make, build and test an author's crate outside of this workspace, as the tutorial says; compiles the engine once more
    Outside,
    /// Everything that a change has to pass: tests, formatting, lints, documentation, the short campaigns, an author's crate
    /// outside, the demo
    Ci {
        /// Leave the tests out, if they have just been run
        #[arg(long)]
        skip_test: bool,
    },
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Plugins(args) => plugins::build(&args),
        Command::Test { args } => checks::test(&args),
        Command::Demo { args } => checks::demo(&args),
        Command::Bench(args) => bench::bench(&args),
        Command::Campaign(args) => campaign::run(&args),
        Command::Book => book::build(),
        Command::Outside => outside::prove(),
        Command::Ci { skip_test } => checks::ci(skip_test),
    }
}

fn main() -> ExitCode {
    match run(Args::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
