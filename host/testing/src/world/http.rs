//! Servers that the plugin may ask: each answers as the test says, after as long as it says.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt as _, Full};
use tidegate_runtime::environment::Clock;
use tidegate_runtime::outbound::{Body, Caller, Outbound, OutboundError, Timeouts};

use super::Failures;
use crate::exchange::{Request, Response};

/// Requests that one call may have under way; as in the gateway.
const PER_CALL: usize = 16;

/// What a server does with a request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// It answers.
    Now(Response),
    /// It answers after so much virtual time.
    After(Duration, Response),
    /// It cannot be asked, or breaks off.
    Fails(OutboundError),
    /// It never answers.
    Never,
}

impl From<Response> for Reply {
    fn from(response: Response) -> Self {
        Self::Now(response)
    }
}

/// A request that the plugin has made.
#[derive(Debug, Clone)]
pub struct Asked {
    /// `https://api.example.com`, for instance.
    pub origin: String,
    /// The rest of it.
    pub request: Request,
}

type Script = Box<dyn Fn(&Asked) -> Reply + Send + Sync>;
/// Whether the plugin may ask an origin.
pub(crate) type Reachable = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// All of them.
pub(crate) struct Servers {
    reachable: Reachable,
    script: Script,
    clock: Arc<dyn Clock>,
    asked: Arc<Mutex<Vec<Asked>>>,
    /// With what had come of their bodies.
    broken_off: Mutex<Vec<Asked>>,
    pub(crate) failures: Failures<OutboundError>,
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Servers").field("asked", &self.asked).finish_non_exhaustive()
    }
}

impl Servers {
    pub(crate) fn new(reachable: Reachable, script: Script, clock: Arc<dyn Clock>) -> Self {
        let broken_off = Mutex::default();
        Self { reachable, script, clock, asked: Arc::default(), broken_off, failures: Failures::default() }
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn broken_off(&self) -> Vec<Asked> {
        self.broken_off.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What becomes of a request whose body is whole.
    fn answer(&self, asked: Asked) -> Reply {
        let reply = match self.failures.next() {
            Some(error) => Reply::Fails(error),
            None if (self.reachable)(&asked.origin) => (self.script)(&asked),
            None => Reply::Fails(OutboundError::Denied),
        };
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
        reply
    }
}

/// A request whose body is on its way: if it never is whole, it was broken off.
struct Coming<'s> {
    servers: &'s Servers,
    asked: Option<Asked>,
    body: BytesMut,
}

impl Coming<'_> {
    async fn whole(mut self, mut body: Body) -> Result<Asked, OutboundError> {
        while let Some(frame) = body.frame().await {
            self.body.extend(frame?.into_data());
        }
        self.take().ok_or(OutboundError::ConnectionTerminated)
    }

    /// With what has come of its body; once.
    fn take(&mut self) -> Option<Asked> {
        let mut asked = self.asked.take()?;
        asked.request.body = self.body.split().freeze();
        Some(asked)
    }
}

impl Drop for Coming<'_> {
    fn drop(&mut self) {
        if let Some(asked) = self.take() {
            self.servers.broken_off.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
        }
    }
}

/// The servers, as a plugin reaches them.
#[derive(Debug, Clone)]
pub(crate) struct Reach(pub(crate) Arc<Servers>);

impl Outbound for Reach {
    fn send(
        &self,
        request: http::Request<Body>,
        _: Caller,
        timeouts: Timeouts,
    ) -> BoxFuture<'static, Result<http::Response<Body>, OutboundError>> {
        let servers = Arc::clone(&self.0);
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let (scheme, authority) = (head.uri.scheme_str().unwrap_or("http"), head.uri.authority());
            let origin = format!("{scheme}://{}", authority.map_or("", |authority| authority.as_str()));
            let target = head.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
            let request = Request { method: head.method, target, headers: head.headers, body: Bytes::new() };
            let asked = Asked { origin, request };
            let asked = Coming { servers: &servers, asked: Some(asked), body: BytesMut::new() }.whole(body).await?;
            let clock = Arc::clone(&servers.clock);
            let longest = timeouts.first_byte.unwrap_or(Duration::MAX);
            let response = match servers.answer(asked) {
                Reply::Now(response) => response,
                Reply::Fails(error) => return Err(error),
                Reply::After(after, response) if after <= longest => {
                    clock.sleep_until(clock.now() + after).await;
                    response
                }
                Reply::After(..) | Reply::Never => {
                    clock.sleep_until(clock.now() + longest).await;
                    return Err(OutboundError::ResponseTimeout);
                }
            };
            let body = Full::<Bytes>::new(response.body).map_err(|never| match never {}).boxed_unsync();
            let mut answer = http::Response::new(body);
            *answer.status_mut() = response.status;
            *answer.headers_mut() = response.headers;
            Ok(answer)
        })
    }

    fn requests_per_call(&self) -> usize {
        PER_CALL
    }
}
