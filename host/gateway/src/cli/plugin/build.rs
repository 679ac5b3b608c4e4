//! `tidegate plugin build`

mod rust;
mod script;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use tidegate_runtime::environment::Environment;
use tidegate_runtime::{Hook, LoadError, Runtime, RuntimeConfig};
use tidegate_toolchain::command;
use tidegate_toolchain::rust::Profile;

use super::project::{Language, Project};
use crate::cli::{Failure, print};
use crate::config::HumanSize;
use crate::plugins::read_component;

pub(super) const AFTER_HELP: &str = "\
Exit codes:
  0    the component is there
  1    tidegate itself failed, or the tools of the language cannot be had
  2    something is wrong with the folder or its tidegate-plugin.toml
  3    the plugin does not build

Examples:
  tidegate plugin build
  tidegate plugin build plugins/visits --debug";

/// `tidegate plugin build`
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// The folder of the project
    #[arg(value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// Without optimisation, which is quicker to build; only for Rust
    #[arg(long)]
    pub debug: bool,
}

/// Why there is no component.
#[derive(Debug, thiserror::Error)]
pub(super) enum BuildError {
    /// The tools of the language cannot be had.
    #[error("{0}")]
    Tools(String),
    /// The plugin's source is at fault. The tool has said how.
    #[error("the plugin does not build: `{command}` ended with {status}")]
    Source {
        /// What was run.
        command: String,
        /// How it ended.
        status: String,
    },
    /// A file is not where it has to be, or cannot be read or written.
    #[error("{0}")]
    File(String),
    /// What was built is no plugin of this version of the contract.
    #[error("what was built is no plugin: {text}")]
    NoPlugin {
        /// Why not.
        text: String,
        /// What to do.
        hint: Option<String>,
    },
}

impl BuildError {
    /// The tools of the language cannot be had.
    #[expect(clippy::needless_pass_by_value, reason = "it is called as the last thing that is done to an error")]
    fn tools(error: anyhow::Error) -> Self {
        Self::Tools(format!("{error:#}"))
    }

    /// It was refused by the runtime.
    pub(super) fn no_plugin(error: &LoadError) -> Self {
        Self::NoPlugin { text: error.to_string(), hint: error.hint() }
    }

    /// As the failure of a command.
    pub(super) fn failure(self) -> Failure {
        match self {
            // It says itself what to do.
            Self::Tools(_) => Failure::gateway(self.to_string()),
            Self::Source { .. } => Failure::build(self.to_string(), Some("what it said is above")),
            Self::File(text) => Failure::usage(text, None::<&str>),
            Self::NoPlugin { ref hint, .. } => Failure::build(self.to_string(), hint.clone()),
        }
    }
}

/// A component that is there.
#[derive(Debug)]
pub(super) struct Built {
    component: Vec<u8>,
    took: Duration,
}

/// Build the plugin, and say what came out.
pub(super) fn build(args: &BuildArgs) -> Result<(), Failure> {
    let project = Project::open(&args.dir)?;
    let profile = if args.debug { Profile::Debug } else { Profile::Release };
    let built = component(&project, profile).and_then(|built| built.describe(&project)).map_err(BuildError::failure)?;
    print(&built)
}

/// Build it. The tools' own output goes to stderr as it comes.
pub(super) fn component(project: &Project, profile: Profile) -> Result<Built, BuildError> {
    let began = Instant::now();
    let folder = project.folder.canonicalize();
    let folder = folder.map_err(|error| BuildError::File(format!("{}: {error}", project.folder.display())))?;
    let out = std::path::absolute(project.component()).map_err(|error| BuildError::File(error.to_string()))?;
    let parent = out.parent().unwrap_or(&folder);
    std::fs::create_dir_all(parent)
        .map_err(|error| BuildError::File(format!("cannot create {}: {error}", parent.display())))?;
    match project.language {
        Language::Rust => rust::build(&folder, &out, profile)?,
        Language::JavaScript => script::javascript(&folder, &out)?,
        Language::Python => script::python(&folder, &out)?,
    }
    let component = read_component(&out).map_err(|error| BuildError::File(format!("{}: {error}", out.display())))?;
    Ok(Built { component, took: began.elapsed() })
}

impl Built {
    /// For people: the component, and the hooks that it has.
    ///
    /// # Errors
    /// When it is no plugin.
    pub(super) fn describe(&self, project: &Project) -> Result<String, BuildError> {
        let environment = Environment::real(Duration::from_millis(1));
        // A gateway finds there what is compiled here.
        let cache = project.config.cache.clone();
        let runtime = Runtime::new(RuntimeConfig { slots: 1, cache, environment })
            .map_err(|error| BuildError::File(error.to_string()))?;
        let inspection = runtime.inspect(&self.component).map_err(|error| BuildError::no_plugin(&error))?;
        let hooks: Vec<&str> =
            Hook::ALL.into_iter().filter(|hook| inspection.hooks.contains(*hook)).map(Hook::as_str).collect();
        Ok(format!("{}\n  hooks: {}\n", self.summary(project), hooks.join(", ")))
    }

    /// Where it is, how large, and what it took. It has not been looked at.
    fn summary(&self, project: &Project) -> String {
        let (size, took) = (HumanSize(self.component.len() as u64), self.took.as_secs_f32());
        format!("{}: {size}, built in {took:.1} s", project.component().display())
    }

    /// The component, for a command that goes on with it, and says on stderr that it is there.
    pub(super) fn hand_over(self, project: &Project) -> Vec<u8> {
        say(&self.summary(project));
        self.component
    }
}

/// Say on stderr what is being done.
fn say(line: &str) {
    use std::io::Write as _;
    // Nobody is left to tell if stderr is gone.
    let _ = writeln!(anstream::stderr().lock(), "    {line}");
}

/// Run a tool where one can see it. It speaks on stderr: stdout is for the result.
fn run(command: &mut Command) -> Result<(), BuildError> {
    let line = command::line(command);
    say(&line);
    let cannot = |error: std::io::Error| BuildError::Tools(format!("cannot run `{line}`: {error}"));
    let stderr = rustix::io::dup(std::io::stderr()).map_err(|error| cannot(error.into()))?;
    let status = command.stdin(Stdio::null()).stdout(stderr).status().map_err(cannot)?;
    if status.success() { Ok(()) } else { Err(BuildError::Source { command: line, status: status.to_string() }) }
}

/// Run what gets a tool; if it fails, the tool cannot be had.
fn get(_what: &str, command: &mut Command) -> anyhow::Result<()> {
    run(command).map_err(|error| match error {
        BuildError::Source { command, status } => anyhow::anyhow!("`{command}` ended with {status}"),
        other => anyhow::anyhow!("{other}"),
    })
}
