//! What the language of a plugin costs: the example `visits` in each, and a guest that spins.

use std::fs;
use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tidegate_runtime::{CallError, EndCause, Limits, Runtime, RuntimeConfig, environment::Environment};
use tidegate_tests::components;
use tidegate_tests::languages::limits;
use tidegate_tests::plugins::{Fixture, exchange};
use tidegate_toolchain::Language;

use crate::memory::Held;
use crate::series::Series;
use crate::table::{self, Table};
use crate::{Effort, machine};

const SPIN_BUDGET: Duration = Duration::from_millis(50);

/// How many are made to see what one of them costs.
const INSTANCES: usize = 16;

pub(crate) fn run(effort: Effort) -> Result<()> {
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio.block_on(measure(effort))
}

async fn measure(effort: Effort) -> Result<()> {
    let rounds = effort.pick(9, 3);
    let thousands = effort.pick(100, 10);
    let mut table = Table::new(
        &format!("languages: visits in each; medians of {rounds} rounds"),
        &["", "Rust (stamp)", "JavaScript", "Python", "C"],
    );
    let mut rows: Vec<(String, Vec<String>)> = Vec::new();
    let subjects = [None].into_iter().chain(Language::ALL.map(Some));
    for language in subjects {
        table::progress(format_args!("languages: {}", language.map_or("Rust", Language::name)))?;
        for (row, (what, value)) in subject(language, rounds, thousands).await?.into_iter().enumerate() {
            match rows.get_mut(row) {
                Some((_, values)) => values.push(value),
                None => rows.push((what, vec![value])),
            }
        }
    }
    for (what, values) in rows {
        table.row([what].into_iter().chain(values));
    }
    Ok(table.print()?)
}

/// A runtime, with or without what has been compiled.
fn runtime(cache: Option<&std::path::Path>) -> Result<Runtime> {
    let environment = Environment::real(Duration::from_millis(1));
    Ok(Runtime::new(RuntimeConfig { slots: 4 * INSTANCES, cache: cache.map(Into::into), environment })?)
}

async fn subject(language: Option<Language>, rounds: usize, thousands: u32) -> Result<Vec<(String, String)>> {
    let file = components::plugin(&language.map_or_else(|| "stamp".to_owned(), |language| language.of("visits")));
    let size = fs::metadata(&file)
        .with_context(|| format!("there is no {}: `cargo xtask plugins --lang all` builds it", file.display()))?
        .len();
    let limits = Limits { memory: 256 << 20, ..limits(language.unwrap_or(Language::C)) };
    let fixture = Fixture { limits, ..Fixture::new(file.clone()) };

    let begun = Instant::now();
    runtime(None)?.inspect(&components::read(&file))?;
    let compiled = begun.elapsed();

    let folder = tempfile::tempdir()?;
    // Once into the cache.
    drop(fixture.load(&runtime(Some(folder.path()))?).await?);
    let [mut one, mut each, mut first, mut warm]: [Series; 4] = Default::default();
    for _ in 0..rounds {
        let runtime = runtime(Some(folder.path()))?;
        let begun = Instant::now();
        let plugin = fixture.load(&runtime).await?;
        let loaded = begun.elapsed();
        let begun = Instant::now();
        let many = Fixture { instances: INSTANCES + 1, ..fixture.clone() }.load(&runtime).await?;
        let more = begun.elapsed().saturating_sub(loaded);
        drop(many);
        one.push(millis(loaded));
        each.push(millis(more) / INSTANCES as f64);
        let begun = Instant::now();
        plugin.on_request(exchange(&[])).await.1?;
        first.push(millis(begun.elapsed()));
        warm.push(micros_of_calls(&plugin.plugin, 1_000).await?);
    }

    let runtime = runtime(Some(folder.path()))?;
    // The first one pays for what all of them share.
    let plugin = fixture.load(&runtime).await?;
    plugin.on_request(exchange(&[])).await.1?;
    let before = Held::by("self")?;
    let many = Fixture { instances: INSTANCES, ..fixture.clone() }.load(&runtime).await?;
    let configured = Held::by("self")?;
    drop(many);
    let before_calls = Held::by("self")?;
    micros_of_calls(&plugin.plugin, thousands * 1_000).await?;
    let after_calls = Held::by("self")?;

    let stopped = match language {
        Some(language) => format!("{:.1}", overshoot(&runtime, language, rounds).await?),
        None => "see `stops`".to_owned(),
    };
    let kib = |after: u64, before: u64| after.saturating_sub(before) as f64 / 1024.0;
    let row = |what: &str, value: String| (what.to_owned(), value);
    Ok(vec![
        row("component, KiB", (size / 1024).to_string()),
        row("compile, s", format!("{:.2}", compiled.as_secs_f64())),
        row("load from the cache, with its one instance, ms", format!("{:.2}", one.median())),
        row("one more instance, `configure` included, ms", format!("{:.2}", each.median())),
        row("first call, ms", format!("{:.2}", first.median())),
        row("warm call that sets a header, us of CPU", format!("{:.1}", warm.median())),
        row(
            "private memory of an instance, KiB",
            format!("{:.0}", kib(configured.private, before.private) / INSTANCES as f64),
        ),
        row(
            &format!("what {thousands},000 calls of one instance add to it, MiB"),
            format!("{:.1}", kib(after_calls.private, before_calls.private) / 1024.0),
        ),
        row("an endless loop with 50 ms of CPU: stopped after, ms", stopped),
    ])
}

/// CPU time of a call.
async fn micros_of_calls(plugin: &tidegate_runtime::Plugin, calls: u32) -> Result<f64> {
    let begun = machine::thread_cpu_time();
    for _ in 0..calls {
        black_box(plugin.on_request(exchange(&[])).await.1?);
    }
    Ok((machine::thread_cpu_time() - begun).as_secs_f64() * 1e6 / f64::from(calls))
}

/// CPU time after which a loop without an end is stopped.
async fn overshoot(runtime: &Runtime, language: Language, rounds: usize) -> Result<f64> {
    let limits = Limits { cpu: SPIN_BUDGET, ..limits(language) };
    let fixture = Fixture { limits, ..Fixture::new(components::guest(&language.of("hostile"))) };
    let mut took = Series::default();
    for _ in 0..rounds {
        let plugin = fixture.load(runtime).await?;
        plugin.on_request(exchange(&[])).await.1?;
        let (_, result) = plugin.on_request(exchange(&[("x-misbehave", "spin")])).await;
        let Err(CallError { cause: EndCause::Cpu { used, .. }, .. }) = result else {
            ensure!(false, "a loop without an end ends: {result:?}");
            continue;
        };
        took.push(millis(used));
    }
    Ok(took.median())
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
