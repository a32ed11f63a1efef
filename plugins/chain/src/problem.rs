//! Refusals as clients see them: `application/problem+json` (RFC 9457), never with a rule's inner details.

use portcullis_policy::{CorrelationId, Refusal};
use serde_json::json;

/// A local reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// Headers, without `:status` and `content-length`.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// For the host's own log: the policy's reason.
    pub details: &'static str,
}

impl Reply {
    pub(crate) fn new(refusal: &Refusal, correlation_id: &CorrelationId) -> Self {
        if refusal.status < 400 {
            // An answer in the application's place: there is nothing to complain of.
            let (status, headers) = (refusal.status, refusal.headers.clone());
            return Self { status, headers, body: Vec::new(), details: refusal.reason };
        }
        let body = json!({
            "type": refusal.problem,
            "title": refusal.title,
            "status": refusal.status,
            "reason": refusal.reason,
            "correlation_id": correlation_id.as_str(),
        });
        let mut headers = vec![
            ("content-type", "application/problem+json".to_owned()),
            ("cache-control", "no-store".to_owned()),
        ];
        headers.extend(refusal.headers.iter().cloned());
        Self { status: refusal.status, headers, body: body.to_string().into_bytes(), details: refusal.reason }
    }
}
