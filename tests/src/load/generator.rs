//! The load generator: a fixed number of connections, each with one request under way at any time.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::head_end;

/// What to ask for, and how hard.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Whom to ask.
    pub target: SocketAddr,
    /// For what.
    pub path: &'static str,
    /// Connections, opened before the warm-up.
    pub connections: usize,
    /// Load that is not measured.
    pub warm_up: Duration,
    /// Load that is.
    pub measure: Duration,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Measured {
    /// Requests per second.
    pub rate: f64,
    /// How long each request took, sorted. All of them were answered with status 200 and a whole body.
    pub latencies: Vec<Duration>,
}

impl Measured {
    /// The latency that `part` of the requests did not exceed.
    #[must_use]
    pub fn quantile(&self, part: f64) -> Duration {
        let last = self.latencies.len().saturating_sub(1);
        let at = (part * last as f64).round() as usize;
        self.latencies.get(at).copied().unwrap_or_default()
    }
}

impl Load {
    /// Run it.
    ///
    /// # Errors
    /// If any request fails, or is answered with another status than 200.
    pub async fn run(self) -> Result<Measured> {
        let mut connections = Vec::new();
        for _ in 0..self.connections {
            let connection = TcpStream::connect(self.target).await.context("the target does not accept connections")?;
            connection.set_nodelay(true)?;
            connections.push(connection);
        }
        let from = Instant::now() + self.warm_up;
        let until = from + self.measure;
        let mut clients = JoinSet::new();
        for connection in connections {
            clients.spawn(client(connection, request(self.target, self.path, ""), from, until));
        }
        let mut latencies = Vec::new();
        while let Some(client) = clients.join_next().await {
            latencies.append(&mut client.context("a client panicked")??);
        }
        latencies.sort_unstable();
        Ok(Measured { rate: latencies.len() as f64 / self.measure.as_secs_f64(), latencies })
    }
}

/// A GET with one more field, or none.
pub(super) fn request(target: SocketAddr, path: &str, field: &str) -> Vec<u8> {
    let end = if field.is_empty() { "" } else { "\r\n" };
    format!("GET {path} HTTP/1.1\r\nhost: {target}\r\nuser-agent: tidegate-bench\r\naccept: */*\r\n{field}{end}\r\n")
        .into_bytes()
}

/// Send a request and take the whole answer. Whether its status is 200.
pub(super) async fn exchange(connection: &mut TcpStream, request: &[u8], answer: &mut Vec<u8>) -> Result<bool> {
    connection.write_all(request).await?;
    answer.clear();
    while !is_whole(answer)? {
        if connection.read_buf(answer).await? == 0 {
            bail!("the connection was closed after {:?}", String::from_utf8_lossy(answer));
        }
    }
    Ok(answer.starts_with(b"HTTP/1.1 200 "))
}

/// One request after the other. Gives how long those took that ended between `from` and `until`.
async fn client(mut connection: TcpStream, request: Vec<u8>, from: Instant, until: Instant) -> Result<Vec<Duration>> {
    let mut latencies = Vec::with_capacity(1 << 14);
    let mut answer = Vec::with_capacity(4096);
    loop {
        let begun = Instant::now();
        if !exchange(&mut connection, &request, &mut answer).await? {
            bail!("answered with {:?}", String::from_utf8_lossy(&answer));
        }
        let ended = Instant::now();
        if ended >= until {
            return Ok(latencies);
        }
        if ended >= from {
            latencies.push(ended - begun);
        }
    }
}

/// Whether all of a response is there.
fn is_whole(answer: &[u8]) -> Result<bool> {
    let Some(end) = head_end(answer) else { return Ok(false) };
    let (head, body) = answer.split_at(end);
    let length = content_length(head).with_context(|| format!("no length in {:?}", String::from_utf8_lossy(head)))?;
    Ok(body.len() >= length)
}

fn content_length(head: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"content-length:";
    let field = head
        .split(|byte| *byte == b'\n')
        .find(|line| line.get(..NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME)))?;
    std::str::from_utf8(field.get(NAME.len()..)?).ok()?.trim().parse().ok()
}
