//! `tidegate plugin bench`
//!
//! Two engines are asked. One counts fuel: what it says is the same on every machine, so it is what to compare between two
//! versions of a plugin. The other is the one of a gateway: it says how long calls take here. They take turns, round by round,
//! so that whatever else the machine does meets both.

mod figures;
mod flame;
mod show;
mod subject;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use tidegate_testing::{Hook, Plugin, Request, Sample, Setup, SetupError};

use self::figures::{HookFigures, Spread};
use self::subject::Subject;
use crate::cli::{Failure, print};
use crate::stop::report::write_whole;

pub(super) const AFTER_HELP: &str = "\
Exit codes:
  0    the plugin was measured
  1    tidegate itself failed
  2    something is wrong with the command line, the folder or the component

Examples:
  tidegate plugin bench
  tidegate plugin bench target/plugins/stamp.wasm --calls 1000 --header 'x-user: ada'
  tidegate plugin bench --flame flame.svg
  tidegate plugin bench --json | jq '.hooks[] | [.hook, .fuel.median]'";

/// Rounds of each engine. Every round loads the plugin anew and stops it, so that start and end are measured, too.
const ROUNDS: usize = 10;

/// How long a stop may take.
const STOP: Duration = Duration::from_secs(60);

/// `tidegate plugin bench`
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// The folder of a project, or a component, which has no config and no grants then
    #[arg(value_name = "DIR|PLUGIN.wasm", default_value = ".")]
    pub plugin: PathBuf,
    /// How many requests to send through it
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub calls: u32,
    /// Path and query of the requests
    #[arg(long, value_name = "PATH", default_value = "/")]
    pub path: String,
    /// A field of the requests; can be given several times
    #[arg(short = 'H', long, value_name = "NAME: VALUE")]
    pub header: Vec<String>,
    /// The body of the requests, which are POST then, and of the responses
    #[arg(long, value_name = "TEXT")]
    pub body: Option<String>,
    /// Draw where the fuel goes to this file, as an SVG for a browser
    #[arg(long, value_name = "FILE.svg")]
    pub flame: Option<PathBuf>,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

/// What came out.
struct Measured {
    file: String,
    digest: String,
    size: usize,
    requests: usize,
    /// Until the first instance is configured, with a compilation.
    compile: Duration,
    /// The same without one, as at every later start.
    load: Spread<Duration>,
    hooks: Vec<HookFigures>,
    samples: Vec<Sample>,
    /// Requests in which a call failed, and how the first one did.
    failed: (usize, Option<String>),
}

/// Measure the plugin, and show the figures.
pub(super) fn bench(args: &BenchArgs) -> Result<(), Failure> {
    let subject = Subject::read(args)?;
    let measured = measure(args, &subject).map_err(|error| refused(&subject.file, &error))?;
    if let Some(out) = &args.flame {
        draw(out, &measured)?;
    }
    print(&if args.json { show::json(&measured) } else { show::text(&measured) })
}

fn refused(file: &Path, error: &SetupError) -> Failure {
    match error {
        SetupError::Machine(problem) => Failure::gateway(problem.clone()),
        SetupError::Refused(error) => Failure::usage(format!("{}: {error}", file.display()), error.hint()),
        other @ SetupError::File { .. } => Failure::usage(other.to_string(), None::<&str>),
    }
}

fn draw(out: &Path, measured: &Measured) -> Result<(), Failure> {
    let title = format!("{}: fuel of {} requests", measured.file, measured.requests);
    write_whole(out, flame::draw(&title, &measured.samples).as_bytes()).map_err(|error| {
        let text = format!("cannot write the flame graph to {}: {error}", out.display());
        Failure::usage(text, Some("the folder must exist, and you must be allowed to write to it"))
    })
}

fn measure(args: &BenchArgs, subject: &Subject) -> Result<Measured, SetupError> {
    // Compiled once for each engine; the user's own cache would hide what a compilation takes.
    let cache = tempfile::tempdir().map_err(|error| SetupError::Machine(error.to_string()))?;
    let setup = || subject.setup().cache(Some(cache.path().to_owned()));
    let began = Instant::now();
    drop(setup().in_real_time().load()?);
    let compile = began.elapsed();

    let per_round = (args.calls as usize).div_ceil(ROUNDS);
    let (mut fuel, mut times, mut loads) = (Vec::new(), BTreeMap::<usize, Vec<Vec<Duration>>>::new(), Vec::new());
    let mut samples = BTreeMap::<(usize, Vec<String>), Sample>::new();
    let mut failed = (0, None);
    for _ in 0..ROUNDS {
        let counted = if args.flame.is_some() { setup().sampled() } else { setup() };
        let mut counted = counted.load()?;
        for _ in 0..per_round {
            let answer = counted.send(subject.request.clone());
            if let Some(failure) = answer.failures.first() {
                failed.0 += 1;
                failed.1.get_or_insert_with(|| failure.to_string());
            }
        }
        tick(&mut counted, subject);
        let _ = counted.stop(STOP);
        fuel.extend(counted.calls());
        for sample in counted.samples() {
            let key = (sample.hook as usize, sample.stack.clone());
            samples.entry(key).and_modify(|own| own.fuel += sample.fuel).or_insert(sample);
        }
        loads.push(round(&setup, &subject.request, per_round, &mut times)?);
    }
    let hooks = Hook::ALL.into_iter().filter_map(|hook| {
        let calls = fuel.iter().filter(|call| call.hook == hook).map(|call| call.used);
        HookFigures::of(hook, calls, times.get(&(hook as usize)).map_or(&[], Vec::as_slice))
    });
    Ok(Measured {
        file: subject.file.display().to_string(),
        digest: subject.digest.to_string(),
        size: subject.component.len(),
        requests: per_round * ROUNDS,
        compile,
        load: Spread::of(loads).unwrap_or_default(),
        hooks: hooks.collect(),
        samples: samples.into_values().collect(),
        failed,
    })
}

/// Some ticks, if it has any.
fn tick(plugin: &mut Plugin, subject: &Subject) {
    const TICKS: u32 = 3;
    if let Some(period) = subject.tick() {
        plugin.advance(period * TICKS);
    }
}

/// One round by the clock. Returns what it took until the first instance was configured.
fn round(
    setup: &impl Fn() -> Setup,
    request: &Request,
    requests: usize,
    times: &mut BTreeMap<usize, Vec<Vec<Duration>>>,
) -> Result<Duration, SetupError> {
    let began = Instant::now();
    let mut plugin = setup().in_real_time().load()?;
    let load = began.elapsed();
    // The first calls of an instance touch memory for the first time, and are told by the maximum of a longer run.
    let warm_up = requests.min(3);
    let mut own = BTreeMap::<usize, Vec<Duration>>::new();
    let so_far = |plugin: &Plugin| -> Vec<(usize, u64, Duration)> {
        let hooks = plugin.stats().hooks;
        hooks.iter().map(|hook| (hook.hook as usize, hook.calls.iter().sum(), hook.wall)).collect()
    };
    for nth in 0..requests + warm_up {
        let before = so_far(&plugin);
        let _ = plugin.send(request.clone());
        if nth < warm_up {
            continue;
        }
        for ((hook, calls, wall), (_, calls_before, wall_before)) in so_far(&plugin).into_iter().zip(before) {
            // One call per request, as a rule; of several, the mean.
            if let Some(calls) = u32::try_from(calls - calls_before).ok().filter(|calls| *calls > 0) {
                own.entry(hook).or_default().push((wall - wall_before) / calls);
            }
        }
    }
    let stop = plugin.stop(STOP);
    let ends = stop.instances.iter().map(|record| record.took).collect::<Vec<_>>();
    if plugin.hooks().contains(Hook::Shutdown) && !ends.is_empty() {
        own.insert(Hook::Shutdown as usize, ends);
    }
    for (hook, durations) in own {
        times.entry(hook).or_default().push(durations);
    }
    Ok(load)
}
