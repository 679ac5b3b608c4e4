//! The bodies of messages on their way: streaming by, or held in memory because a plugin asked for them.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::connection::millis;
use crate::recorder::Tap;
use crate::telemetry::metrics::UpstreamFailure;

/// Why a body did not come in whole.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// No piece came within the time-out.
    #[error("no piece of the body came within {0:?}")]
    Stalled(Duration),
    /// The connection it came on broke, or its framing was wrong.
    #[error("the body broke off: {0}")]
    Broken(#[from] hyper::Error),
}

impl BodyError {
    /// How it is counted where it is the upstream's doing.
    pub(super) fn upstream_failure(&self) -> UpstreamFailure {
        match self {
            Self::Stalled(_) => UpstreamFailure::BodyStalled,
            Self::Broken(_) => UpstreamFailure::BodyBroken,
        }
    }
}

/// What [`Content::gather`] can say.
#[derive(Debug)]
pub(super) enum GatherError {
    /// More than the cap. The content is whole and can still be streamed.
    TooLarge,
    /// It did not come in whole.
    Body(BodyError),
}

/// A message's body.
#[derive(Debug)]
pub(super) enum Content {
    Empty,
    Whole(Bytes),
    Streaming(Paced),
}

impl Content {
    /// The body of a message that has just come in; `pause` is the longest time between two pieces.
    pub(super) fn incoming(incoming: Incoming, pause: Duration) -> Self {
        if incoming.is_end_stream() { Self::Empty } else { Self::Streaming(Paced::new(incoming, pause)) }
    }

    /// Have this take what streams by, from the beginning.
    pub(super) fn tapped(mut self, tap: Tap) -> Self {
        match &mut self {
            Self::Empty => tap.end(),
            Self::Whole(bytes) => {
                tap.take(bytes);
                tap.end();
            }
            Self::Streaming(paced) => paced.tap = Some(tap),
        }
        self
    }

    /// Hold the whole body in memory and return it, unless it is longer than `cap` bytes. Trailers are dropped
    /// (RFC 9110, section 6.5.1, lets an intermediary do so).
    pub(super) async fn gather(&mut self, cap: usize) -> Result<Bytes, GatherError> {
        let whole = match self {
            Self::Empty => Bytes::new(),
            Self::Whole(bytes) if bytes.len() > cap => return Err(GatherError::TooLarge),
            Self::Whole(bytes) => return Ok(bytes.clone()),
            Self::Streaming(paced) => paced.gather(cap).await?,
        };
        *self = Self::Whole(whole.clone());
        Ok(whole)
    }

    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self {
            Self::Empty => Poll::Ready(None),
            Self::Whole(_) => match std::mem::replace(self, Self::Empty) {
                Self::Whole(bytes) if !bytes.is_empty() => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                _ => Poll::Ready(None),
            },
            Self::Streaming(paced) => {
                let frame = ready!(paced.poll_frame(cx));
                if matches!(frame, None | Some(Err(_))) {
                    *self = Self::Empty;
                }
                Poll::Ready(frame)
            }
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Streaming(paced) => paced.is_end_stream(),
        }
    }

    /// Whether there is a body whose length nobody knows.
    pub(super) fn is_unsized(&self) -> bool {
        !self.is_end_stream() && self.size_hint().exact().is_none()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Streaming(paced) => paced.size_hint(),
        }
    }
}

/// A body that streams in, piece by piece, none of them late.
#[derive(Debug)]
pub(super) struct Paced {
    /// Pieces that were read in vain by [`Paced::gather`].
    ahead: VecDeque<Bytes>,
    incoming: Incoming,
    pause: Duration,
    /// Made when a piece is first waited for: most bodies come in one piece with their head.
    timer: Option<Pin<Box<Sleep>>>,
    waiting: bool,
    /// Takes what comes in, if the exchange is recorded.
    tap: Option<Tap>,
}

impl Paced {
    fn new(incoming: Incoming, pause: Duration) -> Self {
        Self { ahead: VecDeque::new(), incoming, pause, timer: None, waiting: false, tap: None }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(piece) = self.ahead.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) {
            self.waiting = false;
            if let Some(tap) = &self.tap {
                match &frame {
                    Some(Ok(frame)) => {
                        if let Some(piece) = frame.data_ref() {
                            tap.take(piece);
                        }
                        if self.incoming.is_end_stream() {
                            tap.end();
                        }
                    }
                    Some(Err(_)) => {}
                    None => tap.end(),
                }
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(BodyError::from)));
        }
        let limit = Instant::now() + self.pause;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(limit)));
        if !self.waiting {
            timer.as_mut().reset(limit);
            self.waiting = true;
        }
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Some(Err(BodyError::Stalled(self.pause))))
    }

    async fn gather(&mut self, cap: usize) -> Result<Bytes, GatherError> {
        if self.size_hint().lower() > cap as u64 {
            return Err(GatherError::TooLarge);
        }
        let mut first = Bytes::new();
        let mut more = BytesMut::new();
        while let Some(frame) = std::future::poll_fn(|cx| self.poll_frame(cx)).await {
            let Ok(piece) = frame.map_err(GatherError::Body)?.into_data() else { continue };
            let length = first.len() + more.len() + piece.len();
            if first.is_empty() {
                first = piece;
            } else {
                // Copied together rather than kept apart: a client that sends single bytes must not make us keep a
                // buffer for each.
                more.extend_from_slice(&piece);
            }
            if length > cap {
                self.ahead.extend([first, more.freeze()].into_iter().filter(|piece| !piece.is_empty()));
                return Err(GatherError::TooLarge);
            }
        }
        if more.is_empty() {
            return Ok(first);
        }
        let mut whole = BytesMut::with_capacity(first.len() + more.len());
        whole.extend_from_slice(&first);
        whole.extend_from_slice(&more);
        Ok(whole.freeze())
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.ahead.is_empty() && self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let ahead: u64 = self.ahead.iter().map(|piece| piece.len() as u64).sum();
        let rest = self.incoming.size_hint();
        let mut hint = SizeHint::new();
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(ahead));
        }
        hint.set_lower(rest.lower().saturating_add(ahead));
        hint
    }
}

/// How far a request's body is, seen by the one who waits for the response.
#[derive(Debug, Default)]
pub(super) struct UploadState {
    /// Set while the client owes the next piece.
    waits_for_client: AtomicBool,
    moved_at: AtomicU64,
    failure: AtomicU8,
}

/// How the client failed to send its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UploadFailure {
    Stalled,
    Broken,
}

impl UploadState {
    pub(super) fn waits_for_client(&self) -> bool {
        self.waits_for_client.load(Ordering::Relaxed)
    }

    /// When the upstream last took a piece, in [`millis`].
    pub(super) fn moved_at(&self) -> u64 {
        self.moved_at.load(Ordering::Relaxed)
    }

    pub(super) fn failure(&self) -> Option<UploadFailure> {
        match self.failure.load(Ordering::Acquire) {
            1 => Some(UploadFailure::Stalled),
            2 => Some(UploadFailure::Broken),
            _ => None,
        }
    }
}

/// A request's body on its way to the upstream.
#[derive(Debug)]
pub(super) struct Upload {
    content: Content,
    state: Option<Arc<UploadState>>,
}

impl Upload {
    /// The state is there if the body streams.
    pub(super) fn new(content: Content) -> (Self, Option<Arc<UploadState>>) {
        let state = matches!(content, Content::Streaming(_))
            .then(|| Arc::new(UploadState { moved_at: AtomicU64::new(millis()), ..UploadState::default() }));
        (Self { content, state: state.clone() }, state)
    }
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = self.content.poll_frame(cx);
        if let Some(state) = &self.state {
            state.waits_for_client.store(frame.is_pending(), Ordering::Relaxed);
            state.moved_at.store(millis(), Ordering::Relaxed);
            match &frame {
                Poll::Ready(Some(Err(BodyError::Stalled(_)))) => state.failure.store(1, Ordering::Release),
                Poll::Ready(Some(Err(BodyError::Broken(_)))) => state.failure.store(2, Ordering::Release),
                _ => {}
            }
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.content.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::{Request, Response};
    use hyper_util::rt::TokioIo;
    use tokio::io::AsyncWriteExt;

    use super::*;

    const CAP: usize = 10;

    /// Gathers the body of a request that comes in as these pieces, and says what is left to be streamed.
    async fn gathered(pieces: &[&str]) -> (Result<Bytes, String>, String) {
        let (mut client, server) = tokio::io::duplex(1 << 16);
        let (results, mut result) = tokio::sync::mpsc::channel(1);
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let results = results.clone();
            async move {
                let mut content = Content::incoming(request.into_body(), Duration::from_millis(100));
                let gathered = content.gather(CAP).await.map_err(|error| match error {
                    GatherError::TooLarge => "too large".to_owned(),
                    GatherError::Body(BodyError::Stalled(_)) => "stalled".to_owned(),
                    GatherError::Body(BodyError::Broken(_)) => "broken".to_owned(),
                });
                let mut left = Vec::new();
                while let Some(Ok(frame)) = std::future::poll_fn(|cx| content.poll_frame(cx)).await {
                    left.extend(frame.into_data().unwrap_or_default());
                }
                let _ = results.send((gathered, String::from_utf8_lossy(&left).into_owned())).await;
                Ok::<_, Infallible>(Response::new(http_body_util::Empty::<Bytes>::new()))
            }
        });
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(server), service);
        let send = async move {
            for piece in pieces {
                client.write_all(piece.as_bytes()).await.expect("the server reads");
                tokio::task::yield_now().await;
            }
            result.recv().await.expect("the service ran")
        };
        let (_, gathered) = tokio::join!(connection, send);
        gathered
    }

    const CHUNKED: &str = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";

    #[tokio::test]
    async fn a_body_up_to_the_cap_is_gathered_and_still_there() {
        let sized = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n";
        assert_eq!(gathered(&[sized, "0123456789"]).await, (Ok("0123456789".into()), "0123456789".into()));
        let pieces = [CHUNKED, "3\r\n012\r\n", "3\r\n345\r\n4\r\n6789\r\n", "0\r\n\r\n"];
        assert_eq!(gathered(&pieces).await, (Ok("0123456789".into()), "0123456789".into()));
        assert_eq!(gathered(&["POST / HTTP/1.1\r\nhost: a\r\n\r\n"]).await, (Ok(Bytes::new()), String::new()));
        let trailers = [CHUNKED, "3\r\n012\r\n", "0\r\nx: y\r\n\r\n"];
        assert_eq!(gathered(&trailers).await, (Ok("012".into()), "012".into()));
    }

    #[tokio::test]
    async fn a_body_over_the_cap_is_given_up_and_none_of_it_is_lost() {
        let pieces = [CHUNKED, "6\r\n012345\r\n", "4\r\n6789\r\n", "1\r\na\r\n", "3\r\nbcd\r\n", "0\r\n\r\n"];
        assert_eq!(gathered(&pieces).await, (Err("too large".into()), "0123456789abcd".into()));
        let at_once = [CHUNKED, "c\r\n0123456789ab\r\n", "0\r\n\r\n"];
        assert_eq!(gathered(&at_once).await, (Err("too large".into()), "0123456789ab".into()));
    }

    #[tokio::test]
    async fn an_announced_length_over_the_cap_is_given_up_unread() {
        let request = "POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 11\r\n\r\n";
        let (result, _) = gathered(&[request, "0123456789a"]).await;
        assert_eq!(result, Err("too large".into()));
    }

    #[tokio::test]
    async fn a_body_that_stalls_or_breaks_is_given_up() {
        assert_eq!(gathered(&[CHUNKED, "3\r\n012\r\n"]).await.0, Err("stalled".into()));
        assert_eq!(gathered(&[CHUNKED, "3\r\n012\r\n", "nonsense\r\n"]).await.0, Err("broken".into()));
    }
}
