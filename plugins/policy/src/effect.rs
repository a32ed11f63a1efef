//! What the chain asks of a host.

use std::rc::Rc;

use crate::{Substitution, json::Value};

/// How a policy judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Let pass.
    Allow,
    /// Would have been refused, if the section refused: its mode is `monitor`, or its action is another one, which the
    /// details name.
    Monitor,
    /// Refused.
    Deny,
}

/// One fact that explains a decision, for the audit record. Values are bounded by who adds them.
pub type Detail = (&'static str, Value);

/// What a policy decided on this stream, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The policy's name.
    pub policy: &'static str,
    /// How it judged.
    pub verdict: Verdict,
    /// The event type that the audit record carries, like `ATTACK_BLOCKED`.
    pub event_type: &'static str,
    /// A stable code that a client may see, like `sql-injection`.
    pub reason: &'static str,
    /// What an operator may see: family, place, parameter, limits. Never a secret.
    pub details: Vec<Detail>,
}

/// A refusal as the client sees it: `application/problem+json` (RFC 9457). With a status below 400 it is an answer in the
/// application's place, without a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The problem's type: a URN or URL that stays the same.
    pub problem: &'static str,
    /// A short title for people.
    pub title: &'static str,
    /// The stable code, as in [`Decision::reason`].
    pub reason: &'static str,
    /// Further headers of the reply, like `retry-after`.
    pub headers: Vec<(&'static str, String)>,
}

/// A metric. Names follow Prometheus; there are no labels, so that their number is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Full name, like `portcullis_sanitize_blocked_total`.
    pub name: &'static str,
    /// What it counts, in a sentence.
    pub help: &'static str,
}

/// How loud a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// For developers; the only level that may carry request data.
    Debug,
    /// Normal operation.
    Info,
    /// Something an operator should look at.
    Warn,
    /// Something failed.
    Error,
}

/// What the chain asks of a host. Header names and values are shared, because most are made once, with the
/// configuration; the host drops a value that holds CR, LF or NUL, and counts it.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Sets a header of the request, replacing all values under that name.
    SetRequestHeader(Rc<str>, Rc<[u8]>),
    /// Adds a value to a header of the request, beside those that are there.
    AddRequestHeader(Rc<str>, Rc<[u8]>),
    /// Removes a header from the request.
    RemoveRequestHeader(Rc<str>),
    /// Sets a header of the response, replacing all values under that name.
    SetResponseHeader(Rc<str>, Rc<[u8]>),
    /// Adds a value beside those that are there.
    AddResponseHeader(Rc<str>, Rc<[u8]>),
    /// Removes a header from the response.
    RemoveResponseHeader(Rc<str>),
    /// Wants the request's body: the host sends `RequestBody` events, and holds the request back as far as it can
    /// until `PassRequestBody`, `ReleaseRequestBody`, a refusal, or the end of the body.
    InspectRequestBody,
    /// What was shown of the body so far may flow, so that a long one is never held as a whole. What follows is shown
    /// and held like the beginning. A refusal after this ends a request of which the application has a part: the host
    /// breaks it off, so that it is never complete, and answers the client as far as it still can.
    PassRequestBody,
    /// Has seen enough of the body: what follows need not be held nor shown.
    ReleaseRequestBody,
    /// Replaces the request's body as a whole. Only in answer to the `RequestBody` event that ends the body, and only while
    /// [`crate::Facts::holds_request`]: headers and all of the body still wait. The host makes `content-length` tell the new
    /// length, if there is one, and leaves framing without a length alone. A host that cannot refuses the request: never
    /// does a part of one body leave with a part, or the length, of another. Events that other policies see show the body
    /// as it came.
    ReplaceRequestBody(Vec<u8>),
    /// Replaces each occurrence of a text in the response's body by another of the same length. Only in answer to
    /// `ResponseHeaders`, and only where [`crate::Facts::rewrites_responses`].
    SubstituteInResponseBody(Substitution),
    /// The request's headers cannot be decided yet: the host holds the request, and hands the same event to the chain
    /// again, soon and again and again, until it is decided. Later policies do not see the event before.
    Wait,
    /// Refuses the request. The first refusal of an event wins; later policies do not see the event.
    Refuse(Refusal),
    /// Notes a decision for the audit record.
    Decide(Decision),
    /// Counts.
    Count(&'static Metric, u64),
    /// Counts under a name that was made with the configuration, like that of a rule. At most
    /// [`crate::limits::NAMED_COUNTERS`].
    CountNamed(Rc<str>, u64),
    /// A finished audit record: the text of one JSON object (UTF-8, one line), which ends with the three braces of
    /// `{..., "unmapped": {"portcullis": {...}}}`. Whoever queues it puts epoch and sequence before those.
    Record(Vec<u8>),
    /// A line for the host's log.
    Log(LogLevel, String),
}

/// Effects in the order in which policies asked for them.
pub type Effects = Vec<Effect>;
