//! What is measured, and what surrounds it: a component alone, or one with the config, grants and limits of its project.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use tidegate_runtime::{Isolation, digest};
use tidegate_testing::{Request, Response, Setup};

use super::BenchArgs;
use crate::cli::Failure;
use crate::cli::plugin::project::Project;
use crate::config::{OnFailure, Plugin};
use crate::plugins::read_component;

/// What is measured.
pub(super) struct Subject {
    pub(super) file: PathBuf,
    pub(super) component: Vec<u8>,
    pub(super) digest: Arc<str>,
    pub(super) request: Request,
    project: Option<Project>,
    /// What the upstream answers, and servers that the plugin asks.
    answer: Response,
}

impl Subject {
    /// Read the command line, and the project if it names one.
    pub(super) fn read(args: &BenchArgs) -> Result<Self, Failure> {
        let request = request(args)?;
        let project = if args.plugin.is_file() { None } else { Some(Project::open(&args.plugin)?) };
        let file = project.as_ref().map_or(&*args.plugin, Project::component).to_owned();
        let component = read_component(&file).map_err(|error| {
            let hint = project.is_some().then_some("`tidegate plugin build` makes it");
            Failure::usage(format!("{}: {error}", file.display()), hint)
        })?;
        let answer = Response::new(200).body(args.body.clone().unwrap_or_default());
        Ok(Self { digest: digest(&component), file, component, request, project, answer })
    }

    /// How often it is ticked.
    pub(super) fn tick(&self) -> Option<Duration> {
        self.project.as_ref()?.plugin.tick
    }

    /// It, ready to be loaded.
    pub(super) fn setup(&self) -> Setup {
        let answer = self.answer.clone();
        let component = self.component.clone();
        let setup = match &self.project {
            None => Setup::component("plugin", component),
            Some(project) => as_configured(component, project, &self.answer),
        };
        setup.upstream(move |_| answer.clone())
    }
}

/// The plugin as its table has it, with one instance.
fn as_configured(component: Vec<u8>, project: &Project, answer: &Response) -> Setup {
    let plugin = &project.plugin;
    let mut setup = Setup::component(&plugin.name, component)
        .limits(|limits| *limits = plugin.limits)
        .recycle(plugin.recycle)
        .upstreams(project.upstreams.iter().map(String::as_str));
    // It was written by the reader of the config. A plugin without `configure` must not have one, an empty one aside.
    let config: serde_json::Value = serde_json::from_str(&plugin.config).unwrap_or_default();
    if config.as_object().is_some_and(|config| !config.is_empty()) {
        setup = setup.config(&config);
    }
    if plugin.isolation == Isolation::Fresh {
        setup = setup.fresh();
    }
    if plugin.on_failure == OnFailure::Open {
        setup = setup.fail_open();
    }
    if let Some(period) = plugin.tick {
        setup = setup.tick(period);
    }
    granted(setup, plugin, answer)
}

/// What it is granted, with stand-ins in the place of what a gateway has there.
fn granted(mut setup: Setup, plugin: &Plugin, answer: &Response) -> Setup {
    let grants = &plugin.grants;
    if !grants.outbox.is_empty() {
        setup = setup.outbox(grants.outbox.iter().map(tidegate_outbox::topic::Pattern::as_str));
    }
    if let Some(origins) = &grants.http {
        let origins: Vec<String> = origins.iter().map(|granted| granted.origin.to_string()).collect();
        let answer = answer.clone();
        setup = setup.http(origins.iter().map(String::as_str), move |_| answer.clone());
    }
    for name in &grants.kv {
        setup = setup.kv(name);
    }
    for (key, value) in &grants.config {
        setup = setup.value(key, value);
    }
    for name in grants.secrets.keys() {
        // Not the real one: what is measured needs none.
        setup = setup.secret(name, &format!("secret-of-{name}"));
    }
    if grants.metrics.is_some() {
        setup = setup.metrics();
    }
    if grants.background {
        setup = setup.background(plugin.deferred);
    }
    setup
}

/// The request that is sent.
fn request(args: &BenchArgs) -> Result<Request, Failure> {
    if !args.path.starts_with('/') || args.path.parse::<PathAndQuery>().is_err() {
        return Err(Failure::usage(format!("--path `{}` is no path", args.path), Some("it begins with `/`")));
    }
    let mut request = match &args.body {
        Some(body) => Request::post(&args.path, body.clone()),
        None => Request::get(&args.path),
    };
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
