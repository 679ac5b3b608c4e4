//! The way of a request through the gateway: admission, route, request hooks, upstream, response hooks, answer. Read
//! [`Proxy::handle`], `Table::pass` and `Table::pass_plugins`, in that order. A [`Table`] is what one generation of the
//! configuration serves with.
//!
//! It knows no sockets of clients (see `server`) and no instances of plugins (see the runtime). Bodies stream by unless
//! a plugin asks for one. A request on a route without plugins costs nothing for their sake.

mod admission;
mod body;
mod chain;
mod connection;
mod content;
mod headers;
mod in_flight;
mod reply;
mod request_id;
mod routes;
mod table;
mod upstream;

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;
use tidegate_runtime::{Exchange, RequestHead, ResponseHead};

pub use self::body::Body;
pub use self::chain::Seat;
pub use self::connection::ConnectionInfo;
pub(crate) use self::connection::{Activity, Protocol, at};
pub use self::content::BodyError;
pub(crate) use self::reply::problem;
pub use self::table::{Drained, Table};

use self::chain::Onward;
use self::content::Content;
use self::headers::X_REQUEST_ID;
use self::in_flight::InFlight;
use self::reply::Refusal;
use self::request_id::RequestIds;
use self::routes::NoMatch;
use self::table::Way;
use self::upstream::{Lease, Upstream};
use crate::recorder::Asked;
use crate::stop::phase::{Phase, PhaseView};
use crate::telemetry::Telemetry;

/// Takes requests, and answers each of them.
pub struct Proxy {
    /// The generation that new exchanges begin with.
    table: ArcSwap<Table>,
    ids: RequestIds,
    phase: PhaseView,
    telemetry: Arc<Telemetry>,
}

/// A response before it is one.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    content: Content,
    lease: Option<Lease>,
}

impl Proxy {
    /// A proxy that begins with this table.
    #[must_use]
    pub fn new(table: Table, telemetry: Arc<Telemetry>, phase: PhaseView) -> Arc<Self> {
        Arc::new(Self { table: ArcSwap::from_pointee(table), ids: RequestIds::new(), phase, telemetry })
    }

    /// Begin new exchanges with this table. Those that have begun go on with theirs.
    pub fn install(&self, table: Table) {
        self.table.store(Arc::new(table));
    }

    /// The table that new exchanges begin with.
    #[must_use]
    pub fn table(&self) -> Arc<Table> {
        self.table.load_full()
    }

    /// Counters and logs of this proxy.
    pub(crate) fn telemetry(&self) -> &Arc<Telemetry> {
        &self.telemetry
    }

    /// Answer a request. Whatever goes wrong becomes a response. The exchange is in flight until the response's body
    /// has been handed over, or this future or the response is dropped.
    pub async fn handle(
        self: &Arc<Self>,
        connection: &Arc<ConnectionInfo>,
        request: Request<Incoming>,
    ) -> Response<Body> {
        let (head, body) = request.into_parts();
        let id = self.ids.of(&head.headers);
        let mut in_flight = InFlight::begin(&self.telemetry, connection, &id, &head);
        let (method, version) = (head.method.clone(), head.version);
        // One generation for the whole way, up to the last hook.
        let table = self.table();
        let content = Content::incoming(body, table.body_timeout);
        let answer = match table.pass(connection, &id, head, content, &mut in_flight).await {
            Ok(answer) => answer,
            Err(refusal) => {
                if let Some(failure) = refusal.upstream_failure() {
                    self.telemetry.metrics.exchanges.upstream_failed(failure);
                }
                in_flight.record_refusal(refusal.recorded());
                refusal.into_answer(&id)
            }
        };
        drop(table);
        self.respond(answer, id, &method, version, in_flight)
    }
}

impl Table {
    /// The way of a request that nothing happens to.
    async fn pass(
        &self,
        connection: &ConnectionInfo,
        id: &HeaderValue,
        mut head: http::request::Parts,
        content: Content,
        in_flight: &mut InFlight,
    ) -> Result<Answer, Refusal> {
        let target = admission::admit(&mut head, self.limits)?;
        let way = self.route(&head, &target, in_flight)?;
        if admission::is_last_stop(&mut head) {
            return Ok(Answer {
                status: StatusCode::OK,
                headers: HeaderMap::new(),
                content: Content::Empty,
                lease: None,
            });
        }
        headers::prepare_request(&mut head.headers, id, connection.forwarded_for(), head.version);
        let content = match in_flight.recorder() {
            None => content,
            Some(_) => self.record(way, id, &head, &target, content, in_flight),
        };
        if way.chain.len() == 0 {
            return self.forward(&way.upstream, head.method, target, head.headers, content, in_flight).await;
        }
        let exchange = Exchange::new(request_head(connection, id, head, target), Arc::clone(&self.upstream_names));
        // On the heap, so that the requests that go without plugins are not made to carry its state about.
        Box::pin(self.pass_plugins(way, exchange, content, in_flight)).await
    }

    /// The rest of the way on a route with plugins.
    async fn pass_plugins(
        &self,
        way: &Way,
        exchange: Box<Exchange>,
        content: Content,
        in_flight: &mut InFlight,
    ) -> Result<Answer, Refusal> {
        let (mut exchange, onward) = way.chain.on_request(exchange, content).await?;
        let (content, lease, hooks_left) = match onward {
            Onward::Client { content, before } => (content, None, before),
            Onward::Upstream(content) => {
                let upstream = match exchange.upstream.as_deref() {
                    Some(name) => self.upstreams.named(name).ok_or(Refusal::Internal("no such upstream"))?,
                    None => &way.upstream,
                };
                let request = &mut exchange.request;
                if let Content::Whole(body) = &content {
                    headers::reframe(&mut request.headers, body.len());
                }
                let fields =
                    if way.sees_responses { request.headers.clone() } else { std::mem::take(&mut request.headers) };
                let (method, target) = (request.method.clone(), request.target.clone());
                let answer = self.forward(upstream, method, target, fields, content, in_flight).await?;
                exchange.response = Some(ResponseHead { status: answer.status, headers: answer.headers });
                (answer.content, answer.lease, way.chain.len())
            }
        };
        let (exchange, content) = way.chain.on_response(exchange, content, hooks_left).await?;
        let response = exchange.response.ok_or(Refusal::Internal("the exchange lost its response"))?;
        Ok(Answer { status: response.status, headers: response.headers, content, lease })
    }

    /// Send a request to an upstream, and take its response as it is.
    async fn forward(
        &self,
        upstream: &Arc<Upstream>,
        method: Method,
        target: PathAndQuery,
        mut headers: HeaderMap,
        content: Content,
        in_flight: &mut InFlight,
    ) -> Result<Answer, Refusal> {
        let mut uri = http::uri::Parts::default();
        uri.path_and_query = Some(target);
        let (mut head, ()) = Request::new(()).into_parts();
        head.uri = Uri::from_parts(uri).map_err(|_| Refusal::Internal("the target is no URI"))?;
        head.method = method;
        headers::add_hop_by_hop(&mut headers, content.is_unsized());
        head.headers = headers;
        let (response, lease) = upstream.send(head, content).await?;
        let (mut head, body) = response.into_parts();
        headers::strip_hop_by_hop(&mut head.headers);
        let content = Content::incoming(body, self.body_timeout);
        let content = in_flight.record_upstream(head.status, &head.headers, content);
        Ok(Answer { status: head.status, headers: head.headers, content, lease: Some(lease) })
    }

    /// Begin to record the exchange, with the request as the first plugin is about to see it.
    fn record(
        &self,
        way: &Way,
        id: &HeaderValue,
        head: &http::request::Parts,
        target: &PathAndQuery,
        content: Content,
        in_flight: &mut InFlight,
    ) -> Content {
        let asked = Asked {
            id,
            method: &head.method,
            target,
            headers: &head.headers,
            plugins: &way.names,
            redaction: &self.redaction,
        };
        in_flight.record(&asked, content)
    }

    fn route(
        &self,
        head: &http::request::Parts,
        target: &PathAndQuery,
        in_flight: &mut InFlight,
    ) -> Result<&Way, Refusal> {
        let index =
            self.routes.find(admission::without_port(host(&head.headers)), target.path()).map_err(|why| match why {
                NoMatch::Unknown => Refusal::NoRoute,
                NoMatch::Ambiguous => Refusal::AmbiguousPath,
            })?;
        let way = self.ways.get(index).ok_or(Refusal::NoRoute)?;
        in_flight.routed(&way.counters);
        Ok(way)
    }
}

impl Proxy {
    /// Finish an answer: what every response carries, and the framing that its status and the method ask for.
    fn respond(
        &self,
        answer: Answer,
        id: HeaderValue,
        method: &Method,
        version: Version,
        mut in_flight: InFlight,
    ) -> Response<Body> {
        let Answer { status, mut headers, mut content, lease } = answer;
        if let Content::Whole(body) = &content {
            headers::reframe(&mut headers, body.len());
        }
        if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED | StatusCode::RESET_CONTENT) {
            content = Content::Empty;
            if status != StatusCode::NOT_MODIFIED {
                headers.remove(CONTENT_LENGTH);
            }
        } else if method == Method::HEAD {
            content = Content::Empty;
        }
        headers.insert(X_REQUEST_ID, id);
        if version < Version::HTTP_2 && self.phase.now() >= Phase::LameDuck {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        in_flight.answered(status, &headers);
        let mut response = Response::new(Body::new(content, lease, in_flight));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

/// The request as plugins see it.
fn request_head(
    connection: &ConnectionInfo,
    id: &HeaderValue,
    head: http::request::Parts,
    target: PathAndQuery,
) -> RequestHead {
    RequestHead {
        id: id.to_str().unwrap_or_default().into(),
        authority: host(&head.headers).into(),
        method: head.method,
        scheme: Scheme::HTTP,
        target,
        headers: head.headers,
        version: head.version,
        client: connection.peer(),
    }
}

/// The authority the client asked for, as admission has settled it; empty if there is none.
fn host(headers: &HeaderMap) -> &str {
    headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default()
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").field("table", &self.table.load()).finish_non_exhaustive()
    }
}
