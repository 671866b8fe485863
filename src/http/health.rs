//! Health and metrics.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::app::App;

/// The process answers.
pub(super) async fn alive() -> Response {
    Json(json!({ "status": "alive" })).into_response()
}

/// The process should get traffic; if not, why.
pub(super) async fn ready(State(app): State<Arc<App>>) -> Response {
    let reasons = app.unready().await;
    if reasons.is_empty() {
        return Json(json!({ "status": "ready" })).into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": "not ready", "reasons": reasons }))).into_response()
}

/// The Prometheus text (OpenMetrics).
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let now = app.clock.now();
    let standings = app.engine.features().standings().await.unwrap_or_default();
    let text = app.metrics.render(&standings, app.directory.age(now), app.backlog(), now);
    ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
}
