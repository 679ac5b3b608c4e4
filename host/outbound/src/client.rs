//! The requests of one plugin: whether they may be made, how they are made, and what is told of them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::header::HOST;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, Version};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use ipnet::IpNet;
use tidegate_runtime::outbound::{Body, Caller, Outbound, OutboundError, Timeouts};
use tokio::sync::Semaphore;

use crate::body::Received;
use crate::connect::{Connection, Connector};
use crate::denials::Denials;
use crate::failure;
use crate::names::LOOKUPS;
use crate::origin::{Granted, Target};
use crate::pool::Pool;
use crate::record::Record;
use crate::settings::Limits;
use crate::stats::{Outcome, Stats};

/// Bytes of a method; those that are registered have 17 at most.
const LONGEST_METHOD: usize = 64;

/// Makes the requests of one plugin, with connections of its own.
#[derive(Clone)]
pub struct PluginClient {
    shared: Arc<Shared>,
}

struct Shared {
    plugin: Arc<str>,
    granted: Vec<Granted>,
    connector: Arc<Connector>,
    limits: Limits,
    pool: Arc<Pool>,
    lookups: Arc<Semaphore>,
    stats: Arc<Stats>,
    denials: Denials,
}

impl std::fmt::Debug for PluginClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PluginClient").field("granted", &self.shared.granted).finish_non_exhaustive()
    }
}

impl PluginClient {
    pub(crate) fn new(
        plugin: Arc<str>,
        granted: Vec<Granted>,
        connector: Arc<Connector>,
        limits: Limits,
        stats: Arc<Stats>,
    ) -> Self {
        let pool = Pool::new(limits.max_connections);
        let (lookups, denials) = (Arc::new(Semaphore::new(LOOKUPS)), Denials::default());
        Self { shared: Arc::new(Shared { plugin, granted, connector, limits, pool, lookups, stats, denials }) }
    }
}

impl Outbound for PluginClient {
    fn send(
        &self,
        request: Request<Body>,
        caller: Caller,
        timeouts: Timeouts,
    ) -> BoxFuture<'static, Result<Response<Body>, OutboundError>> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move { shared.send(request, caller, timeouts).await })
    }

    fn requests_per_call(&self) -> usize {
        self.shared.limits.max_requests
    }
}

impl Shared {
    async fn send(
        self: Arc<Self>,
        request: Request<Body>,
        caller: Caller,
        timeouts: Timeouts,
    ) -> Result<Response<Body>, OutboundError> {
        let mut record = Record::begin(self.plugin.clone(), self.stats.clone(), request.method().clone(), caller);
        match self.attempt(request, &mut record, timeouts).await {
            Ok((answer, connection, target)) => {
                let (pool, limits) = (Arc::clone(&self.pool), &self.limits);
                let between = timeouts.between_bytes;
                record.status = Some(answer.status().as_u16());
                Ok(answer.map(|incoming| {
                    let limit = limits.max_response as u64;
                    Received::new(incoming, connection, pool, target, record, limit, between).boxed_unsync()
                }))
            }
            Err(error) => {
                self.tell(&error, &record);
                record.error = Some(error.to_string());
                record.end(Outcome::of(&error));
                Err(error)
            }
        }
    }

    async fn attempt(
        &self,
        request: Request<Body>,
        record: &mut Record,
        timeouts: Timeouts,
    ) -> Result<(Response<Incoming>, Connection, Target), OutboundError> {
        let (request, target) = prepare(request)?;
        record.target = Some(target.clone());
        let ranges = self.granted(&target).ok_or(OutboundError::Denied)?;
        let limit = self.limits.connect_timeout.min(timeouts.connect.unwrap_or(Duration::MAX));
        let mut request = request;
        loop {
            let (mut connection, is_fresh) = match self.pool.take(&target) {
                Some(connection) => (connection, false),
                None => {
                    let place = self.pool.place()?;
                    (self.connector.connect(&target, &ranges, &self.lookups, place, limit).await?, true)
                }
            };
            let sending = connection.sender.try_send_request(request);
            let sent = match timeouts.first_byte {
                Some(limit) => {
                    tokio::time::timeout(limit, sending).await.map_err(|_| OutboundError::ResponseTimeout)?
                }
                None => sending.await,
            };
            match sent {
                Ok(answer) => {
                    // The buffer that bounds a head while it comes doubles, so that it ends at twice the limit.
                    if head_size(answer.headers()) > self.limits.max_response_headers {
                        return Err(failure::head_too_large(self.limits.max_response_headers));
                    }
                    return Ok((answer, connection, target));
                }
                Err(mut error) => match error.take_message() {
                    // The server closed a connection that had been idle before anything was sent on it.
                    Some(unsent) if !is_fresh => request = unsent,
                    _ => return Err(failure::of_head(error.error(), self.limits.max_response_headers)),
                },
            }
        }
    }

    /// The ranges beyond public addresses that the target may be in, if it has been granted at all.
    fn granted(&self, target: &Target) -> Option<Vec<IpNet>> {
        let mut covering = self.granted.iter().filter(|granted| granted.origin.covers(target)).peekable();
        covering.peek()?;
        Some(covering.flat_map(|granted| granted.addresses.iter().copied()).collect())
    }

    /// What has to change in the configuration, for the operator; not more often than somebody can read it.
    fn tell(&self, error: &OutboundError, record: &Record) {
        let Some(target) = &record.target else { return };
        let key = match error {
            OutboundError::Denied => format!("http = [\"{target}\"]"),
            OutboundError::AddressProhibited => {
                format!("http = [{{ origin = \"{target}\", addresses = [\"its address\"] }}]")
            }
            _ => return,
        };
        let Some(left_out) = self.denials.may_tell() else { return };
        let hook = record.caller.hook.map_or("", |hook| hook.as_str());
        let request = record.caller.request_id.as_deref().unwrap_or("");
        tracing::warn!(
            plugin = &*self.plugin, hook, request, %target, left_out,
            "request refused: {error}; it would be allowed by `{key}` under [plugin.grants]"
        );
    }
}

/// Bytes of these fields as they come over the wire: a name, a colon, a space, a value and the end of the line.
fn head_size(fields: &HeaderMap) -> usize {
    fields.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum()
}

/// The request as it goes on the wire, and to where.
fn prepare(request: Request<Body>) -> Result<(Request<Body>, Target), OutboundError> {
    let (mut head, body) = request.into_parts();
    if head.method == Method::CONNECT || head.method.as_str().len() > LONGEST_METHOD {
        return Err(OutboundError::Method);
    }
    let target = Target::of(&head.uri).ok_or(OutboundError::Uri("it has no host that there can be"))?;
    let path = head.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let host = HeaderValue::try_from(target.authority());
    head.headers.insert(HOST, host.map_err(|_| OutboundError::Uri("its host cannot be put in a field"))?);
    head.uri = Uri::from(path);
    head.version = Version::HTTP_11;
    Ok((Request::from_parts(head, body), target))
}
