//! The command line: what can be asked for, and how an answer or a failure is shown.
//!
//! Results go to stdout. Errors go to stderr, begin with `error:` and end, where there is something to do, with a line
//! that begins with `hint:`. Colours are for terminals only, and not where `NO_COLOR` is set.

mod check;
mod demo;
mod failure;
mod inspect;
mod outbox;
mod plugin;
mod record;
mod report;
mod run;
mod table;

use std::io::Write as _;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use self::failure::Failure;
pub use self::plugin::{BenchArgs, BuildArgs, DevArgs, NewArgs, PluginCommand, ReplayArgs, TestArgs};
pub use self::record::RecordArgs;

/// An HTTP gateway that runs sandboxed WebAssembly plugins and gives each of them an orderly end
///
/// Tidegate stands in front of HTTP services and sends each request through plugins, which are WebAssembly components.
/// When it has to stop, every plugin is told so, is given a stated time to finish its work, and is stopped when that
/// time is up.
#[derive(Debug, Parser)]
#[command(
    name = "tidegate",
    version,
    max_term_width = 100,
    after_help = "\
Begin with `tidegate demo`, or write a tidegate.toml and look it over with `tidegate check`."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What `tidegate` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve until a signal
    ///
    /// Loads every plugin, binds every address, prints one line with the addresses when ready, and serves until
    /// SIGTERM or SIGINT. Then it drains: readiness turns 503, listeners close, exchanges in flight go on, plugins
    /// are told to shut down, each within its budget and all within `[shutdown] grace`. A second signal ends
    /// everything at once.
    #[command(after_long_help = RUN_AFTER_HELP)]
    Run(RunArgs),
    /// Load and compile everything, bind nothing
    ///
    /// Reads the config file, compiles every plugin, has its first instances configured, and says what would run and
    /// how the grace period is split. What is wrong is shown all at once.
    #[command(after_long_help = "\
Exit codes:
  0    the config can run
  1    tidegate itself failed
  2    something is wrong with the config or a plugin

Example:
  tidegate check --config /etc/tidegate/tidegate.toml")]
    Check(CheckArgs),
    /// Show what a plugin exports and imports
    ///
    /// Says which hooks a component has and lacks, what it imports and whether it may, how big it is, its digest, and
    /// which tools made it. Runs none of its code.
    #[command(after_long_help = "\
Exit codes:
  0    it is a plugin; an import that is not granted shows, but is no failure
  1    tidegate itself failed
  2    the file cannot be read, or is no plugin of this version of the contract

Examples:
  tidegate inspect plugins/audit.wasm
  tidegate inspect plugins/audit.wasm --json | jq -r .digest")]
    Inspect(InspectArgs),
    /// Draw a shutdown report as a timeline
    ///
    /// Reads what `tidegate run --shutdown-report FILE` wrote: which phase took how long, which plugin finished, which
    /// one failed or was stopped at its budget, and what the exit code meant. As wide as the terminal, or as COLUMNS
    /// says; 80 columns where there is neither. With `--html`, the same as a page in one file that needs nothing else.
    #[command(after_long_help = "\
Exit codes:
  0    the report was drawn, whatever it says
  2    the file is not a whole shutdown report, or the page cannot be written

Examples:
  tidegate report /var/log/tidegate/shutdown.json
  tidegate report shutdown.json --html shutdown.html
  tidegate report shutdown.json --html shutdown.svg")]
    Report(ReportArgs),
    /// Look at the outbox, and decide what becomes of dead letters
    ///
    /// Lists the events that wait, that were given up, or that are damaged; makes dead letters pending again; removes what
    /// nobody is to get. `ls` works beside a gateway that runs, everything else wants it stopped.
    #[command(after_long_help = OUTBOX_AFTER_HELP)]
    Outbox {
        /// What to do.
        #[command(subcommand)]
        command: OutboxCommand,
    },
    /// Write a plugin: begin, build, test, measure, and serve it while you work on it
    ///
    /// What the author of a plugin needs. Nothing here touches a gateway that runs.
    #[command(after_long_help = plugin::AFTER_HELP)]
    Plugin {
        /// What to do.
        #[command(subcommand)]
        command: PluginCommand,
    },
    /// See it work: a gateway with example plugins, traffic, and a shutdown
    ///
    /// Starts an upstream and a gateway on free ports of this machine, sends requests through the example plugins,
    /// then shuts down while one of the plugins refuses to end. Shows the report as a timeline. Needs no config file.
    #[command(after_long_help = "\
Exit codes:
  0    the demo went as it should, the plugin that overruns included
  1    tidegate itself failed
  2    the example plugins are not there

Example:
  tidegate demo --plugins target/plugins")]
    Demo(DemoArgs),
}

/// What `tidegate outbox` can do.
#[derive(Debug, Subcommand)]
pub enum OutboxCommand {
    /// List events and what became of them
    #[command(after_long_help = OUTBOX_AFTER_HELP)]
    Ls(OutboxLsArgs),
    /// Make dead letters pending again, as if they had never been tried
    #[command(after_long_help = OUTBOX_AFTER_HELP)]
    Replay(OutboxReplayArgs),
    /// Remove events for good
    #[command(after_long_help = OUTBOX_AFTER_HELP)]
    Purge(OutboxPurgeArgs),
    /// Put a damaged file aside, and make a new one of what can be read of it
    ///
    /// Dead letters become pending again. An event of which it cannot be told who has it already goes to every sink.
    #[command(after_long_help = OUTBOX_AFTER_HELP)]
    Repair(OutboxRepairArgs),
}

const OUTBOX_AFTER_HELP: &str = "\
Exit codes:
  0    it is done
  1    the file cannot be read or changed, or a gateway has it
  2    something is wrong with the command line or the config

Examples:
  tidegate outbox ls --config /etc/tidegate/tidegate.toml --dead
  tidegate outbox ls --path outbox.db --topic 'audit.*' --json | jq -r .id
  tidegate outbox replay --path outbox.db --dead
  tidegate outbox purge --path outbox.db --dead --yes";

/// Which outbox.
#[derive(Debug, Args)]
pub struct OutboxFile {
    /// The config file that has the outbox
    #[arg(short, long, value_name = "FILE", default_value = "tidegate.toml", conflicts_with = "path")]
    pub config: PathBuf,
    /// The outbox itself
    #[arg(long, value_name = "FILE")]
    pub path: Option<PathBuf>,
}

/// `tidegate outbox ls`
#[derive(Debug, Args)]
pub struct OutboxLsArgs {
    /// Which outbox.
    #[command(flatten)]
    pub file: OutboxFile,
    /// Only those that wait
    #[arg(long, conflicts_with_all = ["dead", "damaged"])]
    pub pending: bool,
    /// Only dead letters
    #[arg(long, conflicts_with = "damaged")]
    pub dead: bool,
    /// Only those that are not what was written
    #[arg(long)]
    pub damaged: bool,
    /// Only topics that this matches: `audit.login`, `audit.*`, `audit.>`
    #[arg(long, value_name = "PATTERN")]
    pub topic: Option<String>,
    /// Print a JSON object per line instead of a table
    #[arg(long)]
    pub json: bool,
    /// Print no more than so many
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: usize,
}

/// `tidegate outbox replay`
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(true))]
pub struct OutboxReplayArgs {
    /// Which outbox.
    #[command(flatten)]
    pub file: OutboxFile,
    /// The ids of events
    #[arg(value_name = "ID", group = "which")]
    pub ids: Vec<String>,
    /// All dead letters
    #[arg(long, group = "which", conflicts_with_all = ["ids", "topic"])]
    pub dead: bool,
    /// Those of topics that this matches
    #[arg(long, value_name = "PATTERN", group = "which")]
    pub topic: Option<String>,
}

/// `tidegate outbox purge`
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(true))]
pub struct OutboxPurgeArgs {
    /// Which outbox.
    #[command(flatten)]
    pub file: OutboxFile,
    /// The ids of events
    #[arg(value_name = "ID", group = "which")]
    pub ids: Vec<String>,
    /// Dead letters
    #[arg(long, group = "which", conflicts_with = "damaged")]
    pub dead: bool,
    /// Events that are not what was written
    #[arg(long, group = "which", conflicts_with = "ids")]
    pub damaged: bool,
    /// What is kept for this sink
    #[arg(long, value_name = "NAME", group = "which")]
    pub sink: Option<String>,
    /// Do it; without this, it only says how many there are
    #[arg(long)]
    pub yes: bool,
}

/// `tidegate outbox repair`
#[derive(Debug, Args)]
pub struct OutboxRepairArgs {
    /// Which outbox.
    #[command(flatten)]
    pub file: OutboxFile,
    /// Do it
    #[arg(long)]
    pub yes: bool,
}

const RUN_AFTER_HELP: &str = "\
Exit codes:
  0      all was done in time
  1      the gateway itself failed
  2      something is wrong with the command line, the config or a plugin
  10     requests were cut when the drain's time was up
  11     a plugin failed, trapped or overran its shutdown
  12     events were left in the outbox; they are safe on disk
  128+n  a second signal, with number n, ended it
The highest applies. `[shutdown] exit_zero = true` turns 10 to 12 into 0.

Examples:
  tidegate run --config /etc/tidegate/tidegate.toml --shutdown-report /var/log/tidegate/shutdown.json
  tidegate run --record /var/tmp/recording --record-redact x-session --record-body 16KiB";

/// `tidegate run`
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The config file
    #[arg(short, long, value_name = "FILE", default_value = "tidegate.toml")]
    pub config: PathBuf,
    /// Write a JSON report of the shutdown to this file; `tidegate report` draws it
    #[arg(long, value_name = "FILE")]
    pub shutdown_report: Option<PathBuf>,
    /// What is to be recorded.
    #[command(flatten)]
    pub record: RecordArgs,
}

/// `tidegate check`
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The config file
    #[arg(short, long, value_name = "FILE", default_value = "tidegate.toml")]
    pub config: PathBuf,
}

/// `tidegate inspect`
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// The component
    #[arg(value_name = "PLUGIN.wasm")]
    pub plugin: PathBuf,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

/// `tidegate report`
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// The report
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Write a page for a browser to OUT instead; `-` is stdout, and a name in `.svg` gets the picture alone
    #[arg(long, value_name = "OUT")]
    pub html: Option<PathBuf>,
}

/// `tidegate demo`
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// The folder with the example plugins: stamp.wasm, api-key.wasm, audit.wasm, journal.wasm, stubborn.wasm
    #[arg(long, value_name = "DIR", default_value = "target/plugins")]
    pub plugins: PathBuf,
}

/// Do what was asked for; the code is the one to exit with.
///
/// # Errors
/// When it could not be done. Nothing has been shown of that yet.
pub fn execute(cli: Cli) -> Result<u8, Failure> {
    match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Check(args) => check::check(&args).map(|()| 0),
        Command::Inspect(args) => inspect::inspect(&args).map(|()| 0),
        Command::Report(args) => report::report(&args).map(|()| 0),
        Command::Outbox { command } => outbox::outbox(&command).map(|()| 0),
        Command::Plugin { command } => plugin::plugin(&command),
        Command::Demo(args) => demo::demo(&args),
    }
}

/// Write a result to stdout; escape sequences only reach a terminal.
///
/// # Errors
/// When stdout is there but cannot be written to. A reader that went away has read enough.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = anstream::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::gateway(format!("cannot write to stdout: {error}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definitions_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_and_argument_is_explained() {
        let cli = Cli::command();
        let of_plugins = cli.find_subcommand("plugin").into_iter().flat_map(clap::Command::get_subcommands);
        for command in cli.get_subcommands().chain(of_plugins) {
            let name = command.get_name();
            assert!(command.get_about().is_some() && command.get_long_about().is_some(), "{name}");
            assert!(
                command.get_after_long_help().is_some_and(|help| help.to_string().contains("Exit codes:")),
                "{name}"
            );
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{name} {}", argument.get_id());
            }
        }
    }

    #[test]
    fn the_commands_of_the_design_are_understood() {
        for line in [
            "run --config tidegate.toml --shutdown-report report.json",
            "run --record recording",
            "run --record recording --record-redact x-session --record-redact x-token --record-body 0B --record-limit 1GiB",
            "check --config tidegate.toml",
            "inspect audit.wasm --json",
            "report report.json",
            "report report.json --html report.html",
            "report report.json --html -",
            "demo",
            "outbox ls",
            "outbox ls --config tidegate.toml --dead --json --limit 5",
            "outbox ls --path outbox.db --topic audit.*",
            "outbox replay --dead",
            "outbox replay 0199a0b0-0000-7000-8000-000000000000",
            "outbox purge --sink old --yes",
            "outbox repair --yes",
            "plugin test audit.wasm",
            "plugin test audit.wasm --config tidegate.toml --name audit --json --junit report.xml",
            "plugin test audit.wasm --set name=x-a --only stop-idle --only memory",
            "plugin test --list",
            "plugin replay audit.wasm recording",
            "plugin replay audit.wasm recording --config tidegate.toml --set name=x-a --secret token=abc --http-answer ok",
            "plugin replay audit.wasm recording --name audit --plugin-config {\"name\":\"x-a\"} --json",
            "plugin new visits",
            "plugin new visits --lang js --dir plugins/visits",
            "plugin build",
            "plugin build visits --debug",
            "plugin bench",
            "plugin bench stamp.wasm --calls 1000 --json --flame flame.svg",
            "plugin dev --listen 127.0.0.1:8080 --upstream http://127.0.0.1:9000",
        ] {
            let words = ["tidegate"].into_iter().chain(line.split(' '));
            assert!(Cli::try_parse_from(words).is_ok(), "{line}");
        }
        for line in [
            "run --record-body 1KiB",
            "run --record recording --record-body 3MiB",
            "run --record recording --record-limit 1KiB",
            "run --record recording --record-redact not:a:name",
            "plugin replay audit.wasm",
        ] {
            let words = ["tidegate"].into_iter().chain(line.split(' '));
            assert_eq!(Cli::try_parse_from(words).expect_err(line).exit_code(), 2);
        }
        let error = Cli::try_parse_from(["tidegate", "report"]).expect_err("the file is missing");
        assert_eq!(error.exit_code(), 2);
    }
}
