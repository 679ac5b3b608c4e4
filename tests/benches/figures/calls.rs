//! What one hook call costs, on one core and without a gateway around it.
//!
//! In CPU time of the thread: nothing here waits, so on an idle machine that is the time it takes, and on a busy one
//! it is not the other programs' time that is measured.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tidegate_runtime::{Exchange, Isolation, Plugin, Verdict};
use tidegate_tests::components;
use tidegate_tests::plugins::{self, Fixture};

use crate::series::Series;
use crate::table::{self, Table, met};
use crate::{Effort, machine};

/// Exchanges that are made before, and let go after, what is timed.
const BATCH: usize = 256;

const WARM_TARGET: Duration = Duration::from_nanos(1_500);
const FRESH_TARGET: Duration = Duration::from_micros(35);

enum Direction {
    Request,
    Response,
}

struct Subject {
    what: &'static str,
    plugin: Plugin,
    direction: Direction,
    /// Calls per round.
    calls: usize,
    target: Option<Duration>,
    nanos: Series,
}

pub(crate) fn run(effort: Effort) -> Result<()> {
    // Made before the thread is pinned: the ticker may use the other cores.
    let runtime = plugins::runtime(64);
    machine::pin(machine::cores() - 1)?;
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio.block_on(measure(effort, &runtime))
}

async fn measure(effort: Effort, runtime: &tidegate_runtime::Runtime) -> Result<()> {
    let (rounds, warm, fresh) = effort.pick((31, 200 * BATCH, 8 * BATCH), (7, 40 * BATCH, 4 * BATCH));
    let probe = Fixture::new(components::guest("probe"));
    let stamp = Fixture::new(components::plugin("stamp"));
    let subject = async |what, fixture: &Fixture, isolation, direction, target| {
        let plugin = Fixture { isolation, ..fixture.clone() }.load(runtime).await?;
        let calls = if isolation == Isolation::Warm { warm } else { fresh };
        anyhow::Ok(Subject { what, plugin: plugin.plugin, direction, calls, target, nanos: Series::default() })
    };
    use Direction::{Request, Response};
    let mut subjects = [
        subject("warm: a hook that does nothing", &probe, Isolation::Warm, Response, None).await?,
        subject("warm: read one header, set one", &probe, Isolation::Warm, Request, Some(WARM_TARGET)).await?,
        subject("warm: stamp, on-request", &stamp, Isolation::Warm, Request, None).await?,
        subject("warm: stamp, on-response", &stamp, Isolation::Warm, Response, None).await?,
        subject("fresh: a hook that does nothing", &probe, Isolation::Fresh, Response, None).await?,
        subject("fresh: read one header, set one", &probe, Isolation::Fresh, Request, Some(FRESH_TARGET)).await?,
        subject("fresh: stamp, its `configure` included", &stamp, Isolation::Fresh, Request, None).await?,
    ];
    for subject in &subjects {
        it_works(subject).await?;
    }
    // For a profile of one of them.
    let only = std::env::var("TIDEGATE_BENCH_ONLY").unwrap_or_default();
    let wanted = |subject: &&mut Subject| subject.what.contains(&only);

    let (mut clock, mut building) = (Series::default(), Series::default());
    for round in 0..rounds {
        table::progress(format_args!("calls: round {} of {rounds}", round + 1))?;
        clock.push(each(100_000, || _ = black_box(Instant::now())));
        building.push(each(10_000, || drop(black_box(exchange()))));
        for subject in subjects.iter_mut().filter(wanted) {
            let nanos = time_calls(subject).await?;
            subject.nanos.push(nanos);
        }
    }

    let mut table = Table::new(
        &format!("calls: ns of CPU time per call over {rounds} rounds, one core, accounting on"),
        &["", "median", "min", "max", "target", ""],
    );
    let numbers = |series: &Series| [series.median(), series.min(), series.max()].map(|nanos| format!("{nanos:.0}"));
    for (what, series) in [("for scale: reading the clock", &clock), ("not in the below: build an exchange", &building)]
    {
        table.row([what.to_owned()].into_iter().chain(numbers(series)));
    }
    for Subject { what, target, nanos, .. } in subjects.iter().filter(|subject| !subject.nanos.is_empty()) {
        let target = target.map(|target| target.as_nanos() as f64);
        let verdict = target.map_or([String::new(), String::new()], |target| {
            [format!("<= {target:.0}"), met(nanos.median() <= target)]
        });
        table.row([(*what).to_owned()].into_iter().chain(numbers(nanos)).chain(verdict));
    }
    Ok(table.print()?)
}

/// A request as small clients send it, and the response to it.
fn exchange() -> Box<Exchange> {
    plugins::answered(&[("user-agent", "tidegate-bench"), ("accept", "*/*"), ("x-probe-in", "forty-two")])
}

/// The hook does what the table will say that it does.
async fn it_works(subject: &Subject) -> Result<()> {
    let what = subject.what;
    let (exchange, verdict) = match subject.direction {
        Direction::Request => subject.plugin.on_request(unanswered()).await,
        Direction::Response => subject.plugin.on_response(exchange()).await,
    };
    ensure!(matches!(verdict, Ok(Verdict::Forward)), "{what}: {verdict:?}");
    if what.contains("set one") {
        let set = exchange.request.headers.get("x-probe-out").with_context(|| format!("{what}: nothing is set"))?;
        ensure!(set == "forty-two", "{what}: {set:?} is set");
    }
    Ok(())
}

/// Requests can be edited until there is a response.
fn unanswered() -> Box<Exchange> {
    let mut exchange = exchange();
    exchange.response = None;
    exchange
}

async fn time_calls(subject: &Subject) -> Result<f64> {
    let mut took = Duration::ZERO;
    let mut done = Vec::with_capacity(BATCH);
    for _ in 0..subject.calls / BATCH {
        let waiting: Vec<_> = match subject.direction {
            Direction::Request => (0..BATCH).map(|_| unanswered()).collect(),
            Direction::Response => (0..BATCH).map(|_| exchange()).collect(),
        };
        let begun = machine::thread_cpu_time();
        for exchange in waiting {
            let (exchange, verdict) = match subject.direction {
                Direction::Request => subject.plugin.on_request(exchange).await,
                Direction::Response => subject.plugin.on_response(exchange).await,
            };
            verdict?;
            done.push(exchange);
        }
        took += machine::thread_cpu_time() - begun;
        done.clear();
    }
    Ok(took.as_nanos() as f64 / subject.calls as f64)
}

/// Nanoseconds of one of many.
fn each(times: u32, mut deed: impl FnMut()) -> f64 {
    let begun = machine::thread_cpu_time();
    for _ in 0..times {
        deed();
    }
    (machine::thread_cpu_time() - begun).as_nanos() as f64 / f64::from(times)
}
