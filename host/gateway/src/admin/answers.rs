//! The shape of every answer: JSON, or a problem document (RFC 9457).

use axum::extract::rejection::PathRejection;
use axum::response::{IntoResponse, Response};
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, StatusCode, Uri};
use serde::Serialize;

use crate::control::ControlError;
use crate::proxy::problem;

/// What is wrong with a request, or with what it asked for.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    detail: String,
    hint: Option<String>,
    /// One text for each thing that is wrong, if there can be several.
    problems: Vec<String>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), hint: None, problems: Vec::new() }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<PathRejection> for Problem {
    fn from(refused: PathRejection) -> Self {
        Self::new(StatusCode::BAD_REQUEST, refused.body_text())
    }
}

impl From<ControlError> for Problem {
    fn from(error: ControlError) -> Self {
        let status = match &error {
            ControlError::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            ControlError::Unknown { .. } => StatusCode::NOT_FOUND,
            // The request is fine; the state of the files, the ports or the plugin is not.
            ControlError::Config(_)
            | ControlError::Plugins(_)
            | ControlError::Bind(_)
            | ControlError::Engine(_)
            | ControlError::Revive(_) => StatusCode::CONFLICT,
        };
        let problems = match &error {
            ControlError::Config(diagnostics) => diagnostics.to_string().split("\n\n").map(str::to_owned).collect(),
            ControlError::Plugins(problems) => problems.iter().map(ToString::to_string).collect(),
            _ => Vec::new(),
        };
        let detail = match &error {
            ControlError::Config(_) => "The config file cannot be used; nothing has changed.".to_owned(),
            ControlError::Plugins(_) => "Not every plugin can be loaded; nothing has changed.".to_owned(),
            error => error.to_string(),
        };
        Self { status, detail, hint: error.hint(), problems }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut document = problem(self.status, &self.detail);
        if let Some(hint) = self.hint {
            document.insert("hint".to_owned(), hint.into());
        }
        if !self.problems.is_empty() {
            document.insert("problems".to_owned(), self.problems.into());
        }
        let mut response = (
            self.status,
            [(CONTENT_TYPE, "application/problem+json"), (CACHE_CONTROL, "no-store")],
            serde_json::Value::Object(document).to_string() + "\n",
        )
            .into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"tidegate\""));
        }
        response
    }
}

/// JSON for scripts, readable for people.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_string_pretty(value) {
        Ok(text) => {
            let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
            (status, headers, text + "\n").into_response()
        }
        Err(error) => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

pub(super) async fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "The admin API has no such path.")
}

pub(super) async fn method_not_allowed(method: Method, uri: Uri) -> Response {
    let allowed = match uri.path() {
        "/v1/shutdown" => "GET, HEAD, POST",
        "/v1/reload" => "POST",
        // The longer paths below plugins are what is done to one of them.
        path if path.starts_with("/v1/plugins/") && path.matches('/').count() > 3 => "POST",
        _ => "GET, HEAD",
    };
    let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("{method} does nothing here."));
    let mut response = problem.hint(format!("allowed: {allowed}")).into_response();
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}
