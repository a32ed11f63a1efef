//! A security event as the companion knows it: bounded, cleaned, ready to be stored.

use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Map, Value};

pub use own::{DetailsError, MAX_DEPTH, MAX_DETAILS_BYTES, What, clean, cleaned, without_nul};

use crate::clock::Timestamp;
use crate::secret::random_hex;
use crate::tenant::TenantId;

/// How grave an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    /// Allowed.
    Info,
    /// Refused.
    Warning,
    /// Something failed.
    Error,
}

impl Severity {
    /// All, in the order of [`Severity::index`].
    pub const ALL: [Self; 3] = [Self::Info, Self::Warning, Self::Error];

    /// The name in the store and in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "INFO",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
        }
    }

    /// Reads a name; case matters.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|severity| severity.as_str() == name)
    }
}

/// What happened: 1 to 100 characters of `A-Z`, `0-9` and `_`, a letter first.
///
/// The set is open on purpose: a newer module may report a type that this companion does not know yet, and
/// its records must not be lost.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EventType(Cow<'static, str>);

impl EventType {
    /// A request and what was decided on it.
    pub const REQUEST: &'static str = "REQUEST";
    /// A limit was exceeded.
    pub const RATE_LIMIT_EXCEEDED: &'static str = "RATE_LIMIT_EXCEEDED";
    /// No identity where one was required.
    pub const UNAUTHORIZED_ACCESS: &'static str = "UNAUTHORIZED_ACCESS";
    /// Records were lost, and this says how many.
    pub const AUDIT_GAP: &'static str = "AUDIT_GAP";
    /// A browser has met a violation of a Content-Security-Policy.
    pub const CSP_REPORT: &'static str = "CSP_REPORT";
    /// The types that have a metric of their own; all others are counted as `other`.
    pub const KNOWN: [&'static str; 8] = [
        Self::REQUEST,
        "REQUEST_INTENT",
        "ATTACK_BLOCKED",
        "ATTACK_DETECTED",
        Self::RATE_LIMIT_EXCEEDED,
        Self::UNAUTHORIZED_ACCESS,
        Self::AUDIT_GAP,
        Self::CSP_REPORT,
    ];

    /// Takes `name` if it is well formed.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let shaped = name.len() <= 100
            && name.starts_with(|first: char| first.is_ascii_uppercase())
            && name.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_'));
        let known = || Self::KNOWN.into_iter().find(|known| *known == name);
        shaped.then(|| Self(known().map_or_else(|| name.to_owned().into(), Cow::Borrowed)))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Which life of which VM wrote a record: 16 lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Epoch([u8; 16]);

impl Epoch {
    /// Takes 16 hexadecimal digits of either case.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let digits: [u8; 16] = text.as_bytes().try_into().ok()?;
        digits.iter().all(u8::is_ascii_hexdigit).then(|| Self(digits.map(|digit| digit.to_ascii_lowercase())))
    }

    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Digits are text.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// What makes a record the same record when it is delivered twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RecordKey {
    /// The writer.
    pub epoch: Epoch,
    /// The writer's counter.
    pub sequence: Sequence,
}

impl fmt::Display for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch.as_str(), self.sequence.0)
    }
}

/// A writer's counter: 0 to 2^63 - 1, what every SQL store can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(i64);

impl Sequence {
    /// Takes a number a store can hold.
    #[must_use]
    pub fn new(number: u64) -> Option<Self> {
        i64::try_from(number).ok().map(Self)
    }

    /// The number.
    #[must_use]
    pub fn as_i64(self) -> i64 {
        self.0
    }
}

/// Why records are missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gap {
    /// The module's queue was full; it counted what it dropped.
    Overflow {
        /// How many.
        count: u64,
    },
    /// A VM died with these in it; some of them may have arrived all the same.
    VmDied {
        /// The life that ended.
        epoch: Epoch,
        /// First number not acknowledged.
        from: Sequence,
        /// Last number given out.
        to: Sequence,
    },
}

impl Gap {
    /// The name of the cause, also a metric's label.
    #[must_use]
    pub fn cause(&self) -> &'static str {
        match self {
            Self::Overflow { .. } => "overflow",
            Self::VmDied { .. } => "vm-died",
        }
    }
}

/// A row of `rate_limiting_logs` beside the event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimitExcess {
    /// What was limited, at most 50 characters.
    pub action: String,
    /// How many requests the row stands for.
    pub request_count: u32,
    /// Where the window began.
    pub window_start: Timestamp,
    /// Where it ended.
    pub window_end: Timestamp,
}

/// An event to store.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// For deduplication.
    pub key: RecordKey,
    /// Whose it is.
    pub tenant: TenantId,
    /// What happened.
    pub event_type: EventType,
    /// How grave it is.
    pub severity: Severity,
    /// Who, at most 50 characters.
    pub user_id: Option<String>,
    /// From where, at most 45 characters.
    pub ip_address: Option<String>,
    /// With what, at most 500 characters.
    pub user_agent: Option<String>,
    /// Everything else.
    pub details: Map<String, Value>,
    /// When it happened.
    pub at: Timestamp,
    /// Whether `at` is when it arrived, because the sender's own time could not be true: then the same record delivered
    /// again has another.
    pub at_arrival: bool,
    /// Set for a limit that was exceeded.
    pub rate_limit: Option<RateLimitExcess>,
    /// Set for a gap.
    pub gap: Option<Gap>,
}

/// Numbers the events that this process stores, beside those of the modules.
pub struct Numbering {
    epoch: Option<Epoch>,
    next: AtomicU64,
}

impl Default for Numbering {
    fn default() -> Self {
        let epoch = random_hex::<8>().ok().and_then(|text| Epoch::new(&text));
        Self { epoch, next: AtomicU64::new(1) }
    }
}

impl Numbering {
    /// The next event's key; none when the system gave no random bytes at the start.
    #[must_use]
    pub fn next(&self) -> Option<RecordKey> {
        let sequence = Sequence::new(self.next.fetch_add(1, Ordering::Relaxed))?;
        Some(RecordKey { epoch: self.epoch?, sequence })
    }
}

mod own;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_one_shape() {
        assert!(EventType::KNOWN.iter().all(|name| EventType::new(name).is_some()));
        for bad in ["", "request", "1A", "A B", "A'", &"A".repeat(101)] {
            assert_eq!(EventType::new(bad), None, "{bad}");
        }
    }

    #[test]
    fn epochs_are_sixteen_digits_of_one_case() {
        assert_eq!(Epoch::new("9F2C00000000ABCD").unwrap().as_str(), "9f2c00000000abcd");
        for bad in ["", "9f2c", "9f2c00000000abcg", "9f2c00000000abcd0"] {
            assert_eq!(Epoch::new(bad), None);
        }
        assert_eq!(Sequence::new(u64::MAX), None);
    }
}
