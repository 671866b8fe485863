//! `/graphql`: over to the gate.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Response, StatusCode};

use super::Peer;
use crate::app::App;
use crate::error::Refusal;
use crate::gate::answer::{self, Media};
use crate::ids::RequestId;

pub(super) async fn post(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    let client = app.client(peer.0.ip(), &headers);
    app.gate.query(client, &headers, body).await
}

pub(super) async fn other_method(State(app): State<Arc<App>>, headers: HeaderMap) -> Response<Body> {
    let request = RequestId::new(app.clock.now(), &mut *app.gate.ids.lock());
    let refusal = Refusal::http(StatusCode::METHOD_NOT_ALLOWED, "Only POST is taken here. Send the query as JSON in the body.");
    answer::refusal(Media::of(&headers), &request, &refusal, None)
}
