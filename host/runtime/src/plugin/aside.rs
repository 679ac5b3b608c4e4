//! Calls that hold up no request: `on-deferred` and `on-tick`. How they end is logged here, since nobody waits for it.

use std::sync::Arc;

use super::deferred::Running;
use super::lease::Lease;
use crate::environment::Moment;
use crate::error::EndCause;
use crate::hooks::Call;
use crate::host::Inheritance;
use crate::stats::CallOutcome;

/// What a call is about that holds up no request.
pub(super) struct Aside {
    /// The request on whose behalf it is, if it is for one.
    pub(super) request: Option<Arc<str>>,
    /// There was an instance for it.
    pub(super) ready: Moment,
    /// Since when the instance has been unused, if this call is not to count as a use.
    pub(super) unused_since: Option<Moment>,
    /// The payload that it works on.
    pub(super) payload: Option<Running>,
}

impl Lease {
    /// Call the hook, and give the instance back.
    pub(super) async fn serve_alone<C: Call>(mut self, call: C, about: Aside) {
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
}
