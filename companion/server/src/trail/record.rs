//! An event as a record of the trail.
//!
//! The public part is a JSON object: `v` (1), `epoch`, `sequence`, `event_type`, `severity`, `details`, and where there are
//! any `at_arrival`, `rate_limit`, `gap`. What tells of a person is an object of its own: `user_id`, `ip_address`,
//! `user_agent`, and of the details those in [`PERSONAL`]; of an application's own event all but the names that we put
//! there. With a key of the tenant it is sealed, and stands in the record's sealed part; without one it stands beside the
//! rest as `personal`. Tenant and time are the record's own.

use portcullis_audit_log::feed::Stored;
use portcullis_audit_log::log::Entry;
use portcullis_audit_log::sealing::{SealError, Sealer};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::clock::{Timestamp, at_millis};
use crate::event::{Epoch, Event, EventType, Gap, RateLimitExcess, RecordKey, Sequence, Severity};
use crate::tenant::TenantId;

/// Details that tell of a person, or may.
pub const PERSONAL: [&str; 4] = ["user_agent", "query", "excerpt", "referer"];
/// Details of an application's event that are ours.
const OURS: [&str; 4] = ["uid", "correlation_id", "source", "token_id"];
const VERSION: u8 = 1;

/// Why a record is no event that this release can read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Not JSON, or not the shape.
    #[error("not a record of this release: {0}")]
    Json(#[from] serde_json::Error),
    /// A field that cannot be.
    #[error("{0}: cannot be")]
    Field(&'static str),
    /// The tenant's key could not be asked.
    #[error(transparent)]
    Sealing(#[from] SealError),
}

#[derive(Serialize, Deserialize)]
struct Public {
    v: u8,
    epoch: String,
    sequence: i64,
    event_type: String,
    severity: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    at_arrival: bool,
    details: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rate_limit: Option<Excess>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gap: Option<Missing>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    personal: Option<Personal>,
}

#[derive(Default, Serialize, Deserialize)]
struct Personal {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ip_address: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user_agent: Option<String>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    details: Map<String, Value>,
}

impl Personal {
    fn is_empty(&self) -> bool {
        let Self { user_id, ip_address, user_agent, details } = self;
        user_id.is_none() && ip_address.is_none() && user_agent.is_none() && details.is_empty()
    }
}

#[derive(Serialize, Deserialize)]
struct Excess {
    action: String,
    request_count: u32,
    /// Milliseconds since the Unix epoch.
    from: i64,
    to: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "kebab-case")]
enum Missing {
    Overflow { count: u64 },
    VmDied { epoch: String, from: i64, to: i64 },
}

/// The record of an event, sealed if there is somebody who can.
///
/// # Errors
/// The tenant's key could not be had: the event must not be stored then.
pub fn encode(event: Event, sealer: Option<&dyn Sealer>) -> Result<Entry, RecordError> {
    let row = event.key.to_string();
    let Event { key, tenant, event_type, severity, mut details, at, .. } = event;
    let personal = Personal {
        user_id: event.user_id,
        ip_address: event.ip_address,
        user_agent: event.user_agent,
        details: take_personal(&mut details),
    };
    let mut public = Public {
        v: VERSION,
        epoch: key.epoch.as_str().to_owned(),
        sequence: key.sequence.as_i64(),
        event_type: event_type.as_str().to_owned(),
        severity: severity.as_str().to_owned(),
        at_arrival: event.at_arrival,
        details,
        rate_limit: event.rate_limit.map(|excess| Excess {
            action: excess.action,
            request_count: excess.request_count,
            from: excess.window_start.as_millisecond(),
            to: excess.window_end.as_millisecond(),
        }),
        gap: event.gap.map(|gap| match gap {
            Gap::Overflow { count } => Missing::Overflow { count },
            Gap::VmDied { epoch, from, to } => {
                Missing::VmDied { epoch: epoch.as_str().to_owned(), from: from.as_i64(), to: to.as_i64() }
            }
        }),
        personal: None,
    };
    let mut sealed = Vec::new();
    if !personal.is_empty() {
        match sealer {
            None => public.personal = Some(personal),
            Some(sealer) => {
                sealed = sealer.seal(tenant.as_str(), &row, &serde_json::to_vec(&personal)?)?;
            }
        }
    }
    Ok(Entry {
        tenant: tenant.as_str().to_owned(),
        time: u64::try_from(at.as_millisecond()).unwrap_or(0),
        public: serde_json::to_vec(&public)?,
        sealed,
    })
}

/// An application's own event may say anything about a person anywhere.
fn take_personal(details: &mut Map<String, Value>) -> Map<String, Value> {
    let names: Vec<String> = if details.get("source").and_then(Value::as_str) == Some("application") {
        details.keys().filter(|name| !OURS.contains(&name.as_str())).cloned().collect()
    } else {
        PERSONAL.iter().filter(|name| details.contains_key(**name)).map(|name| (*name).to_owned()).collect()
    };
    names.into_iter().filter_map(|name| details.remove(&name).map(|value| (name, value))).collect()
}

/// The event of a record. What was sealed under a key that is gone is left out.
///
/// # Errors
/// [`RecordError`].
pub fn decode(stored: &Stored, sealer: Option<&dyn Sealer>) -> Result<Event, RecordError> {
    let wrong = RecordError::Field;
    let public: Public = serde_json::from_slice(&stored.public)?;
    if public.v != VERSION {
        return Err(wrong("v"));
    }
    let sequence = |number: i64| u64::try_from(number).ok().and_then(Sequence::new);
    let key = RecordKey {
        epoch: Epoch::new(&public.epoch).ok_or(wrong("epoch"))?,
        sequence: sequence(public.sequence).ok_or(wrong("sequence"))?,
    };
    let mut personal = public.personal.unwrap_or_default();
    if let (false, Some(sealer)) = (stored.sealed.is_empty(), sealer)
        && let Some(plain) = sealer.open(&stored.tenant, &key.to_string(), &stored.sealed)?
    {
        personal = serde_json::from_slice(&plain)?;
    }
    let mut details = public.details;
    details.extend(personal.details);
    Ok(Event {
        tenant: TenantId::new(&stored.tenant).map_err(|_| wrong("tenant"))?,
        event_type: EventType::new(&public.event_type).ok_or(wrong("event_type"))?,
        severity: Severity::from_name(&public.severity).ok_or(wrong("severity"))?,
        user_id: personal.user_id,
        ip_address: personal.ip_address,
        user_agent: personal.user_agent,
        details,
        at: i64::try_from(stored.time).ok().and_then(at_millis).ok_or(wrong("time"))?,
        at_arrival: public.at_arrival,
        rate_limit: public.rate_limit.map(excess).transpose()?,
        gap: public.gap.map(|missing| gap(missing, sequence)).transpose()?,
        key,
    })
}

fn excess(excess: Excess) -> Result<RateLimitExcess, RecordError> {
    let at = |millis| -> Result<Timestamp, RecordError> {
        at_millis(millis).ok_or(RecordError::Field("rate_limit"))
    };
    Ok(RateLimitExcess {
        action: excess.action,
        request_count: excess.request_count,
        window_start: at(excess.from)?,
        window_end: at(excess.to)?,
    })
}

fn gap(missing: Missing, sequence: impl Fn(i64) -> Option<Sequence>) -> Result<Gap, RecordError> {
    let wrong = RecordError::Field("gap");
    match missing {
        Missing::Overflow { count } => Ok(Gap::Overflow { count }),
        Missing::VmDied { epoch, from, to } => {
            let (Some(epoch), Some(from), Some(to)) = (Epoch::new(&epoch), sequence(from), sequence(to))
            else {
                return Err(wrong);
            };
            Ok(Gap::VmDied { epoch, from, to })
        }
    }
}

#[cfg(test)]
mod tests;
