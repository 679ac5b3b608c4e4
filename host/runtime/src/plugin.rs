//! One plugin: how it is brought up, what can be asked of it, and the instances behind it.
//!
//! A call goes through `call.rs` and gives its instance back in `lease.rs`; work that holds up no request is called from
//! `deferred.rs` and `ticks.rs`, by way of `aside.rs`. `upkeep.rs` starts instances, `stopping.rs` and `hand_over.rs` end them.

mod aside;
mod call;
mod deferred;
#[cfg(test)]
mod exploration;
mod hand_over;
mod lease;
mod spec;
mod stopping;
mod ticks;
mod upkeep;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::contract::{Hook, Hooks};
use crate::environment::{Clock, Moment};
use crate::error::{CallError, EndCause};
use crate::grants::Values;
use crate::host::Inheritance;
use crate::instance::{Instance, Template};
use crate::limits::{Isolation, Limits};
use crate::meter::Halt;
use crate::metrics::Metrics;
use crate::pool::{Health, Numbered, Pool, Size};
use crate::stats::{CallOutcome, PluginStats, Tally};
use crate::stop::{DrainObserver, StopObserver};
use crate::sync::Tasks;

pub(crate) use deferred::{Backlog, NotDeferred};
pub use hand_over::HandOver;
use hand_over::Succession;
pub use spec::PluginSpec;

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
}
