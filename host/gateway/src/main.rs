//! The `tidegate` command: parse, do, and turn the result into an exit code. Only this file ends the process.

use std::process::ExitCode;

use clap::Parser as _;
use tidegate::cli::{self, Cli, Failure};

fn main() -> ExitCode {
    let done = match Cli::try_parse() {
        Ok(cli) => cli::execute(cli),
        Err(error) => match Failure::of_usage(&error) {
            Some(failure) => Err(failure),
            None => error.exit(),
        },
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            failure.show();
            ExitCode::from(failure.exit_code())
        }
    }
}
