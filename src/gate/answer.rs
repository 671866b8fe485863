//! Answer: data or a refusal, in the media type that was asked for (GraphQL over HTTP), with what is left of the rate.

use std::collections::BTreeMap;

use async_graphql::Value;
use axum::body::Body;
use axum::http::header::{ACCEPT, ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde_json::json;

use super::limiter::Allowed;
use crate::error::{Code, Refusal};
use crate::ids::RequestId;
use crate::metering::Product;

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// `application/graphql-response+json`.
    GraphqlResponse,
    /// `application/json`, as older clients ask.
    Json,
}

impl Media {
    /// By the Accept header.
    pub fn of(headers: &HeaderMap) -> Self {
        let accepts = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let wants = accepts.flat_map(|value| value.split(',')).any(|kind| {
            kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/graphql-response+json"))
        });
        if wants { Self::GraphqlResponse } else { Self::Json }
    }

    fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::GraphqlResponse => "application/graphql-response+json; charset=utf-8",
            Self::Json => "application/json; charset=utf-8",
        })
    }
}

/// An executed operation whose usage is durable.
pub struct Answered {
    /// Which.
    pub request: RequestId,
    /// What the engine said.
    pub response: async_graphql::Response,
    /// What is billed.
    pub units: BTreeMap<Product, u64>,
    /// What is left of the rate.
    pub allowed: Allowed,
}

/// 200, with `extensions.usage`.
pub fn data(media: Media, answered: Answered) -> Response<Body> {
    let total: u64 = answered.units.values().sum();
    let usage = json!({ "requestId": answered.request, "units": total, "byProduct": answered.units });
    let mut response = answered.response;
    response.extensions.insert("usage".into(), Value::from_json(usage).unwrap_or_default());
    let body = serde_json::to_vec(&response).unwrap_or_default();
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(CONTENT_TYPE, media.content_type());
    rate_headers(response.headers_mut(), answered.allowed);
    response
}

/// A refusal as GraphQL errors. Under legacy JSON, what is wrong with the document itself is 200 without `data`.
pub fn refusal(media: Media, request: &RequestId, refusal: &Refusal, allowed: Option<Allowed>) -> Response<Body> {
    let error = json!({
        "message": refusal.message,
        "extensions": { "code": refusal.code.as_str(), "requestId": request },
    });
    let body = json!({ "errors": [error] }).to_string();
    let mut response = Response::new(Body::from(body));
    let of_the_document = matches!(refusal.code, Code::GraphqlParseFailed | Code::GraphqlValidationFailed);
    *response.status_mut() = if media == Media::Json && of_the_document { StatusCode::OK } else { refusal.status() };
    response.headers_mut().insert(CONTENT_TYPE, media.content_type());
    if let Some(allowed) = allowed {
        rate_headers(response.headers_mut(), allowed);
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
    if refusal.status() == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static("POST"));
    }
}

/// draft-ietf-httpapi-ratelimit-headers: quoted structured fields.
fn rate_headers(headers: &mut HeaderMap, allowed: Allowed) {
    let policy = format!("\"rate\";q={};w=1", allowed.rate.requests_per_second);
    let state = format!("\"rate\";r={};t={}", allowed.remaining, allowed.reset_seconds());
    for (name, value) in [("ratelimit-policy", policy), ("ratelimit", state)] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
}
