//! One line of a batch: an OCSF 1.x HTTP Activity (class 4002) record, read strictly into an [`Event`].
//!
//! Fields that this companion does not know are ignored, because the schema grows; a field it knows and
//! cannot read rejects the line. Texts are cut to the width of their column, control characters are replaced,
//! an address that is none is dropped.

use std::borrow::Cow;
use std::net::IpAddr;
use std::ops::Deref;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::clock::{Timestamp, at_millis};
use crate::event::{
    Epoch, Event, EventType, Gap, RateLimitExcess, RecordKey, Sequence, Severity, clean, cleaned,
};
use crate::tenant::TenantId;
use crate::units::bounded;

/// The longest line, in bytes.
pub const MAX_LINE_BYTES: usize = 16 * 1024;

const CLASS_HTTP_ACTIVITY: u32 = 4002;
/// What a proxy's clock may be ahead of this machine's: events may have a time that has not come by so much.
pub const CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);
/// Widths of the columns, in characters.
const MAX_USER: usize = 50;
const MAX_USER_AGENT: usize = 500;
const MAX_ACTION: usize = 50;
/// Widths within `details`.
const MAX_WORD: usize = 200;
const MAX_URL: usize = 2048;
/// A rate limit's window when the record names none.
const DEFAULT_WINDOW_MS: u64 = 60_000;
const MAX_WINDOW_MS: u64 = 366 * 24 * 60 * 60 * 1000;

/// Why a line is rejected.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Not JSON, not the shape, or a field of the wrong type.
    #[error("not a record: {0}")]
    Json(#[from] serde_json::Error),
    /// Longer than [`MAX_LINE_BYTES`].
    #[error("longer than 16384 bytes")]
    TooLong,
    /// A field whose value cannot be stored.
    #[error("{field}: {problem}")]
    Field {
        /// Its path.
        field: &'static str,
        /// What it must be.
        problem: &'static str,
    },
}

fn wrong(field: &'static str, problem: &'static str) -> RecordError {
    RecordError::Field { field, problem }
}

#[derive(Deserialize)]
struct Wire<'a> {
    class_uid: u32,
    time: i64,
    #[serde(default)]
    duration: Option<u64>,
    #[serde(borrow)]
    metadata: Metadata<'a>,
    #[serde(default, borrow)]
    actor: Option<Actor<'a>>,
    #[serde(default, borrow)]
    src_endpoint: Option<Endpoint<'a>>,
    #[serde(default, borrow)]
    http_request: Option<HttpRequest<'a>>,
    #[serde(default)]
    http_response: Option<HttpResponse>,
    #[serde(borrow)]
    unmapped: Unmapped<'a>,
}

#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(default, borrow)]
    correlation_uid: Option<Text<'a>>,
    #[serde(default, borrow)]
    tenant_uid: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Actor<'a> {
    #[serde(default, borrow)]
    user: Option<User<'a>>,
}

#[derive(Deserialize)]
struct User<'a> {
    #[serde(default, borrow)]
    uid: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Endpoint<'a> {
    #[serde(default, borrow)]
    ip: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct HttpRequest<'a> {
    #[serde(default, borrow)]
    http_method: Option<Text<'a>>,
    #[serde(default, borrow)]
    url: Option<Url<'a>>,
    #[serde(default, borrow)]
    user_agent: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Url<'a> {
    #[serde(default, borrow)]
    hostname: Option<Text<'a>>,
    #[serde(default, borrow)]
    path: Option<Text<'a>>,
    #[serde(default, borrow)]
    query_string: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct HttpResponse {
    #[serde(default)]
    code: Option<u16>,
}

#[derive(Deserialize)]
struct Unmapped<'a> {
    #[serde(borrow)]
    portcullis: Portcullis<'a>,
}

#[derive(Deserialize)]
struct Portcullis<'a> {
    #[serde(borrow)]
    event_type: Text<'a>,
    #[serde(borrow)]
    severity: Text<'a>,
    #[serde(borrow)]
    epoch: Text<'a>,
    sequence: u64,
    #[serde(default, borrow)]
    action: Option<Text<'a>>,
    #[serde(default, borrow)]
    policy: Option<Text<'a>>,
    #[serde(default, borrow)]
    reason: Option<Text<'a>>,
    #[serde(default)]
    decision: Option<Decision>,
    #[serde(default)]
    details: Option<Map<String, Value>>,
    #[serde(default)]
    notes: Option<Value>,
    #[serde(default)]
    durations_us: Option<Map<String, Value>>,
}

/// A text of the line, which is copied only where it is escaped.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Decision {
    Allow,
    Monitor,
    Deny,
}

impl Decision {
    fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Monitor => "monitor",
            Self::Deny => "deny",
        }
    }
}

/// Reads one line. `received` replaces a time that the sender could not know: none, or one that lies further ahead than clocks differ
/// ([`CLOCK_SKEW`]). One that is a little ahead is taken as it is said: a record that is delivered again must have the same time
/// again, for stores that find it by its time too.
///
/// # Errors
/// [`RecordError`] says which field, and what it must be.
pub fn read(line: &[u8], received: Timestamp) -> Result<Event, RecordError> {
    if line.len() > MAX_LINE_BYTES {
        return Err(RecordError::TooLong);
    }
    let mut wire: Wire<'_> = serde_json::from_slice(line)?;
    if wire.class_uid != CLASS_HTTP_ACTIVITY {
        return Err(wrong("class_uid", "must be 4002 (HTTP Activity)"));
    }
    let ours = &wire.unmapped.portcullis;
    let key = RecordKey {
        epoch: Epoch::new(&ours.epoch)
            .ok_or_else(|| wrong("unmapped.portcullis.epoch", "must be 16 hexadecimal digits"))?,
        sequence: sequence(ours.sequence, "unmapped.portcullis.sequence")?,
    };
    let event_type = EventType::new(&ours.event_type)
        .ok_or_else(|| wrong("unmapped.portcullis.event_type", "must be 1 to 100 of A-Z, 0-9 and _"))?;
    let severity = Severity::from_name(&ours.severity)
        .ok_or_else(|| wrong("unmapped.portcullis.severity", "must be INFO, WARNING or ERROR"))?;
    let tenant = match wire.metadata.tenant_uid.as_deref() {
        None | Some("") => TenantId::public(),
        Some(name) => TenantId::new(name)
            .map_err(|_| wrong("metadata.tenant_uid", "must be 1 to 50 visible ASCII characters"))?,
    };
    let latest = received.checked_add(CLOCK_SKEW).unwrap_or(received);
    let claimed = at_millis(wire.time).filter(|at| wire.time > 0 && *at <= latest);
    let at = claimed.unwrap_or(received);
    let details_in = ours.details.as_ref();
    let gap = (event_type.as_str() == EventType::AUDIT_GAP).then(|| gap(details_in)).transpose()?;
    let rate_limit = (event_type.as_str() == EventType::RATE_LIMIT_EXCEEDED)
        .then(|| excess(ours.action.as_deref(), details_in, at));
    let user_id =
        wire.actor.as_ref().and_then(|actor| actor.user.as_ref()).and_then(|user| user.uid.as_deref());
    let address = wire.src_endpoint.as_ref().and_then(|endpoint| endpoint.ip.as_deref());
    let user_agent = wire.http_request.as_ref().and_then(|request| request.user_agent.as_deref());
    let user_id = column(user_id, MAX_USER);
    let ip_address = address.and_then(|text| text.parse::<IpAddr>().ok()).map(|ip| ip.to_string());
    let user_agent = column(user_agent, MAX_USER_AGENT);
    Ok(Event {
        user_id,
        ip_address,
        user_agent,
        details: details(&mut wire, &key),
        key,
        tenant,
        event_type,
        severity,
        at,
        at_arrival: claimed.is_none(),
        rate_limit,
        gap,
    })
}

fn column(text: Option<&str>, max: usize) -> Option<String> {
    text.filter(|text| !text.is_empty()).map(|text| bounded(text, max))
}

fn sequence(number: u64, field: &'static str) -> Result<Sequence, RecordError> {
    Sequence::new(number).ok_or_else(|| wrong(field, "must be 0 to 9223372036854775807"))
}

/// The record's own details, and over them what the companion knows under fixed names.
fn details(wire: &mut Wire<'_>, key: &RecordKey) -> Map<String, Value> {
    let ours = &mut wire.unmapped.portcullis;
    let mut details = ours.details.take().map(cleaned).unwrap_or_default();
    let (notes, durations) = (ours.notes.take().map(clean), ours.durations_us.take().map(cleaned));
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            details.insert(name.to_owned(), value);
        }
    };
    let text = |text: Option<&str>, max| column(text, max).map(Value::String);
    put("uid", Some(key.to_string().into()));
    put("correlation_id", text(wire.metadata.correlation_uid.as_deref(), MAX_WORD));
    put("action", text(ours.action.as_deref(), MAX_WORD));
    put("policy", text(ours.policy.as_deref(), MAX_WORD));
    put("reason", text(ours.reason.as_deref(), MAX_WORD));
    put("decision", ours.decision.map(|decision| decision.as_str().into()));
    if let Some(request) = &wire.http_request {
        put("method", text(request.http_method.as_deref(), MAX_WORD));
        put("user_agent", text(request.user_agent.as_deref(), MAX_USER_AGENT));
        if let Some(url) = &request.url {
            put("host", text(url.hostname.as_deref(), MAX_WORD));
            put("path", text(url.path.as_deref(), MAX_URL));
            put("query", text(url.query_string.as_deref(), MAX_URL));
        }
    }
    put("status", wire.http_response.as_ref().and_then(|response| response.code).map(Value::from));
    put("duration_ms", wire.duration.map(Value::from));
    put("notes", notes);
    put("durations_us", durations.map(Value::Object));
    details
}

fn gap(details: Option<&Map<String, Value>>) -> Result<Gap, RecordError> {
    const DETAILS: &str = "unmapped.portcullis.details";
    let details = details.ok_or_else(|| wrong(DETAILS, "an AUDIT_GAP must say its cause"))?;
    let number = |name: &str| details.get(name).and_then(Value::as_u64);
    match details.get("cause").and_then(Value::as_str) {
        Some("overflow") => {
            let count = number("count")
                .ok_or_else(|| wrong("unmapped.portcullis.details.count", "must be a whole number"))?;
            Ok(Gap::Overflow { count })
        }
        Some("vm-died") => {
            let epoch =
                details.get("lost_epoch").and_then(Value::as_str).and_then(Epoch::new).ok_or_else(|| {
                    wrong("unmapped.portcullis.details.lost_epoch", "must be 16 hexadecimal digits")
                })?;
            let bound = |name, field| {
                number(name)
                    .ok_or_else(|| wrong(field, "must be a whole number"))
                    .and_then(|n| sequence(n, field))
            };
            let from = bound("from", "unmapped.portcullis.details.from")?;
            let to = bound("to", "unmapped.portcullis.details.to")?;
            if from > to {
                return Err(wrong("unmapped.portcullis.details.from", "must not be after `to`"));
            }
            Ok(Gap::VmDied { epoch, from, to })
        }
        _ => Err(wrong("unmapped.portcullis.details.cause", "must be overflow or vm-died")),
    }
}

/// The window ends with the refusal; its length is the rule's (`details.window_ms`), a minute when the record
/// does not say.
fn excess(action: Option<&str>, details: Option<&Map<String, Value>>, at: Timestamp) -> RateLimitExcess {
    let number = |name: &str| details.and_then(|details| details.get(name)).and_then(Value::as_u64);
    let window_ms = number("window_ms").unwrap_or(DEFAULT_WINDOW_MS).min(MAX_WINDOW_MS);
    let start = at.as_millisecond().saturating_sub(i64::try_from(window_ms).unwrap_or(i64::MAX));
    RateLimitExcess {
        action: column(action, MAX_ACTION).unwrap_or_else(|| "unknown".to_owned()),
        request_count: number("request_count")
            .and_then(|count| u32::try_from(count).ok())
            .unwrap_or(1)
            .min(i32::MAX as u32),
        window_start: at_millis(start).unwrap_or(Timestamp::UNIX_EPOCH),
        window_end: at,
    }
}

#[cfg(test)]
mod tests;
