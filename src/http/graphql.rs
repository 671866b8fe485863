//! `/graphql`: over to the gate.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, Response};

use super::Peer;
use crate::app::App;
use crate::error::Refusal;
use crate::gate::Incoming;
use crate::gate::answer;
use crate::gate::request::Media;
use crate::ids::RequestId;
use crate::operation::Method;

pub(super) async fn post(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    let address = app.client(peer.0.ip(), &headers);
    app.gate.query(Incoming { method: Method::Post, address, headers: &headers, query_string: "", body }).await
}

pub(super) async fn get(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response<Body> {
    let address = app.client(peer.0.ip(), &headers);
    let query_string = query.as_deref().unwrap_or_default();
    app.gate.query(Incoming { method: Method::Get, address, headers: &headers, query_string, body: Body::empty() }).await
}

pub(super) async fn other_method(State(app): State<Arc<App>>, headers: HeaderMap) -> Response<Body> {
    let request = RequestId::new(app.clock.now(), &mut *app.gate.ids.lock());
    let refusal = Refusal::method_not_allowed("GET, POST", "Only GET and POST are taken here. Send the query as JSON by POST.");
    answer::refusal(Media::of(&headers).unwrap_or(Media::Json), &request, &refusal.into())
}
