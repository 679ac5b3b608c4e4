//! What a warm instance holds, and what a gateway holds that has nothing to do.

use std::fs;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Result, ensure};
use tidegate_runtime::environment::{Clock, Environment, Moment, Randomness, Sleep, SystemClock, Ticks};
use tidegate_runtime::{Runtime, RuntimeConfig};
use tidegate_tests::components;
use tidegate_tests::load::{Load, Origin};
use tidegate_tests::plugins::{Fixture, exchange};
use tokio::task::JoinSet;

use crate::Effort;
use crate::gateway::{Gateway, Setup};
use crate::machine::kilobytes;
use crate::series::Series;
use crate::table::{self, Table, met};

const IDLE_TARGET: u64 = 100 << 20;

pub(crate) fn run(effort: Effort) -> Result<()> {
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio.block_on(async {
        per_instance(effort).await?;
        idle(effort).await
    })
}

/// Private and resident bytes of a process.
struct Held {
    private: u64,
    resident: u64,
}

impl Held {
    fn by(process: &str) -> Result<Self> {
        let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
        let private = ["Private_Clean", "Private_Dirty", "Private_Hugetlb"];
        let private = private.iter().map(|name| kilobytes(&text, name)).sum::<Result<u64>>()?;
        Ok(Self { private, resident: kilobytes(&text, "Rss")? })
    }
}

/// A clock that advances the epoch whenever it is read, so that each call yields before its first instruction: the
/// only way to have many calls of a plugin that never waits under way at once, each on an instance of its own.
#[derive(Default)]
struct Interrupting {
    clock: SystemClock,
    runtime: OnceLock<Runtime>,
}

impl Clock for Interrupting {
    fn now(&self) -> Moment {
        if let Some(runtime) = self.runtime.get() {
            runtime.tick();
        }
        self.clock.now()
    }

    fn thread_cpu(&self) -> Duration {
        self.clock.thread_cpu()
    }

    fn unix(&self) -> Duration {
        self.clock.unix()
    }

    fn sleep_until(&self, moment: Moment) -> Sleep {
        self.clock.sleep_until(moment)
    }
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
        let clock = Arc::new(Interrupting::default());
        let environment = Environment { clock: clock.clone(), ticks: Ticks::Manual, randomness: Randomness::System };
        let config = RuntimeConfig { instances: many + 8, memory: 32 << 20, cache: None, environment };
        let runtime = Runtime::new(config)?;
        ensure!(runtime.is_pooling(), "no pooling allocator here: these figures would be of something else");
        ensure!(clock.runtime.set(runtime.clone()).is_ok(), "set twice");

        // The first instance pays for what all of them share.
        let stamp = Fixture::new(components::plugin("stamp"));
        let first = stamp.load(&runtime).await?;
        first.on_request(exchange(&[])).await.1?;
        let before = Held::by("self")?;
        let plugin = Fixture { instances: many, ..stamp }.load(&runtime).await?;
        let configured = Held::by("self")?;
        let mut calls = JoinSet::new();
        for _ in 0..many {
            let plugin = plugin.clone();
            calls.spawn(async move { plugin.on_request(exchange(&[])).await.1.map(drop) });
        }
        let mut most = 0;
        while !calls.is_empty() {
            tokio::task::yield_now().await;
            most = most.max(plugin.stats().instances.busy);
            while let Some(call) = calls.try_join_next() {
                call??;
            }
        }
        ensure!(most == many, "only {most} of {many} instances were called");
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
    let all = vec![("stamp", ""), ("audit", ""), ("stubborn", ""), ("api-key", keys)];
    let mut table = Table::new("memory: a gateway that idles, MiB", &["", "resident", "private", "target", ""]);
    for (what, plugins, traffic) in [
        ("no plugins, just started", vec![], false),
        ("the four example plugins, just started", all.clone(), false),
        ("stamp, audit and stubborn, after traffic", all.get(..3).unwrap_or(&[]).to_vec(), true),
    ] {
        table::progress(format_args!("memory: {what}"))?;
        let setup = Setup { plugins, access_log: false, upstream: origin.address(), pinned: false };
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
