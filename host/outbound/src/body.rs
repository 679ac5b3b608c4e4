//! The body of an answer: counted, bounded, and with the connection it comes on.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http_body::{Body as _, Frame};
use hyper::body::Incoming;
use tidegate_runtime::outbound::OutboundError;
use tokio::time::Sleep;

use crate::connect::Connection;
use crate::failure;
use crate::origin::Target;
use crate::pool::Pool;
use crate::record::Record;
use crate::stats::Outcome;

/// A body that is being received. Dropped before its end, it closes the connection.
pub(crate) struct Received {
    incoming: Incoming,
    /// Until the end of the body.
    lease: Option<Lease>,
    limit: u64,
    received: u64,
    between: Option<Duration>,
    stalled: Option<Pin<Box<Sleep>>>,
}

struct Lease {
    connection: Connection,
    pool: Arc<Pool>,
    target: Target,
    record: Record,
}

impl Received {
    pub(crate) fn new(
        incoming: Incoming,
        connection: Connection,
        pool: Arc<Pool>,
        target: Target,
        record: Record,
        limit: u64,
        between: Option<Duration>,
    ) -> Self {
        let lease = Some(Lease { connection, pool, target, record });
        let mut this = Self { incoming, lease, limit, received: 0, between, stalled: None };
        if this.incoming.is_end_stream() {
            this.complete();
        }
        this
    }

    /// The whole body is there: the connection can be used again.
    fn complete(&mut self) {
        if let Some(Lease { connection, pool, target, record }) = self.lease.take() {
            record.end(Outcome::Ok);
            pool.give_back(target, connection);
        }
    }

    /// It ends here, and the connection with it.
    fn fail(&mut self, error: OutboundError) -> OutboundError {
        if let Some(Lease { record, .. }) = self.lease.take() {
            record.end(Outcome::of(&error));
        }
        error
    }
}

impl http_body::Body for Received {
    type Data = Bytes;
    type Error = OutboundError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, OutboundError>>> {
        let this = &mut *self;
        if this.lease.is_none() {
            return Poll::Ready(None);
        }
        match Pin::new(&mut this.incoming).poll_frame(cx) {
            Poll::Ready(None) => {
                this.complete();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Ok(frame))) => {
                this.stalled = None;
                let length = frame.data_ref().map_or(0, |data| data.remaining() as u64);
                this.received = this.received.saturating_add(length);
                if this.received > this.limit {
                    let error = OutboundError::ResponseBody(this.limit);
                    return Poll::Ready(Some(Err(this.fail(error))));
                }
                if this.incoming.is_end_stream() {
                    this.complete();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(this.fail(failure::of_body(&error))))),
            Poll::Pending => {
                let Some(between) = this.between else { return Poll::Pending };
                let stalled = this.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(between)));
                match stalled.as_mut().poll(cx) {
                    Poll::Ready(()) => Poll::Ready(Some(Err(this.fail(OutboundError::ReadTimeout)))),
                    Poll::Pending => Poll::Pending,
                }
            }
        }
    }
}
