//! The changes that can be asked for: reload, disable, enable, quarantine, shutdown.

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::AdminState;
use super::answers::{Problem, json};
use crate::control::{Reloaded, Switched};
use crate::stop::phase::Phase;

/// What can follow the question mark.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Options {
    /// Answer once nothing is left of what was replaced, rather than as soon as it serves nothing any more.
    #[serde(default)]
    wait: bool,
}

/// As axum hands out what follows the question mark.
type Asked = Result<Query<Options>, QueryRejection>;

fn options(asked: Asked) -> Result<Options, Problem> {
    match asked {
        Ok(Query(options)) => Ok(options),
        Err(refused) => {
            Err(Problem::new(StatusCode::BAD_REQUEST, refused.body_text()).hint("there is `wait=true` or nothing"))
        }
    }
}

#[derive(Debug, Serialize)]
struct ReloadAnswer {
    generation: u64,
    kept: Vec<String>,
    started: Vec<String>,
    stopped: Vec<String>,
    needs_restart: Vec<&'static str>,
    complete: bool,
}

pub(super) async fn reload(State(state): State<AdminState>, asked: Asked) -> Result<Response, Problem> {
    let (options, control) = (options(asked)?, state.control.clone());
    let Reloaded { generation, kept, started, stopped, needs_restart, retirement } =
        state.control.carry_through(async move { control.reload("admin").await }).await?;
    if options.wait {
        retirement.complete().await;
    }
    let texts = |names: Vec<std::sync::Arc<str>>| names.iter().map(ToString::to_string).collect();
    let answer = ReloadAnswer {
        generation,
        kept: texts(kept),
        started: texts(started),
        stopped: texts(stopped),
        needs_restart,
        complete: options.wait,
    };
    Ok(json(StatusCode::OK, &answer))
}

#[derive(Debug, Serialize)]
struct SwitchAnswer {
    name: String,
    state: &'static str,
    changed: bool,
    generation: u64,
    complete: bool,
}

pub(super) async fn switch(
    State(state): State<AdminState>,
    path: Result<Path<(String, String)>, PathRejection>,
    asked: Asked,
) -> Result<Response, Problem> {
    let Path((name, deed)) = path?;
    let options = options(asked)?;
    let (control, plugin) = (state.control.clone(), name.clone());
    let switched = match deed.as_str() {
        "disable" => state.control.carry_through(async move { control.disable(&plugin).await }).await,
        "enable" => state.control.carry_through(async move { control.enable(&plugin).await }).await,
        "quarantine" => state.control.carry_through(async move { control.quarantine(&plugin).await }).await,
        _ => {
            let problem = Problem::new(StatusCode::NOT_FOUND, "The admin API has no such path.");
            return Err(problem.hint("a plugin can be told to disable, enable or quarantine"));
        }
    };
    let Switched { standing, generation, changed, retirement } = switched?;
    if options.wait {
        retirement.complete().await;
    }
    let answer = SwitchAnswer { name, state: standing.as_str(), changed, generation, complete: options.wait };
    Ok(json(StatusCode::OK, &answer))
}

/// Stop the process, as SIGTERM would.
pub(super) async fn shut_down(State(state): State<AdminState>, asked: Asked) -> Result<Response, Problem> {
    if options(asked)?.wait {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "The process ends with its stop: nobody could answer then.")
            .hint("GET /v1/shutdown shows how it goes"));
    }
    if state.phase.now() != Phase::Ready {
        return Err(Problem::new(StatusCode::CONFLICT, "The gateway is stopping already.")
            .hint("GET /v1/shutdown shows how it goes; a signal ends it at once"));
    }
    state.asked_to_stop.notify_one();
    Ok(json(StatusCode::ACCEPTED, &serde_json::json!({ "state": "stopping" })))
}

/// The report so far.
pub(super) async fn shutdown_so_far(State(state): State<AdminState>) -> Response {
    match state.ongoing.report() {
        Some(report) => json(StatusCode::OK, &report),
        None => Problem::new(StatusCode::NOT_FOUND, "No shutdown has begun.")
            .hint("POST /v1/shutdown or SIGTERM begins one")
            .into_response(),
    }
}
