//! `wasi:http/outgoing-handler`: requests that the guest makes, through whatever [`Outbound`] it has been granted.
//!
//! A request belongs to the call that makes it. When the call ends, however it ends, what is still under way is given up:
//! the instance may live on, and a handle that it has kept is of no use to its next call. No request begins after the
//! call's deadline, and no further piece of a request's body is sent then.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_http::p2::bindings::LinkOptions;
use wasmtime_wasi_http::p2::bindings::http::outgoing_handler;
use wasmtime_wasi_http::p2::bindings::http::types::{self, ErrorCode, IoError};
use wasmtime_wasi_http::p2::types::{HostFutureIncomingResponse, HostOutgoingRequest};
use wasmtime_wasi_http::p2::{HttpError, HttpResult};
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttp, WasiHttpCtx,
    WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

use crate::host::Guest;
use crate::meter::Meter;
use crate::outbound::{Body, Caller, Outbound, OutboundError, Timeouts};

/// The interfaces as the library links them. A component built for another 0.2 finds them as well.
const TYPES: &str = "wasi:http/types@0.2.12";
const HANDLER: &str = "wasi:http/outgoing-handler@0.2.12";

/// Bytes of a set of header fields that a guest puts together, with what the host keeps for each.
const MAX_FIELDS: usize = 64 << 10;

/// Bytes of a request's body that a guest hands over at a time; the host holds two such pieces at most.
const BODY_CHUNK: usize = 64 << 10;

/// Fields of the exchange that go on to the requests a plugin makes for it, unless it sets its own.
const TRACE: [HeaderName; 2] = [HeaderName::from_static("traceparent"), HeaderName::from_static("tracestate")];

/// Names the exchange in the logs of all who have to do with it.
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Beyond those that the library keeps to the host: they are about one connection (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [HeaderName; 2] = [header::TE, header::TRAILER];

/// What one store needs to make requests.
pub(crate) struct Requests {
    ctx: WasiHttpCtx,
    hooks: Hooks,
}

struct Hooks {
    outbound: Option<Arc<dyn Outbound>>,
    meter: Arc<Meter>,
    /// Those of the current call. Most calls make none, and pay nothing.
    under_way: Option<Arc<UnderWay>>,
    /// On whose behalf the next one is made, and what it carries on.
    caller: Caller,
    carried: HeaderMap,
}

/// The requests of one call.
struct UnderWay {
    over: CancellationToken,
    places: Arc<Semaphore>,
    /// The bodies of answers that the guest has not let go of.
    bodies: Mutex<Vec<Weak<Lent>>>,
}

/// The body of an answer, as long as the call lasts.
struct Lent(Mutex<State>);

enum State {
    /// The guest may read it.
    Lent { body: Body, _place: OwnedSemaphorePermit },
    /// It has been read to its end, or broke off.
    Done,
    /// The call is over.
    TakenBack,
}

impl Requests {
    pub(crate) fn new(outbound: Option<Arc<dyn Outbound>>, meter: Arc<Meter>) -> Self {
        let mut ctx = WasiHttpCtx::new();
        ctx.set_field_size_limit(MAX_FIELDS);
        let hooks = Hooks { outbound, meter, under_way: None, caller: Caller::default(), carried: HeaderMap::new() };
        Self { ctx, hooks }
    }

    /// The call has ended: give up what is still under way.
    pub(crate) fn end_call(&mut self) {
        if let Some(under_way) = self.hooks.under_way.take() {
            under_way.end();
        }
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.end_call();
    }
}

impl UnderWay {
    fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            over: CancellationToken::new(),
            places: Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))),
            bodies: Mutex::default(),
        })
    }

    // Nothing panics while it is held, and the list is sound between any two steps.
    fn bodies(&self) -> MutexGuard<'_, Vec<Weak<Lent>>> {
        self.bodies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hand a body to the guest, until the call ends.
    fn lend(&self, body: Body, place: OwnedSemaphorePermit) -> Arc<Lent> {
        let lent = Arc::new(Lent(Mutex::new(State::Lent { body, _place: place })));
        let mut bodies = self.bodies();
        if self.over.is_cancelled() {
            lent.take_back();
        } else {
            // Only what is under way is kept, and that is bounded.
            bodies.retain(|lent| lent.strong_count() > 0);
            bodies.push(Arc::downgrade(&lent));
        }
        lent
    }

    fn end(&self) {
        // First, so that a body which is lent from here on finds it so.
        self.over.cancel();
        let bodies = std::mem::take(&mut *self.bodies());
        for lent in bodies.iter().filter_map(Weak::upgrade) {
            lent.take_back();
        }
    }
}

impl Lent {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_back(&self) {
        // Dropped outside of the lock.
        let former = std::mem::replace(&mut *self.state(), State::TakenBack);
        drop(former);
    }
}

/// What the guest reads.
struct LentBody(Arc<Lent>);

impl http_body::Body for LentBody {
    type Data = Bytes;
    type Error = OutboundError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, OutboundError>>> {
        let mut state = self.0.state();
        let polled = match &mut *state {
            State::Lent { body, .. } => Pin::new(body).poll_frame(cx),
            State::Done => Poll::Ready(None),
            State::TakenBack => Poll::Ready(Some(Err(OutboundError::CallOver))),
        };
        if let (State::Lent { .. }, Poll::Ready(None | Some(Err(_)))) = (&*state, &polled) {
            // Its place is free, whether the guest lets go of the handle or not.
            *state = State::Done;
        }
        polled
    }
}

/// What the guest sends, up to the end of its call.
struct Fenced {
    body: WasiBody,
    meter: Arc<Meter>,
    over: CancellationToken,
}

impl http_body::Body for Fenced {
    type Data = Bytes;
    type Error = OutboundError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, OutboundError>>> {
        if self.over.is_cancelled() || self.meter.is_over() {
            return Poll::Ready(Some(Err(OutboundError::CallOver)));
        }
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        polled.map(|frame| frame.map(|frame| frame.map_err(|_| OutboundError::RequestIncomplete)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

impl Hooks {
    /// Make a request within the current call.
    fn begin(
        &mut self,
        mut request: http::Request<WasiBody>,
        timeouts: Timeouts,
    ) -> Result<BoxFuture<'static, Result<http::Response<Body>, OutboundError>>, OutboundError> {
        let outbound = self.outbound.clone().ok_or(OutboundError::Denied)?;
        let under_way = self.under_way.get_or_insert_with(|| UnderWay::new(outbound.requests_per_call()));
        let under_way = Arc::clone(under_way);
        let place = Arc::clone(&under_way.places).try_acquire_owned().map_err(|_| OutboundError::Limit)?;
        // A plugin that has a trace of its own has all of it.
        let (has_trace, has_id) =
            (request.headers().contains_key(&TRACE[0]), request.headers().contains_key(&X_REQUEST_ID));
        for (name, value) in &self.carried {
            let has_own = if name == X_REQUEST_ID { has_id } else { has_trace };
            if !has_own {
                request.headers_mut().append(name, value.clone());
            }
        }
        let (meter, over) = (Arc::clone(&self.meter), under_way.over.clone());
        let request = request.map(|body| Fenced { body, meter: Arc::clone(&meter), over }.boxed_unsync());
        let caller = self.caller.clone();
        Ok(Box::pin(async move {
            // It was asked for in time; by the time that it is polled the call may be over.
            let sending = async {
                if meter.is_over() {
                    Err(OutboundError::CallOver)
                } else {
                    outbound.send(request, caller, timeouts).await
                }
            };
            let answer = under_way.over.run_until_cancelled(sending).await;
            let answer = answer.unwrap_or(Err(OutboundError::CallOver))?;
            Ok(answer.map(|body| LentBody(under_way.lend(body, place)).boxed_unsync()))
        }))
    }
}

/// What the library asks for: the answer, and what goes on beside it.
type Sent = Result<(http::Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>), Error>;

impl WasiHttpHooks for Hooks {
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        is_forbidden(name)
    }

    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::new(is_forbidden)
    }

    /// Whoever makes the request knows the host in its plain form.
    fn set_host_header(&mut self) -> bool {
        false
    }

    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let options = options.unwrap_or_default();
        let timeouts = Timeouts {
            connect: options.connect_timeout,
            first_byte: options.first_byte_timeout,
            between_bytes: options.between_bytes_timeout,
        };
        let begun = self.begin(request, timeouts);
        Box::new(async move {
            let answer = match begun {
                Ok(sending) => sending.await.map_err(code)?,
                Err(error) => return Err(code(error)),
            };
            let answer: http::Response<UnsyncBoxBody<Bytes, Error>> =
                answer.map(|body| body.map_err(code).boxed_unsync());
            let nothing: Box<dyn Future<Output = Result<(), Error>> + Send> = Box::new(async { Ok(()) });
            Ok((answer, nothing))
        })
    }

    fn p2_outgoing_body_buffer_chunks(&mut self) -> usize {
        1
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_CHUNK
    }
}

fn is_forbidden(name: &HeaderName) -> bool {
    DEFAULT_FORBIDDEN_HEADERS.contains(name) || HOP_BY_HOP.contains(name)
}

/// What `wasi:http` calls it.
fn code(error: OutboundError) -> Error {
    match error {
        OutboundError::Denied => Error::HttpRequestDenied,
        OutboundError::AddressProhibited => Error::DestinationIpProhibited,
        OutboundError::Uri(_) => Error::HttpRequestUriInvalid,
        OutboundError::Method => Error::HttpRequestMethodInvalid,
        OutboundError::Limit => Error::ConnectionLimitReached,
        OutboundError::Dns(why) => Error::DnsError { rcode: Some(why), info_code: None },
        OutboundError::ConnectionRefused => Error::ConnectionRefused,
        OutboundError::ConnectionTimeout => Error::ConnectionTimeout,
        OutboundError::Unreachable(_) => Error::DestinationUnavailable,
        OutboundError::ConnectionTerminated | OutboundError::CallOver => Error::ConnectionTerminated,
        OutboundError::Certificate(_) => Error::TlsCertificateError,
        OutboundError::TlsAlert { id, message } => {
            Error::TlsAlertReceived { alert_id: Some(id), alert_message: Some(message) }
        }
        OutboundError::Tls(_) => Error::TlsProtocolError,
        OutboundError::ResponseTimeout => Error::HttpResponseTimeout,
        OutboundError::ReadTimeout => Error::ConnectionReadTimeout,
        OutboundError::ResponseHead(limit) => Error::HttpResponseHeaderSectionSize(Some(limit)),
        OutboundError::ResponseBody(limit) => Error::HttpResponseBodySize(Some(limit)),
        OutboundError::ResponseIncomplete => Error::HttpResponseIncomplete,
        OutboundError::RequestIncomplete | OutboundError::Protocol(_) => Error::HttpProtocolError,
        OutboundError::Other(what) => Error::InternalError(Some(what)),
    }
}

/// What an error in the body of an answer is to the guest. These are the ones that [`code`] makes of those that a body ends
/// with.
fn body_code(error: &Error) -> Option<ErrorCode> {
    match error {
        Error::HttpResponseBodySize(limit) => Some(ErrorCode::HttpResponseBodySize(*limit)),
        Error::ConnectionReadTimeout => Some(ErrorCode::ConnectionReadTimeout),
        Error::HttpResponseIncomplete => Some(ErrorCode::HttpResponseIncomplete),
        Error::HttpProtocolError => Some(ErrorCode::HttpProtocolError),
        Error::ConnectionTerminated => Some(ErrorCode::ConnectionTerminated),
        _ => None,
    }
}

/// Link `wasi:http`.
pub(super) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    types::add_to_linker::<Guest, WasiHttp>(linker, &LinkOptions::default().into(), Guest::http)?;
    // The library's own knows an error of a body's stream only if it is an `ErrorCode`, and makes none of them.
    linker.allow_shadowing(true);
    linker.instance(TYPES)?.func_wrap(
        "http-error-code",
        |store: StoreContextMut<'_, Guest>, (error,): (Resource<IoError>,)| {
            Ok((store.data().table.get(&error)?.downcast_ref::<Error>().and_then(body_code),))
        },
    )?;
    linker.allow_shadowing(false);
    // Not the library's own, which has no fence.
    linker.instance(HANDLER)?.func_wrap(
        "handle",
        |mut store: StoreContextMut<'_, Guest>, (request, options): (Resource<HostOutgoingRequest>, Options)| {
            let begun = store.data_mut().request(request, options);
            Ok((begun.map_or_else(|error| error.downcast().map(Err), |begun| Ok(Ok(begun)))?,))
        },
    )
}

/// What a guest may say about how long it waits.
type Options = Option<Resource<RequestOptions>>;

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let Requests { ctx, hooks } = &mut self.requests;
        WasiHttpCtxView { hooks, table: &mut self.table, ctx }
    }
}

impl Guest {
    /// `handle`, with a fence before it.
    fn request(
        &mut self,
        request: Resource<HostOutgoingRequest>,
        options: Options,
    ) -> HttpResult<Resource<HostFutureIncomingResponse>> {
        self.meter.fence().map_err(HttpError::trap)?;
        let asked = self.table.get_mut(&request)?;
        // The library would log this once per request, and a plugin could fill the log with it.
        if asked.authority.as_ref().is_none_or(|authority| authority.is_empty() || authority.contains('@')) {
            self.table.delete(request)?;
            return Err(ErrorCode::HttpRequestUriInvalid.into());
        }
        asked.path_with_query.get_or_insert_with(|| "/".to_owned());
        let exchange = &self.exchange.request;
        let mut carried = HeaderMap::new();
        for name in TRACE {
            for value in exchange.headers.get_all(&name) {
                carried.append(name.clone(), value.clone());
            }
        }
        if !exchange.id.is_empty()
            && let Ok(id) = HeaderValue::from_str(&exchange.id)
        {
            carried.insert(X_REQUEST_ID, id);
        }
        self.requests.hooks.carried = carried;
        self.requests.hooks.caller = self.log.caller();
        outgoing_handler::Host::handle(&mut self.http(), request, options)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    fn lend(under_way: &UnderWay) -> LentBody {
        let body = Full::new(Bytes::from_static(b"body")).map_err(|never| match never {}).boxed_unsync();
        let place = Arc::clone(&under_way.places).try_acquire_owned().expect("there is one");
        LentBody(under_way.lend(body, place))
    }

    #[tokio::test]
    async fn a_body_that_has_been_read_frees_its_place_though_its_handle_is_kept() {
        let under_way = UnderWay::new(1);
        let mut kept = lend(&under_way);
        while kept.frame().await.transpose().expect("read").is_some() {}
        let _another = lend(&under_way);
        assert!(kept.frame().await.is_none());
    }

    #[tokio::test]
    async fn the_end_of_a_call_takes_back_what_is_lent_and_what_would_be() {
        let under_way = UnderWay::new(2);
        let mut kept = lend(&under_way);
        under_way.end();
        assert_eq!(under_way.places.available_permits(), 2);
        let mut too_late = lend(&under_way);
        for body in [&mut kept, &mut too_late] {
            assert_eq!(body.frame().await.map(|frame| frame.err()), Some(Some(OutboundError::CallOver)));
        }
        assert_eq!(under_way.places.available_permits(), 2);
    }

    #[test]
    fn what_is_over_is_not_kept_in_the_list() {
        let under_way = UnderWay::new(1);
        for _ in 0..100 {
            drop(lend(&under_way));
        }
        assert!(under_way.bodies().len() <= 1);
    }
}
