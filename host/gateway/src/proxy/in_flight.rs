//! An exchange while it is in flight, as a guard: however it ends, it is counted once and logged once.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use tidegate_testing::recording::{BodyEnd, Refused};
use tokio::time::Instant;

use super::connection::{Activity, ConnectionInfo};
use super::content::{BodyError, Content};
use crate::recorder::{Asked, Draft, Recorder};
use crate::telemetry::Telemetry;
use crate::telemetry::access::{Ending, Line};
use crate::telemetry::metrics::RouteCounters;

/// The status under which exchanges are counted that had none when the client went away or was cut off. Nobody sees
/// it on the wire; the number is nginx's.
const NO_STATUS: u16 = 499;

/// Counts an exchange as in flight until it is dropped.
#[derive(Debug)]
pub(super) struct InFlight {
    telemetry: Arc<Telemetry>,
    connection: Arc<ConnectionInfo>,
    id: HeaderValue,
    began: Instant,
    route: Option<Arc<RouteCounters>>,
    status: u16,
    sent: u64,
    ending: Ending,
    /// What the access log needs of the request; `None` if there is no access log.
    request: Option<Box<Logged>>,
    /// What is recorded of it; `None` if nothing is.
    draft: Option<Box<Draft>>,
}

#[derive(Debug)]
struct Logged {
    method: Method,
    target: String,
    host: Option<HeaderValue>,
    version: Version,
}

impl InFlight {
    pub(super) fn begin(
        telemetry: &Arc<Telemetry>,
        connection: &Arc<ConnectionInfo>,
        id: &HeaderValue,
        request: &http::request::Parts,
    ) -> Self {
        telemetry.metrics.exchanges.began();
        connection.activity().began();
        let request = telemetry.access.is_some().then(|| {
            Box::new(Logged {
                method: request.method.clone(),
                target: request.uri.path_and_query().map_or_else(String::new, |target| target.as_str().to_owned()),
                host: request.headers.get(http::header::HOST).cloned(),
                version: request.version,
            })
        });
        Self {
            telemetry: Arc::clone(telemetry),
            connection: Arc::clone(connection),
            id: id.clone(),
            began: Instant::now(),
            route: None,
            status: NO_STATUS,
            sent: 0,
            ending: Ending::ClientGone,
            request,
            draft: None,
        }
    }

    /// Who records exchanges, if anybody does.
    pub(super) fn recorder(&self) -> Option<&Arc<Recorder>> {
        self.telemetry.recorder.as_ref()
    }

    /// Begin to record it. Returns the request's body, which is recorded as it streams by.
    pub(super) fn record(&mut self, asked: &Asked<'_>, content: Content) -> Content {
        let Some(recorder) = &self.telemetry.recorder else { return content };
        let draft = self.draft.insert(Draft::begin(recorder, asked));
        content.tapped(draft.request_tap())
    }

    /// The upstream has answered. Returns its body, which is recorded as it streams by.
    pub(super) fn record_upstream(&mut self, status: StatusCode, headers: &HeaderMap, content: Content) -> Content {
        match &mut self.draft {
            Some(draft) => content.tapped(draft.upstream(status, headers)),
            None => content,
        }
    }

    /// The gateway answers itself.
    pub(super) fn record_refusal(&mut self, why: Refused) {
        if let Some(draft) = &mut self.draft {
            draft.refused(why);
        }
    }

    /// The request has found its route.
    pub(super) fn routed(&mut self, route: &Arc<RouteCounters>) {
        self.route = Some(Arc::clone(route));
    }

    /// The response's head is ready.
    pub(super) fn answered(&mut self, status: StatusCode, headers: &HeaderMap) {
        self.status = status.as_u16();
        if let Some(draft) = &mut self.draft {
            draft.answer(status, headers);
        }
    }

    /// A piece of the response's body has been handed over.
    pub(super) fn sent(&mut self, piece: &Bytes) {
        self.sent += piece.len() as u64;
        if let Some(draft) = &self.draft {
            draft.sent(piece);
        }
    }

    /// The response's body broke off on the upstream's side.
    pub(super) fn broke(&mut self, error: &BodyError) {
        self.ending = Ending::UpstreamBroke;
        self.telemetry.metrics.exchanges.upstream_failed(error.upstream_failure());
        tracing::warn!(request_id = ?self.id, error = %error, "the upstream's response broke off, so the client's was");
    }

    /// The response has been handed over completely.
    pub(super) fn complete(&mut self) {
        self.ending = Ending::Complete;
    }

    pub(super) fn activity(&self) -> &Activity {
        self.connection.activity()
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let took = self.began.elapsed();
        if let Some(draft) = self.draft.take() {
            draft.over(match self.ending {
                Ending::Complete => BodyEnd::Reached,
                Ending::ClientGone | Ending::UpstreamBroke => BodyEnd::NotReached,
            });
        }
        self.connection.activity().ended();
        self.telemetry.metrics.exchanges.ended(self.route.as_deref(), self.status, took, self.ending);
        if let (Some(access), Some(request)) = (&self.telemetry.access, &self.request) {
            access.write(&Line {
                id: self.id.as_bytes(),
                client: self.connection.peer(),
                method: request.method.as_str(),
                host: request.host.as_ref().map_or(b"", HeaderValue::as_bytes),
                target: &request.target,
                version: request.version,
                status: self.status,
                sent: self.sent,
                took,
                ending: self.ending,
            });
        }
    }
}
