//! A connection of HTTP/1.1 on which exactly those bytes go out that a test names.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use http::HeaderMap;
use http::{HeaderName, HeaderValue};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A connection.
#[derive(Debug)]
pub struct RawClient {
    stream: TcpStream,
    read: Vec<u8>,
}

/// A response.
#[derive(Debug)]
pub struct RawReply {
    /// The status.
    pub status: u16,
    /// The fields.
    pub headers: HeaderMap,
    /// The body, which came in whole.
    pub body: Vec<u8>,
}

impl RawReply {
    /// Whether the gateway says that it closes the connection.
    #[must_use]
    pub fn closes(&self) -> bool {
        self.headers.get("connection").is_some_and(|value| value == "close")
    }
}

impl RawClient {
    /// Connect.
    ///
    /// # Errors
    /// When nobody accepts.
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        Ok(Self { stream: TcpStream::connect(address).await?, read: Vec::new() })
    }

    /// Send these bytes.
    ///
    /// # Errors
    /// When the connection is broken.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await
    }

    /// Whether the other side has closed the connection by now, as the kernel knows it.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        let mut byte = [std::mem::MaybeUninit::uninit()];
        match SockRef::from(&self.stream).peek(&mut byte) {
            Ok(length) => length == 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    /// The next response, whole.
    ///
    /// # Errors
    /// When the connection ends or breaks before that, or no response comes in a minute.
    pub async fn reply(&mut self) -> io::Result<RawReply> {
        tokio::time::timeout(Duration::from_secs(60), self.read_reply()).await?
    }

    async fn read_reply(&mut self) -> io::Result<RawReply> {
        let end = loop {
            match self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                Some(end) => break end + 4,
                None => self.fill().await?,
            }
        };
        let head: Vec<u8> = self.read.drain(..end).collect();
        let head = String::from_utf8_lossy(&head);
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let status = status.ok_or_else(|| malformed(&head))?;
        let mut headers = HeaderMap::new();
        for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
            let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) else {
                return Err(malformed(&head));
            };
            headers.append(name, value);
        }
        // The origin of these tests always says how long its answers are, and so does the gateway.
        let length = headers.get("content-length").and_then(|length| length.to_str().ok()?.parse().ok());
        let length = length.ok_or_else(|| malformed(&head))?;
        while self.read.len() < length {
            self.fill().await?;
        }
        Ok(RawReply { status, headers, body: self.read.drain(..length).collect() })
    }

    async fn fill(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.read).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

fn malformed(head: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not a response with a length: {head:?}"))
}
