//! The plugins of a route, as the exchange goes through them: request hooks in order, response hooks in reverse.
//!
//! No instance is held while a body comes in: a hook says `read-body` and returns, the body is gathered here, and only
//! then the body hook is called.

use std::sync::Arc;

use tidegate_runtime::{BodyVerdict, CallError, Exchange, Hook, Plugin, Reply, Unavailable, Verdict};

use super::content::{Content, GatherError};
use super::reply::Refusal;
use crate::config::OnFailure;

/// A plugin as a generation has it.
#[derive(Debug, Clone)]
pub struct Seat {
    /// The plugin.
    pub plugin: Plugin,
    /// Why it serves nothing, if it does not: routes then take it as failed.
    pub out: Option<Unavailable>,
}

/// Plugins in the order of the route.
pub(super) struct Chain {
    steps: Vec<Step>,
}

/// One plugin of a route.
pub(super) struct Step {
    plugin: Plugin,
    on_failure: OnFailure,
    /// Why it serves nothing, if it does not.
    out: Option<Unavailable>,
}

/// Where a request goes after the request hooks.
pub(super) enum Onward {
    /// On to the upstream, with this body.
    Upstream(Content),
    /// Back to the client: a plugin has answered. The response stands in the exchange. The response hooks of the
    /// plugins before that one are still to run.
    Client {
        /// The reply's body.
        content: Content,
        /// How many plugins, from the first, that is.
        before: usize,
    },
}

impl Chain {
    /// Plugins without a request or response hook are left out.
    pub(super) fn new(steps: impl Iterator<Item = Step>) -> Self {
        let has_hooks = |step: &Step| {
            let hooks = step.plugin.hooks();
            hooks.contains(Hook::OnRequest) || hooks.contains(Hook::OnResponse)
        };
        Self { steps: steps.filter(has_hooks).collect() }
    }

    /// How many plugins there are.
    pub(super) fn len(&self) -> usize {
        self.steps.len()
    }

    /// Their names, in the order of the route.
    pub(super) fn names(&self) -> Arc<[Arc<str>]> {
        self.steps.iter().map(Step::name).collect()
    }

    /// Whether any plugin wants to see responses.
    pub(super) fn sees_responses(&self) -> bool {
        self.steps.iter().any(|step| step.plugin.hooks().contains(Hook::OnResponse))
    }

    /// Run the request hooks, in order.
    pub(super) async fn on_request(
        &self,
        mut exchange: Box<Exchange>,
        mut content: Content,
    ) -> Result<(Box<Exchange>, Onward), Refusal> {
        for (before, step) in self.steps.iter().enumerate() {
            if !step.plugin.hooks().contains(Hook::OnRequest) {
                continue;
            }
            if step.is_out(&exchange, Hook::OnRequest)? {
                continue;
            }
            let (back, verdict) = step.plugin.on_request(exchange).await;
            exchange = back;
            let Some(verdict) = step.settle(&exchange, verdict)? else { continue };
            let reply = match verdict {
                Verdict::Forward => None,
                Verdict::Respond(reply) => Some(reply),
                Verdict::ReadBody => {
                    let limit = step.plugin.limits().body;
                    let body = content.gather(limit).await.map_err(|error| match error {
                        // Whatever `on_failure` says: a client must not get past a plugin by sending too much.
                        GatherError::TooLarge => Refusal::BodyTooLarge { plugin: step.name(), limit },
                        GatherError::Body(error) => Refusal::RequestBody(error),
                    })?;
                    let (back, verdict) = step.plugin.on_request_body(exchange, body).await;
                    exchange = back;
                    match step.settle(&exchange, verdict)? {
                        Some(verdict) => apply(verdict, &mut content),
                        None => None,
                    }
                }
            };
            if let Some(reply) = reply {
                let content = answer(&mut exchange, reply);
                return Ok((exchange, Onward::Client { content, before }));
            }
        }
        Ok((exchange, Onward::Upstream(content)))
    }

    /// Run the response hooks of the first `count` plugins, in reverse order. The exchange has its response.
    pub(super) async fn on_response(
        &self,
        mut exchange: Box<Exchange>,
        mut content: Content,
        count: usize,
    ) -> Result<(Box<Exchange>, Content), Refusal> {
        for step in self.steps.iter().take(count).rev() {
            if !step.plugin.hooks().contains(Hook::OnResponse) {
                continue;
            }
            if step.is_out(&exchange, Hook::OnResponse)? {
                continue;
            }
            let (back, verdict) = step.plugin.on_response(exchange).await;
            exchange = back;
            let Some(verdict) = step.settle(&exchange, verdict)? else { continue };
            let reply = match verdict {
                Verdict::Forward => None,
                Verdict::Respond(reply) => Some(reply),
                Verdict::ReadBody => {
                    let body = match content.gather(step.plugin.limits().body).await {
                        Ok(body) => body,
                        Err(GatherError::TooLarge) => {
                            step.settle_too_large(&exchange)?;
                            continue;
                        }
                        Err(GatherError::Body(error)) => return Err(Refusal::ResponseBody(error)),
                    };
                    let (back, verdict) = step.plugin.on_response_body(exchange, body).await;
                    exchange = back;
                    match step.settle(&exchange, verdict)? {
                        Some(verdict) => apply(verdict, &mut content),
                        None => None,
                    }
                }
            };
            if let Some(reply) = reply {
                content = answer(&mut exchange, reply);
            }
        }
        Ok((exchange, content))
    }
}

/// What a body hook decided: a reply, or what becomes of the body.
fn apply(verdict: BodyVerdict, content: &mut Content) -> Option<Reply> {
    match verdict {
        BodyVerdict::Forward => None,
        BodyVerdict::Replace(body) => {
            *content = Content::Whole(body);
            None
        }
        BodyVerdict::Respond(reply) => Some(reply),
    }
}

/// A reply takes the response's place, if there was one.
fn answer(exchange: &mut Exchange, reply: Reply) -> Content {
    exchange.response = Some(reply.head);
    Content::Whole(reply.body)
}

impl Step {
    pub(super) fn new(seat: &Seat, on_failure: OnFailure) -> Self {
        Self { plugin: seat.plugin.clone(), on_failure, out: seat.out }
    }

    /// Whether the exchange goes on without this hook, because somebody has taken the plugin out.
    fn is_out(&self, exchange: &Exchange, hook: Hook) -> Result<bool, Refusal> {
        match self.out {
            None => Ok(false),
            Some(why) => self.settle::<()>(exchange, Err(self.plugin.refuse(hook, why))).map(|_| true),
        }
    }

    fn name(&self) -> Arc<str> {
        Arc::clone(self.plugin.name())
    }

    /// Log a failure, and decide what it means: the exchange ends, or (`None`) goes on as if the plugin were not there.
    fn settle<T>(&self, exchange: &Exchange, result: Result<T, CallError>) -> Result<Option<T>, Refusal> {
        let error = match result {
            Ok(verdict) => return Ok(Some(verdict)),
            Err(error) => error,
        };
        tracing::warn!(
            request_id = &*exchange.request.id,
            plugin = &*error.plugin,
            hook = error.hook.as_str(),
            outcome = error.cause.as_str(),
            limit = error.cause.limit(),
            on_failure = self.policy(),
            cause = %error.cause,
            "plugin failed"
        );
        match self.on_failure {
            OnFailure::Closed => Err(Refusal::Plugin(error)),
            OnFailure::Open => Ok(None),
        }
    }

    /// The same for a response that is longer than the plugin takes.
    fn settle_too_large(&self, exchange: &Exchange) -> Result<(), Refusal> {
        let limit = self.plugin.limits().body;
        tracing::warn!(
            request_id = &*exchange.request.id,
            plugin = &**self.plugin.name(),
            hook = Hook::OnResponseBody.as_str(),
            outcome = "too-large",
            limit = "body",
            on_failure = self.policy(),
            cause = format_args!("the response's body is longer than {limit} bytes"),
            "plugin failed"
        );
        match self.on_failure {
            OnFailure::Closed => Err(Refusal::ResponseTooLarge { plugin: self.name(), limit }),
            OnFailure::Open => Ok(()),
        }
    }

    fn policy(&self) -> &'static str {
        match self.on_failure {
            OnFailure::Closed => "closed",
            OnFailure::Open => "open",
        }
    }
}
