//! Errors come in two kinds.
//!
//! - [`Refusal`]: what a client may read. A stable code, the HTTP status when nothing ran, and one sentence that says
//!   what to do. Use it wherever a request, an event or a key is at fault, or where we cannot serve for now.
//! - `anyhow::Error`: what is logged once, with its causes, next to the request's id; the client sees
//!   [`Refusal::internal`] with that id. Use it for everything that is ours to mend. The command line prints its whole
//!   chain as one sentence.

use std::borrow::Cow;
use std::time::Duration;

use axum::http::StatusCode;

use crate::ids::RequestId;

/// The codes of the outer surface (`errors[].extensions.code`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// No key, or one that is not good (any more).
    Unauthenticated,
    /// A good key that may not do this.
    Forbidden,
    /// A product or a field that the plan does not have; only ever the error of a field.
    NotEntitled,
    /// Too fast, or too much at once.
    RateLimited,
    /// The period's units are used up.
    QuotaExceeded,
    /// The period's money is used up.
    SpendCapReached,
    /// The estimate is more than the plan allows one query.
    CostEstimatedTooExpensive,
    /// The text's structure goes past a bound, whatever its variables.
    QueryTooComplex,
    /// Not GraphQL.
    GraphqlParseFailed,
    /// GraphQL, but not of this schema.
    GraphqlValidationFailed,
    /// Arguments, variables or a body that cannot be used.
    BadUserInput,
    /// Ours, and likely to pass.
    Unavailable,
    /// Ours, and unexpected.
    Internal,
}

impl Code {
    /// Every code.
    pub const ALL: [Self; 13] = [
        Self::Unauthenticated,
        Self::Forbidden,
        Self::NotEntitled,
        Self::RateLimited,
        Self::QuotaExceeded,
        Self::SpendCapReached,
        Self::CostEstimatedTooExpensive,
        Self::QueryTooComplex,
        Self::GraphqlParseFailed,
        Self::GraphqlValidationFailed,
        Self::BadUserInput,
        Self::Unavailable,
        Self::Internal,
    ];

    /// As it stands in answers and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::Forbidden => "FORBIDDEN",
            Self::NotEntitled => "NOT_ENTITLED",
            Self::RateLimited => "RATE_LIMITED",
            Self::QuotaExceeded => "QUOTA_EXCEEDED",
            Self::SpendCapReached => "SPEND_CAP_REACHED",
            Self::CostEstimatedTooExpensive => "COST_ESTIMATED_TOO_EXPENSIVE",
            Self::QueryTooComplex => "QUERY_TOO_COMPLEX",
            Self::GraphqlParseFailed => "GRAPHQL_PARSE_FAILED",
            Self::GraphqlValidationFailed => "GRAPHQL_VALIDATION_FAILED",
            Self::BadUserInput => "BAD_USER_INPUT",
            Self::Unavailable => "UNAVAILABLE",
            Self::Internal => "INTERNAL",
        }
    }

    /// The status when nothing ran.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Forbidden | Self::NotEntitled => StatusCode::FORBIDDEN,
            Self::RateLimited | Self::QuotaExceeded => StatusCode::TOO_MANY_REQUESTS,
            Self::SpendCapReached => StatusCode::PAYMENT_REQUIRED,
            Self::CostEstimatedTooExpensive
            | Self::QueryTooComplex
            | Self::GraphqlParseFailed
            | Self::GraphqlValidationFailed
            | Self::BadUserInput => StatusCode::BAD_REQUEST,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// Why a client is refused, in words that it may read.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What kind.
    pub code: Code,
    /// Overrides the code's own status: 404, 405, 408, 413, 415.
    status: Option<StatusCode>,
    /// One sentence: what, where, how to mend.
    pub message: Cow<'static, str>,
    /// `Retry-After`, on 429 and 503.
    pub retry_after: Option<Duration>,
    /// `Allow`, on 405.
    pub allow: Option<&'static str>,
    /// Line and column in the document, from 1.
    pub place: Option<(usize, usize)>,
    /// The request as GraphQL over HTTP has it is well formed; its document, or its variables, are not good.
    pub of_the_document: bool,
}

impl Refusal {
    /// A refusal with its code's own status.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        let of_the_document = matches!(code, Code::GraphqlParseFailed | Code::GraphqlValidationFailed);
        Self { code, status: None, message: message.into(), retry_after: None, allow: None, place: None, of_the_document }
    }

    /// 405, with the methods that are allowed.
    pub fn method_not_allowed(allow: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { allow: Some(allow), ..Self::http(StatusCode::METHOD_NOT_ALLOWED, message) }
    }

    /// Bad input in the document or its variables.
    pub fn document(message: impl Into<Cow<'static, str>>) -> Self {
        Self { of_the_document: true, ..Self::new(Code::BadUserInput, message) }
    }

    /// With the place in the document.
    #[must_use]
    pub fn at(self, line: usize, column: usize) -> Self {
        Self { place: Some((line, column)), ..self }
    }

    /// A refusal by the rules of HTTP, with a status of its own.
    pub fn http(status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status: Some(status), ..Self::new(Code::BadUserInput, message) }
    }

    /// We cannot serve for now; trying again in a second makes sense.
    pub fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Self { retry_after: Some(Duration::from_secs(1)), ..Self::new(Code::Unavailable, message) }
    }

    /// Something of ours failed: the id finds the log line, which has the cause.
    pub fn internal(request: &RequestId) -> Self {
        Self::new(Code::Internal, format!("Something went wrong here; it is logged under {request}."))
    }

    /// With `Retry-After`.
    #[must_use]
    pub fn retry_after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    /// The HTTP status when nothing ran.
    pub fn status(&self) -> StatusCode {
        self.status.unwrap_or_else(|| self.code.status())
    }

    /// `Retry-After` in whole seconds, rounded up, at least one.
    pub fn retry_after_seconds(&self) -> Option<u64> {
        self.retry_after.map(|wait| wait.as_millis().div_ceil(1000).max(1)).map(|s| u64::try_from(s).unwrap_or(u64::MAX))
    }
}
