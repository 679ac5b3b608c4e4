//! `tidegate plugin replay`

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use tidegate_runtime::LoadError;
use tidegate_testing::recording::{self, RecordedExchange, RecordingError};
use tidegate_testing::{Difference, Replayed, SetupError};

use super::subject::{Origin, Subject, SurroundingArgs};
use crate::cli::{Failure, print};

/// The code to exit with when an answer is another.
const DIFFERENT: u8 = 3;

/// Differences that are shown to people. Programs get all of them.
const SHOWN: usize = 20;

/// Names of plugins that a hint lists.
const LISTED: usize = 10;

/// What to do with a plugin whose `configure` does not end well.
const UNCONFIGURED: &str =
    "say what it wants: `--set KEY=VALUE`, `--plugin-config JSON`, or `--config FILE` with its [[plugin]] table";

pub(super) const AFTER_HELP: &str = "\
Exit codes:
  0    every answer that was compared is what it was
  1    tidegate itself failed
  2    the plugin cannot be loaded, or the recording cannot be read
  3    an answer is another

Examples:
  tidegate plugin replay audit.wasm recording --config tidegate.toml
  tidegate plugin replay stamp.wasm recording --name stamp --set name=x-gateway --json | jq .differences
  tidegate plugin replay api-key.wasm recording --name api-key --set 'keys=[\"[redacted]\"]'";

/// `tidegate plugin replay`
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The folder of the plugin, with its tidegate-plugin.toml, or a component
    #[arg(value_name = "DIR|PLUGIN.wasm")]
    pub plugin: PathBuf,
    /// The folder that `tidegate run --record` has filled, or one of its files
    #[arg(value_name = "RECORDING")]
    pub recording: PathBuf,
    /// Only exchanges of routes with this plugin, which is also the one of the table in --config
    ///
    /// With a config or a project, it is that plugin's name. Without either, all exchanges are taken.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// What surrounds it.
    #[command(flatten)]
    pub surrounding: SurroundingArgs,
    /// Print JSON instead of text
    #[arg(long)]
    pub json: bool,
}

/// Replay, and show what came of it on stdout.
pub(super) fn replay(args: &ReplayArgs) -> Result<u8, Failure> {
    let Subject { file, component, setup, answer, table, .. } =
        Subject::read(&args.plugin, args.name.as_deref(), &args.surrounding, Origin::File)?;
    let exchanges = exchanges(&args.recording, args.name.as_deref().or(table.as_deref()))?;
    let mut setup = setup(component);
    if table.is_none() {
        setup = setup.grant_imports(answer);
    }
    let replayed = setup.replay(&exchanges).map_err(|error| match &error {
        SetupError::Machine(_) => Failure::gateway(error.to_string()),
        SetupError::File { .. } => Failure::usage(error.to_string(), None::<String>),
        SetupError::Refused(refused) => {
            let hint = match refused {
                LoadError::Configure(_) => Some(UNCONFIGURED.to_owned()),
                _ => refused.hint(),
            };
            Failure::usage(format!("{}: {refused}", file.display()), hint)
        }
    })?;
    let shown = Shown { of_chains: of_chains(&exchanges), http_answer: &args.surrounding.http_answer, replayed };
    print(&if args.json { shown.json() } else { shown.text() })?;
    Ok(if shown.replayed.differences.is_empty() { 0 } else { DIFFERENT })
}

/// The exchanges to be sent: all, or those of routes with the plugin of this name.
fn exchanges(recording: &Path, name: Option<&str>) -> Result<Vec<RecordedExchange>, Failure> {
    let mut others = BTreeSet::new();
    let is_wanted = |exchange: &RecordedExchange| {
        let wanted = name.is_none_or(|name| exchange.plugins.iter().any(|plugin| plugin == name));
        if !wanted && others.len() < LISTED {
            others.extend(exchange.plugins.iter().map(|plugin| plain(plugin)));
        }
        wanted
    };
    let exchanges = recording::read_where(recording, is_wanted).map_err(|error| {
        let hint = match &error {
            RecordingError::TooLarge(_) => Some("name one of its files, or a part of one (`split -l`)"),
            RecordingError::Empty(_) => Some("`tidegate run --record DIR` fills such a folder"),
            RecordingError::Unreadable { .. } | RecordingError::Malformed { .. } => None,
        };
        Failure::usage(error.to_string(), hint)
    })?;
    if !exchanges.is_empty() {
        return Ok(exchanges);
    }
    let recording = recording.display();
    let (text, hint) = match name {
        Some(name) if !others.is_empty() => {
            let listed: Vec<&str> = others.iter().map(String::as_str).collect();
            let text = format!("no exchange in {recording} is of a route with the plugin `{name}`");
            (text, format!("say with `--name` which one it was: {}", listed.join(", ")))
        }
        Some(name) => {
            let text = format!("no exchange in {recording} is of a route with the plugin `{name}`, or with any other");
            (text, "record a route through the plugin".to_owned())
        }
        None => (format!("there is no exchange in {recording}"), "`tidegate run --record DIR` keeps some".to_owned()),
    };
    Err(Failure::usage(text, Some(hint)))
}

/// A text of a recording for people: whoever made it does not steer the terminal.
fn plain(text: &str) -> String {
    text.replace(|c: char| c.is_control(), "\u{fffd}")
}

/// How many went through several plugins: what is different may be another's.
fn of_chains(exchanges: &[RecordedExchange]) -> usize {
    exchanges.iter().filter(|exchange| exchange.plugins.len() > 1).count()
}

/// What is told.
struct Shown<'a> {
    replayed: Replayed,
    /// Exchanges that went through several plugins.
    of_chains: usize,
    /// What servers answered.
    http_answer: &'a str,
}

impl Shown<'_> {
    fn text(&self) -> String {
        let Replayed { exchanges, not_compared, differences, .. } = &self.replayed;
        let same = exchanges.saturating_sub(*not_compared).saturating_sub(differences.len());
        let mut text = String::new();
        for difference in differences.iter().take(SHOWN) {
            let _ = writeln!(text, "{}", plain(&difference.to_string()));
        }
        if differences.len() > SHOWN {
            let _ = writeln!(text, "and {} more", differences.len() - SHOWN);
        }
        let _ = write!(text, "{exchanges} exchanges: {same} went as they did, {} differently", differences.len());
        if *not_compared > 0 {
            let _ = write!(text, ", {not_compared} were the gateway's to answer and are not compared");
        }
        text.push('\n');
        if self.of_chains > 0 && !differences.is_empty() {
            let _ = writeln!(
                text,
                "{} of them went through other plugins too; differences may be of those",
                self.of_chains
            );
        }
        self.stand_ins(&mut text);
        text
    }

    /// What the plugin had in the place of a gateway's.
    fn stand_ins(&self, text: &mut String) {
        let StandIns { asked, published, bucket_calls } = self.used();
        if asked > 0 {
            let _ = writeln!(
                text,
                "it asked servers {asked} times, which is not recorded; each answer was 200 with `{}` (--http-answer)",
                self.http_answer
            );
        }
        if bucket_calls > 0 {
            let _ = writeln!(text, "it used buckets {bucket_calls} times, which were empty at first");
        }
        if published > 0 {
            let _ = writeln!(text, "it published {published} events, which went nowhere");
        }
    }

    fn used(&self) -> StandIns {
        let plugin = &self.replayed.plugin;
        StandIns { asked: plugin.asked().len(), published: plugin.events().len(), bucket_calls: plugin.bucket_calls() }
    }

    fn json(&self) -> String {
        let Replayed { exchanges, not_compared, differences, .. } = &self.replayed;
        let json = Json {
            schema: 1,
            exchanges: *exchanges,
            of_chains: self.of_chains,
            not_compared: *not_compared,
            differences: differences.iter().map(Into::into).collect(),
            stand_ins: self.used(),
        };
        let mut text = serde_json::to_string_pretty(&json).expect("strings, numbers and lists always become JSON");
        text.push('\n');
        text
    }
}

/// How often the plugin was answered by a stand-in.
#[derive(Serialize)]
struct StandIns {
    /// Requests to servers.
    asked: usize,
    /// Events.
    published: usize,
    /// Calls of buckets.
    bucket_calls: u64,
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
    stand_ins: StandIns,
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
