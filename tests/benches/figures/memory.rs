//! What a warm instance holds, and what a gateway holds that has nothing to do.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use tidegate_runtime::environment::{Environment, Ticks};
use tidegate_runtime::{Plugin, Runtime, RuntimeConfig};
use tidegate_tests::components;
use tidegate_tests::load::{Load, Origin};
use tidegate_tests::plugins::{Fixture, exchange};
use tokio::task::JoinSet;

use crate::gateway::{Gateway, Setup};
use crate::machine::kilobytes;
use crate::series::Series;
use crate::table::{self, Table, met};
use crate::{Effort, machine};

const IDLE_TARGET: u64 = 100 << 20;

/// Until all instances are called at once.
const TRIES: usize = 100;

pub(crate) fn run(effort: Effort) -> Result<()> {
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // First, because a gateway that is started by a pinned thread would be pinned as well.
    tokio.block_on(idle(effort))?;
    machine::pin(machine::cores() - 1)?;
    tokio.block_on(per_instance(effort))
}

/// Private and resident bytes of a process.
pub(crate) struct Held {
    pub(crate) private: u64,
    pub(crate) resident: u64,
}

impl Held {
    pub(crate) fn by(process: &str) -> Result<Self> {
        let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
        let private = ["Private_Clean", "Private_Dirty", "Private_Hugetlb"];
        let private = private.iter().map(|name| kilobytes(&text, name)).sum::<Result<u64>>()?;
        Ok(Self { private, resident: kilobytes(&text, "Rss")? })
    }
}

/// Advances the epoch without a pause, so that each call yields before it has done anything: the only way to have many
/// calls of a plugin that never waits under way at once, each on an instance of its own.
struct Storm {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Storm {
    /// Begins on a core of its own, and returns when it blows.
    fn over(runtime: &Runtime) -> Self {
        let (over, blows) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (runtime, stop, blowing) = (runtime.clone(), Arc::clone(&over), Arc::clone(&blows));
        let thread = std::thread::spawn(move || {
            // Elsewhere it would do as well, but wait longer for its turn.
            let _ = machine::pin(0);
            while !stop.load(Ordering::Relaxed) {
                runtime.tick();
                blowing.store(true, Ordering::Relaxed);
            }
        });
        let storm = Self { over, thread: Some(thread) };
        while !blows.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(1));
        }
        storm
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One call on each of a plugin's instances.
async fn call_each(plugin: &Plugin, runtime: &Runtime, instances: usize) -> Result<()> {
    // The thread may have to wait for a core at the wrong moment.
    for _ in 0..TRIES {
        let storm = Storm::over(runtime);
        let mut calls = JoinSet::new();
        for _ in 0..instances {
            let plugin = plugin.clone();
            calls.spawn(async move { plugin.on_request(exchange(&[])).await.1.map(drop) });
        }
        // The scheduler comes back here after every few tasks.
        let mut busy = 0;
        while busy < instances && !calls.is_empty() {
            tokio::task::yield_now().await;
            busy = plugin.stats().instances.busy;
            while let Some(call) = calls.try_join_next() {
                call??;
            }
        }
        drop(storm);
        while let Some(call) = calls.join_next().await {
            call??;
        }
        if busy == instances {
            return Ok(());
        }
    }
    bail!("the {instances} instances could not be called all at once")
}

async fn per_instance(effort: Effort) -> Result<()> {
    let many = effort.pick(256, 64);
    let rounds = effort.pick(5, 3);
    let mut figures = [
        ("configured", Series::default(), Series::default()),
        ("after a call on each", Series::default(), Series::default()),
    ];
    for round in 0..rounds {
        table::progress(format_args!("memory: round {} of {rounds}, {many} instances of stamp", round + 1))?;
        let environment = Environment { ticks: Ticks::Manual, ..Environment::real(Duration::from_millis(1)) };
        let config = RuntimeConfig { slots: 2 * many, cache: None, environment };
        let runtime = Runtime::new(config)?;
        ensure!(runtime.is_pooling(), "no pooling allocator here: these figures would be of something else");

        // The first instance pays for what all of them share.
        let stamp = Fixture::new(components::plugin("stamp"));
        let first = stamp.load(&runtime).await?;
        first.on_request(exchange(&[])).await.1?;
        // The stacks of its threads are no instance's.
        drop(Storm::over(&runtime));
        let before = Held::by("self")?;
        let plugin = Fixture { instances: many, ..stamp }.load(&runtime).await?;
        let configured = Held::by("self")?;
        call_each(&plugin, &runtime, many).await?;
        let called = Held::by("self")?;
        for ((_, private, resident), held) in figures.iter_mut().zip([configured, called]) {
            let each = |held: u64, before: u64| held.saturating_sub(before) as f64 / many as f64 / 1024.0;
            private.push(each(held.private, before.private));
            resident.push(each(held.resident, before.resident));
        }
    }
    let mut table = Table::new(
        &format!("memory: KiB per warm instance of stamp, {many} instances, {rounds} rounds"),
        &["", "private: median", "min", "max", "resident: median"],
    );
    for (what, private, resident) in &figures {
        let numbers = [private.median(), private.min(), private.max(), resident.median()];
        table.row([(*what).to_owned()].into_iter().chain(numbers.map(|number| format!("{number:.1}"))));
    }
    Ok(table.print()?)
}

/// The gateway with the four example plugins, after some traffic through all of them.
async fn idle(effort: Effort) -> Result<()> {
    let origin = Origin::start("ok").await?;
    let keys = "keys = [\"secret\"]";
    let all = vec![("stamp", ""), ("journal", ""), ("stubborn", ""), ("api-key", keys)];
    let mut table = Table::new("memory: a gateway that idles, MiB", &["", "resident", "private", "target", ""]);
    for (what, plugins, traffic) in [
        ("no plugins, just started", vec![], false),
        ("the four example plugins, just started", all.clone(), false),
        ("stamp, journal and stubborn, after traffic", all.get(..3).unwrap_or(&[]).to_vec(), true),
    ] {
        table::progress(format_args!("memory: {what}"))?;
        let setup = Setup {
            plugins,
            access_log: false,
            upstream: origin.address(),
            more: String::new(),
            record: None,
            pinned: false,
        };
        let gateway = Gateway::start(&setup)?;
        if traffic {
            let measure = Duration::from_secs(effort.pick(5, 1));
            let load = Load { target: gateway.address(), path: "/", connections: 32, warm_up: Duration::ZERO, measure };
            load.run().await?;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        let held = Held::by(&gateway.process().to_string())?;
        let mebi = |bytes: u64| format!("{:.1}", bytes as f64 / f64::from(1 << 20));
        let verdict = [format!("< {}", IDLE_TARGET >> 20), met(held.resident < IDLE_TARGET)];
        table.row([what.to_owned(), mebi(held.resident), mebi(held.private)].into_iter().chain(verdict));
    }
    Ok(table.print()?)
}
