//! An event as a record of the trail.
//!
//! The public part is a JSON object: `v` (1), `epoch`, `sequence`, `event_type`, `severity`, `details`, and where there are
//! any `at_arrival`, `rate_limit`, `gap`. What tells of a person is an object of its own: `user_id`, `ip_address`,
//! `user_agent`, and of the details those in [`PERSONAL`]; of an application's own event all but the names that we put
//! there. It is sealed under the tenant's key ([`super::seal`]) and stands in the record's sealed part; a trail without keys,
//! and releases before there were any, have it beside the rest as `personal`. Tenant and time are the record's own.

use portcullis_audit_log::feed::Stored;
use portcullis_audit_log::log::Entry;
use portcullis_keyring::Error;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::seal::{Opener, Seals};
use crate::clock::{Timestamp, at_millis};
use crate::event::{Epoch, Event, EventType, Gap, RateLimitExcess, RecordKey, Sequence, Severity};
use crate::keys::KeysError;
use crate::tenant::TenantId;

/// Details that tell of a person, or may. `storage::erasure` knows them too.
pub const PERSONAL: [&str; 4] = ["user_agent", "query", "excerpt", "referer"];
/// Details of an application's event that are ours.
pub const OURS: [&str; 4] = ["uid", "correlation_id", "source", "token_id"];
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
    /// It could not be sealed.
    #[error(transparent)]
    Sealing(#[from] Error),
    /// Keys are not to be had; it may be opened later.
    #[error(transparent)]
    Keys(#[from] KeysError),
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

/// An event as it is appended.
pub struct Encoded {
    /// The record.
    pub entry: Entry,
    /// Whether something that tells of a person was left out, because the tenant has no key.
    pub unkept: bool,
}

/// The record of an event, sealed if there are keys.
///
/// # Errors
/// It could not be sealed: the event must not be stored then.
pub fn encode(event: Event, seals: Option<&Seals>) -> Result<Encoded, RecordError> {
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
    let (mut sealed, mut unkept) = (Vec::new(), false);
    if !personal.is_empty() {
        match seals {
            None => public.personal = Some(personal),
            Some(seals) => match seals.seal(&tenant, &row, &serde_json::to_vec(&personal)?)? {
                Some(envelope) => sealed = envelope,
                None => unkept = true,
            },
        }
    }
    let entry = Entry {
        tenant: tenant.as_str().to_owned(),
        time: u64::try_from(at.as_millisecond()).unwrap_or(0),
        public: serde_json::to_vec(&public)?,
        sealed,
    };
    Ok(Encoded { entry, unkept })
}

/// The event, and nothing of people.
#[must_use]
pub fn without_people(mut event: Event) -> Event {
    take_personal(&mut event.details);
    Event { user_id: None, ip_address: None, user_agent: None, ..event }
}

/// An application's own event may say anything about a person anywhere.
fn take_personal(details: &mut Map<String, Value>) -> Map<String, Value> {
    if details.get("source").and_then(Value::as_str) == Some("application") {
        let is_ours = |(name, _): &(String, Value)| OURS.contains(&name.as_str());
        let (ours, theirs) = std::mem::take(details).into_iter().partition(is_ours);
        *details = ours;
        theirs
    } else {
        PERSONAL.iter().filter_map(|name| details.remove_entry(*name)).collect()
    }
}

/// The event of a record. What is sealed is left out without an `opener`, and when its key is gone.
///
/// # Errors
/// [`RecordError`].
pub fn decode(stored: &Stored, opener: Option<&mut Opener<'_>>) -> Result<Event, RecordError> {
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
    let tenant = TenantId::new(&stored.tenant).map_err(|_| wrong("tenant"))?;
    let mut personal = public.personal.unwrap_or_default();
    if let (false, Some(opener)) = (stored.sealed.is_empty(), opener)
        && let Some(plain) = opener.open(&tenant, &key.to_string(), &stored.sealed)?
    {
        personal = serde_json::from_slice(plain.expose())?;
    }
    let mut details = public.details;
    details.extend(personal.details);
    Ok(Event {
        tenant,
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

/// What a record tells of people, as it was sealed; null when nobody can read it any more.
///
/// # Errors
/// [`RecordError`].
pub fn personal(stored: &Stored, opener: &mut Opener<'_>) -> Result<Value, RecordError> {
    let public: Public = serde_json::from_slice(&stored.public)?;
    let tenant = TenantId::new(&stored.tenant).map_err(|_| RecordError::Field("tenant"))?;
    let row = format!("{}-{}", public.epoch, public.sequence);
    let opened = opener.open(&tenant, &row, &stored.sealed)?;
    Ok(opened.map(|plain| serde_json::from_slice(plain.expose())).transpose()?.unwrap_or_default())
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
