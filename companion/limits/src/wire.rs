//! `POST /v1/leases`: what a process asks and is answered, as JSON. Durations only, never a point in time.
//!
//! ```json
//! {"process": "9f2c00000000abcd", "asks": [
//!   {"tenant": "acme", "rule": "login", "subject": "user=alice", "limit": 5, "window_ms": 60000, "burst": 5,
//!    "sequence": 17, "held": 0, "want": 1, "need": 1, "give_back": 0}]}
//! ```
//! is answered in the order of the asks:
//! ```json
//! {"grants": [{"keep": 0, "granted": 1, "expires_ms": 3000, "retry_after_ms": 0, "remaining": 4}]}
//! ```
//!
//! The process's part of the promise (see [`crate::step`]): its tokens become `min(tokens now, keep) + granted`, and end
//! `expires_ms` after the ask was *sent*; an answer counts once, and only if it answers the newest ask for that
//! key; tokens under
//! `give_back` are taken out before the ask is sent. Without an answer nothing changes, and what it may have granted is
//! never counted twice. A call that is malformed anywhere changes nothing.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    key::{Name, NameError},
    quota::{Quota, QuotaError},
    step,
};

/// Asks of one call.
pub const ASKS: usize = 256;

/// A call.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// Drawn at random when the process starts, shared by its workers: 16 hexadecimal digits.
    pub process: String,
    /// At most [`ASKS`].
    pub asks: Vec<Ask>,
}

/// One key.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// Whose limit; `*` for one that all share.
    pub tenant: String,
    /// The rule's name.
    pub rule: String,
    /// For whom: `user=alice`, `ip=192.0.2.7`; parts joined with `|`; empty for the tenant as a whole.
    #[serde(default)]
    pub subject: String,
    /// Requests per window; 0 allows nothing.
    pub limit: u32,
    /// The window.
    pub window_ms: u64,
    /// Requests that may come at once.
    pub burst: u32,
    /// Rises with every ask of the process for this key.
    pub sequence: u64,
    /// Tokens that the process has.
    #[serde(default)]
    pub held: u32,
    /// Tokens that it would like.
    #[serde(default)]
    pub want: u32,
    /// Of these, how many requests wait for now; left out: 1 if it holds none and wants some.
    #[serde(default)]
    pub need: Option<u32>,
    /// Tokens that it has given up, not among `held`.
    #[serde(default)]
    pub give_back: u32,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, Default)]
pub struct Grants {
    /// In the order of the asks.
    pub grants: Vec<Grant>,
}

/// For one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, Default)]
pub struct Grant {
    /// Of what it held the process may keep so many.
    pub keep: u32,
    /// And gets these.
    pub granted: u32,
    /// For so long since it sent the ask.
    pub expires_ms: u64,
    /// If none could be had: when one may be, rounded up.
    pub retry_after_ms: u64,
    /// Left for others.
    pub remaining: u64,
}

impl From<step::Grant> for Grant {
    fn from(grant: step::Grant) -> Self {
        let step::Grant { keep, granted, expires_ms, retry_after_ns, remaining } = grant;
        Self { keep, granted, expires_ms, retry_after_ms: retry_after_ns.div_ceil(1_000_000), remaining }
    }
}

/// Why a call is refused as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// See the text.
    #[error("process: must be 16 hexadecimal digits")]
    Process,
    /// See the text.
    #[error("asks: must be at most 256")]
    Asks,
    /// A name.
    #[error("asks[{0}]: {1}")]
    Name(usize, NameError),
    /// Numbers.
    #[error("asks[{0}]: {1}")]
    Quota(usize, QuotaError),
}

/// A checked ask.
#[derive(Debug, Clone, Copy)]
pub struct Checked<'a> {
    /// The key.
    pub name: Name<'a>,
    /// The numbers.
    pub quota: Quota,
    /// The question.
    pub ask: step::Ask,
}

impl Call {
    /// Checks everything.
    ///
    /// # Errors
    /// [`CallError`] names the first place and what it must be.
    pub fn check(&self) -> Result<Vec<Checked<'_>>, CallError> {
        let process = process(&self.process).ok_or(CallError::Process)?;
        if self.asks.len() > ASKS {
            return Err(CallError::Asks);
        }
        self.asks.iter().enumerate().map(|(index, ask)| ask.check(index, process)).collect()
    }
}

/// The number behind 16 hexadecimal digits.
#[must_use]
pub fn process(text: &str) -> Option<u64> {
    let shaped = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    shaped.then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

impl Ask {
    fn check(&self, index: usize, process: u64) -> Result<Checked<'_>, CallError> {
        let name = Name::new(&self.tenant, &self.rule, &self.subject)
            .map_err(|error| CallError::Name(index, error))?;
        let quota = Quota::new(self.limit, Duration::from_millis(self.window_ms), self.burst)
            .map_err(|error| CallError::Quota(index, error))?;
        let need = self.need.unwrap_or(u32::from(self.want > 0 && self.held == 0));
        let Self { sequence, held, want, give_back, .. } = *self;
        Ok(Checked { name, quota, ask: step::Ask { process, sequence, held, want, need, give_back } })
    }
}
