//! One request: events to the chain, effects to JavaScript.

use std::{fmt::Write, rc::Rc};

use portcullis_chain::{Ports, Stream};
use portcullis_policy::{
    Effect, Effects, Event, Headers, LogLevel, Moment, Outcome, Refusal, Substitution, splits_message,
};

use crate::{
    facts::Known,
    slots::Transaction,
    wire,
    worker::{STORE_CONFLICTS, UNSAFE_VALUES, Worker},
};

/// What JavaScript is to do after a call.
pub mod flag {
    /// Headers of the request change.
    pub const REQUEST: u32 = 1;
    /// Headers of the response change.
    pub const RESPONSE: u32 = 2;
    /// The body is to be shown.
    pub const INSPECT: u32 = 4;
    /// What was shown may flow.
    pub const FLOW: u32 = 8;
    /// The request is refused.
    pub const REFUSED: u32 = 16;
    /// The body is replaced.
    pub const REPLACED: u32 = 32;
    /// There are lines for the log.
    pub const LOG: u32 = 64;
    /// There are records to deliver.
    pub const RECORDS: u32 = 128;
    /// Slots are missing: provide them, and make the same call again.
    pub const MISSING: u32 = 256;
    /// Slots are to be stored, before anything else of this call is done.
    pub const WRITTEN: u32 = 512;
    /// The response's body is to be shown, piece by piece.
    pub const SUBSTITUTE: u32 = 1024;
}

/// A request.
pub struct Exchange {
    worker: Rc<Worker>,
    stream: Stream,
    known: Known,
    slots: Transaction,
    pending: Effects,
    moment: Moment,
    inspecting: bool,
    released: bool,
    refusal: Option<Refusal>,
    sized: bool,
    outcome: Outcome,
    request: String,
    response: String,
    body: Vec<u8>,
    substitution: Option<Substitution>,
    log: Vec<(LogLevel, String)>,
    flags: u32,
}

impl Exchange {
    /// A new one.
    pub fn new(worker: Rc<Worker>) -> Self {
        Self {
            worker,
            stream: Stream::default(),
            known: Known::default(),
            slots: Transaction::default(),
            pending: Effects::new(),
            moment: Moment::default(),
            inspecting: false,
            released: false,
            refusal: None,
            sized: false,
            outcome: Outcome::default(),
            request: String::new(),
            response: String::new(),
            body: Vec::new(),
            substitution: None,
            log: Vec::new(),
            flags: 0,
        }
    }

    /// The request's headers; may be asked again while slots are missing or outrun.
    pub fn request(&mut self, head: &[u8], source: &str, facts: &str, end: bool, now: f64, wall: f64) -> u32 {
        let headers = wire::headers(head);
        self.known = Known::new(source, facts, self.worker.environment());
        self.sized = headers.first("content-length").is_some();
        self.outcome.request_bytes = length(&headers);
        self.begin_anew();
        self.moment = self.worker.moment(now, wall);
        self.slots.restart();
        self.ask(&Event::RequestHeaders { headers: &headers, end_of_stream: end });
        if self.slots.misses() {
            return flag::MISSING;
        }
        let flags = self.carry_out_or_store();
        // Nothing follows: nothing can be shown.
        if end { flags & !flag::INSPECT } else { flags }
    }

    /// Nothing counts of what was decided on slots that were missing or outrun.
    fn begin_anew(&mut self) {
        self.stream = Stream::default();
        self.pending.clear();
        self.log.clear();
        self.request.clear();
        self.response.clear();
        (self.inspecting, self.refusal) = (false, None);
    }

    /// A piece of the body.
    pub fn body(&mut self, chunk: &[u8], end: bool, now: f64, wall: f64) -> u32 {
        self.moment = self.worker.moment(now, wall);
        self.slots.restart();
        self.ask(&Event::RequestBody { chunk, end_of_stream: end });
        let flags = self.carry_out_or_store();
        if flags & flag::FLOW != 0 {
            self.released = true;
        }
        flags
    }

    /// The response's headers.
    pub fn response(&mut self, head: &[u8], now: f64, wall: f64) -> u32 {
        let headers = wire::headers(head);
        self.outcome.response_bytes = length(&headers);
        self.moment = self.worker.moment(now, wall);
        self.slots.restart();
        self.ask(&Event::ResponseHeaders { headers: &headers });
        self.carry_out_or_store()
    }

    /// The end.
    pub fn done(&mut self, outcome: Outcome, now: f64, wall: f64) -> u32 {
        let known = std::mem::take(&mut self.outcome);
        let outcome =
            Outcome { request_bytes: known.request_bytes, response_bytes: known.response_bytes, ..outcome };
        self.moment = self.worker.moment(now, wall);
        self.slots.restart();
        self.ask(&Event::Done { outcome: &outcome });
        self.carry_out_or_store()
    }

    /// The response's headers, and with them the end.
    pub fn conclude(&mut self, head: &[u8], outcome: Outcome, now: f64, wall: f64) -> u32 {
        self.response(head, now, wall) | self.done(outcome, now, wall)
    }

    fn ask(&mut self, event: &Event<'_>) {
        self.known.holds = !self.released;
        let (worker, moment) = (Rc::clone(&self.worker), self.moment);
        let Self { stream, known, slots, pending, .. } = self;
        if worker.stored {
            let mut ports = Ports { facts: known, shared: slots };
            worker.chain().on(stream, &mut ports, moment, event, pending);
            return;
        }
        worker.with_slots(|shared| {
            let mut ports = Ports { facts: known, shared };
            worker.chain().on(stream, &mut ports, moment, event, pending);
        });
    }

    fn carry_out_or_store(&mut self) -> u32 {
        if self.slots.writes() { flag::WRITTEN } else { self.settle() }
    }

    /// Slots outside.
    pub fn slots(&mut self) -> &mut Transaction {
        &mut self.slots
    }

    /// What was decided counts.
    pub fn settle(&mut self) -> u32 {
        self.flags = 0;
        for effect in std::mem::take(&mut self.pending) {
            self.carry_out(effect);
        }
        if self.inspecting {
            self.flags |= flag::INSPECT;
        }
        std::mem::take(&mut self.flags)
    }

    /// What was decided counts, and what it wrote is lost.
    pub fn unsettled(&mut self) -> u32 {
        self.worker.count(&STORE_CONFLICTS, 1);
        self.slots.away = true;
        self.settle()
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::SetRequestHeader(name, value) => self.edit_request('s', &name, &value),
            Effect::AddRequestHeader(name, value) => self.edit_request('a', &name, &value),
            Effect::RemoveRequestHeader(name) => self.edit_request('d', &name, b""),
            Effect::SetResponseHeader(name, value) => self.edit_response('s', &name, &value),
            Effect::AddResponseHeader(name, value) => self.edit_response('a', &name, &value),
            Effect::RemoveResponseHeader(name) => {
                wire::edit(&mut self.response, 'd', &name, b"");
                self.flags |= flag::RESPONSE;
            }
            Effect::InspectRequestBody => self.inspecting = true,
            Effect::PassRequestBody => self.flags |= flag::FLOW,
            Effect::ReleaseRequestBody => self.inspecting = false,
            Effect::ReplaceRequestBody(body) => {
                if self.sized {
                    let length = body.len().to_string();
                    self.edit_request('s', "content-length", length.as_bytes());
                }
                self.body = body;
                self.flags |= flag::REPLACED;
            }
            Effect::SubstituteInResponseBody(substitution) => {
                self.substitution = Some(substitution);
                self.flags |= flag::SUBSTITUTE;
            }
            Effect::Wait => self.refuse(cannot_wait()),
            Effect::Refuse(refusal) => self.refuse(refusal),
            Effect::Decide(_) => {}
            Effect::Count(metric, by) => self.worker.count(metric, by),
            Effect::CountNamed(name, by) => self.worker.count_named(name, by),
            Effect::Record(text) => {
                #[cfg(feature = "audit")]
                self.worker.record(&text, self.moment);
                #[cfg(not(feature = "audit"))]
                drop(text);
                self.flags |= flag::RECORDS;
            }
            Effect::Log(level, text) => self.say(level, text),
        }
    }

    fn edit_request(&mut self, operation: char, name: &str, value: &[u8]) {
        if self.is_safe(name, value) {
            wire::edit(&mut self.request, operation, name, value);
            self.flags |= flag::REQUEST;
        }
    }

    fn edit_response(&mut self, operation: char, name: &Rc<str>, value: &Rc<[u8]>) {
        if let Some(number) = self.worker.recurring.find(operation, name, value) {
            wire::number(&mut self.response, number);
        } else if self.is_safe(name, value) {
            wire::edit(&mut self.response, operation, name, value);
            self.worker.recurring.note(operation, name, value);
        } else {
            return;
        }
        self.flags |= flag::RESPONSE;
    }

    /// A value that would split the message is counted, and not set.
    fn is_safe(&mut self, name: &str, value: &[u8]) -> bool {
        let splits = splits_message(value);
        if splits {
            self.worker.count(&UNSAFE_VALUES, 1);
            self.say(LogLevel::Warn, format!("a value for `{name}` holds CR, LF or NUL and was not set"));
        }
        !splits
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.inspecting = false;
        self.refusal.get_or_insert(refusal);
        self.flags |= flag::REFUSED;
    }

    fn say(&mut self, level: LogLevel, text: String) {
        self.log.push((level, text));
        self.flags |= flag::LOG;
    }

    /// Edits of the request.
    pub fn take_request_edits(&mut self) -> String {
        std::mem::take(&mut self.request)
    }

    /// Edits of the response.
    pub fn take_response_edits(&mut self) -> String {
        std::mem::take(&mut self.response)
    }

    /// The new body.
    pub fn take_body(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.body)
    }

    /// Replaces in a piece of the response's body.
    pub fn substitute(&self, piece: &mut [u8]) -> u32 {
        let open = self.substitution.as_ref().map_or(0, |substitution| substitution.apply(piece).open);
        u32::try_from(open).unwrap_or(u32::MAX)
    }

    /// Status and headers of the refusal.
    pub fn reply(&self) -> String {
        let Some(refusal) = &self.refusal else { return String::new() };
        let reply = self.stream.reply(refusal);
        let mut out = reply.status.to_string();
        for (name, value) in &reply.headers {
            // Into a String, which never fails.
            let _ = write!(out, "\n{name}\n{value}");
        }
        out
    }

    /// Body of the refusal.
    pub fn reply_body(&self) -> Vec<u8> {
        self.refusal.as_ref().map(|refusal| self.stream.reply(refusal).body).unwrap_or_default()
    }

    /// Lines for the log.
    pub fn take_log(&mut self) -> String {
        let mut out = String::new();
        for (level, text) in std::mem::take(&mut self.log) {
            out.push_str(match level {
                LogLevel::Debug => "debug",
                LogLevel::Info => "info",
                LogLevel::Warn => "warn",
                LogLevel::Error => "error",
            });
            out.push(wire::END);
            // Nothing that a text quotes may end it.
            out.extend(text.chars().map(|c| if c == wire::END { ' ' } else { c }));
            out.push(wire::END);
        }
        out
    }

    /// The correlation ID.
    pub fn id(&self) -> String {
        self.stream.request().map(|request| request.correlation_id.as_str().to_owned()).unwrap_or_default()
    }
}

/// No policy waits for tokens where nobody can be asked for them.
fn cannot_wait() -> Refusal {
    Refusal {
        status: 503,
        problem: "urn:portcullis:problem:cannot-wait",
        title: "Request could not be decided",
        reason: "cannot-wait",
        headers: Vec::new(),
    }
}

/// What `content-length` says.
fn length(headers: &Headers<'_>) -> Option<u64> {
    std::str::from_utf8(headers.first("content-length")?).ok()?.parse().ok()
}
