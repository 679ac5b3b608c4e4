//! The admin listener: health for orchestrators, metrics for Prometheus, and the control of what serves. It stays up until
//! the process is done, so that readiness can say "no" during a drain and the stop can be watched.
//!
//! | module | owns |
//! |---|---|
//! | `access` | who may ask: the token, and requests that a web page sends behind its reader's back |
//! | `answers` | the shape of every answer: JSON, or a problem document (RFC 9457) |
//! | `control` | the changes: reload, disable, enable, quarantine, shutdown |
//! | `outbox` | what is shown of the outbox |
//! | `plugins` | what is shown of plugins |
//! | `page` | the page for people |

mod access;
mod answers;
mod control;
mod outbox;
mod page;
mod plugins;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use axum::Router;
use axum::extract::State;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tidegate_outbox::Outbox;
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Token;
use crate::control::Control;
use crate::server::BindError;
use crate::stop::Ongoing;
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
pub struct AdminState {
    /// Counters.
    pub telemetry: Arc<Telemetry>,
    /// The phase of the process.
    pub phase: PhaseView,
    /// Changes what serves.
    pub control: Control,
    /// The shutdown that goes on, if one does.
    pub ongoing: Arc<Ongoing>,
    /// Told when somebody asks the process to stop.
    pub asked_to_stop: Arc<Notify>,
    /// The outbox, if there is one.
    pub outbox: Option<Arc<Outbox>>,
    /// What requests have to carry; nothing, if there is none.
    pub tokens: Arc<ArcSwapOption<Token>>,
}

/// A bound admin listener.
#[derive(Debug)]
pub struct Admin {
    socket: TcpListener,
    address: SocketAddr,
}

impl Admin {
    /// Listen on the address, on one of `sockets` if it has it. Call it inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// The address cannot be bound.
    pub fn bind(address: SocketAddr, sockets: &mut InheritedSockets) -> Result<Self, BindError> {
        // Nothing is done at its end that would trouble another holder.
        let (socket, _holder) = sockets.listen(address)?;
        let address = socket.local_addr().map_err(|error| BindError { address, error })?;
        Ok(Self { socket, address })
    }

    /// The bound address, port filled in.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answer until [`AdminServing::stop`], whatever the phase.
    #[must_use]
    pub fn start(self, state: AdminState) -> AdminServing {
        if !self.address.ip().is_loopback() && state.tokens.load().is_none() {
            tracing::warn!(
                address = %self.address,
                hint = "set `token_file` under [admin], or listen on 127.0.0.1",
                "whoever reaches the admin listener can stop the gateway and its plugins"
            );
        }
        let stopped = CancellationToken::new();
        let tasks = TaskTracker::new();
        tasks.spawn(accept(self.socket, router(state), tasks.clone(), stopped.clone()));
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
    let guarded = Router::new()
        .route("/metrics", get(metrics))
        .route("/v1/outbox", get(outbox::show))
        .route("/v1/plugins", get(plugins::all))
        .route("/v1/plugins/{name}", get(plugins::one))
        .route("/v1/plugins/{name}/{deed}", post(control::switch))
        .route("/v1/reload", post(control::reload))
        .route("/v1/shutdown", get(control::shutdown_so_far).post(control::shut_down))
        .layer(middleware::from_fn_with_state(state.clone(), access::guard));
    // Health is for probes that carry no secrets, and the page for people has none: it asks for its data like anyone.
    Router::new()
        .route("/", get(page::page))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .merge(guarded)
        .method_not_allowed_fallback(answers::method_not_allowed)
        .fallback(answers::not_found)
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

fn plain(status: StatusCode, text: String) -> Response {
    // A cached answer about health is a wrong one.
    (status, [(CONTENT_TYPE, "text/plain; charset=utf-8"), (CACHE_CONTROL, "no-store")], text).into_response()
}
