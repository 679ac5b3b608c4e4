//! `tidegate plugin replay`

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use tidegate_runtime::LoadError;
use tidegate_testing::recording::{self, RecordedExchange};
use tidegate_testing::{Difference, Replayed, Setup, SetupError};

use crate::cli::{Failure, print};

/// The code to exit with when an answer is another.
const DIFFERENT: u8 = 3;

/// Differences that are shown to people. Programs get all of them.
const SHOWN: usize = 20;

/// What to do with a plugin that needs a grant.
const UNGRANTED: &str =
    "`plugin replay` grants nothing; replay it in a test with tidegate-testing, which scripts what it asks for";

pub(super) const AFTER_HELP: &str = "\
Exit codes:
  0    every answer that was compared is what it was
  1    tidegate itself failed
  2    the plugin cannot be loaded, or the recording cannot be read
  3    an answer is another

Examples:
  tidegate plugin replay target/plugins/stamp.wasm recording
  tidegate plugin replay stamp.wasm recording --plugin-config '{\"name\":\"x-gateway\"}' --json | jq .differences";

/// `tidegate plugin replay`
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The component
    #[arg(value_name = "PLUGIN.wasm")]
    pub plugin: PathBuf,
    /// The folder that `tidegate run --record` has filled, or one of its files
    #[arg(value_name = "RECORDING")]
    pub recording: PathBuf,
    /// The plugin's config, as JSON: what `[plugin.config]` is to a gateway
    #[arg(long, value_name = "JSON", value_parser = json_object)]
    pub plugin_config: Option<serde_json::Value>,
    /// Only exchanges of routes with this plugin: its name in the gateway's config
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Print JSON instead of text
    #[arg(long)]
    pub json: bool,
}

fn json_object(text: &str) -> Result<serde_json::Value, String> {
    let value: serde_json::Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if value.is_object() { Ok(value) } else { Err("it is no JSON object".to_owned()) }
}

/// Replay, and show what came of it on stdout.
pub(super) fn replay(args: &ReplayArgs) -> Result<u8, Failure> {
    let mut exchanges =
        recording::read(&args.recording).map_err(|error| Failure::usage(error.to_string(), None::<String>))?;
    if let Some(name) = &args.name {
        exchanges.retain(|exchange| exchange.plugins.contains(name));
        if exchanges.is_empty() {
            return Err(Failure::usage(
                format!("no exchange in {} is of a route with the plugin `{name}`", args.recording.display()),
                Some("leave out `--name` to take all of them"),
            ));
        }
    }
    let mut setup = Setup::new(&args.plugin);
    if let Some(config) = &args.plugin_config {
        setup = setup.config(config);
    }
    let replayed = setup.replay(&exchanges).map_err(|error| match &error {
        SetupError::Machine(_) => Failure::gateway(error.to_string()),
        SetupError::File { .. } => Failure::usage(error.to_string(), None::<String>),
        SetupError::Refused(refused) => {
            let hint = match refused {
                LoadError::NotGranted { .. } => Some(UNGRANTED.to_owned()),
                _ => refused.hint(),
            };
            Failure::usage(format!("{}: {refused}", args.plugin.display()), hint)
        }
    })?;
    let of_chains = of_chains(&exchanges);
    print(&if args.json { json(&replayed, of_chains) } else { text(&replayed, of_chains) })?;
    Ok(if replayed.differences.is_empty() { 0 } else { DIFFERENT })
}

/// How many went through several plugins: what is different may be another's.
fn of_chains(exchanges: &[RecordedExchange]) -> usize {
    exchanges.iter().filter(|exchange| exchange.plugins.len() > 1).count()
}

fn text(replayed: &Replayed, of_chains: usize) -> String {
    let Replayed { exchanges, not_compared, differences, .. } = replayed;
    let same = exchanges.saturating_sub(*not_compared).saturating_sub(differences.len());
    let mut text = String::new();
    for difference in differences.iter().take(SHOWN) {
        let _ = writeln!(text, "{difference}");
    }
    if differences.len() > SHOWN {
        let _ = writeln!(text, "and {} more", differences.len() - SHOWN);
    }
    let _ = write!(text, "{exchanges} exchanges: {same} went as they did, {} differently", differences.len());
    if *not_compared > 0 {
        let _ = write!(text, ", {not_compared} were the gateway's to answer and are not compared");
    }
    text.push('\n');
    if of_chains > 0 && !differences.is_empty() {
        let _ = writeln!(text, "{of_chains} of them went through other plugins too; differences may be of those");
    }
    text
}

/// What `--json` prints. Fields are only added within a schema.
#[derive(Serialize)]
struct Json<'r> {
    schema: u32,
    exchanges: usize,
    /// Exchanges that went through several plugins.
    of_chains: usize,
    not_compared: usize,
    differences: Vec<JsonDifference<'r>>,
}

#[derive(Serialize)]
struct JsonDifference<'r> {
    id: &'r str,
    request: &'r str,
    what: &'r [String],
}

impl<'r> From<&'r Difference> for JsonDifference<'r> {
    fn from(Difference { id, request, what }: &'r Difference) -> Self {
        Self { id, request, what }
    }
}

fn json(replayed: &Replayed, of_chains: usize) -> String {
    let Replayed { exchanges, not_compared, differences, .. } = replayed;
    let json = Json {
        schema: 1,
        exchanges: *exchanges,
        of_chains,
        not_compared: *not_compared,
        differences: differences.iter().map(Into::into).collect(),
    };
    let mut text = serde_json::to_string_pretty(&json).expect("strings, numbers and lists always become JSON");
    text.push('\n');
    text
}
