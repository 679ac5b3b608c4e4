//! What is tested: from the command line, the folder of a project, or a config file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use tidegate_testing::{Request, Response, Setup};
use tidegate_toolchain::rust::Profile;

use super::TestArgs;
use crate::cli::Failure;
use crate::cli::plugin::build::{self, BuildError};
use crate::cli::plugin::project::Project;
use crate::cli::plugin::subject::{as_configured, configured, request};
use crate::config::{self, Config, nearest};
use crate::plugins::read_component;

/// The plugin of a component, with what surrounds it.
pub(super) type MakeSetup = Box<dyn Fn(Vec<u8>) -> Setup>;

/// What is tested, and what surrounds it.
pub(super) struct Subject {
    /// Its file.
    pub(super) file: PathBuf,
    /// What is in it.
    pub(super) component: Vec<u8>,
    /// Where that comes from.
    pub(super) origin: Origin,
    /// The plugin, for each check anew.
    pub(super) setup: MakeSetup,
    /// What every request has in common.
    pub(super) request: Request,
    /// What servers answer.
    pub(super) answer: Response,
    /// Whether it is granted what it imports: there is no config that says it.
    pub(super) grants_imports: bool,
}

/// Where a component comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// It was there.
    Given,
    /// It was built just now, from the sources of a project.
    Built,
}

/// Read the command line, and the config or the project that it names; build the project.
pub(super) fn read(args: &TestArgs) -> Result<Subject, Failure> {
    let secrets = pairs("secret", &args.secret)?;
    let request = request(args.path.as_deref().unwrap_or("/"), &args.header, None)?;
    let answer = Response::new(200).header("content-type", "application/json").body(args.http_answer.clone());
    if args.plugin.is_dir() && args.config.is_some() {
        let hint = "name the component beside `--config`: `tidegate plugin test PLUGIN.wasm --config FILE`";
        return Err(Failure::usage(format!("{} is a folder", args.plugin.display()), Some(hint)));
    }
    if args.plugin.is_dir() {
        let project = Project::open(&args.plugin)?;
        // What is wrong with the command line is said before a build that takes its time.
        let own = own_config(args, &project.plugin, &secrets)?;
        let (component, origin) = if args.no_build {
            (component(project.component(), Some("without `--no-build`, it is built"))?, Origin::Given)
        } else {
            let built = build::component(&project, Profile::Release).map_err(BuildError::failure)?;
            (built.hand_over(&project), Origin::Built)
        };
        let Project { config, plugin, .. } = project;
        let file = plugin.path.clone();
        let setup = with_table(config, plugin, own, secrets, answer.clone());
        return Ok(Subject { file, component, origin, setup, request, answer, grants_imports: false });
    }
    let file = args.plugin.clone();
    let (component, origin) = (component(&file, None)?, Origin::Given);
    let Some(path) = &args.config else {
        let config = Value::Object(plugin_config(args, Map::new())?);
        let name = file.file_stem().map_or_else(|| "plugin".into(), |stem| stem.to_string_lossy().into_owned());
        let setup = move |component| {
            let setup = configured(Setup::component(&name, component), &config);
            secrets.iter().fold(setup, |setup, (name, value)| setup.secret(name, value))
        };
        let setup = Box::new(setup);
        return Ok(Subject { file, component, origin, setup, request, answer, grants_imports: true });
    };
    let config = Config::load_plugins(path)?;
    let plugin = chosen(&config, path, args, &file)?.clone();
    let own = own_config(args, &plugin, &secrets)?;
    let setup = with_table(config, plugin, own, secrets, answer.clone());
    Ok(Subject { file, component, origin, setup, request, answer, grants_imports: false })
}

fn component(file: &Path, hint: Option<&str>) -> Result<Vec<u8>, Failure> {
    read_component(file).map_err(|error| Failure::usage(format!("{}: {error}", file.display()), hint))
}

/// The config of a table's plugin, with what the command line says of it; its secrets are among those that it is granted.
fn own_config(args: &TestArgs, plugin: &config::Plugin, secrets: &BTreeMap<String, String>) -> Result<Value, Failure> {
    if let Some(unknown) = secrets.keys().find(|name| !plugin.grants.secrets.contains_key(name.as_str())) {
        let text = format!("plugin `{}` is not granted a secret `{unknown}`", plugin.name);
        return Err(Failure::usage(text, Some("grant it in `secrets` under [plugin.grants]")));
    }
    // It was written by the reader of the config, from a table.
    let own = serde_json::from_str(&plugin.config).unwrap_or_default();
    Ok(Value::Object(plugin_config(args, own)?))
}

/// The plugin of a table, with this config of its own.
fn with_table(
    config: Config,
    plugin: config::Plugin,
    own: Value,
    secrets: BTreeMap<String, String>,
    answer: Response,
) -> MakeSetup {
    Box::new(move |component| as_configured(component, &config, &plugin, &own, &secrets, &answer))
}

/// The [[plugin]] that is meant: the one by that name, the only one, or the only one with this file's name.
fn chosen<'c>(config: &'c Config, path: &Path, args: &TestArgs, file: &Path) -> Result<&'c config::Plugin, Failure> {
    let names: Vec<&str> = config.plugins.iter().map(|plugin| &*plugin.name).collect();
    if let Some(name) = &args.name {
        return config.plugins.iter().find(|plugin| *plugin.name == **name).ok_or_else(|| {
            let hint = match nearest(name, &names) {
                Some(near) => format!("did you mean `{near}`?"),
                None if names.is_empty() => "add a [[plugin]] table".to_owned(),
                None => format!("it has {}", names.join(", ")),
            };
            Failure::usage(format!("{} has no plugin `{name}`", path.display()), Some(hint))
        });
    }
    let mut same_file = config.plugins.iter().filter(|plugin| plugin.path.file_name() == file.file_name());
    match (config.plugins.as_slice(), same_file.next(), same_file.next()) {
        ([only], ..) | (_, Some(only), None) => Ok(only),
        ([], ..) => {
            let text = format!("{} has no [[plugin]]", path.display());
            Err(Failure::usage(text, Some("add one, or leave `--config` out")))
        }
        _ => {
            let text = format!("{} has several plugins, and none is the one in {}", path.display(), file.display());
            Err(Failure::usage(text, Some(format!("say which with `--name`: {}", names.join(", ")))))
        }
    }
}

/// What `configure` gets.
fn plugin_config(args: &TestArgs, mut config: Map<String, Value>) -> Result<Map<String, Value>, Failure> {
    if let Some(json) = &args.plugin_config {
        config = serde_json::from_str(json).map_err(|error| {
            Failure::usage(
                format!("--plugin-config is no JSON object: {error}"),
                Some("for example '{\"key\": \"value\"}'"),
            )
        })?;
    }
    for (key, value) in pairs("set", &args.set)? {
        let value = serde_json::from_str(&value).unwrap_or(Value::String(value));
        config.insert(key, value);
    }
    Ok(config)
}

/// Arguments of the form `NAME=VALUE`; the last one of a name stands.
fn pairs(argument: &str, given: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let pair = |text: &String| match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(Failure::usage(format!("--{argument} `{text}` has no name or no value"), Some("write NAME=VALUE"))),
    };
    given.iter().map(pair).collect()
}
