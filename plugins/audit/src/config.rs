//! What an operator writes, and what becomes of it.

use std::time::Duration;

use portcullis_policy::{ConfigErrors, Mode, Site, units::Span};
use serde::Deserialize;

use crate::{Audit, intent::Strict, queue::Limits, redact::Redactor};

/// How records reach the companion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Delivery {
    /// Queued in the worker, sent in batches, kept until the companion has stored them.
    #[default]
    Batched,
    /// The same, and before a request goes on, it waits until the companion has stored what it asks for; else it is
    /// answered 503.
    Strict,
}

/// The section `audit`.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Wire {
    /// `off` records nothing. `monitor` and `enforce` differ for `delivery: strict` alone: `monitor` lets a request pass whose
    /// intent could not be stored.
    pub mode: Mode,
    /// How records reach the companion.
    pub delivery: Delivery,
    /// How long a request of a strict route waits until its intent is stored, `10ms` to `30s`; then it is answered 503.
    pub strict_wait: Span,
    /// Room for records that wait, per worker: 64 KiB to 64 MiB. When it is full, new records are dropped and counted.
    pub queue_max_bytes: u64,
    /// The most that one delivery carries: 16 KiB to 1 MiB.
    pub batch_max_bytes: u64,
    /// The wait before the first repetition of a failed delivery, `100ms` to `1m`; doubled each time.
    pub retry_min: Span,
    /// The longest wait between repetitions, `retry_min` to `10m`.
    pub retry_max: Span,
    /// Names of query parameters and headers whose values are secrets, beside those that are known.
    pub redact: Vec<String>,
    /// Path segments after which a secret follows, like `reset` in `/reset/8f2c...`.
    pub redact_after: Vec<String>,
    /// Request headers that records carry. `authorization`, `cookie` and their like never are.
    pub headers: Vec<String>,
}

impl Default for Wire {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            delivery: Delivery::default(),
            strict_wait: Span(Duration::from_secs(2)),
            queue_max_bytes: 1024 * 1024,
            batch_max_bytes: 256 * 1024,
            retry_min: Span(Duration::from_millis(500)),
            retry_max: Span(Duration::from_secs(5)),
            redact: Vec::new(),
            redact_after: Vec::new(),
            headers: Vec::new(),
        }
    }
}

const KIB: u64 = 1024;
const NAMES: usize = 256;
const NAME_BYTES: usize = 128;
/// Headers that a record may carry.
const HEADERS: usize = 16;
/// They carry credentials, whatever the configuration says.
pub(crate) const NEVER: &[&str] = &["authorization", "proxy-authorization", "cookie", "set-cookie"];

pub(crate) fn compile(wire: Wire, site: &Site, errors: &mut ConfigErrors) -> Option<Audit> {
    let before = errors.error_count();
    let queue_bytes =
        size(wire.queue_max_bytes, 64 * KIB, 64 * KIB * KIB, &site.key("queue_max_bytes"), errors);
    let batch_bytes = size(wire.batch_max_bytes, 16 * KIB, KIB * KIB, &site.key("batch_max_bytes"), errors);
    if wire.batch_max_bytes > wire.queue_max_bytes {
        let problem = "is more than `queue_max_bytes`";
        errors.error(&site.key("batch_max_bytes"), problem, "a batch is a part of the queue: lower it");
    }
    let Span(retry_min) = wire.retry_min;
    let Span(retry_max) = wire.retry_max;
    if !(Duration::from_millis(100)..=Duration::from_secs(60)).contains(&retry_min) {
        errors.error(&site.key("retry_min"), wire.retry_min.to_string(), "must be 100ms to 1m");
    }
    if !(retry_min..=Duration::from_secs(600)).contains(&retry_max) {
        errors.error(&site.key("retry_max"), wire.retry_max.to_string(), "must be `retry_min` to 10m");
    }
    let Span(wait) = wire.strict_wait;
    if !(Duration::from_millis(10)..=Duration::from_secs(30)).contains(&wait) {
        errors.error(&site.key("strict_wait"), wire.strict_wait.to_string(), "must be 10ms to 30s");
    }
    let strict = Strict { wait, enforce: wire.mode == Mode::Enforce };
    let strict = (wire.delivery == Delivery::Strict).then_some(strict);
    let redact = names(wire.redact, NAMES, &site.key("redact"), errors);
    let after = names(wire.redact_after, NAMES, &site.key("redact_after"), errors);
    let headers = names(wire.headers, HEADERS, &site.key("headers"), errors);
    for (index, name) in headers.iter().enumerate() {
        if NEVER.contains(&name.as_str()) {
            let site = site.key("headers").index(index);
            errors.error(&site, format!("`{name}` carries credentials and is never recorded"), "remove it");
        }
    }
    let limits = Limits { queue_bytes, batch_bytes, retry_min, retry_max };
    let audit = Audit { limits, redactor: Redactor::new(redact, after), headers, strict };
    (errors.error_count() == before).then_some(audit)
}

fn size(bytes: u64, least: u64, most: u64, site: &Site, errors: &mut ConfigErrors) -> usize {
    if !(least..=most).contains(&bytes) {
        errors.error(site, bytes.to_string(), format!("must be {least} to {most}"));
    }
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// Names in lower case.
fn names(list: Vec<String>, most: usize, site: &Site, errors: &mut ConfigErrors) -> Vec<String> {
    if list.len() > most {
        errors.error(site, format!("has {} names", list.len()), format!("at most {most}"));
    }
    for (index, name) in list.iter().enumerate() {
        let fits =
            (1..=NAME_BYTES).contains(&name.len()) && name.trim() == name && !name.contains(char::is_control);
        if !fits {
            errors.error(
                &site.index(index),
                format!("{name:?} is not a name"),
                format!("1 to {NAME_BYTES} characters"),
            );
        }
    }
    list.into_iter().map(|name| name.to_ascii_lowercase()).collect()
}
