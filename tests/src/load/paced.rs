//! A load of a constant rate: what a client sees of a gateway that is far from its limits.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::generator::{self, Measured};

/// What to ask for, and how often.
#[derive(Debug, Clone)]
pub struct Paced {
    /// Whom to ask.
    pub target: SocketAddr,
    /// For what.
    pub path: &'static str,
    /// A field for each request, in turn; an empty one is none.
    pub fields: &'static [&'static str],
    /// Requests per second.
    pub rate: u32,
    /// Connections, which take turns.
    pub connections: u32,
    /// Load that is not measured.
    pub warm_up: Duration,
    /// Load that is.
    pub measure: Duration,
    /// Whether an answer may have another status than 200.
    pub may_fail: bool,
}

/// What came of it.
#[derive(Debug)]
pub struct Answers {
    /// From the moment at which a request was due: one that had to wait for the answer before it has waited.
    pub measured: Measured,
    /// Answered with another status than 200.
    pub failed: usize,
}

impl Paced {
    /// Run it.
    ///
    /// # Errors
    /// If a request is not answered, or, unless it may, with another status than 200.
    pub async fn run(&self) -> Result<Answers> {
        let mut connections = Vec::new();
        for _ in 0..self.connections {
            let connection = TcpStream::connect(self.target).await.context("the target does not accept connections")?;
            connection.set_nodelay(true)?;
            connections.push(connection);
        }
        let (interval, began) = (Duration::from_secs(1) / self.rate, Instant::now());
        let mut clients = JoinSet::new();
        for (number, connection) in (0_u32..).zip(connections) {
            let pace = Pace { began, first: began + interval * number, every: interval * self.connections };
            clients.spawn(client(connection, self.clone(), pace));
        }
        let (mut latencies, mut failed) = (Vec::new(), 0);
        while let Some(client) = clients.join_next().await {
            let (mut some, failures) = client.context("a client panicked")??;
            latencies.append(&mut some);
            failed += failures;
        }
        latencies.sort_unstable();
        let rate = latencies.len() as f64 / self.measure.as_secs_f64();
        Ok(Answers { measured: Measured { rate, latencies }, failed })
    }
}

/// When a connection's requests are due.
struct Pace {
    /// The whole load.
    began: Instant,
    first: Instant,
    every: Duration,
}

/// One request at a time, each when it is due. Gives how long those took that are measured, and how many of them failed.
async fn client(mut connection: TcpStream, load: Paced, pace: Pace) -> Result<(Vec<Duration>, usize)> {
    let from = pace.began + load.warm_up;
    let until = from + load.measure;
    let (mut latencies, mut failed, mut answer) = (Vec::new(), 0, Vec::with_capacity(4096));
    for turn in 0_u32.. {
        let due = pace.first + pace.every * turn;
        if due >= until {
            break;
        }
        // Whether this one's predecessor was answered in time. If it was, our own timer's lateness is not the gateway's.
        let begun = if Instant::now() < due {
            tokio::time::sleep_until(due.into()).await;
            Instant::now()
        } else {
            due
        };
        let field = load.fields.get(turn as usize % load.fields.len().max(1)).copied().unwrap_or_default();
        let request = generator::request(load.target, load.path, field);
        let ok = generator::exchange(&mut connection, &request, &mut answer).await?;
        ensure!(ok || load.may_fail, "answered with {:?}", String::from_utf8_lossy(&answer));
        if due >= from {
            latencies.push(begun.elapsed());
            failed += usize::from(!ok);
        }
    }
    Ok((latencies, failed))
}
