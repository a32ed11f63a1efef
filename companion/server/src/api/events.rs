//! `/api/security/events/{tenant_id}`: what happened, page by page, and what an application reports itself.

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use portcullis_policy::CorrelationId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::paths::{OpenedHistory, OpenedTenant};
use super::texts::{self, Width};
use super::{Api, cursor, parameters};
use crate::clock::rfc3339;
use crate::event::{Event, EventType, MAX_DETAILS_BYTES, Severity, What};
use crate::http::body;
use crate::http::envelope::json;
use crate::http::problem::Problem;
use crate::storage::{Start, StoredEvent};
use crate::token::Grant;

/// The largest event of an application, in bytes.
pub const MAX_EVENT_BYTES: usize = MAX_DETAILS_BYTES;

/// Events of a tenant, newest first.
#[derive(Serialize, JsonSchema)]
pub struct Events {
    tenant_id: String,
    events: Vec<EventBody>,
    count: usize,
    /// Opens the next, older page, with the same filter; null when there is none.
    next_cursor: Option<String>,
    /// RFC 3339, UTC.
    timestamp: String,
}

/// One event.
#[derive(Serialize, JsonSchema)]
pub struct EventBody {
    /// RFC 3339, UTC.
    timestamp: String,
    event_type: String,
    /// `INFO`, `WARNING` or `ERROR`.
    severity: String,
    user_id: Option<String>,
    ip_address: Option<String>,
    details: Map<String, Value>,
}

impl From<StoredEvent> for EventBody {
    fn from(event: StoredEvent) -> Self {
        let StoredEvent { position, event_type, severity, user_id, ip_address, details } = event;
        Self { timestamp: rfc3339(position.at), event_type, severity, user_id, ip_address, details }
    }
}

/// An event that an application reports.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewEvent {
    /// What happened: a letter, then letters, digits and `_`, at most 100; kept in upper case.
    #[schemars(regex(pattern = r"^[A-Za-z][A-Za-z0-9_]{0,99}$"))]
    event_type: String,
    /// `INFO` when left out.
    #[serde(default)]
    #[schemars(with = "Option<SeverityName>")]
    severity: Option<String>,
    /// Who.
    #[serde(default)]
    #[schemars(regex(pattern = r"^[^\x00-\x1f\x7f-\x9f]{1,50}$"))]
    user_id: Option<String>,
    /// From where.
    #[serde(default)]
    #[schemars(extend("anyOf" = [{"type": "null"}, {"format": "ipv4"}, {"format": "ipv6"}]))]
    ip_address: Option<String>,
    /// With what.
    #[serde(default)]
    #[schemars(regex(pattern = r"^[^\x00-\x1f\x7f-\x9f]{1,500}$"))]
    user_agent: Option<String>,
    /// Everything else.
    #[serde(default)]
    details: Map<String, Value>,
}

#[derive(JsonSchema)]
#[allow(dead_code, reason = "names for the description")]
#[schemars(rename_all = "UPPERCASE")]
enum SeverityName {
    Info,
    Warning,
    Error,
}

/// An event was stored.
#[derive(Serialize, JsonSchema)]
pub struct Stored {
    /// Names it; also in its `details.uid`.
    id: String,
    tenant_id: String,
    event_type: String,
    /// RFC 3339, UTC.
    timestamp: String,
}

/// Events that fit the filter.
pub async fn list(
    State(api): State<Api>,
    OpenedHistory(tenant, from): OpenedHistory,
    uri: Uri,
) -> Result<Response, Problem> {
    let (mut query, cursor) = parameters::event_query(tenant.clone(), &uri)?;
    query.since = query.since.max(from);
    if let Some(text) = cursor {
        let position = cursor::open(&api.tokens, cursor::Kind::Page, &query, &text).ok_or_else(|| {
            Problem::malformed("cursor: is not one of ours for this tenant and filter; begin without one")
        })?;
        query.start = Start::OlderThan(position);
    }
    let events = api.query(api.storage.events(query.clone())).await?;
    let full = u32::try_from(events.len()).is_ok_and(|count| count == query.limit);
    let last = events.last().filter(|_| full);
    let next_cursor =
        last.and_then(|event| cursor::issue(&api.tokens, cursor::Kind::Page, &query, event.position));
    Ok(json(&Events {
        tenant_id: tenant.to_string(),
        count: events.len(),
        events: events.into_iter().map(EventBody::from).collect(),
        next_cursor,
        timestamp: rfc3339(api.clock.now()),
    }))
}

/// Stores an application's event.
pub async fn report(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
    Extension(correlation_id): Extension<CorrelationId>,
    OpenedTenant(tenant): OpenedTenant,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let new: NewEvent = body::json(&headers, body, MAX_EVENT_BYTES).await?;
    let event_type = EventType::new(&new.event_type.to_ascii_uppercase()).ok_or_else(|| {
        Problem::unprocessable("event_type: must be a letter, then letters, digits and _, at most 100")
    })?;
    if event_type.as_str() == EventType::AUDIT_GAP {
        return Err(Problem::unprocessable("event_type: AUDIT_GAP is for what proxies report"));
    }
    let severity = new.severity.as_deref().map_or(Some(Severity::Info), Severity::from_name);
    let severity =
        severity.ok_or_else(|| Problem::unprocessable("severity: must be INFO, WARNING or ERROR"))?;
    let user_id = texts::optional("user_id", new.user_id, Width(50))?;
    let ip_address = texts::address("ip_address", new.ip_address)?;
    let user_agent = texts::optional("user_agent", new.user_agent, Width(500))?;
    let key = api.numbering.next().ok_or_else(|| Problem::of_status(StatusCode::INTERNAL_SERVER_ERROR))?;
    let id = key.to_string();
    let at = api.clock.now();
    let what = What { tenant: tenant.clone(), event_type: event_type.clone(), severity, at };
    let event =
        Event::reported(key, what, new.details).map_err(|error| Problem::unprocessable(error.to_string()))?;
    let mut event = Event { user_id, ip_address, user_agent, ..event };
    // It is kept in the open: whatever is no ID is the application's own affair, and could tell of people.
    let given = event.details.get("correlation_id").and_then(Value::as_str);
    if given.and_then(|text| CorrelationId::accept(text.as_bytes())).is_none() {
        event.details.insert("correlation_id".to_owned(), correlation_id.as_str().into());
    }
    event.details.insert("source".to_owned(), "application".into());
    event.details.insert("token_id".to_owned(), grant.id.into());
    api.trail.append(vec![event]).await.map_err(|error| Problem::trail(&error))?;
    tracing::info!(
        category = "audit",
        tenant_id = tenant.as_str(),
        event_type = event_type.as_str(),
        severity = severity.as_str(),
        id,
        "an application reported an event"
    );
    let stored = Stored {
        id,
        tenant_id: tenant.to_string(),
        event_type: event_type.as_str().to_owned(),
        timestamp: rfc3339(at),
    };
    Ok((StatusCode::CREATED, json(&stored)).into_response())
}
