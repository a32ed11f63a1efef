//! Errors as `application/problem+json` (RFC 9457): the same members that the module's refusals have, and a
//! `detail` with the remedy.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use portcullis_policy::CorrelationId;
use serde::Serialize;

use crate::storage::StorageError;
use crate::trail::TrailError;

/// An error that a client sees.
#[derive(Clone, Debug)]
pub struct Problem {
    /// The HTTP status.
    pub status: StatusCode,
    /// A short code for programs.
    pub reason: &'static str,
    /// What is wrong and what to do, for people.
    pub detail: String,
    /// What went wrong inside: for the log, never for the client.
    pub cause: Option<String>,
}

/// The body of an error.
#[derive(Serialize, schemars::JsonSchema)]
pub struct ProblemBody {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    reason: &'static str,
    detail: String,
    correlation_id: String,
}

impl Problem {
    /// An error with a detail.
    pub fn new(status: StatusCode, reason: &'static str, detail: impl Into<String>) -> Self {
        Self { status, reason, detail: detail.into(), cause: None }
    }

    /// 400, naming what is malformed.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", detail)
    }

    /// 422, naming the field that cannot be as it is.
    pub fn unprocessable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail)
    }

    /// 401. One text for every cause: a client that guesses learns nothing.
    #[must_use]
    pub fn unauthorized() -> Self {
        Self::unauthorized_as("send Authorization: Bearer with a valid token; `portcullis token` prints one")
    }

    /// 401 with a remedy of its own.
    #[must_use]
    pub fn unauthorized_as(detail: &'static str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
    }

    /// 429.
    pub fn too_many(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too-many-attempts", detail)
    }

    /// 503 for a store that did not answer.
    #[must_use]
    pub fn storage(error: &StorageError) -> Self {
        let detail = match error {
            StorageError::Busy => "the store is busy; try again in a second",
            StorageError::Full => "the store is full; the operator must make room",
            _ => "the store does not answer; the companion's log says why",
        };
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "storage-unavailable", detail);
        Self { cause: Some(error.to_string()), ..problem }
    }

    /// 503 for events that the audit trail did not take.
    #[must_use]
    pub fn trail(error: &TrailError) -> Self {
        let detail = match error {
            TrailError::Busy => "the audit trail is busy; try again in a second",
            TrailError::Full => "the audit trail is full; the operator must make room",
            TrailError::Keys(_) => {
                "the keys of its tenants are not to be had; nothing was stored, try again in a second"
            }
            _ => "the audit trail does not take events; the companion's log says why",
        };
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "audit-unavailable", detail);
        Self { cause: Some(error.to_string()), ..problem }
    }

    /// For a status that the framework answered by itself.
    #[must_use]
    pub fn of_status(status: StatusCode) -> Self {
        let (reason, detail) = match status {
            StatusCode::NOT_FOUND => {
                ("not-found", "there is nothing at this path; /openapi.json lists what exists")
            }
            StatusCode::METHOD_NOT_ALLOWED => ("method-not-allowed", "see the Allow header"),
            StatusCode::PAYLOAD_TOO_LARGE => ("too-large", "send less"),
            StatusCode::BAD_REQUEST => ("malformed", "the request could not be read"),
            _ => ("failed", "the request failed; the companion's log has this correlation_id"),
        };
        Self::new(status, reason, detail)
    }

    /// The whole answer.
    #[must_use]
    pub fn render(self, correlation_id: &CorrelationId) -> Response {
        let body = ProblemBody {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            reason: self.reason,
            detail: self.detail,
            correlation_id: correlation_id.to_string(),
        };
        let mut response = (self.status, serde_json::to_string(&body).unwrap_or_default()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"portcullis\""));
        }
        let retry_after = match self.status {
            StatusCode::SERVICE_UNAVAILABLE => Some("1"),
            StatusCode::TOO_MANY_REQUESTS => Some("60"),
            _ => None,
        };
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(seconds));
        }
        response
    }
}

/// The envelope renders it, because only the envelope knows the correlation ID.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}
