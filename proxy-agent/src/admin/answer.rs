//! Paths of the admin server and what each answers.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use serde::Serialize;

use super::{ExplainQuery, Views};

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Paths that the TCP address answers too.
const HEALTH_PATHS: &[&str] = &["/metrics", "/healthz", "/readyz"];
/// Paths that only the Unix socket answers.
const STATE_PATHS: &[&str] = &[
    "/status",
    "/status/pods",
    "/status/services",
    "/status/routes",
    "/status/endpoints",
    "/status/bpf",
    "/explain?from=NAMESPACE/POD&method=METHOD&url=URL[&header=NAME:VALUE]...",
];

/// What a listener may tell.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Scope {
    /// Metrics and health alone: anyone who can reach the address may ask.
    Health,
    /// The state too: whoever may open the socket.
    Everything,
}

type Answer = Response<Full<Bytes>>;

/// Answers one request. What it asks of the agent may block, so that runs beside the runtime.
pub(super) async fn answer(
    request: Request<Incoming>,
    scope: Scope,
    views: Arc<Views>,
) -> Result<Answer, Infallible> {
    if request.method() != Method::GET {
        let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned());
        refusal
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET"));
        return Ok(refusal);
    }
    let url = request.into_parts().0.uri;
    let task = tokio::task::spawn_blocking(move || {
        dispatch(url.path(), url.query().unwrap_or_default(), scope, &views)
    });
    Ok(task.await.unwrap_or_else(|error| {
        tracing::error!(%error, "an admin request could not be answered");
        let reason = "the agent failed to answer; see its log\n".to_owned();
        text(StatusCode::INTERNAL_SERVER_ERROR, reason)
    }))
}

fn dispatch(path: &str, query: &str, scope: Scope, views: &Views) -> Answer {
    match path {
        "/metrics" => match (views.metrics)() {
            Ok(page) => with_type(StatusCode::OK, OPEN_METRICS, page),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        },
        "/healthz" => text(StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => readiness(&(views.ready)()),
        _ if scope == Scope::Health => not_found(HEALTH_PATHS, &[]),
        "/status" => json(&(views.status)()),
        "/status/pods" => json(&(views.status)().pods),
        "/status/services" => json(&(views.status)().services),
        "/status/routes" => json(&(views.status)().routes),
        "/status/endpoints" => json(&(views.status)().endpoints),
        "/status/bpf" => json(&(views.status)().bpf),
        "/explain" => explain(query, views),
        _ => not_found(HEALTH_PATHS, STATE_PATHS),
    }
}

fn readiness(reasons: &[String]) -> Answer {
    if reasons.is_empty() {
        return text(StatusCode::OK, "ready\n".to_owned());
    }
    let lines = reasons.iter().map(|reason| format!("{reason}\n"));
    text(StatusCode::SERVICE_UNAVAILABLE, lines.collect())
}

fn explain(query: &str, views: &Views) -> Answer {
    let bad = |reason: String| text(StatusCode::BAD_REQUEST, format!("{reason}\n"));
    match ExplainQuery::from_query(query) {
        Err(error) => bad(error.to_string()),
        Ok(query) => match (views.explain)(query) {
            Ok(explanation) => json(&explanation),
            Err(reason) => bad(reason),
        },
    }
}

fn not_found(health: &[&str], state: &[&str]) -> Answer {
    let paths = health.iter().chain(state);
    let lines: String = paths.map(|path| format!("  {path}\n")).collect();
    let body = format!("no such path; there are:\n{lines}");
    text(StatusCode::NOT_FOUND, body)
}

fn json(value: &impl Serialize) -> Answer {
    match serde_json::to_string(value) {
        Ok(body) => with_type(StatusCode::OK, JSON, body + "\n"),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn text(status: StatusCode, body: String) -> Answer {
    with_type(status, TEXT, body)
}

fn with_type(status: StatusCode, content_type: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}
