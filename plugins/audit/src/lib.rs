//! The audit policy: every request leaves one record, whatever became of it.
//!
//! For whoever must be able to say later who asked for what, what was decided and why: an operator, an auditor, an
//! investigator. A record is an OCSF HTTP Activity ([`record`]); it never holds credentials ([`redact`]). What is
//! written waits in a queue that is bounded in bytes ([`queue`]) until the companion has stored it; what had to be
//! dropped, or died with its VM ([`ledger`]), is counted and reported as `AUDIT_GAP`. [`trail`] puts these
//! together for a host, which brings the moments and carries the bytes.
//!
//! It refuses a request only on routes with `delivery: strict`, when its intent could not be stored ([`strict`]). It
//! deliberately does not keep bodies or responses. What it cannot see: a request that the proxy answers before its filters
//! exist, and what a whole process that is killed had not yet delivered; of strict routes, the outcome alone.
//! Limits: 16 KiB a record, fields cut as [`record`] says; 16 recorded headers.

mod config;
mod intent;
pub mod ledger;
pub mod queue;
mod record;
mod redact;
pub mod strict;
mod text;
pub mod trail;
#[cfg(test)]
mod trail_board;

use std::time::Duration;

use portcullis_policy::{
    ConfigErrors, Context, Effect, Effects, Event, Headers, Metric, Policy, Site, Vocabulary,
};

pub use config::{Delivery, Wire};
pub use intent::{STORED, UNSTORED};
pub use queue::Limits;
pub use record::LINE_BYTES;
pub use trail::{Tally, Trail};

use intent::{Intent, Strict};
use record::Account;
use redact::Redactor;
use text::Text;

/// Records that were written.
pub const RECORDS: Metric = Metric {
    name: "portcullis_audit_records_total",
    help: "Audit records written, those included that were dropped afterwards.",
};

/// The compiled policy.
#[derive(Debug)]
pub struct Audit {
    pub(crate) limits: Limits,
    pub(crate) redactor: Redactor,
    /// Recorded request headers, lower case.
    pub(crate) headers: Vec<String>,
    /// Requests wait until their intent is stored.
    pub(crate) strict: Option<Strict>,
}

impl Audit {
    /// Bounds of the queue and of its repetitions.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Whether requests wait until their intent is stored.
    pub fn is_strict(&self) -> bool {
        self.strict.is_some()
    }

    /// The recorded headers as the inside of a JSON array (OCSF `http_header` objects).
    fn write_headers(&self, headers: &Headers<'_>) -> Vec<u8> {
        let mut out = Text::default();
        for name in &self.headers {
            let Some(value) = headers.first(name) else { continue };
            let before = out.len();
            out.raw(if before == 0 { "{\"name\":" } else { ",{\"name\":" });
            out.string(name.as_bytes(), record::HEADER_BYTES);
            out.raw(",\"value\":");
            let secret = self.redactor.is_secret(name.as_bytes()) || self.redactor.hides(value);
            out.string(if secret { b"***" } else { value }, record::HEADER_BYTES);
            out.raw("}");
            if out.len() > record::HEADERS_BYTES {
                out.truncate(before);
                break;
            }
        }
        out.into_bytes()
    }
}

/// What is remembered of a stream until it is over.
#[derive(Debug, Default)]
pub struct Seen {
    headers: Vec<u8>,
    response: Option<Duration>,
    intent: Option<Intent>,
}

impl Policy for Audit {
    const NAME: &'static str = "audit";
    const METRICS: &'static [Metric] = {
        let [a, b, c, d, e] = trail::METRICS;
        let [f, g] = strict::METRICS;
        &[RECORDS, a, b, c, d, e, STORED, UNSTORED, f, g]
    };
    type Wire = Wire;
    type Stream = Seen;

    fn compile(wire: Wire, site: &Site, _: &Vocabulary, errors: &mut ConfigErrors) -> Option<Self> {
        config::compile(wire, site, errors)
    }

    fn on(&self, context: &mut Context<'_>, seen: &mut Seen, event: &Event<'_>, effects: &mut Effects) {
        match event {
            Event::RequestHeaders { headers, .. } => {
                if !self.headers.is_empty() && seen.intent.is_none() {
                    seen.headers = self.write_headers(headers);
                }
                if let Some(strict) = self.strict {
                    self.intend(strict, context, &seen.headers, &mut seen.intent, effects);
                }
            }
            Event::ResponseHeaders { .. } => {
                seen.response = Some(context.moment.now.saturating_sub(context.request.started));
            }
            Event::Done { outcome } => {
                // Its client went while it waited.
                self.abandon(context, &mut seen.intent);
                let account = Account {
                    request: context.request,
                    decisions: context.decisions,
                    now: context.moment.now,
                    outcome,
                    headers: &seen.headers,
                    response: seen.response,
                };
                effects.push(Effect::Count(&RECORDS, 1));
                effects.push(Effect::Record(record::write(&account, &self.redactor)));
            }
            Event::RequestBody { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests;
