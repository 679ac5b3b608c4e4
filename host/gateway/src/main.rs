//! The `tidegate` command: parse, do, and turn the result into an exit code. Only this file ends the process.

use std::process::ExitCode;

use clap::Parser as _;
use tidegate::cli::{self, Cli};

fn main() -> ExitCode {
    // Errors of usage are clap's to show; it exits with 2 for them, and with 0 for --help and --version.
    let cli = Cli::parse();
    match cli::execute(cli) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            failure.show();
            ExitCode::from(failure.exit_code())
        }
    }
}
