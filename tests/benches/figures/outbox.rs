//! How fast events are accepted, and what publishing costs a request.
//!
//! Accepting is measured at `Publisher::publish`, with nobody who delivers: so many publishers, each with one event of 200 bytes
//! under way. The latency of requests is measured through one gateway with two routes: the plugin makes
//! the same event on both, and publishes it on one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use tidegate_outbox::event::Draft;
use tidegate_outbox::topic::Pattern;
use tidegate_outbox::{Durability, Limits, Options, Outbox, SinkSpec};
use tidegate_tests::components;
use tidegate_tests::load::{Load, Origin};
use tokio::task::JoinSet;

use crate::Effort;
use crate::gateway::{Gateway, Setup};
use crate::series::Series;
use crate::table::{self, Table, met};

const PUBLISHERS: [usize; 3] = [1, 16, 256];
const RATE_TARGET: f64 = 20_000.0;
const LATENCY_TARGET: f64 = 1.2;
/// Requests under way: few, since it is not the rate that is asked for.
const CONNECTIONS: usize = 4;

pub(crate) fn run(effort: Effort) -> Result<()> {
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    tokio.block_on(async {
        accepted(effort).await?;
        latency(effort).await
    })
}

async fn accepted(effort: Effort) -> Result<()> {
    let (rounds, long) = effort.pick((7, Duration::from_secs(2)), (3, Duration::from_millis(500)));
    let kinds: Vec<(Durability, usize)> = [Durability::Process, Durability::Power]
        .into_iter()
        .flat_map(|durability| PUBLISHERS.map(|publishers| (durability, publishers)))
        .collect();
    let mut rates = vec![Series::default(); kinds.len()];
    for round in 0..rounds {
        table::progress(format_args!("outbox: round {} of {rounds}", round + 1))?;
        for ((durability, publishers), rate) in kinds.iter().zip(&mut rates) {
            rate.push(rate_of(*durability, *publishers, long).await?);
        }
    }
    let title = format!("outbox: events of 200 bytes accepted per second, {rounds} rounds of {long:?}");
    let mut table = Table::new(&title, &["durability, publishers", "events/s", "min", "max", "target", ""]);
    for ((durability, publishers), rate) in kinds.iter().zip(&rates) {
        let (word, verdict) = match durability {
            // What one publisher gets is the time of one commit: there is nobody to share it with.
            Durability::Process if *publishers > 1 => {
                ("process", [format!(">= {RATE_TARGET:.0}"), met(rate.median() >= RATE_TARGET)])
            }
            Durability::Process => ("process", [String::new(), String::new()]),
            Durability::Power => ("power", [String::new(), String::new()]),
        };
        let figures = [rate.median(), rate.min(), rate.max()].map(|figure| format!("{figure:.0}"));
        table.row([format!("{word}, {publishers}")].into_iter().chain(figures).chain(verdict));
    }
    Ok(table.print()?)
}

async fn rate_of(durability: Durability, publishers: usize, long: Duration) -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let limits = Limits { max_events: u64::MAX, max_bytes: u64::MAX, ..Limits::default() };
    let options = Options { path: folder.path().join("outbox.db"), durability, limits };
    let topics = vec![Pattern::parse(">").map_err(anyhow::Error::msg)?];
    let sink = SinkSpec {
        name: Arc::from("nobody"),
        topics: topics.clone(),
        attempts: 1,
        backoff: tidegate_outbox::Backoff::default(),
        timeout: Duration::from_secs(1),
        sink: Arc::new(tidegate_outbox::sink::stdout::StdoutSink::new()?),
    };
    // Not started: nothing is delivered.
    let (outbox, _delivery) = Outbox::open(&options, vec![sink])?;
    let publisher = outbox.publisher("bench", topics);
    let body = Bytes::from(vec![b'x'; 200]);
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..publishers {
        let (publisher, body) = (publisher.clone(), body.clone());
        tasks.spawn(async move {
            let mut accepted = 0_u64;
            while begun.elapsed() < long {
                let draft = Draft { body: body.clone(), ..Draft::default() };
                publisher.publish("audit.request", vec![draft]).await?;
                accepted += 1;
            }
            anyhow::Ok(accepted)
        });
    }
    let mut accepted = 0;
    while let Some(task) = tasks.join_next().await {
        accepted += task??;
    }
    let rate = accepted as f64 / begun.elapsed().as_secs_f64();
    outbox.close().await;
    Ok(rate)
}

async fn latency(effort: Effort) -> Result<()> {
    let (rounds, warm_up, measure) = effort.pick((11, 500, 2_000), (3, 200, 500));
    let (warm_up, measure) = (Duration::from_millis(warm_up), Duration::from_millis(measure));
    let (folder, origin) = (tempfile::tempdir()?, Origin::start("sixty").await?);
    let setup = Setup {
        plugins: Vec::new(),
        access_log: false,
        upstream: origin.address(),
        more: routes(folder.path())?,
        record: None,
        pinned: false,
    };
    let gateway = Gateway::start(&setup)?;
    let paths = ["/quiet", "/publishing"];
    let (mut medians, mut tails) = ([Series::default(), Series::default()], [Series::default(), Series::default()]);
    for round in 0..rounds {
        table::progress(format_args!("outbox, latency: round {} of {rounds}", round + 1))?;
        for turn in 0..paths.len() {
            let which = (turn + round) % paths.len();
            let Some(path) = paths.get(which).copied() else { continue };
            let load = Load { target: gateway.address(), path, connections: CONNECTIONS, warm_up, measure };
            let measured = load.run().await?;
            ensure!(!measured.latencies.is_empty(), "{path}: no request was answered");
            let micros = |part| measured.quantile(part).as_nanos() as f64 / 1e3;
            if let (Some(median), Some(tail)) = (medians.get_mut(which), tails.get_mut(which)) {
                median.push(micros(0.5));
                tail.push(micros(0.99));
            }
        }
    }
    gateway.stop()?;
    let [quiet, publishing] = &medians;
    let ratio = publishing.over(quiet);
    let title = format!("outbox: latency of requests, {CONNECTIONS} connections, {rounds} rounds of {measure:?}");
    let mut table = Table::new(&title, &["", "p50 us", "p99 us", "of quiet", "min", "max", "target", ""]);
    let [quiet_tail, publishing_tail] = &tails;
    let figures =
        |median: &Series, tail: &Series| [median.median(), tail.median()].map(|figure| format!("{figure:.0}"));
    table.row(["the plugin makes an event".to_owned()].into_iter().chain(figures(quiet, quiet_tail)));
    let ratios = [ratio.median(), ratio.min(), ratio.max()].map(|ratio| format!("{ratio:.3}"));
    let verdict = [format!("<= {LATENCY_TARGET:.1}"), met(ratio.median() <= LATENCY_TARGET)];
    table.row(
        ["and publishes it".to_owned()]
            .into_iter()
            .chain(figures(publishing, publishing_tail))
            .chain(ratios)
            .chain(verdict),
    );
    Ok(table.print()?)
}

/// The same plugin twice, and an outbox whose file goes nowhere.
fn routes(folder: &std::path::Path) -> Result<String> {
    let guest = std::fs::canonicalize(components::guest("publisher"))
        .context("publisher is not built: run `cargo xtask plugins`")?;
    let (guest, folder) = (guest.display(), folder.display());
    let plugin = |name: &str, quiet: bool| {
        format!(
            "[[plugin]]\nname = \"{name}\"\npath = \"{guest}\"\n[plugin.config]\ntopic = \"audit.request\"\nquiet = {quiet}\n\
             [plugin.grants]\noutbox = [\"audit.*\"]\n\
             [plugin.limits]\ncpu = \"5s\"\nwall = \"5s\"\n\
             [[route]]\npath = \"/{name}\"\nupstream = \"origin\"\nplugins = [\"{name}\"]\n"
        )
    };
    Ok(format!(
        "{}{}[outbox]\npath = \"{folder}/outbox.db\"\nmax_events = 10000000\nmax_bytes = \"10GiB\"\n[[outbox.sink]]\ntopic = \"audit.*\"\nkind = \"file\"\n\
         path = \"{folder}/events.ndjson\"\n",
        plugin("quiet", true),
        plugin("publishing", false)
    ))
}
