//! The way of a call, from top to bottom: the version that takes it, an instance from the pool, the guest on the caller's
//! own task (no hop to another thread), and the instance given back (`lease.rs`).
//!
//! If the caller goes away in the middle, the call goes on in a task of its own until its budget is up: a client that
//! hangs up must not cost a plugin the instance that holds its batch.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;

use super::lease::Lease;
use super::{Inner, Plugin, Slot};
use crate::contract::Hook;
use crate::environment::Moment;
use crate::error::{CallError, EndCause, Unavailable};
use crate::exchange::{BodyVerdict, Exchange, Verdict};
use crate::hooks::{Call, OnRequest, OnRequestBody, OnResponse, OnResponseBody};
use crate::host::Inheritance;
use crate::pool::Acquired;
use crate::stats::CallOutcome;
use crate::sync::{self, Tasks};

/// The moments of a call.
#[derive(Clone, Copy)]
pub(super) struct Times {
    /// The hook was to be called.
    pub(super) began: Moment,
    /// There was an instance for it.
    pub(super) ready: Moment,
    /// It has to be over.
    pub(super) deadline: Moment,
}

impl Plugin {
    /// Call `on-request`.
    ///
    /// # Errors
    /// However the call ended, if it did not return ok. The exchange has the edits made until then.
    pub async fn on_request(&self, exchange: Box<Exchange>) -> (Box<Exchange>, Result<Verdict, CallError>) {
        self.call(exchange, OnRequest).await
    }

    /// Call `on-request-body` with the whole body.
    ///
    /// # Errors
    /// As [`Plugin::on_request`].
    pub async fn on_request_body(
        &self,
        exchange: Box<Exchange>,
        body: Bytes,
    ) -> (Box<Exchange>, Result<BodyVerdict, CallError>) {
        self.call(exchange, OnRequestBody(body)).await
    }

    /// Call `on-response`. The exchange must have its response.
    ///
    /// # Errors
    /// As [`Plugin::on_request`].
    pub async fn on_response(&self, exchange: Box<Exchange>) -> (Box<Exchange>, Result<Verdict, CallError>) {
        self.call(exchange, OnResponse).await
    }

    /// Call `on-response-body` with the whole body.
    ///
    /// # Errors
    /// As [`Plugin::on_request`].
    pub async fn on_response_body(
        &self,
        exchange: Box<Exchange>,
        body: Bytes,
    ) -> (Box<Exchange>, Result<BodyVerdict, CallError>) {
        self.call(exchange, OnResponseBody(body)).await
    }

    /// Count a call that is not made, because somebody has taken the plugin out.
    #[must_use]
    pub fn refuse(&self, hook: Hook, why: Unavailable) -> CallError {
        let cause = EndCause::Unavailable(why);
        self.inner.spec.tally.record(hook, (&cause).into(), Duration::ZERO, Duration::ZERO);
        self.inner.error(hook, cause)
    }

    pub(super) async fn call<C: Call>(
        &self,
        exchange: Box<Exchange>,
        call: C,
    ) -> (Box<Exchange>, Result<C::Output, CallError>) {
        let mut inner = self.inner.last_heir();
        let began = inner.clock().now();
        let deadline = began + inner.template.limits.wall;
        let acquired = loop {
            // The proxy asks what the version exports that it has; the one that took over may export less.
            if !Arc::ptr_eq(inner, &self.inner) && !inner.hooks.contains(C::HOOK) {
                return (exchange, Ok(C::skipped()));
            }
            let acquired = inner.acquire(began, deadline).await;
            let is_stopping = matches!(acquired, Err(EndCause::Unavailable(Unavailable::Stopping)));
            match inner.heir() {
                // Another version took over while the call was on its way.
                Some(heir) if is_stopping => inner = heir,
                _ => break acquired,
            }
        };
        let (slot, ready) = match acquired {
            Ok(acquired) => acquired,
            Err(cause) => {
                inner.spec.tally.record(C::HOOK, (&cause).into(), Duration::ZERO, inner.clock().now().since(began));
                return (exchange, Err(inner.error(C::HOOK, cause)));
            }
        };
        let lease = Lease { inner: Arc::clone(inner), slot: Some(slot) };
        let tasks = &inner.tasks;
        Finish { tasks, call: Some(Box::pin(lease.serve(exchange, call, Times { began, ready, deadline }))) }.await
    }
}

impl Inner {
    /// An instance, and when it was there: at once, or after a place in the queue until `deadline`.
    pub(super) async fn acquire(self: &Arc<Self>, now: Moment, deadline: Moment) -> Result<(Slot, Moment), EndCause> {
        let mut ticket = match self.pool.acquire(now) {
            Acquired::Ready(slot) => return Ok((slot, now)),
            Acquired::Refused(cause) => return Err(cause),
            Acquired::Queued(ticket) => ticket,
        };
        self.start_wanted();
        tokio::select! {
            biased;
            slot = ticket.wait() => {
                let (slot, now) = (slot?, self.clock().now());
                if now <= deadline {
                    return Ok((slot, now));
                }
                // A call that begins too late ends too late, which its instance would pay for with its life.
                self.pool.unused(slot, now);
                Err(self.pool.overloaded())
            }
            () = self.clock().sleep_until(deadline) => Err(self.pool.overloaded()),
        }
    }
}

impl Lease {
    /// Call the hook, and give the instance back.
    pub(super) async fn serve<C: Call>(
        mut self,
        exchange: Box<Exchange>,
        call: C,
        times: Times,
    ) -> (Box<Exchange>, Result<C::Output, CallError>) {
        let inner = Arc::clone(&self.inner);
        let Some(slot) = &mut self.slot else {
            return (exchange, Err(inner.error(C::HOOK, EndCause::Abandoned)));
        };
        let (mut instance, now, warm) = match slot.instance.take() {
            Some(instance) => (instance, times.ready, true),
            // Boxed: the future is three times as large as the rest of a call, which every warm call would pay for.
            None => match Box::pin(inner.instantiate(slot.number, times.deadline, Inheritance::new())).await {
                Ok(instance) => (instance, inner.clock().now(), false),
                Err(cause) => {
                    self.retire(C::HOOK, &cause);
                    return (exchange, Err(inner.error(C::HOOK, cause)));
                }
            },
        };
        let (exchange, result) = instance.call(call, exchange, now, times.deadline).await;
        let (cpu, ended) = (instance.cpu(), instance.ended());
        let outcome = result.as_ref().map_or_else(CallOutcome::from, |_| CallOutcome::Ok);
        self.give_back(C::HOOK, instance, warm, result.as_ref().err(), ended);
        inner.spec.tally.record(C::HOOK, outcome, cpu, ended.since(times.began));
        (exchange, result.map_err(|cause| inner.error(C::HOOK, cause)))
    }
}

/// A call that is finished by a task of its own if its caller goes away.
pub(super) struct Finish<'a, F: Future<Output: Send + 'static> + Send + 'static> {
    pub(super) tasks: &'a Tasks,
    pub(super) call: Option<Pin<Box<F>>>,
}

impl<F: Future<Output: Send + 'static> + Send + 'static> Future for Finish<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Some(call) = &mut self.call else { return Poll::Pending };
        let output = std::task::ready!(call.as_mut().poll(cx));
        self.call = None;
        Poll::Ready(output)
    }
}

impl<F: Future<Output: Send + 'static> + Send + 'static> Drop for Finish<'_, F> {
    fn drop(&mut self) {
        if let Some(call) = self.call.take()
            && sync::can_spawn()
        {
            self.tasks.spawn(call);
        }
    }
}
