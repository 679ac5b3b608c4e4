//! A response's body on its way to the client: what ends the exchange.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::content::{BodyError, Content};
use super::in_flight::InFlight;
use super::upstream::Lease;

/// A response's body on its way to the client. While it lives, its exchange is in flight.
#[derive(Debug)]
pub struct Body {
    content: Content,
    /// The upstream's connection, to be used again once the content is at its end.
    lease: Option<Lease>,
    in_flight: InFlight,
    /// A piece was handed over, and the next not yet asked for.
    held_back: bool,
}

impl Body {
    pub(super) fn new(content: Content, lease: Option<Lease>, mut in_flight: InFlight) -> Self {
        if content.is_end_stream() {
            in_flight.complete();
        }
        let mut body = Self { content, lease, in_flight, held_back: false };
        body.give_back();
        body
    }

    /// The upstream's connection is free once there is nothing left to read from it.
    fn give_back(&mut self) {
        if !matches!(&self.content, Content::Streaming(paced) if !paced.is_end_stream())
            && let Some(lease) = self.lease.take()
        {
            lease.give_back();
        }
    }

    fn hold_back(&mut self, held_back: bool) {
        if self.held_back != held_back {
            self.held_back = held_back;
            let activity = self.in_flight.activity();
            if held_back { activity.holds_back() } else { activity.moves_on() }
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        this.hold_back(false);
        let frame = ready!(this.content.poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(piece) = frame.data_ref() {
                    this.in_flight.sent(piece);
                }
            }
            // The server aborts the connection or the stream: the client must not take what it has for the whole.
            Some(Err(error)) => this.in_flight.broke(error),
            None => {}
        }
        this.give_back();
        if this.content.is_end_stream() && !matches!(frame, Some(Err(_))) {
            this.in_flight.complete();
        } else if matches!(frame, Some(Ok(_))) {
            this.hold_back(true);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.content.size_hint()
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.hold_back(false);
    }
}
