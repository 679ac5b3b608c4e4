//! The figures, for people and for programs.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::Measured;
use super::figures::{HookFigures, Spread};
use crate::cli::table::Table;
use crate::config::HumanSize;

/// A table.
pub(super) fn text(measured: &Measured) -> String {
    let Measured { file, size, compile, load, requests, hooks, failed, .. } = measured;
    let mut text = format!(
        "{file}: {}\n  ready after {} with a compilation, {} from the cache (median)\n\n",
        HumanSize(*size as u64),
        time(*compile),
        time(load.median),
    );
    let mut fuel = Table::default();
    fuel.row(["hook", "calls", "fuel: min", "median", "max", "host calls", "memory"]);
    let mut times = Table::default();
    times.row(["hook", "calls", "time: min", "median", "p99", "noise"]);
    for HookFigures { hook, calls, fuel: burned, host_calls, memory, time: took } in hooks {
        fuel.row([
            hook.as_str(),
            &calls.to_string(),
            &burned.min.to_string(),
            &burned.median.to_string(),
            &burned.max.to_string(),
            &host_calls.median.to_string(),
            &HumanSize(*memory as u64).to_string(),
        ]);
        if let Some(took) = took {
            times.row([
                hook.as_str(),
                &took.calls.to_string(),
                &time(took.spread.min),
                &time(took.spread.median),
                &time(took.spread.p99),
                &format!("{} %", took.noise),
            ]);
        }
    }
    let _ = write!(
        text,
        "Fuel, about one unit per instruction: the same on every machine\n{}\n\
         Time on this machine, {requests} requests in {} rounds; a difference below the noise means nothing\n{}",
        fuel.render(),
        super::ROUNDS,
        times.render()
    );
    if let (count @ 1.., Some(first)) = failed {
        let _ = write!(text, "\nA call failed in {count} of {requests} requests; the first time: {first}\n");
    }
    text
}

fn time(duration: Duration) -> String {
    let micros = duration.as_secs_f64() * 1e6;
    match micros {
        0.0..1_000.0 => format!("{micros:.1} us"),
        1_000.0..1_000_000.0 => format!("{:.1} ms", micros / 1e3),
        _ => format!("{:.1} s", micros / 1e6),
    }
}

/// What `--json` prints. Fields are only added within a schema.
#[derive(Serialize)]
struct Json<'m> {
    schema: u32,
    file: &'m str,
    digest: &'m str,
    size: usize,
    requests: usize,
    failed: usize,
    failure: Option<&'m str>,
    start: JsonStart,
    hooks: Vec<JsonHook>,
}

#[derive(Serialize)]
struct JsonStart {
    with_compilation_us: f64,
    from_cache_us: JsonSpread<f64>,
}

#[derive(Serialize)]
struct JsonHook {
    hook: &'static str,
    calls: usize,
    fuel: JsonSpread<u64>,
    host_calls: JsonSpread<u64>,
    memory: usize,
    time_us: Option<JsonSpread<f64>>,
    time_calls: usize,
    time_noise_percent: Option<u64>,
}

#[derive(Serialize)]
struct JsonSpread<T> {
    min: T,
    median: T,
    p99: T,
    max: T,
}

impl<T> JsonSpread<T> {
    fn of<F: Copy>(spread: &Spread<F>, to: impl Fn(F) -> T) -> Self {
        Self { min: to(spread.min), median: to(spread.median), p99: to(spread.p99), max: to(spread.max) }
    }
}

/// An object.
pub(super) fn json(measured: &Measured) -> String {
    let micros = |duration: Duration| (duration.as_secs_f64() * 1e9).round() / 1e3;
    let hooks = measured.hooks.iter().map(|hook| JsonHook {
        hook: hook.hook.as_str(),
        calls: hook.calls,
        fuel: JsonSpread::of(&hook.fuel, |fuel| fuel),
        host_calls: JsonSpread::of(&hook.host_calls, |calls| calls),
        memory: hook.memory,
        time_us: hook.time.map(|time| JsonSpread::of(&time.spread, micros)),
        time_calls: hook.time.map_or(0, |time| time.calls),
        time_noise_percent: hook.time.map(|time| time.noise),
    });
    let json = Json {
        schema: 1,
        file: &measured.file,
        digest: &measured.digest,
        size: measured.size,
        requests: measured.requests,
        failed: measured.failed.0,
        failure: measured.failed.1.as_deref(),
        start: JsonStart {
            with_compilation_us: micros(measured.compile),
            from_cache_us: JsonSpread::of(&measured.load, micros),
        },
        hooks: hooks.collect(),
    };
    let mut text = serde_json::to_string_pretty(&json).expect("strings, numbers and lists always become JSON");
    text.push('\n');
    text
}
