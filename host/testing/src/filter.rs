//! The way of an exchange: the plugin, the upstream, and the plugin again, as the gateway's chain has it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::{PathAndQuery, Scheme};
use http::{StatusCode, Version, header};
use tidegate_runtime::environment::Clock;
use tidegate_runtime::{
    BodyVerdict, CallError, Exchange, Hook, Plugin, Reply as PluginReply, RequestHead, ResponseHead, UpstreamNames,
    Verdict,
};

use crate::clock::{Shared, VirtualClock};
use crate::exchange::{Answer, By, Request, Response};
use crate::world::Reply;

/// What happens to an exchange whose plugin fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnFailure {
    /// It is answered with 503.
    Closed,
    /// It goes on.
    Open,
}

/// What the upstream answers.
pub(crate) type UpstreamScript = Arc<dyn Fn(&Request) -> Reply + Send + Sync>;

/// A chain of one plugin between clients and an upstream.
#[derive(Clone)]
pub(crate) struct Filter {
    pub(crate) plugin: Plugin,
    on_failure: OnFailure,
    upstream: UpstreamScript,
    upstreams: UpstreamNames,
    clock: Shared,
}

/// The id of an exchange, as a gateway hands it on.
const X_REQUEST_ID: http::HeaderName = http::HeaderName::from_static("x-request-id");

/// How long an upstream is waited for that never answers.
const UPSTREAM_TIMEOUT: Duration = Duration::from_secs(30);

/// Why the exchange does not go on.
enum Ended {
    Replied(Hook, Box<PluginReply>),
    Failed(CallError),
}

impl Filter {
    pub(crate) fn new(
        plugin: Plugin,
        on_failure: OnFailure,
        upstream: UpstreamScript,
        upstreams: &[String],
        clock: Arc<VirtualClock>,
    ) -> Self {
        let upstreams = upstreams.iter().map(|name| Arc::from(name.as_str())).collect();
        Self { plugin, on_failure, upstream, upstreams, clock: Shared(clock) }
    }

    /// A request, from the client to the client.
    pub(crate) async fn exchange(self, number: u64, request: Request) -> Answer {
        let began = self.clock.now();
        let mut under_way = UnderWay { failures: Vec::new(), forwarded: None };
        let mut exchange = Exchange::new(head(number, &request), Arc::clone(&self.upstreams));
        let result;
        (exchange, result) = self.way(exchange, request.body, &mut under_way).await;
        let (head, body, by) = match result {
            Ok(answer) => answer,
            Err(Ended::Replied(hook, reply)) => (reply.head, reply.body, By::Plugin(hook)),
            Err(Ended::Failed(error)) => {
                let head = ResponseHead { status: StatusCode::SERVICE_UNAVAILABLE, headers: http::HeaderMap::new() };
                (head, Bytes::new(), By::Failure(error))
            }
        };
        let notes = exchange.notes(self.plugin.name());
        Answer {
            status: head.status,
            headers: head.headers,
            body,
            by,
            forwarded: under_way.forwarded,
            upstream: exchange.upstream.as_deref().map(str::to_owned),
            notes,
            failures: under_way.failures,
            calls: Vec::new(),
            took: self.clock.now().since(began),
        }
    }

    async fn way(
        &self,
        mut exchange: Box<Exchange>,
        body: Bytes,
        under_way: &mut UnderWay,
    ) -> (Box<Exchange>, Result<(ResponseHead, Bytes, By), Ended>) {
        let result;
        (exchange, result) = self.request(exchange, body, under_way).await;
        let body = match result {
            Ok(body) => body,
            Err(ended) => return (exchange, Err(ended)),
        };
        let RequestHead { method, target, headers, .. } = exchange.request.clone();
        let request = Request { method, target: target.to_string(), headers, body };
        let response = self.ask_upstream(&request).await;
        under_way.forwarded = Some(request);
        exchange.response = Some(ResponseHead { status: response.status, headers: response.headers });
        let result;
        (exchange, result) = self.response(exchange, response.body, under_way).await;
        let result = result.map(|body| {
            let head = exchange.response.clone();
            let none = || ResponseHead { status: StatusCode::OK, headers: http::HeaderMap::new() };
            (head.unwrap_or_else(none), body, By::Upstream)
        });
        (exchange, result)
    }

    async fn request(
        &self,
        exchange: Box<Exchange>,
        body: Bytes,
        under_way: &mut UnderWay,
    ) -> (Box<Exchange>, Result<Bytes, Ended>) {
        if !self.plugin.hooks().contains(Hook::OnRequest) {
            return (exchange, Ok(body));
        }
        let (exchange, verdict) = self.plugin.on_request(exchange).await;
        match self.head_verdict(Hook::OnRequest, verdict, under_way) {
            Ok(Next::Forward) => return (exchange, Ok(body)),
            Ok(Next::ReadBody) => {}
            Err(ended) => return (exchange, Err(ended)),
        }
        if body.len() > self.plugin.limits().body {
            return (exchange, Err(too_large(Hook::OnRequestBody, StatusCode::PAYLOAD_TOO_LARGE)));
        }
        let (mut exchange, verdict) = self.plugin.on_request_body(exchange, body.clone()).await;
        let verdict = self.body_verdict(Hook::OnRequestBody, verdict, body, under_way);
        if let Ok(body) = &verdict {
            measure(&mut exchange.request.headers, body);
        }
        (exchange, verdict)
    }

    async fn response(
        &self,
        exchange: Box<Exchange>,
        body: Bytes,
        under_way: &mut UnderWay,
    ) -> (Box<Exchange>, Result<Bytes, Ended>) {
        if !self.plugin.hooks().contains(Hook::OnResponse) {
            return (exchange, Ok(body));
        }
        let (exchange, verdict) = self.plugin.on_response(exchange).await;
        match self.head_verdict(Hook::OnResponse, verdict, under_way) {
            Ok(Next::Forward) => return (exchange, Ok(body)),
            Ok(Next::ReadBody) => {}
            Err(ended) => return (exchange, Err(ended)),
        }
        if body.len() > self.plugin.limits().body {
            return match self.on_failure {
                OnFailure::Closed => (exchange, Err(too_large(Hook::OnResponseBody, StatusCode::SERVICE_UNAVAILABLE))),
                OnFailure::Open => (exchange, Ok(body)),
            };
        }
        let (mut exchange, verdict) = self.plugin.on_response_body(exchange, body.clone()).await;
        let verdict = self.body_verdict(Hook::OnResponseBody, verdict, body, under_way);
        if let (Ok(body), Some(response)) = (&verdict, &mut exchange.response) {
            measure(&mut response.headers, body);
        }
        (exchange, verdict)
    }

    fn head_verdict(
        &self,
        hook: Hook,
        verdict: Result<Verdict, CallError>,
        under_way: &mut UnderWay,
    ) -> Result<Next, Ended> {
        match verdict {
            Ok(Verdict::Forward) => Ok(Next::Forward),
            Ok(Verdict::ReadBody) => Ok(Next::ReadBody),
            Ok(Verdict::Respond(reply)) => Err(Ended::Replied(hook, Box::new(reply))),
            Err(error) => self.failed(error, under_way).map(|()| Next::Forward),
        }
    }

    fn body_verdict(
        &self,
        hook: Hook,
        verdict: Result<BodyVerdict, CallError>,
        body: Bytes,
        under_way: &mut UnderWay,
    ) -> Result<Bytes, Ended> {
        match verdict {
            Ok(BodyVerdict::Forward) => Ok(body),
            Ok(BodyVerdict::Replace(body)) => Ok(body),
            Ok(BodyVerdict::Respond(reply)) => Err(Ended::Replied(hook, Box::new(reply))),
            Err(error) => self.failed(error, under_way).map(|()| body),
        }
    }

    fn failed(&self, error: CallError, under_way: &mut UnderWay) -> Result<(), Ended> {
        under_way.failures.push(error.clone());
        match self.on_failure {
            OnFailure::Open => Ok(()),
            OnFailure::Closed => Err(Ended::Failed(error)),
        }
    }

    async fn ask_upstream(&self, request: &Request) -> Response {
        match (self.upstream)(request) {
            Reply::Now(response) => response,
            Reply::After(after, response) if after <= UPSTREAM_TIMEOUT => {
                self.clock.sleep_until(self.clock.now() + after).await;
                response
            }
            Reply::After(..) | Reply::Never => {
                self.clock.sleep_until(self.clock.now() + UPSTREAM_TIMEOUT).await;
                Response::new(504)
            }
            Reply::Fails(_) => Response::new(502),
        }
    }
}

enum Next {
    Forward,
    ReadBody,
}

struct UnderWay {
    failures: Vec<CallError>,
    forwarded: Option<Request>,
}

/// A body is longer than the plugin takes: the gateway answers before the hook is called.
fn too_large(hook: Hook, status: StatusCode) -> Ended {
    let head = ResponseHead { status, headers: http::HeaderMap::new() };
    Ended::Replied(hook, Box::new(PluginReply { head, body: Bytes::new() }))
}

/// A message whose body was read whole says how long it is.
fn measure(headers: &mut http::HeaderMap, body: &Bytes) {
    headers.remove(header::TRANSFER_ENCODING);
    headers.insert(header::CONTENT_LENGTH, body.len().into());
}

fn head(number: u64, request: &Request) -> RequestHead {
    let target = PathAndQuery::try_from(request.target.as_str());
    let field = |name: http::HeaderName| request.headers.get(name).and_then(|value| value.to_str().ok());
    RequestHead {
        // Recorded requests have both.
        id: field(X_REQUEST_ID).map_or_else(|| format!("request-{number}").into(), Into::into),
        method: request.method.clone(),
        scheme: Scheme::HTTP,
        authority: field(header::HOST).unwrap_or("gateway.test").into(),
        target: target.unwrap_or_else(|error| panic!("{:?} is no path and query: {error}", request.target)),
        headers: request.headers.clone(),
        version: Version::HTTP_11,
        // An address for documentation: RFC 5737.
        client: ([192, 0, 2, 1], 50_000).into(),
    }
}
