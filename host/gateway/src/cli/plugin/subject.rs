//! Which plugin a command is about, and what surrounds it: a component alone, one with its table in a config, or a project.
//!
//! For the commands that run a plugin under the harness.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use http::HeaderName;
use http::header::HeaderValue;
use http::uri::PathAndQuery;
use serde_json::{Map, Value};
use tidegate_testing::{Request, Response, Setup};
use tidegate_toolchain::rust::Profile;

use super::build::{self, BuildError};
use super::project::Project;
use super::stand_ins::{as_configured, configured};
use crate::cli::Failure;
use crate::config::{self, Config, nearest};
use crate::plugins::read_component;

/// What surrounds the plugin.
#[derive(Debug, Args)]
pub struct SurroundingArgs {
    /// Take config, grants and limits from the plugin's table in this file, which needs no routes
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What `configure` gets, as a JSON object
    #[arg(long, value_name = "JSON")]
    pub plugin_config: Option<String>,
    /// One key of what `configure` gets; the value is JSON, or else text
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// What the plugin gets for a secret; granted ones have a made-up value without this
    #[arg(long, value_name = "NAME=VALUE")]
    pub secret: Vec<String>,
    /// What servers answer, with status 200, that the plugin asks
    #[arg(long, value_name = "TEXT", default_value = "{}")]
    pub http_answer: String,
}

/// The plugin of a component, with what surrounds it.
pub(super) type MakeSetup = Box<dyn Fn(Vec<u8>) -> Setup>;

/// A plugin, and what surrounds it.
pub(super) struct Subject {
    /// Its file.
    pub(super) file: PathBuf,
    /// What is in it.
    pub(super) component: Vec<u8>,
    /// Where that comes from.
    pub(super) origin: Origin,
    /// The plugin, each time anew.
    pub(super) setup: MakeSetup,
    /// What servers answer.
    pub(super) answer: Response,
    /// The name in its table. Without one it is to be granted what it imports.
    pub(super) table: Option<String>,
}

/// Where a component comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// It is there, in a file.
    File,
    /// It is built first, from the sources of a project; a component alone has none, and is in a file.
    Sources,
}

impl Subject {
    /// Read the config or the project that is named, and build the project if that is wanted. `plugin` is a project's folder
    /// or a component, and `name` chooses one of several tables.
    pub(super) fn read(
        plugin: &Path,
        name: Option<&str>,
        args: &SurroundingArgs,
        origin: Origin,
    ) -> Result<Self, Failure> {
        let secrets = pairs("secret", &args.secret)?;
        let answer = Response::new(200).header("content-type", "application/json").body(args.http_answer.clone());
        if plugin.is_dir() && args.config.is_some() {
            let hint = "name the component beside `--config`: `PLUGIN.wasm --config FILE`";
            return Err(Failure::usage(format!("{} is a folder", plugin.display()), Some(hint)));
        }
        if plugin.is_dir() {
            let project = Project::open(plugin)?;
            // What is wrong with the command line is said before a build that takes its time.
            let own = own_config(args, &project.plugin, &secrets)?;
            let component = match origin {
                Origin::File => component(project.component(), Some("`tidegate plugin build` makes it"))?,
                Origin::Sources => {
                    let built = build::component(&project, Profile::Release).map_err(BuildError::failure)?;
                    built.hand_over(&project)
                }
            };
            let Project { config, plugin, .. } = project;
            let (file, table) = (plugin.path.clone(), Some(plugin.name.to_string()));
            let setup = with_table(config, plugin, own, secrets, answer.clone());
            return Ok(Self { file, component, origin, setup, answer, table });
        }
        let file = plugin.to_owned();
        let (component, origin) = (component(&file, None)?, Origin::File);
        let Some(path) = &args.config else {
            let config = Value::Object(plugin_config(args, Map::new())?);
            let name = file.file_stem().map_or_else(|| "plugin".into(), |stem| stem.to_string_lossy().into_owned());
            let setup = move |component| {
                let setup = configured(Setup::component(&name, component), &config);
                secrets.iter().fold(setup, |setup, (name, value)| setup.secret(name, value))
            };
            return Ok(Self { file, component, origin, setup: Box::new(setup), answer, table: None });
        };
        let config = Config::load_plugins(path)?;
        let plugin = chosen(&config, path, name, &file)?.clone();
        let own = own_config(args, &plugin, &secrets)?;
        let table = Some(plugin.name.to_string());
        let setup = with_table(config, plugin, own, secrets, answer.clone());
        Ok(Self { file, component, origin, setup, answer, table })
    }
}

fn component(file: &Path, hint: Option<&str>) -> Result<Vec<u8>, Failure> {
    read_component(file).map_err(|error| Failure::usage(format!("{}: {error}", file.display()), hint))
}

/// The config of a table's plugin, with what the command line says of it; its secrets are among those that it is granted.
fn own_config(
    args: &SurroundingArgs,
    plugin: &config::Plugin,
    secrets: &BTreeMap<String, String>,
) -> Result<Value, Failure> {
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
fn chosen<'c>(config: &'c Config, path: &Path, name: Option<&str>, file: &Path) -> Result<&'c config::Plugin, Failure> {
    let names: Vec<&str> = config.plugins.iter().map(|plugin| &*plugin.name).collect();
    if let Some(name) = name {
        return config.plugins.iter().find(|plugin| &*plugin.name == name).ok_or_else(|| {
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
fn plugin_config(args: &SurroundingArgs, mut config: Map<String, Value>) -> Result<Map<String, Value>, Failure> {
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

/// A request to this path, with these fields (`NAME: VALUE`) and, if there is one, this body.
pub(super) fn request(path: &str, fields: &[String], body: Option<&str>) -> Result<Request, Failure> {
    if !path.starts_with('/') || path.parse::<PathAndQuery>().is_err() {
        return Err(Failure::usage(format!("--path `{path}` is no path"), Some("it begins with `/`")));
    }
    let mut request = match body {
        Some(body) => Request::post(path, body.to_owned()),
        None => Request::get(path),
    };
    for text in fields {
        let field = text.split_once(':').and_then(|(name, value)| {
            Some((name.trim().parse::<HeaderName>().ok()?, value.trim().parse::<HeaderValue>().ok()?))
        });
        let Some((name, value)) = field else {
            return Err(Failure::usage(format!("--header `{text}` is no header field"), Some("write `NAME: VALUE`")));
        };
        request.headers.append(name, value);
    }
    Ok(request)
}
