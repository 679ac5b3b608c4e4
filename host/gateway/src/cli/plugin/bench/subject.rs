//! What is measured, and what surrounds it: a component alone, or one with the config, grants and limits of its project.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tidegate_runtime::digest;
use tidegate_testing::{Request, Response, Setup};

use super::BenchArgs;
use crate::cli::Failure;
use crate::cli::plugin::project::Project;
use crate::cli::plugin::stand_ins::as_configured;
use crate::cli::plugin::subject::request;
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
        let request = request(&args.path, &args.header, args.body.as_deref())?;
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

    /// It, ready to be loaded, with one instance.
    pub(super) fn setup(&self) -> Setup {
        let answer = self.answer.clone();
        let component = self.component.clone();
        let setup = match &self.project {
            None => Setup::component("plugin", component),
            Some(Project { config, plugin, .. }) => {
                // It was written by the reader of the config.
                let own = serde_json::from_str(&plugin.config).unwrap_or_default();
                as_configured(component, config, plugin, &own, &BTreeMap::new(), &self.answer)
            }
        };
        setup.upstream(move |_| answer.clone())
    }
}
