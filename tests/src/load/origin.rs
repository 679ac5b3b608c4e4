//! The origin: the same answer to every request.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::head_end;

/// An origin on a port of its own. It serves as long as it lives.
#[derive(Debug)]
pub struct Origin {
    address: SocketAddr,
    _connections: JoinSet<()>,
}

impl Origin {
    /// Listen on a free port of the loopback interface, and answer each request with `body`.
    ///
    /// # Errors
    /// If there is no free port.
    pub async fn start(body: &str) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let length = body.len();
        let answer: &'static [u8] =
            format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\r\n{body}")
                .into_bytes()
                .leak();
        let mut connections = JoinSet::new();
        connections.spawn(async move {
            let mut clients = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                // A client that goes away ends its connection and nothing else.
                clients.spawn(async move { drop(serve(client, answer).await) });
                while clients.try_join_next().is_some() {}
            }
        });
        Ok(Self { address, _connections: connections })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn serve(mut client: TcpStream, answer: &[u8]) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut bytes = Vec::with_capacity(4096);
    while client.read_buf(&mut bytes).await? > 0 {
        while let Some(end) = head_end(&bytes) {
            bytes.drain(..end);
            client.write_all(answer).await?;
        }
    }
    Ok(())
}
