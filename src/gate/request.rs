//! GraphQL over HTTP, the way in: which media type is wanted, and what a POST's body or a GET's query string asks.

use std::borrow::Cow;
use std::collections::HashMap;

use async_graphql::Variables;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::edge;
use crate::error::{Code, Refusal};

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// `application/graphql-response+json`.
    GraphqlResponse,
    /// `application/json`, as older clients ask.
    Json,
}

impl Media {
    /// By the Accept header (RFC 9110, 12.5.1). Without one, and where both are wanted alike, JSON: the watershed of the
    /// specification for clients that do not say.
    pub fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let mut ranges =
            headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).peekable();
        if ranges.peek().is_none() {
            return Ok(Self::Json);
        }
        // The most specific range that matches a type decides its weight.
        let (mut response, mut json) = ((0, 0.0), (0, 0.0));
        let mut named = false;
        for range in ranges {
            let mut parts = range.split(';');
            let kind = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
            let parameters = parts.filter_map(|part| part.split_once('='));
            let weight = parameters.rev().find(|(name, _)| name.trim().eq_ignore_ascii_case("q"));
            let weight = weight.and_then(|(_, weight)| weight.trim().parse::<f32>().ok());
            let weight = weight.unwrap_or(1.0);
            let heard = |best: &mut (u8, f32), specificity: u8| {
                if specificity >= best.0 {
                    *best = (specificity, weight);
                }
            };
            match kind.as_str() {
                "application/graphql-response+json" => {
                    named = true;
                    heard(&mut response, 3);
                }
                "application/json" => heard(&mut json, 3),
                "application/*" => [&mut response, &mut json].into_iter().for_each(|best| heard(best, 2)),
                "*/*" => [&mut response, &mut json].into_iter().for_each(|best| heard(best, 1)),
                _ => {}
            }
        }
        let (response, json) = (response.1, json.1);
        if response > json || (named && response >= json && response > 0.0) {
            Ok(Self::GraphqlResponse)
        } else if json > 0.0 {
            Ok(Self::Json)
        } else {
            let what =
                "The answer cannot be written as you accept it. Accept application/graphql-response+json or application/json.";
            Err(Refusal::http(StatusCode::NOT_ACCEPTABLE, what))
        }
    }

    pub(super) fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::GraphqlResponse => "application/graphql-response+json; charset=utf-8",
            Self::Json => "application/json; charset=utf-8",
        })
    }
}

/// A request as GraphQL over HTTP has it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Parameters<'a> {
    /// The document.
    #[serde(borrow)]
    pub query: Cow<'a, str>,
    /// Which of its operations.
    #[serde(borrow, default)]
    pub operation_name: Option<Cow<'a, str>>,
    /// Their values.
    #[serde(default)]
    pub variables: Option<Variables>,
    /// Allowed by the specification; nothing here reads it.
    #[serde(rename = "extensions", default)]
    _extensions: Option<HashMap<String, IgnoredAny>>,
}

/// Refuses what is not JSON in UTF-8: other types could be sent cross-site without a preflight.
pub fn content_type(headers: &HeaderMap) -> Result<(), Refusal> {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut quoted = false;
    let separates = |c: char| {
        quoted ^= c == '"';
        c == ';' && !quoted
    };
    let is_json = edge::content_type(headers) == "application/json";
    let charset = value
        .split(separates)
        .skip(1)
        .map(str::trim)
        .filter_map(|part| part.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"));
    let is_utf8 = charset.is_none_or(|(_, charset)| {
        let charset = charset.trim().trim_matches('"');
        charset.eq_ignore_ascii_case("utf-8") || charset.eq_ignore_ascii_case("utf8")
    });
    if is_json && is_utf8 {
        return Ok(());
    }
    Err(Refusal::http(StatusCode::UNSUPPORTED_MEDIA_TYPE, "The body must be JSON in UTF-8. Send Content-Type: application/json."))
}

/// The request of a POST's body.
pub fn of_body(body: &[u8]) -> Result<Parameters<'_>, Refusal> {
    // serde would take a list for the fields of one request.
    if body.trim_ascii_start().starts_with(b"[") {
        return Err(Refusal::new(
            Code::BadUserInput,
            "The body is a list, but batches are not taken. Send one request at a time.",
        ));
    }
    serde_json::from_slice(body).map_err(|error| {
        let what = format!("The body is not a GraphQL request: {error}. Send {{\"query\": \"…\", \"variables\": {{…}}}}.");
        Refusal::new(Code::BadUserInput, what)
    })
}

/// The request of a GET's query string.
pub fn of_query_string(text: &str) -> Result<Parameters<'_>, Refusal> {
    let mut found: HashMap<Cow<'_, str>, Cow<'_, str>> = HashMap::new();
    for (name, value) in form_urlencoded::parse(text.as_bytes()) {
        let known = matches!(&*name, "query" | "operationName" | "variables" | "extensions");
        if known && found.insert(name.clone(), value).is_some() {
            return Err(Refusal::new(Code::BadUserInput, format!("The URL has the parameter {name} twice. Send it once.")));
        }
    }
    let wrong = |name: &str, error: &dyn std::fmt::Display| {
        let what = format!("The URL's parameter {name} is no JSON object: {error}. Send it JSON-encoded, then percent-encoded.");
        Refusal::new(Code::BadUserInput, what)
    };
    let query = found.remove("query").ok_or_else(|| {
        Refusal::new(Code::BadUserInput, "The URL has no parameter query. Send ?query=… percent-encoded, or POST it as JSON.")
    })?;
    let variables = match found.remove("variables").filter(|text| !text.is_empty()) {
        Some(text) => serde_json::from_str(&text).map_err(|error| wrong("variables", &error))?,
        None => None,
    };
    let extensions = match found.remove("extensions").filter(|text| !text.is_empty()) {
        Some(text) => serde_json::from_str(&text).map_err(|error| wrong("extensions", &error))?,
        None => None,
    };
    let operation_name = found.remove("operationName").filter(|name| !name.is_empty());
    Ok(Parameters { query, operation_name, variables, _extensions: extensions })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_media_type_that_is_wanted_most() {
        let of = |accept: &str| {
            let mut headers = HeaderMap::new();
            if let Ok(value) = HeaderValue::from_str(accept) {
                headers.insert(ACCEPT, value);
            }
            Media::of(&headers).ok()
        };
        for (accept, wanted) in [
            ("application/graphql-response+json", Some(Media::GraphqlResponse)),
            ("application/json", Some(Media::Json)),
            ("*/*", Some(Media::Json)),
            ("application/*;q=0.5", Some(Media::Json)),
            ("application/graphql-response+json, application/json;q=0.9", Some(Media::GraphqlResponse)),
            ("application/json, application/graphql-response+json", Some(Media::GraphqlResponse)),
            ("application/graphql-response+json;q=0.1, application/json", Some(Media::Json)),
            ("application/graphql-response+json;q=0, application/json", Some(Media::Json)),
            ("application/json;q=0, */*", Some(Media::GraphqlResponse)),
            ("text/html, */*;q=0.1", Some(Media::Json)),
            ("text/html", None),
            ("*/*;q=0", None),
        ] {
            assert_eq!(of(accept), wanted, "{accept}");
        }
        assert_eq!(Media::of(&HeaderMap::new()).ok(), Some(Media::Json));
    }
}
