//! Events that do not come from a module: an application's own, a browser's, the companion's. All are put together here, so that
//! nothing is stored that a store cannot hold, and nothing without a bound.
//!
//! U+0000 is legal in JSON and refused by PostgreSQL's jsonb: it is replaced, in names and in values. Details have at most
//! [`MAX_DETAILS_BYTES`] as JSON and [`MAX_DEPTH`] levels. Who can mend what is too large is told ([`Event::reported`]); of what the
//! companion itself has to tell the rest is kept, and what was left out is named ([`Event::own`]).

use serde_json::{Map, Value};

use super::{Event, EventType, RecordKey, Severity};
use crate::clock::Timestamp;
use crate::tenant::TenantId;
use crate::units::bounded;

/// The most bytes of details, as JSON.
pub const MAX_DETAILS_BYTES: usize = 16 * 1024;
/// The most levels of details: JSON readers stop at 128, and details stand within other objects.
pub const MAX_DEPTH: usize = 64;
/// Where it stands what was left out.
const LEFT_OUT: &str = "left_out";
/// Names that are told of what was left out.
const MOST_NAMES: usize = 20;
/// Characters of each.
const NAME_CHARS: usize = 100;

/// Why details cannot be stored as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DetailsError {
    /// Too many bytes.
    #[error("details: {0} bytes as JSON, must be at most {MAX_DETAILS_BYTES}; leave something out")]
    TooLarge(usize),
    /// Too many levels.
    #[error("details: has more than {MAX_DEPTH} levels; make it flatter")]
    TooDeep,
}

/// What happened to whom.
#[derive(Clone, Debug)]
pub struct What {
    /// Whose it is.
    pub tenant: TenantId,
    /// What happened.
    pub event_type: EventType,
    /// How grave it is.
    pub severity: Severity,
    /// When.
    pub at: Timestamp,
}

impl Event {
    /// An event that somebody reports, who is told when its details cannot be. Its name stands in `details.uid`.
    ///
    /// # Errors
    /// [`DetailsError`].
    pub fn reported(key: RecordKey, what: What, details: Map<String, Value>) -> Result<Self, DetailsError> {
        if !details.values().all(|value| is_within(value, MAX_DEPTH - 1)) {
            return Err(DetailsError::TooDeep);
        }
        let details = cleaned(details);
        let bytes = size(&details);
        if bytes > MAX_DETAILS_BYTES {
            return Err(DetailsError::TooLarge(bytes));
        }
        Ok(Self::of(key, what, details))
    }

    /// An event of the companion's own. What is too large or too deep in it is left out and named in `details.left_out`. Its name
    /// stands in `details.uid`.
    #[must_use]
    pub fn own(key: RecordKey, what: What, details: Map<String, Value>) -> Self {
        let mut left = MAX_DETAILS_BYTES;
        let (mut kept, mut left_out) = (Map::new(), Vec::new());
        for (name, value) in details {
            let called = bounded(&name, NAME_CHARS);
            let one = is_within(&value, MAX_DEPTH - 1).then(|| cleaned(Map::from_iter([(name, value)])));
            match one.map(|one| (size(&one), one)) {
                Some((bytes, one)) if bytes <= left => {
                    left -= bytes;
                    kept.extend(one);
                }
                _ => left_out.push(Value::from(called)),
            }
        }
        if !left_out.is_empty() {
            left_out.truncate(MOST_NAMES);
            kept.insert(LEFT_OUT.to_owned(), left_out.into());
        }
        Self::of(key, what, kept)
    }

    fn of(key: RecordKey, what: What, mut details: Map<String, Value>) -> Self {
        let What { tenant, event_type, severity, at } = what;
        details.insert("uid".to_owned(), key.to_string().into());
        Self {
            key,
            tenant,
            event_type,
            severity,
            user_id: None,
            ip_address: None,
            user_agent: None,
            details,
            at,
            at_arrival: false,
            rate_limit: None,
            gap: None,
        }
    }
}

/// The value as every store takes it. The depth must be bounded.
#[must_use]
pub fn clean(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(without_nul(text)),
        Value::Array(items) => Value::Array(items.into_iter().map(clean).collect()),
        Value::Object(map) => Value::Object(cleaned(map)),
        other => other,
    }
}

/// [`clean`], of all values and their names.
#[must_use]
pub fn cleaned(map: Map<String, Value>) -> Map<String, Value> {
    map.into_iter().map(|(name, value)| (without_nul(name), clean(value))).collect()
}

/// U+0000 replaced.
#[must_use]
pub fn without_nul(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{FFFD}") } else { text }
}

/// Whether a value has at most so many levels.
fn is_within(value: &Value, levels: usize) -> bool {
    let Some(below) = levels.checked_sub(1) else {
        return !matches!(value, Value::Array(_) | Value::Object(_));
    };
    match value {
        Value::Array(items) => items.iter().all(|item| is_within(item, below)),
        Value::Object(map) => map.values().all(|value| is_within(value, below)),
        _ => true,
    }
}

/// Bytes as JSON.
fn size(map: &Map<String, Value>) -> usize {
    // What is no JSON, because a number or a key cannot be written, has no size that fits.
    serde_json::to_vec(map).map_or(usize::MAX, |text| text.len())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::event::Numbering;

    fn what() -> What {
        What {
            tenant: TenantId::new("acme").unwrap(),
            event_type: EventType::new("ORDER_PAID").unwrap(),
            severity: Severity::Info,
            at: Timestamp::UNIX_EPOCH,
        }
    }

    fn reported(details: &Value) -> Result<Event, DetailsError> {
        Event::reported(Numbering::default().next().unwrap(), what(), details.as_object().unwrap().clone())
    }

    fn nested(levels: usize) -> Value {
        (0..levels).fold(json!(1), |inner, _| json!({ "a": inner }))
    }

    #[test]
    fn what_a_store_cannot_hold_is_replaced_and_the_name_is_its_own() {
        let event = reported(&json!({"a\0": ["b\0", {"c\0": 1}], "uid": "forged"})).unwrap();
        assert_eq!(event.details["a\u{FFFD}"], json!(["b\u{FFFD}", {"c\u{FFFD}": 1}]));
        assert_eq!(event.details["uid"], event.key.to_string());
    }

    #[test]
    fn details_are_bounded_to_the_byte_and_to_the_level() {
        let of = |length: usize| json!({"a": "x".repeat(length)});
        let frame = of(0).to_string().len();
        assert!(reported(&of(MAX_DETAILS_BYTES - frame)).is_ok());
        let more = reported(&of(MAX_DETAILS_BYTES - frame + 1)).unwrap_err();
        assert_eq!(more, DetailsError::TooLarge(MAX_DETAILS_BYTES + 1));
        assert!(reported(&nested(MAX_DEPTH)).is_ok());
        assert_eq!(reported(&nested(MAX_DEPTH + 1)).unwrap_err(), DetailsError::TooDeep);
    }

    #[test]
    fn of_the_companions_own_the_rest_is_kept_and_what_is_not_is_named() {
        let details =
            json!({"before": 1, "large": "x".repeat(MAX_DETAILS_BYTES), "deep": nested(100), "with\0": "\0"});
        let key = Numbering::default().next().unwrap();
        let event = Event::own(key, what(), details.as_object().unwrap().clone());
        assert_eq!(event.details["before"], 1);
        assert_eq!(event.details["with\u{FFFD}"], "\u{FFFD}");
        assert_eq!(event.details[LEFT_OUT], json!(["deep", "large"]));
        assert!(size(&event.details) < MAX_DETAILS_BYTES + 4096);
        let key = Numbering::default().next().unwrap();
        let small = Event::own(key, what(), json!({"a": 1}).as_object().unwrap().clone());
        assert_eq!(small.details.len(), 2, "nothing was left out");
    }
}
