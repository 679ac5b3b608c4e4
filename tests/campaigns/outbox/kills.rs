//! Gateways that are killed under traffic, with brokers that come and go.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tidegate_tests::gateway::{Ended, Signal, TestGateway};
use tidegate_tests::measure::table::progress;
use tidegate_tests::nats::NatsServer;
use tokio::sync::watch;

use crate::evidence::{Findings, compare};
use crate::ledger::Ledger;
use crate::scene::{Mood, Scene, stored};
use crate::traffic::{Gateway, publish};

/// The longest life of a gateway, once it is ready.
const LIFE_MILLIS: u64 = 1_500;

/// What has happened.
#[derive(Debug, Default)]
struct Tally {
    killed: usize,
    /// Of them before they were ready.
    early: usize,
    brokers_killed: usize,
    brokers_stopped: usize,
}

/// Kill so many.
pub(crate) async fn run(kills: usize, seed: u64) -> Result<Findings> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut broker = NatsServer::start().await.context("there is no broker")?;
    let scene = Scene::with_every_sink(&broker).await?;
    scene.hook.is(Mood::Moody(random.random()));
    let (ledger, gateway) = (Ledger::default(), watch::Sender::new(Gateway::Away));
    let traffic = publish(&gateway, &ledger, random.random());
    let killing = kill(kills, &scene, &mut broker, &gateway, &ledger, &mut random);
    let ((), killed) = tokio::join!(traffic, killing);
    let (tally, last, mut findings) = killed?;
    let Tally { killed, early, brokers_killed, brokers_stopped } = tally;
    let all = [stored(&broker).await, scene.hook.arrivals(), scene.lines()?];
    let title = format!(
        "{killed} gateways killed, {early} of them before they were ready; the broker killed {brokers_killed} times and \
         stopped {brokers_stopped} times"
    );
    findings.add(compare(&title, &ledger, &all, &BTreeSet::new())?);
    if scene.hook.unsigned() > 0 {
        findings.wrong.push(format!("{} webhooks have no right signature", scene.hook.unsigned()));
    }
    if last.code != Some(0) {
        findings.wrong.push(format!("the last gateway has ended with {:?}: {}", last.code, last.log.text()));
    }
    Ok(findings)
}

async fn kill(
    kills: usize,
    scene: &Scene,
    broker: &mut NatsServer,
    gateway: &watch::Sender<Gateway>,
    ledger: &Ledger,
    random: &mut StdRng,
) -> Result<(Tally, Ended, Findings)> {
    let (mut tally, mut findings) = (Tally::default(), Findings::default());
    while tally.killed < kills {
        let mut starting = TestGateway::spawn(&scene.config);
        tally.killed += 1;
        if random.random_ratio(1, 7) {
            tally.early += 1;
            tokio::time::sleep(Duration::from_millis(random.random_range(0..400))).await;
            starting.signal(Signal::KILL);
            judge(&starting.wait().await, &mut findings);
            continue;
        }
        let mut running = starting.ready().await;
        gateway.send_replace(Gateway::At(running.address()));
        let life = Duration::from_millis(random.random_range(20..LIFE_MILLIS));
        let when = life.mul_f64(random.random());
        tokio::time::sleep(when).await;
        if !broker.runs() {
            broker.restart().await;
        } else if random.random_ratio(1, 4) {
            if random.random() {
                broker.kill();
                tally.brokers_killed += 1;
            } else {
                broker.stop();
                tally.brokers_stopped += 1;
            }
        }
        tokio::time::sleep(life.saturating_sub(when)).await;
        running.signal(Signal::KILL);
        judge(&running.wait().await, &mut findings);
        gateway.send_replace(Gateway::Away);
        // Sometimes the next gateway finds it, and sometimes it does not.
        if !broker.runs() && random.random() {
            broker.restart().await;
        }
        if tally.killed.is_multiple_of(10) {
            progress(format_args!("{} of {kills} killed; {} events accepted", tally.killed, ledger.accepted()))?;
        }
    }
    if !broker.runs() {
        broker.restart().await;
    }
    let last = TestGateway::start(&scene.config).await;
    gateway.send_replace(Gateway::At(last.address()));
    tokio::time::sleep(Duration::from_millis(500)).await;
    gateway.send_replace(Gateway::Over);
    scene.drained(&last).await?;
    let given_up = last.metric("tidegate_outbox_dead").await + last.metric("tidegate_outbox_damaged").await;
    if given_up > 0.0 {
        findings.wrong.push(format!("{given_up} events are dead or damaged, and nobody has refused or damaged any"));
    }
    let last = last.stop().await;
    judge(&last, &mut findings);
    Ok((tally, last, findings))
}

/// Nobody has refused or damaged anything.
fn judge(ended: &Ended, findings: &mut Findings) {
    for line in ended.log.lines() {
        let message = line["message"].as_str().unwrap_or_default();
        if message.contains("damaged") || message.contains("dead letter") {
            findings.wrong.push(format!("in the log: {line}"));
        }
    }
}
