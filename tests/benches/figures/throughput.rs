//! What plugins cost a gateway that has one core to itself and all the work it can take.
//!
//! The gateway is on core 0; the load generator and the origin share the last core, in one thread. Each variant has a
//! gateway of its own, started anew in every round: where a process happens to lie in memory is part of the noise.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tidegate_tests::load::{Load, Measured, Origin};

use crate::gateway::{Gateway, Setup};
use crate::series::Series;
use crate::table::{self, Table, met};
use crate::{Effort, machine};

const CONNECTIONS: usize = 32;

/// 60 bytes.
const BODY: &str = "Sixty bytes, as many as a short answer of an API would have.";

const RATE_TARGET: f64 = 30_000.0;

struct Variant {
    what: &'static str,
    stamps: usize,
    access_log: bool,
    /// The least part of the rate without plugins.
    target: Option<f64>,
    figures: Figures,
}

#[derive(Default)]
struct Figures {
    rate: Series,
    median: Series,
    p99: Series,
    /// CPU time of the gateway for one request, in microseconds.
    cpu: Series,
    /// The part of its core that the gateway used.
    busy: Series,
}

pub(crate) fn run(effort: Effort) -> Result<()> {
    if machine::cores() < 2 {
        bail!("throughput needs two cores: one for the gateway, one for its clients and its origin");
    }
    machine::pin(machine::cores() - 1)?;
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio.block_on(measure(effort))
}

async fn measure(effort: Effort) -> Result<()> {
    let (rounds, warm_up, measure) = effort.pick((11, 1000, 3000), (3, 500, 1000));
    let (warm_up, measure) = (Duration::from_millis(warm_up), Duration::from_millis(measure));
    let origin = Origin::start(BODY).await?;
    let load = Load { target: origin.address(), path: "/", connections: CONNECTIONS, warm_up, measure };

    let variant =
        |what, stamps, access_log, target| Variant { what, stamps, access_log, target, figures: Figures::default() };
    let mut variants = [
        variant("no plugins", 0, false, None),
        variant("stamp, both directions", 1, false, Some(0.90)),
        variant("three stamps", 3, false, Some(0.75)),
        variant("no plugins, access log to /dev/null", 0, true, None),
    ];
    let mut direct = Figures::default();
    for round in 0..rounds {
        table::progress(format_args!("throughput: round {} of {rounds}", round + 1))?;
        direct.add(&load.run().await?, None);
        // Whoever comes first in one round comes last in the next.
        let count = variants.len();
        for turn in 0..count {
            if let Some(variant) = variants.get_mut((turn + round) % count) {
                variant.measure(load).await?;
            }
        }
    }
    print(rounds, load, &direct, &variants)
}

impl Variant {
    async fn measure(&mut self, load: Load) -> Result<()> {
        const CONFIGS: [&str; 3] = ["name = \"x-stamp-one\"", "name = \"x-stamp-two\"", "name = \"x-stamp-three\""];
        let plugins = CONFIGS.iter().take(self.stamps).map(|config| ("stamp", *config)).collect();
        let gateway = Gateway::start(&Setup {
            plugins,
            access_log: self.access_log,
            upstream: load.target,
            more: String::new(),
            record: None,
            pinned: true,
        })?;
        let (measured, cpu) = gateway.under(load).await.context(self.what)?;
        self.figures.add(&measured, Some((cpu, load.measure)));
        gateway.stop()
    }
}

impl Figures {
    fn add(&mut self, measured: &Measured, cpu: Option<(Duration, Duration)>) {
        let micros = |duration: Duration| duration.as_nanos() as f64 / 1e3;
        self.rate.push(measured.rate);
        self.median.push(micros(measured.quantile(0.5)));
        self.p99.push(micros(measured.quantile(0.99)));
        if let Some((cpu, of)) = cpu {
            self.cpu.push(micros(cpu) / measured.latencies.len() as f64);
            self.busy.push(cpu.as_secs_f64() / of.as_secs_f64());
        }
    }
}

fn print(rounds: usize, load: Load, direct: &Figures, variants: &[Variant]) -> Result<()> {
    let Load { connections, measure, .. } = load;
    let mut table = Table::new(
        &format!(
            "throughput: {connections} keep-alive connections, {} bytes of body, {rounds} rounds of {measure:?}, gateway on one core",
            BODY.len()
        ),
        &[
            "",
            "req/s",
            "min",
            "max",
            "p50 us",
            "p99 us",
            "cpu us/req",
            "core busy",
            "of no plugins",
            "min",
            "max",
            "target",
            "",
        ],
    );
    let base = variants.first().map(|variant| variant.figures.rate.clone()).unwrap_or_default();
    let rates = |figures: &Figures| {
        let Figures { rate, median, p99, .. } = figures;
        [rate.median(), rate.min(), rate.max(), median.median(), p99.median()].map(|number| format!("{number:.0}"))
    };
    table.row(["load to origin, no gateway".to_owned()].into_iter().chain(rates(direct)));
    for (number, Variant { what, target, figures, .. }) in variants.iter().enumerate() {
        let ratio = figures.rate.over(&base);
        let cpu = [format!("{:.1}", figures.cpu.median()), format!("{:.0} %", figures.busy.median() * 100.0)];
        let ratios = [ratio.median(), ratio.min(), ratio.max()].map(|ratio| format!("{ratio:.3}"));
        let verdict = match target {
            Some(target) => [format!(">= {target:.2}"), met(ratio.median() >= *target)],
            None if number == 0 => [format!(">= {RATE_TARGET:.0}/s"), met(base.median() >= RATE_TARGET)],
            None => [String::new(), String::new()],
        };
        table.row([(*what).to_owned()].into_iter().chain(rates(figures)).chain(cpu).chain(ratios).chain(verdict));
    }
    Ok(table.print()?)
}
