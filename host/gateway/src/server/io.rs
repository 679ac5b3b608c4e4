//! A client's socket as hyper reads and writes it, with an eye on what comes in.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use crate::proxy::{ConnectionInfo, Protocol};

/// The beginning of HTTP/2's connection preface. No HTTP/1 method begins like that.
const PREFACE: &[u8] = b"PRI * HTTP/2.0";

/// How long, and how much, is read in vain from a client that still sends while its connection is closed. The time is what
/// ends it for a client that goes on for ever; the bytes are more than a client has on its way while it gets to reading the
/// answer.
const DISCARD_TIME: Duration = Duration::from_secs(1);
const DISCARD_BYTES: usize = 16 << 20;

/// A socket that keeps the connection's activity up to date.
#[derive(Debug)]
pub(super) struct Watched {
    stream: TcpStream,
    info: Arc<ConnectionInfo>,
    /// How much of the preface has come in, until it is clear whether it is one.
    sniffed: Option<usize>,
    closing: Closing,
}

#[derive(Debug)]
enum Closing {
    Open,
    /// Our side is shut; what the client still sends is thrown away, or else the kernel answers it with a reset, and
    /// the client may lose the response that it has not read yet (RFC 9112, section 9.6).
    Discarding {
        until: Pin<Box<Sleep>>,
        left: usize,
    },
    Done,
}

impl Watched {
    pub(super) fn new(stream: TcpStream, info: Arc<ConnectionInfo>) -> Self {
        Self { stream, info, sniffed: Some(0), closing: Closing::Open }
    }

    fn sniff(&mut self, bytes: &[u8]) {
        let Some(sniffed) = self.sniffed else { return };
        let expected = PREFACE.get(sniffed..).unwrap_or_default();
        let length = expected.len().min(bytes.len());
        if expected.get(..length) != bytes.get(..length) {
            self.info.activity().speaks(Protocol::Http1);
            self.sniffed = None;
        } else if length == expected.len() {
            self.info.activity().speaks(Protocol::Http2);
            self.sniffed = None;
        } else {
            self.sniffed = Some(sniffed + length);
        }
    }

    /// Whether the kernel has bytes for us, whatever the reactor knows.
    fn has_unread_bytes(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        matches!(SockRef::from(&self.stream).peek(&mut byte), Ok(length) if length > 0)
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.info.activity().probes() {
            this.info.activity().probe(false);
            if this.has_unread_bytes() {
                // Counts as the beginning of a head, so that the connection is seen not to be idle.
                this.info.activity().received();
            }
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
        let bytes = buffer.filled().get(before..).unwrap_or_default();
        if !bytes.is_empty() {
            this.info.activity().received();
            this.sniff(bytes);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            match &mut this.closing {
                Closing::Open => {
                    ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
                    this.closing = if this.has_unread_bytes() {
                        Closing::Discarding { until: Box::pin(tokio::time::sleep(DISCARD_TIME)), left: DISCARD_BYTES }
                    } else {
                        Closing::Done
                    };
                }
                Closing::Discarding { until, left } => {
                    let mut space = [MaybeUninit::uninit(); 8 * 1024];
                    let mut buffer = ReadBuf::uninit(&mut space);
                    match Pin::new(&mut this.stream).poll_read(cx, &mut buffer) {
                        Poll::Ready(Ok(())) if !buffer.filled().is_empty() && *left > buffer.filled().len() => {
                            *left -= buffer.filled().len();
                        }
                        Poll::Ready(_) => this.closing = Closing::Done,
                        Poll::Pending => {
                            ready!(until.as_mut().poll(cx));
                            this.closing = Closing::Done;
                        }
                    }
                }
                Closing::Done => return Poll::Ready(Ok(())),
            }
        }
    }
}
