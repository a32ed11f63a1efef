//! `POST /v1/leases`: see `portcullis_limits::wire` for the shape.
//!
//! On the ingest listener, with its token. Limits: 256 asks, 256 KiB. A call that is malformed anywhere is refused with 400
//! and changes nothing; 503 says that nothing was granted because the store of the limits does not answer.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use portcullis_limits::wire::{Call, Grants};
use serde::de::DeserializeOwned;

use super::LimitsError;
use crate::http::body;
use crate::http::envelope::json;
use crate::http::problem::Problem;
use crate::ingest::Ingest;

/// The largest body of a call.
const MAX_BYTES: usize = 256 * 1024;

/// Answers a module.
pub async fn grant(
    State(ingest): State<Ingest>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let call: Call = read_json(&headers, body).await?;
    let asks = call.check().map_err(|error| Problem::malformed(error.to_string()))?;
    let grants = ingest.limits.lease(&asks).await.map_err(|error| away(&error))?;
    Ok(json(&Grants { grants }))
}

/// 503, with the cause in the log.
pub fn away(error: &LimitsError) -> Problem {
    let detail = "the store of the limits does not answer; the companion's log says why";
    let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "limits-unavailable", detail);
    Problem { cause: Some(error.to_string()), ..problem }
}

/// A JSON body of a module's call.
///
/// # Errors
/// 415, 413, 408 or 400, saying what to send.
pub async fn read_json<T: DeserializeOwned>(headers: &HeaderMap, body: Body) -> Result<T, Problem> {
    let media_type =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported-type",
            "Content-Type must be application/json",
        ));
    }
    let body = body::bytes(body, MAX_BYTES).await?;
    serde_json::from_slice(&body).map_err(|error| Problem::malformed(format!("not a call: {error}")))
}
