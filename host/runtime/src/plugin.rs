//! One plugin: its hooks as the proxy calls them, and the instances behind them.
//!
//! A call takes an instance from the pool, runs on the caller's own task (no hop to another thread), and gives the
//! instance back or retires it. If the caller goes away in the middle, the call goes on in a task of its own
//! until its budget is up: a client that hangs up must not cost a plugin the instance that holds its batch.

mod deferred;
#[cfg(test)]
mod exploration;
mod hand_over;
mod stopping;
mod ticks;
mod upkeep;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::contract::{Hook, Hooks};
use crate::environment::{Clock, Moment};
use crate::error::{CallError, EndCause, Unavailable};
use crate::exchange::{BodyVerdict, Exchange, Verdict};
use crate::grants::{Grants, Values};
use crate::hooks::{Call, OnRequest, OnRequestBody, OnResponse, OnResponseBody};
use crate::host::Inheritance;
use crate::instance::{Instance, Template};
use crate::limits::{Deferred, Instances, Isolation, Limits, Recycle};
use crate::meter::Halt;
use crate::metrics::Metrics;
use crate::pool::{Acquired, Health, Numbered, Pool, Size};
use crate::stats::{CallOutcome, PluginStats, Tally};
use crate::stop::{DrainObserver, StopObserver, StopReason};
use crate::sync::{self, Tasks};

use deferred::Running;
pub(crate) use deferred::{Backlog, NotDeferred};
pub use hand_over::HandOver;
use hand_over::Succession;

/// What to load, and under which limits.
#[derive(Clone)]
pub struct PluginSpec {
    /// The name in the config, log, metrics and report.
    pub name: Arc<str>,
    /// The plugin's config as JSON, handed to `configure`.
    pub config: Arc<str>,
    /// How many instances.
    pub instances: Instances,
    /// When one of them has served its time.
    pub recycle: Recycle,
    /// What state outlives a call.
    pub isolation: Isolation,
    /// What it may do beyond what every plugin may.
    pub grants: Grants,
    /// Its budgets.
    pub limits: Limits,
    /// How much work it may put off.
    pub deferred: Deferred,
    /// How often `on-tick` is called; never without it.
    pub tick: Option<Duration>,
    /// Whether state is handed over to and from it. Such a plugin is held when it has been loaded: calls to it wait until
    /// [`Plugin::open`] or [`Plugin::take_over`].
    pub hand_over: bool,
    /// Faults in a row that make it [`Health::GivenUp`]; `None` for never.
    pub gives_up_at: Option<u32>,
    /// Where its calls are counted.
    pub tally: Tally,
    /// Hears of each of its instances that is stopped.
    pub on_stopped: StopObserver,
    /// Hears of the work it had put off, when it has been stopped; not if that was none.
    pub on_drained: DrainObserver,
}

impl PluginSpec {
    /// A plugin of this name that is granted nothing, with one instance and every default.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            config: "{}".into(),
            instances: Instances::fixed(1),
            recycle: Recycle::default(),
            isolation: Isolation::default(),
            grants: Grants::default(),
            limits: Limits::default(),
            deferred: Deferred::default(),
            tick: None,
            hand_over: false,
            gives_up_at: None,
            tally: Tally::default(),
            on_stopped: Arc::new(|_| {}),
            on_drained: Arc::new(|_| {}),
        }
    }
}

/// A loaded plugin. Cheap to clone; all clones are the same plugin.
#[derive(Clone)]
pub struct Plugin {
    inner: Arc<Inner>,
}

struct Inner {
    template: Template,
    digest: Arc<str>,
    spec: PluginSpec,
    hooks: Hooks,
    pool: Arc<Pool<Slot>>,
    succession: Succession,
    /// Cancelled when its stop begins, or nobody has it any more.
    closing: CancellationToken,
    /// Cancelled when no instance is started any more: what it had put off has been worked off, or its time is up.
    drained: CancellationToken,
    /// Cancelled when every instance has been stopped.
    stopped: CancellationToken,
    /// Replacements, stops, and calls whose caller went away.
    tasks: Tasks,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.closing.cancel();
        self.drained.cancel();
    }
}

/// One place in the pool. In fresh isolation it is empty between calls: a permit.
struct Slot {
    number: u64,
    instance: Option<Box<Instance>>,
}

impl Numbered for Slot {
    fn number(&self) -> u64 {
        self.number
    }
}

impl Plugin {
    /// Bring up the instances of a component that has passed the checks of the contract.
    pub(crate) async fn start(
        template: Template,
        digest: Arc<str>,
        spec: PluginSpec,
        tasks: Tasks,
    ) -> Result<Self, CallError> {
        let hooks = template.exports.hooks();
        spec.tally.exports(hooks);
        let (instances, isolation) = (spec.instances, spec.isolation);
        let size = Size { min: instances.min, max: instances.max.max(instances.min), queue: template.limits.queue };
        // An empty slot costs nothing: all of them are there from the start.
        let size = if isolation == Isolation::Fresh { Size { min: size.max, ..size } } else { size };
        let inner = Arc::new(Inner {
            template,
            digest,
            hooks,
            pool: Pool::new(size, spec.gives_up_at),
            succession: Succession::default(),
            spec,
            closing: CancellationToken::new(),
            drained: CancellationToken::new(),
            stopped: CancellationToken::new(),
            tasks,
        });
        inner.template.backlog.belongs_to(&inner);
        if isolation == Isolation::Fresh {
            // One trial, so that a plugin that cannot be configured is refused now and not by its first request.
            inner
                .instantiate(0, Moment::NEVER, Inheritance::new())
                .await
                .map_err(|cause| inner.error(Hook::Configure, cause))?;
        }
        let plugin = Self { inner };
        if !plugin.inner.spec.hand_over {
            plugin.open().await?;
        } else if isolation == Isolation::Warm {
            // One on trial. Whether it serves depends on what will be handed over.
            plugin.inner.prepare_one().await?;
        }
        Ok(plugin)
    }

    /// Another life of a plugin: new instances of the same component under the same name, config and limits. The old
    /// ones are none of its business; a plugin that has been stopped stays stopped. It has nobody to take over from, so it
    /// serves at once.
    ///
    /// # Errors
    /// When the first instance cannot be made, or its `configure` does not end well.
    pub async fn revive(&self, on_stopped: StopObserver, on_drained: DrainObserver) -> Result<Self, CallError> {
        let Inner { template, digest, spec, tasks, .. } = &*self.inner;
        let template = Template {
            lifecycle: template.lifecycle.fresh(),
            halt: Arc::new(Halt::fresh(&template.halt)),
            backlog: Backlog::new(spec.deferred, template.exports.hooks(), spec.tally.clone()),
            stores: Arc::new(()),
            ..template.clone()
        };
        let spec = PluginSpec { on_stopped, on_drained, ..spec.clone() };
        let revived = Self::start(template, digest.clone(), spec, tasks.clone()).await?;
        revived.open().await?;
        Ok(revived)
    }

    /// How it does, and every change of that.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<Health> {
        self.inner.pool.health()
    }

    /// Its name in the config.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.inner.template.name
    }

    /// `sha256:` and 64 hex digits.
    #[must_use]
    pub fn digest(&self) -> &Arc<str> {
        &self.inner.digest
    }

    /// The values that it may ask for by name, as they were when it was loaded.
    #[must_use]
    pub fn values(&self) -> Option<&Values> {
        self.inner.spec.grants.values.as_deref()
    }

    /// The hooks it exports. One that is absent must not be called; asking here costs nothing.
    #[must_use]
    pub fn hooks(&self) -> Hooks {
        self.inner.hooks
    }

    /// Its limits.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.inner.template.limits
    }

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

    /// Numbers of the instances that live now, those that are being stopped included: each one that is missing from a
    /// later answer has died in a call, or has been heard of, or is being told of right now.
    #[must_use]
    pub fn instances(&self) -> Vec<u64> {
        match self.inner.spec.isolation {
            Isolation::Warm => self.inner.pool.numbers(),
            Isolation::Fresh => Vec::new(),
        }
    }

    /// What has happened so far.
    #[must_use]
    pub fn stats(&self) -> PluginStats {
        let inner = &self.inner;
        PluginStats {
            hooks: inner.spec.tally.hooks(),
            instances: inner.pool.counts(),
            // The template holds one itself.
            stores_live: Arc::strong_count(&inner.template.stores).saturating_sub(1) as u64,
            retired: inner.spec.tally.retired(),
            late: inner.spec.tally.late(),
            snapshots: inner.spec.tally.snapshots(),
            deferred: inner.template.backlog.waiting(),
            deferred_outcomes: inner.spec.tally.deferred(),
            log_dropped: inner.spec.tally.log_dropped(),
            breaker_open: inner.pool.breaker_is_open(inner.clock().now()),
        }
    }

    /// The numbers it keeps in the gateway's metrics, if it may.
    #[must_use]
    pub fn metrics(&self) -> Option<&Metrics> {
        self.inner.spec.grants.metrics.as_deref()
    }

    /// The tally its calls are counted in.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.inner.spec.tally
    }

    async fn call<C: Call>(&self, exchange: Box<Exchange>, call: C) -> (Box<Exchange>, Result<C::Output, CallError>) {
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

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin").field("name", self.name()).finish_non_exhaustive()
    }
}

impl Inner {
    fn clock(&self) -> &dyn Clock {
        &*self.template.environment.clock
    }

    fn error(&self, hook: Hook, cause: EndCause) -> CallError {
        CallError { plugin: self.template.name.clone(), hook, cause }
    }

    /// Make an instance and count its `configure`.
    async fn instantiate(
        &self,
        number: u64,
        deadline: Moment,
        inherited: Inheritance,
    ) -> Result<Box<Instance>, EndCause> {
        let began = self.clock().now();
        let made = self.template.instantiate(number, deadline, inherited).await;
        let (outcome, cpu) = match &made {
            Ok(instance) => (CallOutcome::Ok, instance.cpu()),
            Err(cause) => (cause.into(), Duration::ZERO),
        };
        self.spec.tally.record(Hook::Configure, outcome, cpu, self.clock().now().since(began));
        made
    }

    async fn slot(&self, number: u64, inherited: Inheritance) -> Result<Slot, EndCause> {
        let instance = match self.spec.isolation {
            Isolation::Warm => Some(self.instantiate(number, Moment::NEVER, inherited).await?),
            Isolation::Fresh => None,
        };
        Ok(Slot { number, instance })
    }

    /// An instance, and when it was there: at once, or after a place in the queue until `deadline`.
    async fn acquire(self: &Arc<Self>, now: Moment, deadline: Moment) -> Result<(Slot, Moment), EndCause> {
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

/// The moments of a call.
#[derive(Clone, Copy)]
struct Times {
    /// The hook was to be called.
    began: Moment,
    /// There was an instance for it.
    ready: Moment,
    /// It has to be over.
    deadline: Moment,
}

/// What a call is about that holds up no request.
struct Aside {
    /// The request on whose behalf it is, if it is for one.
    request: Option<Arc<str>>,
    /// There was an instance for it.
    ready: Moment,
    /// Since when the instance has been unused, if this call is not to count as a use.
    unused_since: Option<Moment>,
    /// The payload that it works on.
    payload: Option<Running>,
}

/// An instance that is out. Dropped without a word (a task that is torn down), it is gone.
struct Lease {
    inner: Arc<Inner>,
    slot: Option<Slot>,
}

impl Lease {
    async fn serve<C: Call>(
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

    /// Call a hook that holds up no request. How it ended is logged here: nobody waits for it.
    async fn serve_alone<C: Call>(mut self, call: C, about: Aside) {
        let inner = Arc::clone(&self.inner);
        let Aside { request, ready, unused_since, payload } = about;
        let deadline = ready + inner.template.limits.deferred;
        let Some(slot) = &mut self.slot else { return };
        let number = slot.number;
        let tell = |cause: &EndCause| {
            let (plugin, hook, request) = (&*inner.template.name, C::HOOK.as_str(), request.as_deref().unwrap_or(""));
            let instance = number;
            tracing::warn!(
                plugin,
                instance,
                hook,
                request,
                cause = cause.as_str(),
                "not done in the background: {cause}"
            );
        };
        let (mut instance, now, warm) = match slot.instance.take() {
            Some(instance) => (instance, ready, true),
            None => match Box::pin(inner.instantiate(number, deadline, Inheritance::new())).await {
                Ok(instance) => (instance, inner.clock().now(), false),
                Err(cause) => {
                    tell(&cause);
                    drop(payload);
                    return self.retire(C::HOOK, &cause);
                }
            },
        };
        let result = instance.call_for(request.as_ref(), call, now, deadline).await;
        let (cpu, ended) = (instance.cpu(), instance.ended());
        let outcome = result.as_ref().map_or_else(CallOutcome::from, |_| CallOutcome::Ok);
        // Counted before the instance is given back: a stop that has heard of all instances knows of all payloads.
        match (&result, payload) {
            (Ok(_), Some(payload)) => payload.completed(),
            (Ok(_), None) => {}
            (Err(cause), payload) => {
                tell(cause);
                drop(payload);
            }
        }
        inner.spec.tally.record(C::HOOK, outcome, cpu, ended.since(ready));
        self.give_back(C::HOOK, instance, warm, result.as_ref().err(), unused_since.unwrap_or(ended));
    }

    /// A call is over: its instance is free again, unless it has served its time or did not survive.
    fn give_back(
        mut self,
        hook: Hook,
        instance: Box<Instance>,
        warm: bool,
        failed: Option<&EndCause>,
        unused_since: Moment,
    ) {
        match failed {
            Some(cause) if cause.retires() => {
                drop(instance);
                self.retire(hook, cause);
            }
            _ if warm && self.inner.spec.recycle.is_due(instance.served(), instance.memory()) => {
                self.recycle(instance, hook, unused_since);
            }
            _ => self.release(warm.then_some(instance), hook, unused_since),
        }
    }

    fn release(mut self, instance: Option<Box<Instance>>, hook: Hook, now: Moment) {
        if let Some(mut slot) = self.slot.take() {
            slot.instance = instance;
            if self.inner.pool.release(slot, hook, now) {
                self.inner.start_wanted();
            }
        }
    }

    /// The instance has served its time. If it cannot go now, it serves on and goes after a later call.
    fn recycle(mut self, instance: Box<Instance>, hook: Hook, now: Moment) {
        match self.slot.take() {
            Some(slot) if self.inner.pool.recycle(slot.number, hook) => {
                self.inner.stop_one(Slot { instance: Some(instance), ..slot }, StopReason::Recycle);
                self.inner.start_wanted();
            }
            slot => {
                self.slot = slot;
                self.release(Some(instance), hook, now);
            }
        }
    }

    fn retire(&mut self, hook: Hook, cause: &EndCause) {
        if let Some(slot) = self.slot.take() {
            tracing::debug!(
                plugin = &*self.inner.template.name,
                instance = slot.number,
                cause = cause.as_str(),
                "instance retired"
            );
            self.inner.spec.tally.retire();
            let fault = (!matches!(cause, EndCause::Abandoned)).then_some(hook);
            self.inner.pool.retire(slot.number, cause.clone(), fault, self.inner.clock().now());
            self.inner.start_wanted();
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Nothing counts against the plugin, so no matter which hook it was.
        self.retire(Hook::OnRequest, &EndCause::Abandoned);
    }
}

/// A call that is finished by a task of its own if its caller goes away.
struct Finish<'a, F: Future<Output: Send + 'static> + Send + 'static> {
    tasks: &'a Tasks,
    call: Option<Pin<Box<F>>>,
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
