//! `/v1/events`: producers append events.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, Response, StatusCode};
use axum::response::IntoResponse;
use bytes::Bytes;
use serde_json::value::RawValue;

use super::Peer;
use crate::app::App;
use crate::error::{Code, Refusal};
use crate::event::ndjson::Lines;
use crate::event::{Content, Line, Report};
use crate::gate::{answer, authenticate, edge};
use crate::ids::RequestId;

pub(super) async fn post(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    let request = RequestId::new(app.clock.now(), &mut *app.gate.ids.lock());
    match take(&app, peer, &headers, body).await {
        Ok(report) => {
            let body = serde_json::to_vec(&report).unwrap_or_default();
            (StatusCode::ACCEPTED, [(CONTENT_TYPE, "application/json; charset=utf-8")], body).into_response()
        }
        Err(refusal) => {
            tracing::debug!(request.id = %request, code = refusal.code.as_str(), "events refused");
            answer::problem(&request, &refusal)
        }
    }
}

async fn take(app: &App, peer: Peer, headers: &HeaderMap, body: Body) -> Result<Report, Refusal> {
    let credential = match authenticate::producer(&app.directory, headers, app.clock.now()) {
        Ok(credential) => credential,
        Err(refusal) => return Err(app.gate.shield.judge(app.client(peer.0.ip(), headers), refusal).await),
    };
    let server = &app.settings.server;
    let body = edge::collect(body, server.events_body_bytes_max, server.body_timeout).await?;
    let lines = match edge::content_type(headers).as_str() {
        "application/cloudevents+json" => vec![Line { number: 1, content: Content::Whole(body) }],
        "application/cloudevents-batch+json" => batch(&body)?,
        "application/x-ndjson" => ndjson(&body, app.settings.events.event_bytes_max)?,
        _ => {
            return Err(Refusal::http(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "Send application/cloudevents+json, application/cloudevents-batch+json or application/x-ndjson.",
            ));
        }
    };
    app.engine.ingest().take(lines, Some(&credential.producer)).await
}

fn batch(body: &Bytes) -> Result<Vec<Line>, Refusal> {
    let events: Vec<&RawValue> = serde_json::from_slice(body)
        .map_err(|error| Refusal::new(Code::BadUserInput, format!("The body is no JSON list of events: {error}.")))?;
    let line = |(place, event): (usize, &RawValue)| Line {
        number: place as u64 + 1,
        content: Content::Whole(Bytes::copy_from_slice(event.get().as_bytes())),
    };
    Ok(events.into_iter().enumerate().map(line).collect())
}

fn ndjson(body: &Bytes, event_bytes_max: usize) -> Result<Vec<Line>, Refusal> {
    let mut lines = Lines::new(&body[..], event_bytes_max);
    let mut taken = Vec::new();
    // Reading from memory does not fail.
    while let Some((line, _)) = lines.next_line().map_err(|error| Refusal::new(Code::BadUserInput, error.to_string()))? {
        taken.push(line);
    }
    Ok(taken)
}
