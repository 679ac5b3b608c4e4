//! `tidegate run`

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use tidegate_runtime::Runtime;
use tokio::time::Instant;

use super::{Failure, RunArgs, print};
use crate::capabilities::Capabilities;
use crate::config::{self, Config, HumanDuration};
use crate::control::Control;
use crate::gateway::{Addresses, Gateway, Start};
use crate::plugins::{self, Loader, Progress};
use crate::recorder::Recorder;
use crate::signals::{ReloadSignals, StopCause, StopSignals};
use crate::stop::log::StopLog;
use crate::stop::report::Report;
use crate::supervisor::Notifier;
use crate::supervisor::sockets::InheritedSockets;
use crate::telemetry::log;

/// Serve until a signal, then stop in order. The code to exit with is the report's.
pub(super) fn run(args: &RunArgs) -> Result<u8, Failure> {
    // Before anything opens a file.
    let sockets = InheritedSockets::from_environment()?;
    let config = Config::load(&args.config)?;
    sockets.check(&config)?;
    if let Some(report) = &args.shutdown_report {
        check_folder(report)?;
    }
    let recorder = args.record.start()?;
    let _log = log::start(&config.log)
        .map_err(|error| Failure::usage(format!("`[log] level` is no filter: {error}"), None::<&str>))?;
    if let Some(folder) = &args.record.folder {
        let (body, limit) = (args.record.body, args.record.limit);
        tracing::info!(folder = %folder.display(), %body, %limit, "exchanges are recorded");
    }
    let tokio = tokio::runtime::Runtime::new()
        .map_err(|error| Failure::gateway(format!("cannot start worker threads: {error}")))?;
    let code = tokio.block_on(serve(args, config, recorder, sockets));
    // Everything that had to end has ended, or has had its time.
    tokio.shutdown_background();
    code
}

async fn serve(
    args: &RunArgs,
    config: Config,
    recorder: Option<Arc<Recorder>>,
    mut sockets: InheritedSockets,
) -> Result<u8, Failure> {
    let supervisor = Notifier::from_environment();
    let _pulse = supervisor.pulse();
    let deaf = |error| Failure::gateway(format!("cannot listen for signals: {error}"));
    let mut signals = StopSignals::listen().map_err(deaf)?;
    // Also before there is anything to reload: it must not end the process.
    let reloads = ReloadSignals::listen().map_err(deaf)?;
    let report_file = args.shutdown_report.as_deref();
    let runtime = Runtime::new(plugins::runtime_config(&config))?;
    let stops = Arc::<StopLog>::default();
    let capabilities = Capabilities::open(&config).await?;
    let loader = Loader {
        runtime: runtime.clone(),
        capabilities: Arc::clone(&capabilities),
        stops: Arc::clone(&stops),
        generation: 1,
    };
    let progress = |loaded: Progress<'_>| {
        tracing::info!(plugin = loaded.name, took = %HumanDuration(loaded.took), "plugin loaded");
        supervisor.status(&format!("starting: plugin {} is loaded", loaded.name));
    };
    let plugins = tokio::select! {
        plugins = plugins::load_all(&config, &loader, &[], progress) => plugins?,
        signal = signals.next() => {
            tracing::info!(%signal, "stopped before it was ready");
            supervisor.stopping();
            // Plugins that are loaded by now have served nothing and hold nothing: they are let go.
            let config::Shutdown { grace, flush, .. } = config.shutdown;
            // A broker or a disk that does not answer holds up no exit. What is accepted and not synced by then is in the
            // file, and is found there by the next start.
            if tokio::time::timeout(flush, capabilities.close()).await.is_err() {
                tracing::warn!(waited = %HumanDuration(flush), "not everything could be let go of in time");
            }
            return Ok(finish(&Report::before_ready(signal.as_str(), grace), report_file));
        }
    };
    let file = args.config.clone();
    let start = Start { file, config, runtime, capabilities, stops, supervisor: supervisor.clone(), plugins, recorder };
    let gateway = Gateway::start(start, &mut sockets)?;
    let addresses = addresses(gateway.addresses());
    print(&format!("tidegate is ready: {addresses}\n"))?;
    supervisor.ready(&addresses);

    let cause = tokio::select! {
        biased;
        signal = signals.next() => StopCause::Signal(signal),
        () = gateway.asked_to_stop() => StopCause::Admin,
        // How each goes is in the log.
        never = reload_on(reloads, gateway.control()) => match never {},
    };
    supervisor.stopping();
    let over = Instant::now() + gateway.control().current().ledger.grace();
    let report = supervisor.extending(over, gateway.stop(cause, &mut signals)).await;
    Ok(finish(&report, report_file))
}

/// Reload once per signal, one at a time; those that come meanwhile count as one.
async fn reload_on(mut signals: ReloadSignals, control: &Control) -> Infallible {
    loop {
        signals.next().await;
        let _ = control.reload("SIGHUP").await;
    }
}

/// Write the report where it was asked for. Returns the code to exit with.
fn finish(report: &Report, file: Option<&Path>) -> u8 {
    if let Some(file) = file
        && let Err(error) = report.write(file)
    {
        // The code must still say how the stop went; the report itself goes to the log.
        tracing::error!(%error, report = %report.to_json(), "the shutdown report is lost");
    }
    report.exit_code
}

/// For the ready line, which scripts read, and for the supervisor.
fn addresses(addresses: &Addresses) -> String {
    let listen: Vec<String> = addresses.listen.iter().map(ToString::to_string).collect();
    format!("listening on {}, admin on {}", listen.join(", "), addresses.admin)
}

/// A report that cannot be written is found now, not when it is needed.
fn check_folder(report: &Path) -> Result<(), Failure> {
    let folder = report.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if folder.is_dir() && !report.is_dir() {
        return Ok(());
    }
    let text = format!("the shutdown report cannot be written to {}", report.display());
    Err(Failure::usage(text, Some("name a file in a folder that exists")))
}
