//! The contract between policies, the chain and its hosts.
//!
//! A policy is a pure decision: it is told what happened (an [`Event`]) and when (a [`Moment`]), and answers with
//! [`Effect`]s. It has no clock, no randomness, no I/O and no host call; what it may ask while it decides stands
//! behind two narrow traits that the host implements, [`Facts`] (what the host knows of the stream) and
//! [`SharedState`] (a fixed number of small slots that all workers of a process share). Events and effects are closed
//! enums: nothing else crosses the seam, so every host that can express them runs every policy.
//!
//! Limits: see [`limits`]; each names what happens when it is hit.

pub mod config;
mod effect;
mod event;
pub mod fields;
pub mod json;
pub mod limits;
mod request;
mod state;
mod substitution;
pub mod units;

pub use config::{ConfigError, ConfigErrors, Severity as ConfigSeverity, Site};
pub use effect::{Decision, Detail, Effect, Effects, LogLevel, Metric, Refusal, Verdict};
pub use event::{Event, Header, Headers, Moment, Outcome, splits_message};
pub use request::{Actions, CorrelationId, Request, Tenant, User};
pub use state::{
    Ahead, Fact, Facts, Fate, Held, Journal, LeaseAsk, Leases, LocalSlots, NoFacts, SharedState, SlotValue,
    StateError, StoreResult, Ticket, WorkerState,
};
pub use substitution::{Substituted, Substitution};
pub use units::Mode;

/// What a policy sees besides the event itself.
pub struct Context<'a> {
    /// When the event happened.
    pub moment: Moment,
    /// The request as the chain resolved it, once per stream.
    pub request: &'a Request,
    /// What policies decided on this stream so far, in order.
    pub decisions: &'a [Decision],
    /// Slots shared by all workers of the process.
    pub shared: &'a mut dyn SharedState,
    /// What the host knows of this stream.
    pub facts: &'a mut dyn Facts,
}

/// What configuration code may refer to while a section is compiled.
#[derive(Debug, Clone, Default)]
pub struct Vocabulary {
    /// Names of the configured actions; the position is the action's number in [`Actions`].
    pub actions: Vec<String>,
}

/// Of which requests a policy reads the client's address: it costs a host call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReadsAddress {
    /// Of none.
    Never,
    /// Of those in which nobody names the user.
    OfUnnamed,
    /// Of all.
    Always,
}

/// One concern: headers, sanitize, rate-limit, audit.
///
/// The value itself is the compiled configuration of one route; it is immutable and shared by all streams.
pub trait Policy: Sized {
    /// The section's key in the configuration, and the policy's name in decisions and metrics.
    const NAME: &'static str;
    /// Every metric that this policy counts.
    const METRICS: &'static [Metric];
    /// What the section looks like on the wire: refuses unknown keys.
    type Wire: serde::de::DeserializeOwned;
    /// What the policy remembers of one stream.
    type Stream: Default;

    /// Turns the wire form into a policy. Every problem goes into `errors`, with the path below `site`; `None` only
    /// when at least one was an error.
    fn compile(
        wire: Self::Wire,
        site: &Site,
        vocabulary: &Vocabulary,
        errors: &mut ConfigErrors,
    ) -> Option<Self>;

    /// Whether it needs the response's headers, or hears of the stream's end. Where no policy does, the host asks for neither:
    /// [`Event::ResponseHeaders`] comes without headers and without the time, for what was made ready before; [`Event::Done`] does
    /// not come.
    fn hears_responses(&self) -> bool {
        true
    }

    /// Of which requests it reads [`Request::client_ip`]. Where no policy reads it, the address is not asked for but to name the
    /// user.
    fn reads_address(&self) -> ReadsAddress {
        ReadsAddress::Always
    }

    /// Decides on one event.
    fn on(
        &self,
        context: &mut Context<'_>,
        stream: &mut Self::Stream,
        event: &Event<'_>,
        effects: &mut Effects,
    );
}
