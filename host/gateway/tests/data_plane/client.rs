//! An HTTP/1.1 client that sends whatever it is told to, byte by byte if need be.

use std::collections::HashMap;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::gateway::within;

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    read: Vec<u8>,
    announced: bool,
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Lower-case names; values of fields that occur several times are joined.
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: String,
    /// Whether the body came in as its framing promised.
    pub(crate) whole: bool,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

pub(crate) const GET: &str = "GET / HTTP/1.1\r\nhost: test\r\n\r\n";

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap())
    }

    pub(crate) fn over(stream: TcpStream) -> Self {
        Self { stream, read: Vec::new(), announced: false }
    }

    /// Whether the last response said that the connection closes.
    pub(crate) fn closes(&self) -> bool {
        self.announced
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    pub(crate) async fn request(&mut self, bytes: impl AsRef<[u8]>) -> Reply {
        self.send(bytes).await;
        self.reply().await
    }

    pub(crate) async fn get(&mut self, path: &str) -> Reply {
        self.request(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n")).await
    }

    /// The next response, which must come.
    pub(crate) async fn reply(&mut self) -> Reply {
        within("a response", self.try_reply(true)).await.expect("a response, not the end of the connection")
    }

    /// The response to a HEAD request.
    pub(crate) async fn reply_to_head(&mut self) -> Reply {
        within("a response", self.try_reply(false)).await.expect("a response, not the end of the connection")
    }

    /// The next response, or `None` at the end of the connection.
    pub(crate) async fn try_reply(&mut self, has_body: bool) -> Option<Reply> {
        let end = loop {
            if let Some(end) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if !self.fill().await {
                return None;
            }
        };
        let head = String::from_utf8(self.read.drain(..end).collect()).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers: HashMap<String, String> = HashMap::new();
        for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
            headers
                .entry(name.to_ascii_lowercase())
                .and_modify(|values| *values = format!("{values}, {value}"))
                .or_insert_with(|| value.to_owned());
        }
        self.announced = headers.get("connection").is_some_and(|value| value == "close");
        let mut reply = Reply { status, headers, body: String::new(), whole: true };
        if !has_body || status == 204 || status == 304 || status < 200 {
            return Some(reply);
        }
        if reply.header("transfer-encoding") == "chunked" {
            loop {
                let Some(line) = self.line().await else {
                    reply.whole = false;
                    break;
                };
                let length = usize::from_str_radix(&line, 16).unwrap();
                if length == 0 {
                    while self.line().await.is_some_and(|line| !line.is_empty()) {}
                    break;
                }
                let Some(chunk) = self.bytes(length + 2).await else {
                    reply.whole = false;
                    break;
                };
                reply.body.push_str(chunk.trim_end_matches("\r\n"));
            }
        } else if let Some(length) = reply.headers.get("content-length") {
            match self.bytes(length.parse().unwrap()).await {
                Some(body) => reply.body = body,
                None => reply.whole = false,
            }
        } else {
            while self.fill().await {}
            reply.body = String::from_utf8_lossy(&std::mem::take(&mut self.read)).into_owned();
        }
        Some(reply)
    }

    /// Whether the gateway closes the connection, without sending anything more.
    pub(crate) async fn is_closed(&mut self) -> bool {
        within("the end of the connection", async { !self.fill().await && self.read.is_empty() }).await
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.read.windows(2).position(|two| two == b"\r\n") {
                let line: Vec<u8> = self.read.drain(..end + 2).collect();
                return Some(String::from_utf8(line).unwrap().trim_end().to_owned());
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    async fn bytes(&mut self, length: usize) -> Option<String> {
        while self.read.len() < length {
            if !self.fill().await {
                return None;
            }
        }
        Some(String::from_utf8_lossy(&self.read.drain(..length).collect::<Vec<u8>>()).into_owned())
    }

    async fn fill(&mut self) -> bool {
        matches!(self.stream.read_buf(&mut self.read).await, Ok(length) if length > 0)
    }
}
