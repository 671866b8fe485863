//! Every route in one place, and what wraps them.

pub mod control;
pub mod server;

mod events;
mod exports;
mod graphql;
mod health;

use std::any::Any;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, Response, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::set_header::SetResponseHeaderLayer;

use crate::app::App;
use crate::config::Introspection;
use crate::error::Refusal;
use crate::gate::answer;
use crate::ids::RequestId;

pub use health::Projecting;

/// The peer of a connection, put into each of its requests by [`server`].
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// What partners and producers reach.
pub fn partner(app: Arc<App>) -> Router {
    let routes = Router::new()
        .route("/graphql", get(graphql::get).post(graphql::post).head(graphql::other_method).fallback(graphql::other_method))
        .route("/v1/events", post(events::post).fallback(other_method))
        .route("/schema.graphql", get(schema))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .fallback(not_found);
    wrapped(routes, app)
}

/// What operators reach.
pub fn operator(app: Arc<App>) -> Router {
    let routes = Router::new()
        .route("/exports/invoices", get(exports::invoices).fallback(only_read))
        .route("/exports/revenue", get(exports::revenue).fallback(only_read))
        .route("/metrics", get(health::metrics))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .fallback(not_found);
    wrapped(routes, app)
}

/// What operators reach of a projector.
pub fn projector(projecting: Projecting) -> Router {
    let routes = Router::new()
        .route("/metrics", get(health::projector_metrics))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::projector_ready));
    wrapped(routes, projecting)
}

fn wrapped<S: Clone + Send + Sync + 'static>(routes: Router<S>, state: S) -> Router {
    routes
        .with_state(state)
        // Nothing from outside should panic; if something does, its client gets words, and the others go on.
        .layer(CatchPanicLayer::custom(panicked))
        // Outermost: every answer carries them, refusals too.
        .layer(SetResponseHeaderLayer::overriding(CACHE_CONTROL, HeaderValue::from_static("no-store")))
        .layer(SetResponseHeaderLayer::overriding(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")))
}

fn panicked(panic: Box<dyn Any + Send>) -> Response<Body> {
    let said = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let request = RequestId::new(crate::clock::Clock::system().now(), &mut rand::rng());
    tracing::error!(request.id = %request, panic = said.unwrap_or("without words"), "a request panicked");
    answer::problem(&request, &Refusal::internal(&request))
}

async fn schema(State(app): State<Arc<App>>) -> Response<Body> {
    if app.settings.gate.introspection == Introspection::Off {
        return refuse(&app, StatusCode::NOT_FOUND, "The schema is not shown here. Ask your provider for it.");
    }
    ([(CONTENT_TYPE, "application/graphql; charset=utf-8")], app.sdl.clone()).into_response()
}

async fn not_found(State(app): State<Arc<App>>) -> Response<Body> {
    refuse(
        &app,
        StatusCode::NOT_FOUND,
        "There is nothing here. Queries go to /graphql, events to POST /v1/events; operators find /metrics, /healthz and /readyz on their own port.",
    )
}

async fn other_method(State(app): State<Arc<App>>) -> Response<Body> {
    let refusal = Refusal::method_not_allowed("POST", "Only POST is taken here.");
    answer::problem(&RequestId::new(app.clock.now(), &mut *app.gate.ids.lock()), &refusal)
}

async fn only_read(State(app): State<Arc<App>>) -> Response<Body> {
    let refusal = Refusal::method_not_allowed("GET, HEAD", "Only GET is taken here.");
    answer::problem(&RequestId::new(app.clock.now(), &mut *app.gate.ids.lock()), &refusal)
}

fn refuse(app: &App, status: StatusCode, message: &'static str) -> Response<Body> {
    let request = RequestId::new(app.clock.now(), &mut *app.gate.ids.lock());
    answer::problem(&request, &Refusal::http(status, message))
}
