//! Clients that publish numbered events through the gateway that there is just now.

use std::net::SocketAddr;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tidegate_tests::client::{Client, get};
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
        let several = random.random_ratio(1, 4).then(|| random.random_range(2..=4));
        let request = Request { key, number: next, several, padding: 0 };
        next += 1;
        if !request.send(client, &ledger).await {
            // The gateway goes, or has just gone.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(0..=PAUSE_MILLIS))).await;
    }
}

/// A request that has one event or several published.
pub(crate) struct Request {
    pub(crate) key: usize,
    pub(crate) number: u64,
    /// How many at once.
    pub(crate) several: Option<u64>,
    /// Bytes that make the body longer.
    pub(crate) padding: usize,
}

impl Request {
    /// Ask for it, and write down the answer. Whether the plugin has given one.
    pub(crate) async fn send(&self, client: &Client, ledger: &Ledger) -> bool {
        let Self { key, number, several, padding } = *self;
        let numbers: Vec<_> = match several {
            None => vec![Number { key, number, part: None }],
            Some(several) => (0..several).map(|part| Number { key, number, part: Some(part) }).collect(),
        };
        for number in &numbers {
            ledger.note(*number, Answer::None);
        }
        let (key, count) = (format!("k{key}"), numbers.len().to_string());
        // The guest writes the part behind it, if there are several.
        let body = match several {
            None => format!("{}-{number}{}", self.key, "_".repeat(padding)),
            Some(_) => format!("{}-{number}.", self.key),
        };
        let fields = [
            ("x-publish", "campaign.event"),
            ("x-key", &*key),
            ("x-body", &*body),
            ("x-count", &*count),
            ("x-at-once", "yes"),
            ("x-content-type", "text/plain"),
        ];
        let Ok(reply) = client.try_send(get("/", &fields)).await else { return false };
        match reply.header("x-published") {
            // From the gateway itself, in the plugin's place.
            "" => return false,
            "ok" => {
                let ids: Vec<_> = reply.header("x-ids").split(' ').collect();
                assert_eq!(ids.len(), numbers.len(), "an id for each: {ids:?}");
                for (number, id) in numbers.into_iter().zip(ids) {
                    ledger.note(number, Answer::Accepted(id.to_owned()));
                }
            }
            why => numbers.into_iter().for_each(|number| ledger.note(number, Answer::Refused(why.to_owned()))),
        }
        true
    }
}
