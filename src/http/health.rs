//! Health and metrics.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::app::App;
use crate::clock::{Clock, Micros};
use crate::engine::Engine;
use crate::feature::Standing;
use crate::telemetry::Metrics;

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
    app.metrics.measure_gateway(app.directory.age(now), app.backlog());
    text(&app.metrics, &app.engine, now).await
}

/// A projector's parts.
#[derive(Clone)]
pub struct Projecting {
    /// Event log and feature store.
    pub engine: Arc<Engine>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// What freshness is measured by.
    pub clock: Clock,
}

/// The feature store can be reached; what a projector needs to go on.
pub(super) async fn projector_ready(State(projector): State<Projecting>) -> Response {
    match projector.engine.features().standings().await {
        Ok(_) => Json(json!({ "status": "ready" })).into_response(),
        Err(error) => {
            let reasons = [format!("the feature store cannot be read: {error:#}")];
            (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": "not ready", "reasons": reasons }))).into_response()
        }
    }
}

/// The same text, of a projector.
pub(super) async fn projector_metrics(State(projector): State<Projecting>) -> Response {
    text(&projector.metrics, &projector.engine, projector.clock.now()).await
}

async fn text(metrics: &Metrics, engine: &Engine, now: Micros) -> Response {
    // A store that does not answer is not fresh: nobody must read the last lag that was seen.
    let standings =
        engine.features().standings().await.unwrap_or_else(|_| vec![Standing::default(); usize::from(engine.partitions())]);
    metrics.measure_journeys(&engine.features().sizes());
    let text = metrics.render(&standings, now);
    ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
}
