//! The audit trail to others: a collector that speaks OTLP over HTTP ([`otlp`]), or NATS JetStream ([`nats`]). Figures too, over OTLP
//! ([`otlp::metrics`]).
//!
//! A collector takes records in order and says when it has them; whoever drives it remembers how far it has come and offers
//! again what was not acknowledged. So every record arrives at least once; its [`Record::uid`] tells a repetition.
//!
//! Against: a collector that is away, slow, refuses some records, or dies with what it has taken. Not against: a collector
//! that lies. It deliberately keeps nothing, repeats nothing by itself, and does not know where records come from. Limits:
//! an answer of 64 KiB, [`TIMEOUT`] for a delivery.

pub mod http;
pub mod nats;
pub mod otlp;
pub mod proto;
mod wire;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use serde_json::Value;

pub use wire::{Address, AddressError};

/// How long a delivery may take.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// How grave a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// As it should be.
    Info,
    /// Something was refused.
    Warning,
    /// Something failed.
    Error,
}

/// A record of the trail, as others get to see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// What makes it the same record when it comes twice.
    pub uid: String,
    /// Its number in the trail.
    pub index: u64,
    /// Milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// Whose.
    pub tenant: String,
    /// What happened, like `ATTACK_BLOCKED`.
    pub event_type: String,
    /// How grave.
    pub severity: Severity,
    /// The request's ID, if there was one.
    pub correlation_id: Option<String>,
    /// The whole of it: an OCSF event.
    pub body: Value,
}

/// What a collector has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Records that it will never take.
    pub rejected: u64,
    /// Whether it keeps the others for certain, so that they may go here.
    pub kept: bool,
}

/// Why nothing of a delivery can be relied upon.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// Nobody answers, or not with a decision: the same must be offered again.
    #[error("{reason}")]
    Unavailable {
        /// What happened.
        reason: String,
        /// Not before that, if the collector says so.
        retry_after: Option<Duration>,
    },
    /// The collector will not have these records as they are.
    #[error("{0}")]
    Refused(String),
}

impl DeliveryError {
    fn unavailable(reason: impl std::fmt::Display) -> Self {
        Self::Unavailable { reason: reason.to_string(), retry_after: None }
    }
}

/// A delivery under way.
pub type Delivering<'a> = Pin<Box<dyn Future<Output = Result<Delivered, DeliveryError>> + Send + 'a>>;

/// Takes records.
pub trait Collector: Send {
    /// Offers records; they are all taken, or the answer says what not.
    fn deliver<'a>(&'a mut self, records: &'a [Record]) -> Delivering<'a>;
}
