//! The Unix socket in the data folder: how commands reach the process that holds it. Whoever may write to the folder may use
//! it; there are no keys.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::clock::Micros;
use crate::engine::Engine;
use crate::event::deadletter::Letter;
use crate::event::ndjson::Lines;

/// The number of a chunk's first line, less one.
pub const LINES_BEFORE: &str = "x-tollgate-lines-before";

/// What `replay` is asked for.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Replay {
    /// Compare only.
    pub verify: bool,
}

/// How far usage was shipped.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShippedTo {
    /// All that was journaled before this instant is in the ledger.
    pub as_of: crate::clock::Micros,
}

/// What one replica has not shipped.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Backlog {
    /// Which one.
    pub replica: crate::ids::ReplicaId,
    /// Usage records that are journaled and not in the ledger.
    pub records: u64,
}

/// Routes of a gateway's socket.
pub fn router(app: Arc<App>) -> Router {
    let engine = engine(app.engine.clone(), app.settings.events.event_bytes_max);
    Router::new()
        .route("/ship", post(ship))
        .route("/journal/close", post(close_journal))
        .route("/replica", get(replica))
        .route("/refresh", post(refresh))
        .with_state(app)
        .merge(engine)
}

/// What any process with an engine does for commands.
#[derive(Clone)]
struct Served {
    engine: Arc<Engine>,
    event_bytes_max: usize,
}

/// Routes of a projector's socket.
pub fn engine(engine: Arc<Engine>, event_bytes_max: usize) -> Router {
    Router::new()
        .route("/ingest", post(ingest))
        .route("/deadletters", get(dead_letters).post(keep_letters))
        .route("/deadletters/retry", post(retry))
        .route("/settle", post(settle))
        .route("/journeys/close", post(close_journeys))
        .route("/journeys/refresh", post(refresh_products))
        .route("/features/dump", get(dump))
        .route("/replay", post(replay))
        .layer(axum::extract::DefaultBodyLimit::disable())
        .with_state(Served { engine, event_bytes_max })
}

/// A failure's sentence, for the command to print.
struct Failed(anyhow::Error);

impl<E: Into<anyhow::Error>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        (StatusCode::INTERNAL_SERVER_ERROR, format!("{:#}", self.0)).into_response()
    }
}

async fn ingest(State(served): State<Served>, headers: HeaderMap, body: Bytes) -> Result<Response, Failed> {
    let before: u64 = headers.get(LINES_BEFORE).and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0);
    let mut lines = Lines::new(&body[..], served.event_bytes_max);
    let mut taken = Vec::new();
    while let Some((mut line, _)) = lines.next_line()? {
        line.number += before;
        taken.push(line);
    }
    Ok(Json(served.engine.take(taken).await?).into_response())
}

async fn keep_letters(State(served): State<Served>, Json(letters): Json<Vec<Letter>>) -> Result<(), Failed> {
    Ok(served.engine.keep_letters(letters).await?)
}

async fn dead_letters(State(served): State<Served>) -> Result<Response, Failed> {
    Ok(Json(served.engine.dead_letters().await?).into_response())
}

async fn retry(State(served): State<Served>, Json(ids): Json<Vec<u64>>) -> Result<Response, Failed> {
    Ok(Json(served.engine.retry(&ids).await?).into_response())
}

async fn settle(State(served): State<Served>) -> Result<(), Failed> {
    Ok(served.engine.settle().await?)
}

async fn close_journeys(State(served): State<Served>, Json(last): Json<Micros>) -> Result<Response, Failed> {
    served.engine.close_journeys(last).await?;
    Ok(Json(served.engine.settle_told().await?).into_response())
}

async fn refresh_products(State(served): State<Served>) -> Result<(), Failed> {
    Ok(served.engine.refresh_products().await?)
}

async fn dump(State(served): State<Served>) -> Result<Body, Failed> {
    served.engine.settle().await?;
    Ok(Body::from(served.engine.dump().await?))
}

async fn replay(State(served): State<Served>, Query(asked): Query<Replay>) -> Result<Response, Failed> {
    Ok(Json(served.engine.replay(asked.verify).await?).into_response())
}

async fn ship(State(app): State<Arc<App>>) -> Result<Response, Failed> {
    Ok(Json(ShippedTo { as_of: app.ship().await? }).into_response())
}

async fn close_journal(State(app): State<Arc<App>>) -> Result<Response, Failed> {
    Ok(Json(ShippedTo { as_of: app.close_journal().await? }).into_response())
}

async fn replica(State(app): State<Arc<App>>) -> Response {
    Json(Backlog { replica: app.journal.replica().clone(), records: app.backlog() }).into_response()
}

async fn refresh(State(app): State<Arc<App>>) -> Result<(), Failed> {
    Ok(app.directory.refresh().await?)
}
