//! Clients that publish numbered events through the gateway that there is just now.

use std::net::SocketAddr;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tidegate_tests::client::{Answer as Reply, Client, get};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::ledger::{Answer, Ledger, Number};

/// Clients, each with a key of its own: one request at a time, so that the order of a key is known.
pub(crate) const CLIENTS: usize = 6;

/// The longest pause before a request.
const PAUSE_MILLIS: u64 = 20;

/// What the clients know of the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gateway {
    At(SocketAddr),
    /// There is none just now.
    Away,
    /// There will be none any more.
    Over,
}

/// Publish until it is over.
pub(crate) async fn publish(gateway: &watch::Sender<Gateway>, ledger: &Ledger, seed: u64) {
    let mut clients = JoinSet::new();
    for key in 0..CLIENTS {
        let random = StdRng::seed_from_u64(seed ^ key as u64);
        clients.spawn(client(key, gateway.subscribe(), ledger.clone(), random));
    }
    while let Some(ended) = clients.join_next().await {
        ended.unwrap_or_else(|error| panic!("{error}"));
    }
}

async fn client(key: usize, mut gateway: watch::Receiver<Gateway>, ledger: Ledger, mut random: StdRng) {
    let mut next = 0;
    let mut current: Option<(SocketAddr, Client)> = None;
    loop {
        let Ok(now) = gateway.wait_for(|now| *now != Gateway::Away).await.map(|now| *now) else { return };
        let Gateway::At(address) = now else { return };
        if current.as_ref().is_none_or(|(before, _)| *before != address) {
            current = Some((address, Client::http1(address)));
        }
        let Some((_, client)) = &current else { return };
        // Mostly one, sometimes several at once: all of them or none.
        let several = if random.random_ratio(1, 4) { random.random_range(2..=4) } else { 1 };
        let numbers: Vec<_> = (next..next + several).map(|number| Number { key, number }).collect();
        next += several;
        if !ask(client, &numbers, 0, &ledger).await {
            // The gateway goes, or has just gone.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(0..=PAUSE_MILLIS))).await;
    }
}

/// Ask for these, and write down the answer. Whether there was one.
pub(crate) async fn ask(client: &Client, numbers: &[Number], length: usize, ledger: &Ledger) -> bool {
    let Some(first) = numbers.first() else { return false };
    for number in numbers {
        ledger.note(*number, Answer::None);
    }
    let bodies: Vec<_> = numbers.iter().map(|number| number.body(length)).collect();
    let (key, bodies) = (format!("k{}", first.key), bodies.join(";"));
    let fields = [("x-topic", "campaign.event"), ("x-key", &*key), ("x-events", &*bodies)];
    match client.try_send(get("/", &fields)).await {
        Ok(reply) if reply.status == 200 => {
            accepted(&reply, numbers, ledger);
            true
        }
        // The plugin itself says so, and not the gateway in its place.
        Ok(reply) if reply.status == 507 => {
            for number in numbers {
                ledger.note(*number, Answer::Refused(reply.text().trim().to_owned()));
            }
            true
        }
        _ => false,
    }
}

fn accepted(reply: &Reply, numbers: &[Number], ledger: &Ledger) {
    let ids: Vec<_> = reply.header("x-event-ids").split(',').collect();
    assert_eq!(ids.len(), numbers.len(), "an id for each: {ids:?}");
    for (number, id) in numbers.iter().zip(ids) {
        ledger.note(*number, Answer::Accepted(id.to_owned()));
    }
}
