//! The edge: bounds on what a client may send, and for how long.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};

use crate::error::Refusal;

/// The essence of the content type: type and subtype, without parameters, in lower case.
pub fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// All of a body, within its bounds.
pub async fn collect(body: Body, bytes_max: usize, timeout: Duration) -> Result<Bytes, Refusal> {
    let collected = tokio::time::timeout(timeout, Limited::new(body, bytes_max).collect())
        .await
        .map_err(|_| Refusal::http(StatusCode::REQUEST_TIMEOUT, "The body did not come in time. Send it again."))?;
    match collected {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Refusal::http(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("The body has more than {bytes_max} bytes. Send less at a time."),
        )),
        Err(_) => Err(Refusal::http(StatusCode::BAD_REQUEST, "The body was cut off. Send it again.")),
    }
}
