//! What a gateway that has one core to itself pays for recording all that passes, and how much of it the recording loses.
//!
//! As in `throughput`, the load generator and the origin share the last core, and each variant has a gateway of its own,
//! started anew in every round. The thread that writes the recording is on the gateway's core, too: a gateway with less to
//! do loses less.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tidegate_tests::load::{Load, Origin};

use crate::gateway::{Gateway, Setup};
use crate::series::Series;
use crate::table::{self, Table};
use crate::{Effort, machine};

const CONNECTIONS: usize = 32;

/// Bytes of each answer. It is kept twice: as the upstream sent it, and as the client got it.
const BODY: usize = 1 << 10;

struct Variant {
    what: &'static str,
    /// What is kept of each body, if anything is recorded.
    record: Option<&'static str>,
    rate: Series,
    p50: Series,
    p99: Series,
    /// CPU time of the gateway for one request, its recorder's included, in microseconds.
    cpu: Series,
    /// The part of the exchanges that was not written.
    lost: Series,
    /// Bytes that were written for one exchange.
    bytes: Series,
}

pub(crate) fn run(effort: Effort) -> Result<()> {
    if machine::cores() < 2 {
        bail!("recording needs two cores: one for the gateway, one for its clients and its origin");
    }
    machine::pin(machine::cores() - 1)?;
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio.block_on(measure(effort))
}

async fn measure(effort: Effort) -> Result<()> {
    let (rounds, warm_up, measure) = effort.pick((11, 1000, 3000), (3, 500, 1000));
    let (warm_up, measure) = (Duration::from_millis(warm_up), Duration::from_millis(measure));
    let origin = Origin::start(&"x".repeat(BODY)).await?;
    let load = Load { target: origin.address(), path: "/", connections: CONNECTIONS, warm_up, measure };
    let variant = |what, record| Variant {
        what,
        record,
        rate: Series::default(),
        p50: Series::default(),
        p99: Series::default(),
        cpu: Series::default(),
        lost: Series::default(),
        bytes: Series::default(),
    };
    let mut variants = [
        variant("not recorded", None),
        variant("--record", Some("64KiB")),
        variant("--record --record-body 0B", Some("0B")),
    ];
    for round in 0..rounds {
        table::progress(format_args!("recording: round {} of {rounds}", round + 1))?;
        // Whoever comes first in one round comes last in the next.
        let count = variants.len();
        for turn in 0..count {
            if let Some(variant) = variants.get_mut((turn + round) % count) {
                variant.measure(load).await?;
            }
        }
    }
    print(rounds, measure, &variants)
}

impl Variant {
    async fn measure(&mut self, load: Load) -> Result<()> {
        let gateway = Gateway::start(&Setup {
            plugins: Vec::new(),
            access_log: false,
            upstream: load.target,
            more: String::new(),
            record: self.record,
            pinned: true,
        })?;
        let (measured, cpu) = gateway.under(load).await.context(self.what)?;
        let micros = |duration: Duration| duration.as_secs_f64() * 1e6;
        self.rate.push(measured.rate);
        self.p50.push(micros(measured.quantile(0.5)));
        self.p99.push(micros(measured.quantile(0.99)));
        self.cpu.push(micros(cpu) / measured.latencies.len() as f64);
        if self.record.is_none() {
            return gateway.stop();
        }
        let recorded = gateway.recorded()?;
        ensure!(recorded.kept > 0, "{}: nothing was recorded", self.what);
        self.lost.push(recorded.dropped as f64 / (recorded.kept + recorded.dropped) as f64);
        self.bytes.push(recorded.bytes as f64 / recorded.kept as f64);
        Ok(())
    }
}

fn print(rounds: usize, measure: Duration, variants: &[Variant]) -> Result<()> {
    let title = format!(
        "recording: {CONNECTIONS} keep-alive connections, no plugins, {BODY} bytes of body, {rounds} rounds of \
         {measure:?}, gateway and recorder on one core"
    );
    let columns = [
        "",
        "req/s",
        "min",
        "max",
        "p50 us",
        "p99 us",
        "cpu us/req",
        "of not recorded",
        "min",
        "max",
        "not written",
        "max",
        "bytes each",
    ];
    let mut table = Table::new(&title, &columns);
    let base = variants.first().map(|variant| variant.rate.clone()).unwrap_or_default();
    for Variant { what, record, rate, p50, p99, cpu, lost, bytes } in variants {
        let numbers = [rate.median(), rate.min(), rate.max(), p50.median(), p99.median()];
        let numbers = numbers.map(|number| format!("{number:.0}")).into_iter().chain([format!("{:.1}", cpu.median())]);
        let ratio = rate.over(&base);
        let ratios = [ratio.median(), ratio.min(), ratio.max()].map(|ratio| format!("{ratio:.3}"));
        let recorded = record.map(|_| {
            let lost = [lost.median(), lost.max()].map(|part| format!("{:.1} %", part * 100.0));
            lost.into_iter().chain([format!("{:.0}", bytes.median())])
        });
        let row = [(*what).to_owned()].into_iter().chain(numbers).chain(ratios);
        table.row(row.chain(recorded.into_iter().flatten()));
    }
    Ok(table.print()?)
}
