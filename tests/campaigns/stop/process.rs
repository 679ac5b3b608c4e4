//! One gateway process: load through all its plugins, a story, and SIGTERM.

use std::time::Duration;

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tidegate_tests::client::Crowd;
use tidegate_tests::gateway::TestGateway;
use tidegate_tests::origin::Origin;

use crate::events::{Stage, Story};
use crate::evidence::Evidence;
use crate::kinds::{BYSTANDER, Company};

/// The longest pause of a client before a request: the load keeps the gateway at work without being what it waits for.
const PAUSE: Duration = Duration::from_millis(60);

/// Requests before the first event.
const STEADY: usize = 50;

/// Run it to its end.
pub(crate) async fn run(company: Company, story: Story, instances: usize, seed: u64) -> Result<Evidence> {
    let mut random = StdRng::seed_from_u64(seed);
    let origin = Origin::start().await;
    let mut gateway = TestGateway::start(&story.config(company, origin.address(), instances)).await;
    let through = Crowd::of(gateway.address()).below(company.paths()).pause(PAUSE);
    let beside = Crowd::of(gateway.address()).below([format!("/{BYSTANDER}/")]).pause(PAUSE).until(&through.signal);
    let (seeds, moment) = ((random.random(), random.random()), random.random_range(0..50_000));
    let told = async {
        gateway.until("the load is steady", async || origin.requests() > STEADY).await;
        let stage = Stage { gateway: &gateway, company, origin: origin.address(), instances };
        let told = story.tell(&stage, &mut random).await;
        tokio::time::sleep(Duration::from_micros(moment)).await;
        through.signal.now();
        gateway.terminate();
        (told, gateway.wait().await)
    };
    let (mut load, other, (told, ended)) = tokio::join!(through.ask(seeds.0), beside.ask(seeds.1), told);
    told?;
    load.add(other);
    Ok(Evidence::of(company, story, instances, load, &ended))
}
