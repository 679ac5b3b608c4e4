//! `tidegate plugin test`

mod json;
mod junit;
mod table;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tidegate_testing::SetupError;
use tidegate_testing::conformance::{CHECKS, Kit, PATIENCE};

use self::table::Live;
use super::super::table::Table;
use super::super::{Failure, print};
use super::build::BuildError;
use super::subject::{Origin, Subject, SurroundingArgs, request};
use crate::config::nearest;
use crate::stop::report::write_whole;

pub(super) const AFTER_HELP: &str = "\
Exit codes:
  0    every check passed or was skipped
  1    tidegate itself failed, or the tools of the language cannot be had
  2    the file is no plugin, or something is wrong with the command line, the config or the folder
  3    a check failed, or the plugin does not build

Examples:
  tidegate plugin new visits --lang js && cd visits && tidegate plugin test
  tidegate plugin test target/plugins/stamp.wasm
  tidegate plugin test target/plugins/api-key.wasm --set 'keys=[\"open-sesame\"]' --header 'x-api-key: open-sesame'
  tidegate plugin test audit.wasm --config tidegate.toml --json --junit report.xml
  tidegate plugin test audit.wasm --only stop-idle --only stop-deadline
  tidegate plugin test --list";

/// The code to exit with when a check failed.
const CHECK_FAILED: u8 = 3;

/// `tidegate plugin test`
#[derive(Debug, Args)]
pub struct TestArgs {
    /// The folder of the plugin, with its tidegate-plugin.toml, which is built first; or a component
    #[arg(value_name = "DIR|PLUGIN.wasm", default_value = ".")]
    pub plugin: PathBuf,
    /// Do not build the plugin of a folder: test the component that is there
    #[arg(long)]
    pub no_build: bool,
    /// Which plugin, if the file has several and their paths do not tell
    #[arg(long, value_name = "NAME", requires = "config")]
    pub name: Option<String>,
    /// What surrounds it.
    #[command(flatten)]
    pub surrounding: SurroundingArgs,
    /// A field that every request has, so that the plugin lets it through
    #[arg(short = 'H', long, value_name = "NAME: VALUE")]
    pub header: Vec<String>,
    /// Path and query of every request; without this they vary
    #[arg(long, value_name = "PATH")]
    pub path: Option<String>,
    /// What the plugin does may depend on the time of day and on random numbers
    #[arg(long)]
    pub may_vary: bool,
    /// The real time that a check may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = PATIENCE.as_secs(), value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub patience: u64,
    /// Run this check alone; can be given several times
    #[arg(long, value_name = "CHECK")]
    pub only: Vec<String>,
    /// List the checks and what they prove
    #[arg(long)]
    pub list: bool,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
    /// Write a JUnit report to this file, too
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
}

/// Check the plugin, and show what came of it.
pub(super) fn test(args: &TestArgs) -> Result<u8, Failure> {
    known(&args.only)?;
    if args.list {
        return list().map(|()| 0);
    }
    let request = request(args.path.as_deref().unwrap_or("/"), &args.header, None)?;
    let origin = if args.no_build { Origin::File } else { Origin::Sources };
    let Subject { file, component, origin, setup, answer, table } =
        Subject::read(&args.plugin, args.name.as_deref(), &args.surrounding, origin)?;
    let failed = |text: &dyn std::fmt::Display, hint: Option<String>| {
        Failure::usage(format!("{}: {text}", file.display()), hint)
    };
    let kit = Kit::new(component, setup).map_err(|error| match error {
        SetupError::Refused(error) if origin == Origin::Sources => BuildError::no_plugin(&error).failure(),
        SetupError::Refused(error) => failed(&error, error.hint()),
        SetupError::Machine(problem) => Failure::gateway(problem),
        other @ SetupError::File { .. } => failed(&other, None),
    })?;
    let mut kit = kit.request(request).answer(answer).only(args.only.iter().cloned());
    kit = kit.patience(Duration::from_secs(args.patience));
    if table.is_none() {
        kit = kit.grant_imports();
    }
    if args.may_vary {
        kit = kit.may_vary();
    }
    let tested = Tested { file: file.display().to_string(), digest: kit.inspection().digest.to_string() };
    let report = if args.json {
        kit.run(|_| {})
    } else {
        let mut live = Live::begin(&tested, kit.inspection(), &args.only)?;
        let report = kit.run(|progress| live.show(&progress));
        live.end(&report)?;
        report
    };
    if let Some(out) = &args.junit {
        write_whole(out, junit::report(&tested, &report).as_bytes()).map_err(|error| {
            let text = format!("cannot write the JUnit report to {}: {error}", out.display());
            Failure::usage(text, Some("the folder must exist, and you must be allowed to write to it"))
        })?;
    }
    if args.json {
        print(&json::report(&tested, &report))?;
    }
    Ok(if report.is_passed() { 0 } else { CHECK_FAILED })
}

/// What was tested.
struct Tested {
    file: String,
    digest: String,
}

/// Every name is that of a check.
fn known(only: &[String]) -> Result<(), Failure> {
    let names: Vec<&str> = CHECKS.iter().map(|check| check.name).collect();
    let Some(unknown) = only.iter().find(|name| !names.contains(&name.as_str())) else { return Ok(()) };
    let hint = match nearest(unknown, &names) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("there are {}", names.join(", ")),
    };
    Err(Failure::usage(format!("there is no check `{unknown}`"), Some(hint)))
}

fn list() -> Result<(), Failure> {
    let mut table = Table::default();
    for check in &CHECKS {
        table.row([check.name, check.proves]);
    }
    print(&table.render())
}
