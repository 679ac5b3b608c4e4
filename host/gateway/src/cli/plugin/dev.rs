//! `tidegate plugin dev`
//!
//! Builds the plugin, serves it with a gateway in a process of its own, and does both again after each change of the sources.
//! What does not build changes nothing: the version before goes on serving.

mod echo;
mod gateway;
mod watch;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use tidegate_toolchain::rust::Profile;

use self::echo::Echo;
use self::gateway::{DevGateway, Reload};
use self::watch::Sources;
use super::build::{self, BuildError};
use super::project::{DEV_CONFIG, Project, Surroundings};
use crate::cli::{Failure, print, report};
use crate::signals::StopSignals;
use crate::stop::report::{Report, write_whole};
use crate::stop::timeline;

pub(super) const AFTER_HELP: &str = "\
Exit codes:
  0    it ended in order, whatever the plugin's stop was like
  1    tidegate itself failed, or the tools of the language cannot be had
  2    something is wrong with the command line, the folder or its tidegate-plugin.toml

Examples:
  tidegate plugin dev
  tidegate plugin dev plugins/visits --listen 127.0.0.1:8080 --upstream http://127.0.0.1:9000";

/// `tidegate plugin dev`
#[derive(Debug, Args)]
pub struct DevArgs {
    /// The folder of the project
    #[arg(value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// Where the gateway listens; without this, on a free port of this machine
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Where requests go; without this, to a server that tells what it was asked
    #[arg(long, value_name = "URL")]
    pub upstream: Option<String>,
    /// Build without optimisation, which is quicker; only for Rust
    #[arg(long)]
    pub debug: bool,
}

/// Serve and watch until a signal.
pub(super) fn dev(args: &DevArgs) -> Result<u8, Failure> {
    // Before anything is started.
    let project = Project::open(&args.dir)?;
    let sources = Sources::of(&project).map_err(no_folder)?;
    let tokio = tokio::runtime::Runtime::new()
        .map_err(|error| Failure::gateway(format!("cannot start worker threads: {error}")))?;
    let code = tokio.block_on(serve(args, sources));
    // A build that is under way when the signal comes is left to end by itself.
    tokio.shutdown_background();
    code
}

async fn serve(args: &DevArgs, mut sources: Sources) -> Result<u8, Failure> {
    let mut signals =
        StopSignals::listen().map_err(|error| Failure::gateway(format!("cannot listen for signals: {error}")))?;
    let scene = Scene::set(args).await?;
    let mut gateway: Option<DevGateway> = None;
    loop {
        // What is changed from here on is built again.
        sources.look().await;
        let built = tokio::select! {
            biased;
            _ = signals.next() => break,
            built = scene.build() => built,
        };
        match built? {
            Ok((project, built)) => {
                sources.built(&project).map_err(no_folder)?;
                print(&built)?;
                scene.show(&project, &mut gateway).await?;
            }
            Err(failure) => {
                failure.show();
                let rest = if gateway.is_some() { "; the version before goes on serving" } else { "" };
                print(&format!("not built{rest}\n"))?;
            }
        }
        print("watching for changes; Ctrl-C ends it\n")?;
        tokio::select! {
            biased;
            _ = signals.next() => break,
            status = ended(&mut gateway) => {
                return Err(Failure::gateway(format!("the gateway has ended: {status}")));
            }
            () = sources.changed() => print("\nsomething has changed\n")?,
        }
    }
    if let Some(gateway) = gateway {
        print("\nstopping\n")?;
        gateway.stop().await?;
        if let Ok(report) = Report::read(&scene.report) {
            print(&timeline::draw(&report, report::width()))?;
        }
    }
    Ok(0)
}

fn no_folder(error: std::io::Error) -> Failure {
    Failure::gateway(format!("the working directory is gone: {error}"))
}

/// How the gateway ended. Never, if there is none.
async fn ended(gateway: &mut Option<DevGateway>) -> String {
    match gateway {
        Some(gateway) => gateway.ended().await,
        None => std::future::pending().await,
    }
}

/// What stays the same from change to change.
struct Scene {
    folder: Arc<Path>,
    profile: Profile,
    listen: Option<SocketAddr>,
    upstream: Option<String>,
    echo: Option<Echo>,
    config: PathBuf,
    report: PathBuf,
    _temporary: tempfile::TempDir,
}

/// The project as it was built, and what there is to say of the component.
type Outcome = Result<(Project, String), Failure>;

impl Scene {
    async fn set(args: &DevArgs) -> Result<Self, Failure> {
        let temporary = tempfile::tempdir()
            .map_err(|error| Failure::gateway(format!("there is no place for temporary files: {error}")))?;
        let echo = match &args.upstream {
            Some(_) => None,
            None => Some(Echo::start().await.map_err(|error| Failure::gateway(format!("no upstream: {error}")))?),
        };
        Ok(Self {
            folder: args.dir.clone().into(),
            profile: if args.debug { Profile::Debug } else { Profile::Release },
            listen: args.listen,
            upstream: args.upstream.clone(),
            echo,
            config: args.dir.join(DEV_CONFIG),
            report: temporary.path().join("report.json"),
            _temporary: temporary,
        })
    }

    /// Build what is there now. The inner error is the author's to mend; the outer one ends the command.
    async fn build(&self) -> Result<Outcome, Failure> {
        let (folder, profile) = (Arc::clone(&self.folder), self.profile);
        let building = tokio::task::spawn_blocking(move || {
            let project = match Project::open(&folder) {
                Ok(project) => project,
                Err(failure) => return Ok(Err(failure)),
            };
            match build::component(&project, profile).and_then(|built| built.describe(&project)) {
                Ok(built) => Ok(Ok((project, built))),
                Err(error @ BuildError::Tools(_)) => Err(error.failure()),
                Err(error) => Ok(Err(error.failure())),
            }
        });
        match building.await {
            Ok(outcome) => outcome,
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }

    /// Start the gateway with what was built, or have it load that.
    async fn show(&self, project: &Project, gateway: &mut Option<DevGateway>) -> Result<(), Failure> {
        let echo = self.echo.as_ref().map(|echo| format!("http://{}", echo.address()));
        let has_upstream = project.has_upstream();
        // One of the file's own wins over the one that nobody asked for.
        let upstream = self.upstream.as_deref().or(echo.as_deref().filter(|_| !has_upstream));
        let text = project.gateway(Surroundings { listen: self.listen, upstream })?;
        write_whole(&self.config, text.as_bytes()).map_err(|error| {
            Failure::usage(format!("cannot write {}: {error}", self.config.display()), None::<&str>)
        })?;
        match gateway {
            Some(running) => match running.reload().await {
                Reload::Done { generation } => print(&format!("reloaded: generation {generation} serves\n")),
                Reload::Refused(why) => {
                    Failure::usage(why, None::<&str>).show();
                    print("not loaded; the version before goes on serving\n")
                }
            },
            None => match DevGateway::start(&self.config, &self.report).await? {
                Some(started) => {
                    print(&format!("{} (http://{})\n", started.ready_line(), started.address()))?;
                    *gateway = Some(started);
                    Ok(())
                }
                // It has said why on stderr.
                None => print("the gateway does not start with this\n"),
            },
        }
    }
}
