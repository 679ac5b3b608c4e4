//! What requests that have nothing to do with a plugin notice of it when it spins.
//!
//! A gateway with all cores, far from its limits. One route has `stamp`; another one has a plugin that, in every second
//! request, computes until its CPU limit ends it (a success in between keeps its breaker closed, or there would be
//! nothing to notice). The same load without the spinning is what that is compared with: two gateways in each round, one
//! after the other and in changing order.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tidegate_tests::components;
use tidegate_tests::load::{Answers, Origin, Paced};

use crate::gateway::{Gateway, Setup};
use crate::series::Series;
use crate::table::{self, Table, met};
use crate::{Effort, machine};

/// Requests per second of the bystander.
const RATE: u32 = 400;

/// Requests per second through the other plugin. Every second one spins for the default limit of 10 ms.
const BESIDE: u32 = 40;

/// The most by which the spinning may multiply the bystander's p99.
const TARGET: f64 = 1.5;

struct Variant {
    what: &'static str,
    fields: &'static [&'static str],
    p50: Series,
    p99: Series,
    most: Series,
    failed: usize,
}

pub(crate) fn run(effort: Effort) -> Result<()> {
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio.block_on(measure(effort))
}

async fn measure(effort: Effort) -> Result<()> {
    let (rounds, measure) = effort.pick((15, 5), (3, 2));
    let measure = Duration::from_secs(measure);
    let origin = Origin::start("a short answer").await?;
    let variant = |what, fields| Variant {
        what,
        fields,
        p50: Series::default(),
        p99: Series::default(),
        most: Series::default(),
        failed: 0,
    };
    let mut variants = [
        variant("nothing spins", &["x-misbehave: forward"]),
        variant("20 requests/s spin for 10 ms each", &["x-misbehave: spin", "x-misbehave: forward"]),
    ];
    for round in 0..rounds {
        table::progress(format_args!("bystander: round {} of {rounds}", round + 1))?;
        for turn in 0..variants.len() {
            if let Some(variant) = variants.get_mut((turn + round) % 2) {
                variant.measure(&origin, measure).await?;
            }
        }
    }
    print(rounds, measure, &variants)
}

impl Variant {
    async fn measure(&mut self, origin: &Origin, measure: Duration) -> Result<()> {
        let hostile = std::fs::canonicalize(components::guest("hostile")).context("run `cargo xtask plugins`")?;
        let more = format!(
            "[[plugin]]\nname = \"beside\"\npath = \"{}\"\n[plugin.config]\non_request = \"from-header\"\n\
             [[route]]\npath = \"/beside\"\nupstream = \"origin\"\nplugins = [\"beside\"]\n",
            hostile.display()
        );
        let plugins = vec![("stamp", "")];
        let gateway = Gateway::start(&Setup {
            plugins,
            access_log: false,
            upstream: origin.address(),
            more,
            record: None,
            pinned: false,
        })?;
        let bystander = Paced {
            target: gateway.address(),
            path: "/",
            fields: &[],
            rate: RATE,
            connections: 8,
            warm_up: Duration::from_secs(1),
            measure,
            may_fail: false,
        };
        let beside = Paced {
            path: "/beside",
            fields: self.fields,
            rate: BESIDE,
            connections: 4,
            may_fail: true,
            ..bystander.clone()
        };
        let (bystander, beside) = tokio::join!(bystander.run(), beside.run());
        let (Answers { measured, .. }, beside) = (bystander?, beside?);
        let millis = |part: f64| measured.quantile(part).as_secs_f64() * 1e3;
        self.p50.push(millis(0.5));
        self.p99.push(millis(0.99));
        self.most.push(millis(1.0));
        self.failed += beside.failed;
        let spun = beside.measured.latencies.len() / self.fields.len() * (self.fields.len() - 1);
        ensure!(beside.failed >= spun * 9 / 10, "{} of {spun} spins were stopped", beside.failed);
        gateway.stop()
    }
}

fn print(rounds: usize, measure: Duration, variants: &[Variant; 2]) -> Result<()> {
    let title = format!(
        "bystander: {RATE} requests/s on a route with `stamp`, {rounds} rounds of {measure:?}, {BESIDE} requests/s \
         through another plugin, a gateway on {} cores",
        machine::cores()
    );
    let columns = ["", "p50 ms", "p99 ms", "min", "max", "longest", "of nothing", "min", "max", "target", ""];
    let mut table = Table::new(&title, &columns);
    let [base, spinning] = variants;
    let ratios = spinning.p99.over(&base.p99);
    let ratio = spinning.p99.median() / base.p99.median();
    for (number, Variant { what, p50, p99, most, .. }) in variants.iter().enumerate() {
        let latencies = [p50.median(), p99.median(), p99.min(), p99.max(), most.max()];
        let latencies = latencies.map(|latency| format!("{latency:.2}"));
        let compared = match number {
            0 => vec![],
            _ => {
                let numbers = [ratio, ratios.min(), ratios.max()].map(|ratio| format!("{ratio:.2}"));
                numbers.into_iter().chain([format!("<= {TARGET}"), met(ratio <= TARGET)]).collect()
            }
        };
        table.row([(*what).to_owned()].into_iter().chain(latencies).chain(compared));
    }
    table.print()?;
    Ok(table::say(&format!("  {} requests were stopped at their CPU limit", spinning.failed))?)
}
