//! What is tested and what surrounds it: from the command line, and from a config file if there is one.

use std::collections::BTreeMap;
use std::path::Path;

use http::HeaderName;
use http::header::HeaderValue;
use http::uri::PathAndQuery;
use serde_json::{Map, Value};
use tidegate_outbound::Target;
use tidegate_runtime::Isolation;
use tidegate_testing::{Request, Response, Setup};

use super::TestArgs;
use crate::cli::Failure;
use crate::config::{self, Config, OnFailure, nearest};

/// What is tested, and what surrounds it.
pub(super) struct Subject {
    /// The plugin, for each check anew.
    pub(super) setup: Box<dyn Fn(Vec<u8>) -> Setup>,
    /// What every request has in common.
    pub(super) request: Request,
    /// What servers answer.
    pub(super) answer: Response,
    /// Whether it is granted what it imports: there is no config that says it.
    pub(super) grants_imports: bool,
}

/// Read the command line, and the config file if it names one.
pub(super) fn read(args: &TestArgs, file: &Path) -> Result<Subject, Failure> {
    let secrets = pairs("secret", &args.secret)?;
    let request = request(args)?;
    let answer = Response::new(200).header("content-type", "application/json").body(args.http_answer.clone());
    let Some(path) = &args.config else {
        let config = Value::Object(plugin_config(args, Map::new())?);
        let name = file.file_stem().map_or_else(|| "plugin".into(), |stem| stem.to_string_lossy().into_owned());
        let setup = move |component| {
            let setup = configured(Setup::component(&name, component), &config);
            secrets.iter().fold(setup, |setup, (name, value)| setup.secret(name, value))
        };
        return Ok(Subject { setup: Box::new(setup), request, answer, grants_imports: true });
    };
    let config = Config::load_plugins(path)?;
    let plugin = chosen(&config, path, args, file)?.clone();
    if let Some(unknown) = secrets.keys().find(|name| !plugin.grants.secrets.contains_key(name.as_str())) {
        let text = format!("plugin `{}` is not granted a secret `{unknown}`", plugin.name);
        return Err(Failure::usage(text, Some("grant it in `secrets` under [plugin.grants]")));
    }
    // It was written by the reader of the config, from a table.
    let own = serde_json::from_str(&plugin.config).unwrap_or_default();
    let config_of_plugin = Value::Object(plugin_config(args, own)?);
    let answers = answer.clone();
    let setup = move |component| as_configured(component, &config, &plugin, &config_of_plugin, &secrets, &answers);
    Ok(Subject { setup: Box::new(setup), request, answer, grants_imports: false })
}

/// The plugin as its table has it. Instances are the checks' own.
fn as_configured(
    component: Vec<u8>,
    config: &Config,
    plugin: &config::Plugin,
    config_of_plugin: &Value,
    secrets: &BTreeMap<String, String>,
    answer: &Response,
) -> Setup {
    let limits = plugin.limits;
    let mut setup = configured(Setup::component(&plugin.name, component), config_of_plugin)
        .limits(|own| *own = limits)
        .recycle(plugin.recycle)
        .upstreams(config.upstreams.iter().map(|upstream| &*upstream.name));
    if plugin.isolation == Isolation::Fresh {
        setup = setup.fresh();
    }
    if plugin.on_failure == OnFailure::Open {
        setup = setup.fail_open();
    }
    if let Some(period) = plugin.tick {
        setup = setup.tick(period);
    }
    granted(setup, config, plugin, secrets, answer)
}

/// What it is granted, with stand-ins in the place of what a gateway has there.
fn granted(
    mut setup: Setup,
    config: &Config,
    plugin: &config::Plugin,
    secrets: &BTreeMap<String, String>,
    answer: &Response,
) -> Setup {
    let grants = &plugin.grants;
    if !grants.outbox.is_empty() {
        setup = setup.outbox(grants.outbox.iter().map(tidegate_outbox::topic::Pattern::as_str));
    }
    if let Some(origins) = &grants.http {
        let (origins, answer) = (origins.clone(), answer.clone());
        let covers = move |origin: &str| {
            let target = format!("{origin}/").parse().ok().and_then(|uri| Target::of(&uri));
            target.is_some_and(|target| origins.iter().any(|granted| granted.origin.covers(&target)))
        };
        setup = setup.http_where(covers, move |_| answer.clone());
    }
    for name in &grants.kv {
        let ttl = config.buckets.iter().find(|bucket| bucket.name == *name).and_then(|bucket| bucket.bounds.ttl);
        setup = match ttl {
            Some(ttl) => setup.kv_with_ttl(name, ttl),
            None => setup.kv(name),
        };
    }
    for (key, value) in &grants.config {
        setup = setup.value(key, value);
    }
    for name in grants.secrets.keys() {
        // Not the real one: a test needs none, and what is tested may write what it likes to the terminal.
        let made_up = || format!("secret-of-{name}");
        setup = setup.secret(name, &secrets.get(&**name).cloned().unwrap_or_else(made_up));
    }
    if grants.metrics.is_some() {
        setup = setup.metrics();
    }
    if grants.background {
        setup = setup.background(plugin.deferred);
    }
    setup
}

fn configured(setup: Setup, config: &Value) -> Setup {
    // A plugin without `configure` must not have one, an empty one aside.
    if config.as_object().is_some_and(Map::is_empty) { setup } else { setup.config(config) }
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

/// What every request has in common.
fn request(args: &TestArgs) -> Result<Request, Failure> {
    let target = args.path.as_deref().unwrap_or("/");
    if !target.starts_with('/') || target.parse::<PathAndQuery>().is_err() {
        return Err(Failure::usage(format!("--path `{target}` is no path"), Some("it begins with `/`")));
    }
    let mut request = Request::get(target);
    for text in &args.header {
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
