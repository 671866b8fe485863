//! The edge: bounds on what a client may send, and for how long.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;

use crate::error::Refusal;

/// The essence of the content type: type and subtype, without parameters, in lower case.
pub fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// What a body may go past its bound and still be read to its end: a client that is still sending does not see the answer.
const DRAINED_BYTES_MAX: usize = 16 << 20;

/// All of a body, within its bounds.
pub async fn collect(body: Body, bytes_max: usize, timeout: Duration) -> Result<Bytes, Refusal> {
    tokio::time::timeout(timeout, read(body, bytes_max))
        .await
        .map_err(|_| Refusal::http(StatusCode::REQUEST_TIMEOUT, "The body did not come in time. Send it again."))?
}

async fn read(mut body: Body, bytes_max: usize) -> Result<Bytes, Refusal> {
    let cut_off = |_| Refusal::http(StatusCode::BAD_REQUEST, "The body was cut off. Send it again.");
    let (mut first, mut rest, mut found) = (Bytes::new(), BytesMut::new(), 0);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(cut_off)?.into_data() else { continue };
        found += data.len();
        match found {
            _ if found > bytes_max + DRAINED_BYTES_MAX => break,
            _ if found > bytes_max => {}
            // As a rule a body is one frame, and needs no copy.
            _ if first.is_empty() => first = data,
            _ => rest.extend_from_slice(&data),
        }
    }
    if found > bytes_max {
        let what = format!("The body has more than {bytes_max} bytes. Send less at a time.");
        return Err(Refusal::http(StatusCode::PAYLOAD_TOO_LARGE, what));
    }
    if rest.is_empty() {
        return Ok(first);
    }
    let mut whole = BytesMut::with_capacity(found);
    whole.extend_from_slice(&first);
    whole.extend_from_slice(&rest);
    Ok(whole.freeze())
}
