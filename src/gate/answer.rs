//! Answer: data or a refusal, in the media type that was asked for (GraphQL over HTTP), with how the limits stand.

use std::sync::Arc;

use async_graphql::{ServerError, Value};
use axum::body::Body;
use axum::http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde::Serialize;
use serde::ser::SerializeMap;
use serde_json::json;

use super::request::Media;
use super::settle::Settled;
use super::standing::Standing;
use crate::directory::Credential;
use crate::error::{Code, Refusal};
use crate::ids::RequestId;
use crate::metering::Tally;

/// An executed operation whose usage is durable.
pub struct Answered {
    /// Which.
    pub request: RequestId,
    /// What the engine said.
    pub response: async_graphql::Response,
    /// The estimate.
    pub requested: u64,
    /// What it came to.
    pub settled: Settled,
    /// How the limits stand.
    pub standing: Standing,
}

/// A refusal, and what was known when it was given.
pub struct Refused {
    /// Why.
    pub refusal: Refusal,
    /// How the limits stand, once it is known who asks.
    pub standing: Option<Box<Standing>>,
    /// The estimate, once there is one.
    pub requested: Option<u64>,
    /// Whose request it was, for the log.
    pub credential: Option<Arc<Credential>>,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, standing: None, requested: None, credential: None }
    }
}

#[derive(Serialize)]
struct Written<'a> {
    data: &'a Value,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [ServerError],
    extensions: Extensions<'a>,
}

#[derive(Serialize)]
struct Extensions<'a> {
    cost: Cost,
    usage: Usage<'a>,
}

/// As Shopify and others write it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Cost {
    requested_query_cost: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    actual_query_cost: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    throttle_status: Option<ThrottleStatus>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ThrottleStatus {
    maximum_available: u32,
    currently_available: u64,
    restore_rate: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Usage<'a> {
    request_id: &'a RequestId,
    units: u64,
    waived_units: u64,
    #[serde(serialize_with = "by_product")]
    by_product: Tally,
}

#[derive(Serialize)]
struct WrittenRefusal<'a> {
    errors: [WrittenError<'a>; 1],
}

#[derive(Serialize)]
struct WrittenError<'a> {
    message: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    locations: Vec<Place>,
    extensions: ErrorExtensions<'a>,
}

#[derive(Serialize)]
struct Place {
    line: usize,
    column: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ErrorExtensions<'a> {
    code: &'static str,
    request_id: &'a RequestId,
    #[serde(skip_serializing_if = "Option::is_none")]
    cost: Option<Cost>,
}

fn by_product<S: serde::Serializer>(tally: &Tally, serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(None)?;
    for (product, units) in tally.iter() {
        map.serialize_entry(product.as_str(), &units)?;
    }
    map.end()
}

impl From<&Standing> for ThrottleStatus {
    fn from(standing: &Standing) -> Self {
        Self {
            maximum_available: standing.rate.rate.burst,
            currently_available: standing.rate.left,
            restore_rate: standing.rate.rate.units_per_second,
        }
    }
}

/// 200, with what it cost.
pub fn data(media: Media, answered: &Answered) -> Response<Body> {
    let Answered { request, response, requested, settled, standing } = answered;
    let written = Written {
        data: &response.data,
        errors: &response.errors,
        extensions: Extensions {
            cost: Cost {
                requested_query_cost: *requested,
                actual_query_cost: Some(settled.actual.total()),
                throttle_status: Some(standing.into()),
            },
            usage: Usage {
                request_id: request,
                units: settled.billed.total(),
                waived_units: settled.waived.total(),
                by_product: settled.billed,
            },
        },
    };
    let mut body = Vec::with_capacity(1024);
    if let Err(error) = serde_json::to_writer(&mut body, &written) {
        tracing::error!(request.id = %request, %error, "an answer could not be written");
        return refusal(media, request, &Refusal::internal(request).into());
    }
    let mut answer = Response::new(Body::from(body));
    answer.headers_mut().insert(CONTENT_TYPE, media.content_type());
    standing.write(answer.headers_mut());
    answer
}

/// A refusal as GraphQL errors. Under legacy JSON, what is wrong with the document or its variables is 200 without `data`.
pub fn refusal(media: Media, request: &RequestId, refused: &Refused) -> Response<Body> {
    let Refused { refusal, standing, requested, .. } = refused;
    let cost = requested.map(|requested| Cost {
        requested_query_cost: requested,
        actual_query_cost: None,
        throttle_status: standing.as_deref().map(ThrottleStatus::from),
    });
    let place = refusal.place.map(|(line, column)| Place { line, column });
    let error = WrittenError {
        message: &refusal.message,
        locations: place.into_iter().collect(),
        extensions: ErrorExtensions { code: refusal.code.as_str(), request_id: request, cost },
    };
    let body = serde_json::to_vec(&WrittenRefusal { errors: [error] }).unwrap_or_default();
    let mut response = Response::new(Body::from(body));
    let lenient = media == Media::Json && refusal.of_the_document;
    *response.status_mut() = if lenient { StatusCode::OK } else { refusal.status() };
    response.headers_mut().insert(CONTENT_TYPE, media.content_type());
    if let Some(standing) = standing {
        standing.write(response.headers_mut());
    }
    refusal_headers(response.headers_mut(), refusal);
    response
}

/// A refusal as a problem document (RFC 9457).
pub fn problem(request: &RequestId, refusal: &Refusal) -> Response<Body> {
    let status = refusal.status();
    let body = json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or("Error"),
        "status": status.as_u16(),
        "detail": refusal.message,
        "code": refusal.code.as_str(),
        "requestId": request,
    });
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    refusal_headers(response.headers_mut(), refusal);
    response
}

fn refusal_headers(headers: &mut HeaderMap, refusal: &Refusal) {
    if let Some(seconds) = refusal.retry_after_seconds() {
        headers.insert(RETRY_AFTER, seconds.into());
    }
    if refusal.code == Code::Unauthenticated {
        // RFC 9110, 11.6.1: a 401 names the scheme that it wants.
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(allow) = refusal.allow {
        headers.insert(ALLOW, HeaderValue::from_static(allow));
    }
}
