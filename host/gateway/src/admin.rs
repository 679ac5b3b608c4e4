//! The admin listener: health for orchestrators, metrics for Prometheus. It stays up until the process is done, so that
//! readiness can say "no" during a drain.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{Method, StatusCode};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::proxy::problem;
use crate::server::BindError;
use crate::stop::phase::{Phase, PhaseView};
use crate::supervisor::sockets::InheritedSockets;
use crate::telemetry::Telemetry;

/// How long a connection may be without a request, a half-sent one included.
const IDLE: Duration = Duration::from_secs(60);

/// Connections at a time: an orchestrator, a scraper, and a person or two.
const MAX_CONNECTIONS: usize = 64;

/// After an accept that failed.
const PAUSE: Duration = Duration::from_millis(100);

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
    /// Listen on the address, on one of `sockets` if it has it. Call it inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// The address cannot be bound.
    pub fn bind(
        address: SocketAddr,
        telemetry: Arc<Telemetry>,
        phase: PhaseView,
        sockets: &mut InheritedSockets,
    ) -> Result<Self, BindError> {
        // Nothing is done at its end that would trouble another holder.
        let (socket, _holder) = sockets.listen(address)?;
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
        tasks.spawn(accept(self.socket, router(self.state), tasks.clone(), stopped.clone()));
        tasks.close();
        AdminServing { stopped, tasks }
    }
}

/// axum's own loop would leave connections behind when it ends, and lets them be idle for ever.
async fn accept(socket: TcpListener, router: Router, tasks: TaskTracker, stopped: CancellationToken) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(IDLE);
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let serve = async {
        loop {
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
            match socket.accept().await {
                Ok((stream, _peer)) => {
                    let service = TowerToHyperService::new(router.clone());
                    let connection = http.serve_connection(TokioIo::new(stream), service);
                    let stopped = stopped.clone();
                    tasks.spawn(async move {
                        // What becomes of a scrape is the scraper's business.
                        let _ = stopped.run_until_cancelled(connection).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept admin connections");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    };
    let _ = stopped.run_until_cancelled(serve).await;
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
