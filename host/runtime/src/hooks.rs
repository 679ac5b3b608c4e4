//! The hooks as calls: which export, which parameters, and what is checked in what comes back.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use wasmtime::Store;
use wasmtime::component::{ComponentExportIndex, Func, Instance, Resource, TypedFunc};

use crate::bindings::http as contract;
use crate::bindings::{RequestHandle, ResponseHandle};
use crate::contract::{Hook, Hooks};
use crate::exchange::{self, BadReply, BodyVerdict, Reply, Verdict};
use crate::host::Guest;

type Request = Resource<RequestHandle>;
type Response = Resource<ResponseHandle>;

/// Parameters and results, as wasmtime checks them against a component's types.
pub(crate) mod signature {
    use super::{Request, Response, contract};

    pub(crate) type Configure<'a> = (&'a str,);
    pub(crate) type OnRequest = (Request,);
    pub(crate) type OnRequestBody<'a> = (Request, &'a [u8]);
    pub(crate) type OnResponse = (Request, Response);
    pub(crate) type OnResponseBody<'a> = (Request, Response, &'a [u8]);
    pub(crate) type OnDeferred<'a> = (&'a [u8],);
    pub(crate) type OnTick = ();
    pub(crate) type Shutdown = (u64,);

    pub(crate) type Done = (Result<(), String>,);
    pub(crate) type Head = (Result<contract::Verdict, String>,);
    pub(crate) type Body = (Result<contract::BodyVerdict, String>,);
}
use signature::{Body, Done, Head};

/// Where the hooks are in a component's exports.
#[derive(Clone, Default)]
pub(crate) struct Exports([Option<ComponentExportIndex>; Hook::ALL.len()]);

impl Exports {
    pub(crate) fn insert(&mut self, hook: Hook, index: ComponentExportIndex) {
        if let Some(slot) = self.0.get_mut(hook as usize) {
            *slot = Some(index);
        }
    }

    fn index(&self, hook: Hook) -> Option<&ComponentExportIndex> {
        self.0.get(hook as usize)?.as_ref()
    }

    /// Which hooks there are.
    pub(crate) fn hooks(&self) -> Hooks {
        let mut hooks = Hooks::default();
        for hook in Hook::ALL {
            if self.index(hook).is_some() {
                hooks.insert(hook);
            }
        }
        hooks
    }
}

/// The hooks of one instance. Heads are typed once; a body's type borrows it and is checked per call.
pub(crate) struct Functions {
    hooks: Hooks,
    on_request: Option<TypedFunc<signature::OnRequest, Head>>,
    on_response: Option<TypedFunc<signature::OnResponse, Head>>,
    on_request_body: Option<Func>,
    on_response_body: Option<Func>,
    configure: Option<Func>,
    on_deferred: Option<Func>,
    on_tick: Option<Func>,
    shutdown: Option<Func>,
}

impl Functions {
    pub(crate) fn find(store: &mut Store<Guest>, instance: &Instance, exports: &Exports) -> wasmtime::Result<Self> {
        let mut function = |hook| exports.index(hook).and_then(|index| instance.get_func(&mut *store, index));
        let (on_request, on_response) = (function(Hook::OnRequest), function(Hook::OnResponse));
        let (on_request_body, on_response_body) = (function(Hook::OnRequestBody), function(Hook::OnResponseBody));
        let (on_deferred, on_tick) = (function(Hook::OnDeferred), function(Hook::OnTick));
        let (configure, shutdown) = (function(Hook::Configure), function(Hook::Shutdown));
        Ok(Self {
            hooks: exports.hooks(),
            on_request: on_request.map(|function| function.typed(&*store)).transpose()?,
            on_response: on_response.map(|function| function.typed(&*store)).transpose()?,
            on_request_body,
            on_response_body,
            configure,
            on_deferred,
            on_tick,
            shutdown,
        })
    }

    pub(crate) fn hooks(&self) -> Hooks {
        self.hooks
    }
}

/// What a guest returned: ok, or its error text.
type Returned<T> = Result<T, String>;

/// One call of a hook.
pub(crate) trait Call: Send + 'static {
    /// The hook.
    const HOOK: Hook;
    /// What the caller gets.
    type Output: Send + 'static;
    /// What the guest returns.
    type Raw: Send + 'static;

    /// Call the guest.
    fn run(
        self,
        store: &mut Store<Guest>,
        functions: &Functions,
    ) -> impl Future<Output = wasmtime::Result<Returned<Self::Raw>>> + Send;

    /// What the caller gets from a plugin that lacks the hook.
    fn skipped() -> Self::Output;

    /// Check what it returned.
    fn check(raw: Self::Raw, hooks: Hooks, body_limit: usize) -> Result<Self::Output, BadReply>;
}

/// The proxy asks before it calls, and the stop protocol too.
fn absent(hook: Hook) -> wasmtime::Error {
    wasmtime::Error::msg(format!("the plugin has no `{hook}`"))
}

// The handles carry nothing (see `RequestHandle`), so any number does.
fn request() -> Request {
    Resource::new_borrow(0)
}

fn response() -> Response {
    Resource::new_borrow(0)
}

/// `configure`, with the plugin's config.
pub(crate) struct Configure(pub(crate) Arc<str>);

impl Call for Configure {
    const HOOK: Hook = Hook::Configure;
    type Output = ();
    type Raw = ();

    async fn run(self, store: &mut Store<Guest>, functions: &Functions) -> wasmtime::Result<Returned<()>> {
        let function = functions.configure.ok_or_else(|| absent(Self::HOOK))?;
        let function = function.typed::<signature::Configure<'_>, Done>(&*store)?;
        Ok(function.call_async(store, (&*self.0,)).await?.0)
    }

    fn skipped() {}

    fn check((): (), _: Hooks, _: usize) -> Result<(), BadReply> {
        Ok(())
    }
}

/// `shutdown`, with the milliseconds it has.
pub(crate) struct Shutdown(pub(crate) u64);

impl Call for Shutdown {
    const HOOK: Hook = Hook::Shutdown;
    type Output = ();
    type Raw = ();

    async fn run(self, store: &mut Store<Guest>, functions: &Functions) -> wasmtime::Result<Returned<()>> {
        let function = functions.shutdown.ok_or_else(|| absent(Self::HOOK))?;
        let function = function.typed::<signature::Shutdown, Done>(&*store)?;
        Ok(function.call_async(store, (self.0,)).await?.0)
    }

    fn skipped() {}

    fn check((): (), _: Hooks, _: usize) -> Result<(), BadReply> {
        Ok(())
    }
}

/// `on-deferred`, with a payload.
pub(crate) struct OnDeferred(pub(crate) Vec<u8>);

impl Call for OnDeferred {
    const HOOK: Hook = Hook::OnDeferred;
    type Output = ();
    type Raw = ();

    async fn run(self, store: &mut Store<Guest>, functions: &Functions) -> wasmtime::Result<Returned<()>> {
        let function = functions.on_deferred.ok_or_else(|| absent(Self::HOOK))?;
        let function = function.typed::<signature::OnDeferred<'_>, Done>(&*store)?;
        Ok(function.call_async(store, (&*self.0,)).await?.0)
    }

    fn skipped() {}

    fn check((): (), _: Hooks, _: usize) -> Result<(), BadReply> {
        Ok(())
    }
}

/// `on-tick`.
pub(crate) struct OnTick;

impl Call for OnTick {
    const HOOK: Hook = Hook::OnTick;
    type Output = ();
    type Raw = ();

    async fn run(self, store: &mut Store<Guest>, functions: &Functions) -> wasmtime::Result<Returned<()>> {
        let function = functions.on_tick.ok_or_else(|| absent(Self::HOOK))?;
        let function = function.typed::<signature::OnTick, Done>(&*store)?;
        Ok(function.call_async(store, ()).await?.0)
    }

    fn skipped() {}

    fn check((): (), _: Hooks, _: usize) -> Result<(), BadReply> {
        Ok(())
    }
}

/// `on-request`.
pub(crate) struct OnRequest;

impl Call for OnRequest {
    const HOOK: Hook = Hook::OnRequest;
    type Output = Verdict;
    type Raw = contract::Verdict;

    async fn run(self, store: &mut Store<Guest>, functions: &Functions) -> wasmtime::Result<Returned<Self::Raw>> {
        let function = functions.on_request.as_ref().ok_or_else(|| absent(Self::HOOK))?;
        Ok(function.call_async(store, (request(),)).await?.0)
    }

    fn skipped() -> Verdict {
        Verdict::Forward
    }

    fn check(raw: Self::Raw, hooks: Hooks, body_limit: usize) -> Result<Verdict, BadReply> {
        verdict(raw, hooks, Hook::OnRequestBody, body_limit)
    }
}

/// `on-response`.
pub(crate) struct OnResponse;

impl Call for OnResponse {
    const HOOK: Hook = Hook::OnResponse;
    type Output = Verdict;
    type Raw = contract::Verdict;

    async fn run(self, store: &mut Store<Guest>, functions: &Functions) -> wasmtime::Result<Returned<Self::Raw>> {
        let function = functions.on_response.as_ref().ok_or_else(|| absent(Self::HOOK))?;
        Ok(function.call_async(store, (request(), response())).await?.0)
    }

    fn skipped() -> Verdict {
        Verdict::Forward
    }

    fn check(raw: Self::Raw, hooks: Hooks, body_limit: usize) -> Result<Verdict, BadReply> {
        verdict(raw, hooks, Hook::OnResponseBody, body_limit)
    }
}

/// `on-request-body`, with the body.
pub(crate) struct OnRequestBody(pub(crate) Bytes);

impl Call for OnRequestBody {
    const HOOK: Hook = Hook::OnRequestBody;
    type Output = BodyVerdict;
    type Raw = contract::BodyVerdict;

    async fn run(self, store: &mut Store<Guest>, functions: &Functions) -> wasmtime::Result<Returned<Self::Raw>> {
        let function = functions.on_request_body.ok_or_else(|| absent(Self::HOOK))?;
        let function = function.typed::<signature::OnRequestBody<'_>, Body>(&*store)?;
        Ok(function.call_async(store, (request(), &*self.0)).await?.0)
    }

    fn skipped() -> BodyVerdict {
        BodyVerdict::Forward
    }

    fn check(raw: Self::Raw, _: Hooks, body_limit: usize) -> Result<BodyVerdict, BadReply> {
        body_verdict(raw, body_limit)
    }
}

/// `on-response-body`, with the body.
pub(crate) struct OnResponseBody(pub(crate) Bytes);

impl Call for OnResponseBody {
    const HOOK: Hook = Hook::OnResponseBody;
    type Output = BodyVerdict;
    type Raw = contract::BodyVerdict;

    async fn run(self, store: &mut Store<Guest>, functions: &Functions) -> wasmtime::Result<Returned<Self::Raw>> {
        let function = functions.on_response_body.ok_or_else(|| absent(Self::HOOK))?;
        let function = function.typed::<signature::OnResponseBody<'_>, Body>(&*store)?;
        Ok(function.call_async(store, (request(), response(), &*self.0)).await?.0)
    }

    fn skipped() -> BodyVerdict {
        BodyVerdict::Forward
    }

    fn check(raw: Self::Raw, _: Hooks, body_limit: usize) -> Result<BodyVerdict, BadReply> {
        body_verdict(raw, body_limit)
    }
}

fn verdict(raw: contract::Verdict, hooks: Hooks, body_hook: Hook, body_limit: usize) -> Result<Verdict, BadReply> {
    match raw {
        contract::Verdict::Forward => Ok(Verdict::Forward),
        contract::Verdict::Respond(reply) => Ok(Verdict::Respond(Reply::parse(reply, body_limit)?)),
        contract::Verdict::ReadBody if hooks.contains(body_hook) => Ok(Verdict::ReadBody),
        contract::Verdict::ReadBody => Err(BadReply::NoBodyHook(body_hook)),
    }
}

fn body_verdict(raw: contract::BodyVerdict, body_limit: usize) -> Result<BodyVerdict, BadReply> {
    match raw {
        contract::BodyVerdict::Forward => Ok(BodyVerdict::Forward),
        contract::BodyVerdict::Replace(body) => Ok(BodyVerdict::Replace(exchange::body(body, body_limit)?)),
        contract::BodyVerdict::Respond(reply) => Ok(BodyVerdict::Respond(Reply::parse(reply, body_limit)?)),
    }
}
