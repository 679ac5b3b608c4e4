//! How late a stop ends, for each way in which a plugin can be in the way of it.
//!
//! One instance at a time, each in a plugin of its own that is loaded and stopped; on an async runtime with a worker
//! per core, as in the gateway. First on an idle machine, then with one thread per core that computes without end.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use tidegate_runtime::{BodyVerdict, Limits, Plugin, Runtime, StopOutcome, StopRecord};
use tidegate_tests::components;
use tidegate_tests::plugins::{self, Fixture, exchange, misbehave};

use crate::series::Series;
use crate::table::{self, Table};
use crate::{Effort, machine};

/// The budget of stops that are expected to use all of it.
const SHORT: Duration = Duration::from_millis(20);

/// The budget of those that end by themselves, whatever the machine does meanwhile.
const AMPLE: Duration = Duration::from_secs(10);

/// Side by side in the last kind.
const CROWD: usize = 8;

#[derive(Clone, Copy)]
enum Act {
    /// `shutdown` of the hostile guest does this.
    Shutdown(&'static str),
    /// `on-request` spins when the stop begins.
    InRequest,
    /// A guest that has no `shutdown`.
    NoHook,
    /// Many instances that spin, stopped together.
    Crowd,
}

struct Kind {
    what: &'static str,
    act: Act,
    outcome: StopOutcome,
}

const KINDS: [Kind; 13] = [
    Kind { what: "spin", act: Act::Shutdown("spin"), outcome: StopOutcome::Overran },
    Kind { what: "copy memory in a loop", act: Act::Shutdown("copy=15000000"), outcome: StopOutcome::Overran },
    Kind { what: "sleep (pending host call)", act: Act::Shutdown("sleep"), outcome: StopOutcome::Overran },
    Kind { what: "sleep 1 ms again and again", act: Act::Shutdown("doze=1"), outcome: StopOutcome::Overran },
    Kind { what: "allocate, and go on", act: Act::Shutdown("allocate-forever"), outcome: StopOutcome::Overran },
    Kind { what: "spin in on-request", act: Act::InRequest, outcome: StopOutcome::Overran },
    Kind { what: "spin, 8 side by side", act: Act::Crowd, outcome: StopOutcome::Overran },
    Kind { what: "allocate, and abort", act: Act::Shutdown("allocate"), outcome: StopOutcome::Trapped },
    Kind { what: "recurse", act: Act::Shutdown("recurse"), outcome: StopOutcome::Trapped },
    Kind { what: "trap", act: Act::Shutdown("trap"), outcome: StopOutcome::Trapped },
    Kind { what: "return an error", act: Act::Shutdown("error"), outcome: StopOutcome::Failed },
    Kind { what: "no hook", act: Act::NoHook, outcome: StopOutcome::NoHook },
    Kind { what: "return ok", act: Act::Shutdown("ok"), outcome: StopOutcome::Completed },
];

pub(crate) fn run(effort: Effort) -> Result<()> {
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let runtime = plugins::runtime(64);
    tokio.block_on(async {
        let idle = "stops: idle machine".to_owned();
        tokio::spawn(measure(effort, runtime.clone(), idle)).await??;
        let busy = Busy::start(machine::cores());
        let loaded =
            format!("stops: {} busy threads on {} cores, at normal priority", busy.threads.len(), machine::cores());
        tokio::spawn(measure(effort, runtime.clone(), loaded)).await??;
        drop(busy);
        tokio::spawn(longest_step(effort, runtime)).await?
    })
}

async fn measure(effort: Effort, runtime: Runtime, title: String) -> Result<()> {
    let stops = effort.pick(1_000, 40);
    let mut table = Table::new(
        &format!("{title}; budget {SHORT:?} where it is overrun, else {AMPLE:?}; one stop at a time"),
        &["", "expected", "right", "late: p50 ms", "p90", "p99", "max", "took: p50 ms", "max"],
    );
    for kind in &KINDS {
        table::progress(format_args!("{title}: {}, {stops} stops", kind.what))?;
        let mut records = Vec::new();
        while records.len() < stops {
            records.extend(kind.stop(&runtime).await.with_context(|| kind.what)?);
        }
        let right = records.iter().filter(|record| record.outcome == kind.outcome).count();
        let millis = |duration: Duration| duration.as_secs_f64() * 1e3;
        let late: Series = records.iter().map(|record| millis(record.overshoot)).collect();
        let took: Series = records.iter().map(|record| millis(record.took)).collect();
        let late = match kind.outcome {
            StopOutcome::Overran => [0.5, 0.9, 0.99, 1.0].map(|part| format!("{:.2}", late.quantile(part))),
            // They are over before the budget is.
            _ if late.max() == 0.0 => [0; 4].map(|_| "-".to_owned()),
            _ => [0.5, 0.9, 0.99, 1.0].map(|part| format!("{:.2}", late.quantile(part))),
        };
        let took = [took.median(), took.max()].map(|took| format!("{took:.2}"));
        let first = [kind.what.to_owned(), kind.outcome.to_string(), format!("{right}/{}", records.len())];
        table.row(first.into_iter().chain(late).chain(took));
    }
    Ok(table.print()?)
}

impl Kind {
    /// Load a plugin and stop it.
    async fn stop(&self, runtime: &Runtime) -> Result<Vec<StopRecord>> {
        let budget = if self.outcome == StopOutcome::Overran { SHORT } else { AMPLE };
        let limits = Limits {
            cpu: Duration::from_secs(3600),
            wall: Duration::from_secs(3600),
            shutdown: AMPLE,
            ..Limits::default()
        };
        let hostile = |config: &str| Fixture { limits, ..Fixture::hostile(config) };
        let fixture = match self.act {
            Act::Shutdown(how) => hostile(&format!(r#"{{"shutdown": "{how}"}}"#)),
            Act::InRequest => hostile(r#"{"on_request": "spin"}"#),
            Act::NoHook => Fixture { limits, ..Fixture::new(components::guest("no-shutdown")) },
            Act::Crowd => Fixture { instances: CROWD, ..hostile(r#"{"shutdown": "spin"}"#) },
        };
        let plugin = fixture.load(runtime).await?;
        let records = match self.act {
            Act::InRequest => {
                let caller = plugin.clone();
                let call = tokio::spawn(async move { misbehave(&caller, "").await });
                spinning(&plugin).await;
                let records = plugins::stop(&plugin, budget).await;
                ensure!(call.await?.is_err(), "the call has returned");
                records
            }
            _ => plugins::stop(&plugin, budget).await,
        };
        ensure!(records.len() == fixture.instances, "{} records", records.len());
        ensure!(plugin.stats().stores_live == 0, "a store is still there");
        Ok(records)
    }
}

/// Until the instance is in its call.
async fn spinning(plugin: &Plugin) {
    while plugin.stats().instances.busy == 0 {
        tokio::task::yield_now().await;
    }
}

/// Threads that compute until they are dropped.
struct Busy {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Busy {
    fn start(threads: usize) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let compute = |over: Arc<AtomicBool>| {
            let mut n = 0_u64;
            while !over.load(Ordering::Relaxed) {
                n = black_box(n.wrapping_add(1));
            }
        };
        let start = |_| {
            let over = Arc::clone(&over);
            std::thread::spawn(move || compute(over))
        };
        let threads = (0..threads).map(start).collect();
        Self { over, threads }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// One bulk operation runs to its end whatever the clock says: how long the longest one takes.
async fn longest_step(effort: Effort, runtime: Runtime) -> Result<()> {
    let times = effort.pick(101, 11);
    let limits = Limits { cpu: Duration::from_secs(10), wall: Duration::from_secs(10), ..Limits::default() };
    let fixture = Fixture { limits, ..Fixture::new(components::guest("probe")) };
    let mut steps: Vec<(String, String, Series)> = Vec::new();
    for _ in 0..times {
        // A new instance each time, whose memory nobody has touched.
        let plugin = fixture.load(&runtime).await?;
        let (_, verdict) = plugin.on_request_body(exchange(&[]), Bytes::new()).await;
        let BodyVerdict::Replace(text) = verdict? else { anyhow::bail!("the probe does not say what it measured") };
        for line in std::str::from_utf8(&text)?.lines() {
            let [name, bytes, nanos] = line.split(' ').collect::<Vec<_>>()[..] else { anyhow::bail!("{line:?}") };
            let millis = nanos.parse::<f64>()? / 1e6;
            match steps.iter_mut().find(|(step, ..)| step == name) {
                Some((.., series)) => series.push(millis),
                None => steps.push((name.to_owned(), bytes.to_owned(), Series::from_iter([millis]))),
            }
        }
        plugins::stop(&plugin, AMPLE).await;
    }
    let mut table = Table::new(
        &format!(
            "stops: the longest steps that cannot be interrupted, with {} MiB of memory, {times} times",
            limits.memory >> 20
        ),
        &["", "bytes", "p50 ms", "p99", "max"],
    );
    for (name, bytes, series) in steps {
        let what = match &*name {
            "fill-untouched" => "memory.fill, pages not touched before",
            "fill" => "memory.fill",
            _ => "memory.copy",
        };
        let numbers = [0.5, 0.99, 1.0].map(|part| format!("{:.2}", series.quantile(part)));
        table.row([what.to_owned(), bytes].into_iter().chain(numbers));
    }
    Ok(table.print()?)
}
