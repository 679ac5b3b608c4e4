//! The admin listener: health for orchestrators, metrics for Prometheus. It stays up until the process is done, so that
//! readiness can say "no" during a drain.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{Method, StatusCode};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::proxy::problem;
use crate::server::{BindError, bind};
use crate::stop::phase::{Phase, PhaseView};
use crate::telemetry::Telemetry;

/// What the encoder of the metrics writes.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the handlers look at.
#[derive(Debug, Clone)]
struct AdminState {
    telemetry: Arc<Telemetry>,
    phase: PhaseView,
}

/// A bound admin listener.
#[derive(Debug)]
pub struct Admin {
    socket: TcpListener,
    address: SocketAddr,
    state: AdminState,
}

impl Admin {
    /// Bind the address. Call it inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// The address cannot be bound.
    pub fn bind(address: SocketAddr, telemetry: Arc<Telemetry>, phase: PhaseView) -> Result<Self, BindError> {
        let socket = bind(address)?;
        let address = socket.local_addr().map_err(|error| BindError { address, error })?;
        Ok(Self { socket, address, state: AdminState { telemetry, phase } })
    }

    /// The bound address, port filled in.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answer until [`AdminServing::stop`], whatever the phase.
    #[must_use]
    pub fn start(self) -> AdminServing {
        let stopped = CancellationToken::new();
        let tasks = TaskTracker::new();
        let token = stopped.clone();
        tasks.spawn(async move {
            let serve = axum::serve(self.socket, router(self.state)).into_future();
            if let Some(Err(error)) = token.run_until_cancelled(serve).await {
                tracing::error!(%error, "the admin listener failed");
            }
        });
        tasks.close();
        AdminServing { stopped, tasks }
    }
}

/// An admin listener at work. Dropping it leaves it running.
#[derive(Debug)]
pub struct AdminServing {
    stopped: CancellationToken,
    tasks: TaskTracker,
}

impl AdminServing {
    /// Stop answering.
    pub async fn stop(&self) {
        self.stopped.cancel();
        self.tasks.wait().await;
    }
}

fn router(state: AdminState) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        .with_state(state)
}

/// The process runs, or nobody would answer.
async fn livez() -> Response {
    plain(StatusCode::OK, "ok\n".to_owned())
}

/// Whether to send requests here.
async fn readyz(State(state): State<AdminState>) -> Response {
    let phase = state.phase.now();
    let status = if phase == Phase::Ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    plain(status, format!("{phase}\n"))
}

async fn metrics(State(state): State<AdminState>) -> Response {
    ([(CONTENT_TYPE, OPENMETRICS)], state.telemetry.scrape()).into_response()
}

async fn not_found() -> Response {
    refuse(StatusCode::NOT_FOUND, "The admin API has no such path.")
}

async fn method_not_allowed(method: Method) -> Response {
    let mut response = refuse(StatusCode::METHOD_NOT_ALLOWED, &format!("{method} does nothing here."));
    response.headers_mut().insert(ALLOW, http::HeaderValue::from_static("GET, HEAD"));
    response
}

fn plain(status: StatusCode, text: String) -> Response {
    // A cached answer about health is a wrong one.
    (status, [(CONTENT_TYPE, "text/plain; charset=utf-8"), (CACHE_CONTROL, "no-store")], text).into_response()
}

fn refuse(status: StatusCode, detail: &str) -> Response {
    (status, [(CONTENT_TYPE, "application/problem+json")], problem(status, detail, None)).into_response()
}
