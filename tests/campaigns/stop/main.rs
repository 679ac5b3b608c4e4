//! The stop campaign: a thousand stops and more, of plugins that misbehave in every way, for every reason, in real
//! processes under load. `cargo xtask campaign stop` builds what it needs and runs it.
//!
//! Whether a stop ends as it has to, and whether a request that could have finished did, is checked: anything wrong is
//! printed and makes the exit code 1. How late stops end is measured and printed.
//!
//! | module | owns |
//! |---|---|
//! | `kinds` | the ways to misbehave, and which plugins share a process |
//! | `events` | what makes the gateway stop them |
//! | `process` | one process, its load and its end |
//! | `evidence` | what its log and its report say, and whether that is right |
//! | `tables` | what is printed |

mod events;
mod evidence;
mod kinds;
mod process;
mod tables;

use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tidegate_runtime::{BodyVerdict, Limits};
use tidegate_tests::components;
use tidegate_tests::measure::arguments::Arguments;
use tidegate_tests::measure::series::Series;
use tidegate_tests::measure::{machine, table};
use tidegate_tests::plugins::{self, Fixture, exchange};

use crate::events::Story;
use crate::evidence::Evidence;
use crate::kinds::Company;

/// What is asked for.
struct Args {
    /// Stops, at least.
    stops: usize,
    /// Of every decision that is left to chance.
    seed: u64,
    /// As few instances as there can be.
    short: bool,
}

impl Args {
    fn parse(mut arguments: Arguments) -> Result<Self> {
        let by_clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as u64);
        let mut args = Self { stops: 1_000, seed: by_clock, short: false };
        while let Some(argument) = arguments.next() {
            match &*argument {
                "--stops" => args.stops = usize::try_from(arguments.number(&argument)?)?,
                "--seed" => args.seed = arguments.number(&argument)?,
                "--short" => (args.short, args.stops) = (true, 60),
                other => return Err(arguments.unknown(other)),
            }
        }
        Ok(args)
    }

    /// Of each plugin. Those that use much memory take turns on few cores.
    fn instances(&self, company: Company) -> usize {
        match company {
            _ if self.short => 1,
            Company::Guest => 3,
            Company::Bulk => 4,
            Company::Mixed => 2,
        }
    }

    /// Each company with each story. Side by side is left out of the short form.
    fn processes(&self) -> Vec<(Company, Story)> {
        let companies = Company::ALL.into_iter().filter(|company| !self.short || *company != Company::Mixed);
        companies.flat_map(|company| Story::ALL.map(|story| (company, story))).collect()
    }
}

fn main() -> Result<ExitCode> {
    let args = Args::parse(Arguments::of("stop"))?;
    table::say(&format!("{}\nseed {}", machine::description(), args.seed))?;
    let (began, load) = (Instant::now(), machine::load());
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (longest_step, evidence) = tokio.block_on(campaign(&args))?;
    tables::print(&evidence, &longest_step)?;
    let took = tables::seconds(began.elapsed());
    table::say(&format!("took {took}; load average {load} before, {} after", machine::load()))?;
    let fine = evidence.wrong.is_empty() && evidence.load.lost.is_empty();
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn campaign(args: &Args) -> Result<(Series, Evidence)> {
    let longest_step = longest_step().await?;
    let mut random = StdRng::seed_from_u64(args.seed);
    let mut evidence = Evidence::default();
    // Everything at least once, then as long as it takes.
    let mut rounds = 0;
    while rounds == 0 || evidence.stops.len() < args.stops {
        rounds += 1;
        for (company, story) in args.processes() {
            if rounds > 1 && evidence.stops.len() >= args.stops {
                break;
            }
            let (seed, began) = (random.random(), Instant::now());
            let process = process::run(company, story, args.instances(company), seed).await;
            let process = process.with_context(|| format!("round {rounds}, {}, {story:?}", company.what()))?;
            evidence.add(process);
            let Evidence { stops, wrong, load } = &evidence;
            table::progress(format_args!(
                "{} of {} stops, {} wrong; {} requests answered, {} lost  (round {rounds}, {}, {story:?}: {})",
                stops.len(),
                args.stops,
                wrong.len(),
                load.answered,
                load.lost.len(),
                company.what(),
                tables::seconds(began.elapsed())
            ))?;
        }
    }
    Ok((longest_step, evidence))
}

/// How long the longest operation takes that nothing can interrupt, in milliseconds: it belongs to the bound. Each time
/// in a new instance, whose memory nobody has touched.
async fn longest_step() -> Result<Series> {
    const TIMES: usize = 11;
    let (runtime, ample) = (plugins::runtime(1), Duration::from_secs(10));
    let limits = Limits { cpu: ample, wall: ample, ..Limits::default() };
    let fixture = Fixture { limits, ..Fixture::new(components::guest("probe")) };
    let mut longest = Series::default();
    for _ in 0..TIMES {
        let plugin = fixture.load(&runtime).await?;
        let (_, verdict) = plugin.on_request_body(exchange(&[]), Bytes::new()).await;
        let BodyVerdict::Replace(text) = verdict? else { bail!("the probe does not say what it measured") };
        let nanos = std::str::from_utf8(&text)?.lines().find_map(|line| line.strip_prefix("fill-untouched "));
        let nanos = nanos.and_then(|line| line.split(' ').nth(1)?.parse::<f64>().ok());
        longest.push(nanos.context("the probe does not say how long it took")? / 1e6);
        plugins::stop(&plugin, ample).await;
    }
    Ok(longest)
}
