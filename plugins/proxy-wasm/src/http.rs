//! One HTTP stream: callbacks in, events to the chain, effects out.

use std::{rc::Rc, time::Duration};

use portcullis_chain::{Ports, Stream};
use portcullis_policy::{Effect, Event, Headers, LogLevel, Moment, Outcome, Refusal, splits_message};
use proxy_wasm::types::Action;

use crate::{
    abi::{self, Buffer, Map},
    facts::Properties,
    map,
    rewriting::Rewriting,
    worker::Worker,
};

/// Bytes of a body that the host is asked to keep while the chain cannot decide: as much as the largest window of an
/// inspection. More: the chain decides without what it waits for. The host must be able to keep this, and what it hands
/// over at once besides.
const KEPT: usize = 512 * 1024;

/// How far the inspection of the request's body has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Body {
    /// Nobody wants it, or enough was seen.
    Pass,
    /// Pieces go to the chain, and the host is asked to wait.
    Inspect,
}

/// A stream's context.
pub struct Exchange {
    worker: Rc<Worker>,
    /// The host's number for it.
    #[cfg_attr(
        not(any(feature = "audit", feature = "rate-limit")),
        allow(dead_code, reason = "no stream waits")
    )]
    id: u32,
    /// The chain cannot decide on the headers yet.
    waits: bool,
    /// No body follows the headers.
    bodiless: bool,
    /// What came of the body while the chain could not decide: so many bytes, and whether they are all.
    kept: Option<(usize, bool)>,
    /// More came than may be kept: the chain decides without what it waits for.
    full: bool,
    stream: Stream,
    body: Body,
    /// Bytes at the front of the host's body buffer that the chain has seen already: those that it was asked to keep.
    seen: usize,
    /// What the host's buffer holds may flow.
    flows: bool,
    /// The request's headers have left, or what of the body was held.
    released: bool,
    /// The request's headers tell how long its body is.
    sized: bool,
    refused: bool,
    /// A callback runs in which a local reply would spoil the response, or at the stream's end crash the host.
    answered: bool,
    /// What follows the headers is no body: a tunnel's bytes.
    tunnel: bool,
    /// The audit ledger counts on a record.
    promised: bool,
    /// Something in the response's body is replaced.
    rewriting: Option<Rewriting>,
    outcome: Outcome,
}

impl Exchange {
    /// A new stream.
    pub fn new(worker: Rc<Worker>, id: u32) -> Self {
        Self {
            worker,
            id,
            waits: false,
            bodiless: false,
            kept: None,
            full: false,
            stream: Stream::default(),
            body: Body::Pass,
            seen: 0,
            flows: false,
            released: false,
            sized: false,
            refused: false,
            answered: false,
            tunnel: false,
            promised: false,
            rewriting: None,
            outcome: Outcome::default(),
        }
    }

    fn on(&mut self, event: &Event<'_>) {
        self.on_at(event, self.worker.clock.moment());
    }

    fn on_at(&mut self, event: &Event<'_>, moment: Moment) {
        let mut effects = self.worker.effects.take();
        let holds = self.worker.holds_headers() && !self.released;
        self.worker.with_chain(|chain, shared| {
            let mut facts = Properties { dialect: &self.worker.dialect, holds, may_wait: !self.full };
            let mut ports = Ports { facts: &mut facts, shared };
            chain.on(&mut self.stream, &mut ports, moment, event, &mut effects);
        });
        for effect in effects.drain(..) {
            self.carry_out(effect, moment);
        }
        self.worker.effects.set(effects);
        self.worker.hurry();
    }

    fn carry_out(&mut self, effect: Effect, moment: Moment) {
        let done = match effect {
            Effect::SetRequestHeader(name, value) => self.set(Map::Request, name.as_bytes(), &value, false),
            Effect::AddRequestHeader(name, value) => self.set(Map::Request, name.as_bytes(), &value, true),
            Effect::RemoveRequestHeader(name) => abi::remove_header(Map::Request, name.as_bytes()),
            Effect::SetResponseHeader(name, value) => self.set(Map::Response, name.as_bytes(), &value, false),
            Effect::AddResponseHeader(name, value) => self.set(Map::Response, name.as_bytes(), &value, true),
            Effect::RemoveResponseHeader(name) => abi::remove_header(Map::Response, name.as_bytes()),
            Effect::InspectRequestBody => {
                if !self.tunnel {
                    self.body = Body::Inspect;
                }
                Ok(())
            }
            Effect::PassRequestBody => {
                self.flows = true;
                Ok(())
            }
            Effect::ReleaseRequestBody => {
                self.body = Body::Pass;
                Ok(())
            }
            Effect::ReplaceRequestBody(body) => self.replace(&body),
            Effect::SubstituteInResponseBody(substitution) => {
                self.rewriting = Some(Rewriting::new(substitution));
                Ok(())
            }
            Effect::Wait => {
                self.waits = true;
                Ok(())
            }
            Effect::Refuse(_) if self.answered => {
                self.worker.log(LogLevel::Error, "a refusal of a response is ignored");
                Ok(())
            }
            Effect::Refuse(refusal) => self.refuse(&refusal),
            Effect::Decide(_) => Ok(()),
            Effect::Count(metric, by) => {
                self.worker.counters.add(metric, by);
                Ok(())
            }
            Effect::CountNamed(name, by) => {
                self.worker.counters.add_named(&name, by);
                Ok(())
            }
            Effect::Record(record) => {
                self.promise();
                self.promised = false;
                self.worker.record(&record, moment);
                Ok(())
            }
            Effect::Log(level, text) => {
                self.worker.log(level, &text);
                Ok(())
            }
        };
        if let Err(status) = done {
            self.worker.host_refused(status);
        }
    }

    /// A value with CR, LF or NUL would split the message: it is dropped, and counted.
    fn set(&self, map: Map, name: &[u8], value: &[u8], add: bool) -> Result<(), abi::Status> {
        if splits_message(value) {
            self.worker.unsafe_value(name);
            return Ok(());
        }
        if add { abi::add_header(map, name, value) } else { abi::replace_header(map, name, value) }
    }

    /// Replaces the body, and then its length: one that tells of another body would let whoever comes next smuggle a request.
    /// What cannot be changed as a whole does not leave.
    fn replace(&mut self, body: &[u8]) -> Result<(), abi::Status> {
        let replaced = abi::replace_buffer(Buffer::RequestBody, self.seen, body);
        let length = body.len().to_string();
        let done = match replaced {
            Ok(()) if self.sized => abi::replace_header(Map::Request, b"content-length", length.as_bytes()),
            other => other,
        };
        self.seen = body.len();
        let Err(status) = done else { return Ok(()) };
        self.worker.host_refused(status);
        self.refuse(&Refusal {
            status: 500,
            problem: "urn:portcullis:problem:body-not-replaced",
            title: "Request could not be changed",
            reason: "body-not-replaced",
            headers: Vec::new(),
        })
    }

    fn refuse(&mut self, refusal: &Refusal) -> Result<(), abi::Status> {
        self.refused = true;
        self.body = Body::Pass;
        let reply = self.stream.reply(refusal);
        let pairs: Vec<(&[u8], &[u8])> =
            reply.headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        let details = ["portcullis_", reply.details].concat();
        abi::send_local_response(reply.status, &details, &map::serialize(&pairs), &reply.body)
    }

    /// What the host is told after a request callback.
    fn answer(&mut self, headers: bool) -> Action {
        let hold = match self.body {
            Body::Inspect => !headers || self.worker.holds_headers(),
            Body::Pass => false,
        };
        self.released |= !hold;
        if self.refused || hold { Action::Pause } else { Action::Continue }
    }

    /// Counts on a record, before anything can go wrong.
    fn promise(&mut self) {
        if !self.promised {
            self.promised = self.worker.begin();
        }
    }

    /// No record will come.
    fn release(&mut self) {
        if std::mem::take(&mut self.promised) {
            self.worker.withdraw();
        }
    }

    /// The request's headers have arrived.
    pub fn request_headers(&mut self, end_of_stream: bool) -> Action {
        self.promise();
        let bytes = self.worker.header_map(Map::Request);
        let headers = map::parse(&bytes);
        self.worker.provoke(&headers);
        let told = headers.first("content-length");
        self.outcome.request_bytes = length(told);
        self.sized = told.is_some();
        self.tunnel = headers.is_tunnel();
        self.bodiless = end_of_stream;
        self.decide(&headers)
    }

    pub(crate) fn decide(&mut self, headers: &Headers<'_>) -> Action {
        self.waits = false;
        self.on(&Event::RequestHeaders { headers, end_of_stream: self.bodiless });
        if self.waits {
            return Action::Pause;
        }
        if self.bodiless {
            self.body = Body::Pass;
        }
        if !self.stream.is_audited() {
            self.release();
        }
        self.answer(true)
    }

    /// Whether the chain cannot decide yet.
    #[cfg(any(feature = "audit", feature = "rate-limit"))]
    pub(crate) fn waits(&self) -> bool {
        self.waits
    }

    /// The host's number for it.
    #[cfg(any(feature = "audit", feature = "rate-limit"))]
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// Its worker.
    #[cfg(any(feature = "audit", feature = "rate-limit"))]
    pub(crate) fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }

    /// Whether it was refused.
    #[cfg(any(feature = "audit", feature = "rate-limit"))]
    pub(crate) fn is_refused(&self) -> bool {
        self.refused
    }

    /// What of the body came while it waited.
    #[cfg(any(feature = "audit", feature = "rate-limit"))]
    pub(crate) fn take_kept(&mut self) -> Option<(usize, bool)> {
        self.kept.take()
    }

    /// The host's buffer holds so many bytes of the request's body.
    pub fn request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        if self.refused {
            return Action::Pause;
        }
        if self.waits && size <= KEPT {
            self.kept = Some((size, end_of_stream));
            return Action::Pause;
        }
        if self.waits {
            self.full = true;
            let bytes = self.worker.header_map(Map::Request);
            let action = self.decide(&map::parse(&bytes));
            if self.waits || self.refused {
                return action;
            }
        }
        if self.body == Body::Pass {
            return Action::Continue;
        }
        if size < self.seen || !abi::host_keeps() {
            // A host that does not keep what it was asked to keep: all of this is new.
            self.seen = 0;
            self.released = true;
        }
        let fresh = size.saturating_sub(self.seen);
        let chunk = if fresh == 0 {
            Vec::new()
        } else {
            match abi::buffer(Buffer::RequestBody, self.seen, fresh) {
                Ok(chunk) => chunk,
                Err(status) => {
                    self.worker.host_refused(status);
                    // What nobody has seen cannot be changed.
                    self.released = true;
                    Vec::new()
                }
            }
        };
        self.seen = size;
        self.on(&Event::RequestBody { chunk: &chunk, end_of_stream });
        if end_of_stream && !self.refused {
            self.body = Body::Pass;
        }
        if std::mem::take(&mut self.flows) && !self.refused {
            // What comes next is not preceded by what has flowed.
            self.seen = 0;
            self.released = true;
            return Action::Continue;
        }
        self.answer(false)
    }

    /// Trailers end a body whose last piece did not say so.
    pub fn request_trailers(&mut self) -> Action {
        let seen = self.kept.map_or(self.seen, |(size, _)| size);
        self.request_body(seen, true)
    }

    /// The response's headers are about to leave: the upstream's, the proxy's or our own.
    pub fn response_headers(&mut self) -> Action {
        self.answered = true;
        if !self.stream.hears_responses() {
            // Nobody decides on it: neither its headers nor the time are asked for.
            self.on_at(&Event::ResponseHeaders { headers: &Headers::default() }, Moment::default());
            self.answered = false;
            return Action::Continue;
        }
        let bytes = self.worker.header_map(Map::Response);
        let headers = map::parse(&bytes);
        self.outcome.status = headers.first(":status").and_then(number);
        self.outcome.response_bytes = length(headers.first("content-length"));
        self.on(&Event::ResponseHeaders { headers: &headers });
        self.answered = false;
        Action::Continue
    }

    /// The host's buffer holds so many bytes of the response's body, which flow on as they are left.
    pub fn response_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        if let Some(rewriting) = &mut self.rewriting
            && let Err(status) = rewriting.piece(size, end_of_stream)
        {
            self.worker.host_refused(status);
        }
        Action::Continue
    }

    /// The stream is over.
    pub fn log(&mut self) {
        self.waits = false;
        self.answered = true;
        if self.stream.hears_responses() {
            self.tell_end();
        }
        self.release();
        if self.rewriting.take().is_some_and(|rewriting| rewriting.lost() > 0) {
            self.worker.log(
                LogLevel::Warn,
                "a response ended, or broke off, within what may have been a placeholder",
            );
        }
    }

    /// Tells the chain how the stream ended.
    fn tell_end(&mut self) {
        let mut outcome = std::mem::take(&mut self.outcome);
        let unseen = outcome.status.is_none();
        if unseen {
            // The host answered before its filters ran: it alone knows how. 0 is nothing at all.
            let code = abi::property(b"response\0code").ok().and_then(|bytes| little_endian(&bytes));
            outcome.status = code.and_then(|code| u16::try_from(code).ok()).filter(|code| *code > 0);
        }
        if unseen || (!self.refused && outcome.status.is_some_and(|status| status >= 500)) {
            outcome.details = abi::property(b"response\0code_details").unwrap_or_default();
        }
        if self.stream.request().is_none() {
            let (asked, answered) = (abi::header_map(Map::Request), abi::header_map(Map::Response));
            let (asked, answered) = (asked.unwrap_or_default(), answered.unwrap_or_default());
            let headers = identified(map::parse(&asked), &map::parse(&answered));
            let total = abi::property(b"request\0duration").ok().and_then(|bytes| little_endian(&bytes));
            outcome.total = total.map(Duration::from_nanos);
            self.worker.with_chain(|chain, shared| {
                let moment = self.worker.clock.moment();
                let mut facts = Properties { dialect: &self.worker.dialect, holds: false, may_wait: false };
                let mut ports = Ports { facts: &mut facts, shared };
                chain.recall(&mut self.stream, &mut ports, moment, &headers);
            });
        }
        self.on(&Event::Done { outcome: &outcome });
    }
}

impl Drop for Exchange {
    /// The context is gone, whether its end was logged or not.
    fn drop(&mut self) {
        self.release();
    }
}

/// The request's headers; the ID that the host told the client stands for one that the client did not send, so that the
/// record can be found by it.
fn identified<'a>(request: Headers<'a>, response: &Headers<'a>) -> Headers<'a> {
    const ID: &str = "x-request-id";
    match response.first(ID) {
        Some(id) if request.first(ID).is_none() => {
            Headers::new(request.iter().chain([(ID.as_bytes(), id)]).collect())
        }
        _ => request,
    }
}

/// A whole number in digits.
pub fn number(bytes: &[u8]) -> Option<u16> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

fn length(bytes: Option<&[u8]>) -> Option<u64> {
    std::str::from_utf8(bytes?).ok()?.parse().ok()
}

/// Integers of Envoy's properties: eight bytes, little endian. Hosts with string properties write digits.
fn little_endian(bytes: &[u8]) -> Option<u64> {
    match bytes.try_into() {
        Ok(eight) => Some(u64::from_le_bytes(eight)),
        Err(_) => length(Some(bytes)),
    }
}

/// The host's number for a level.
pub fn level(level: LogLevel) -> u32 {
    match level {
        LogLevel::Debug => 1,
        LogLevel::Info => 2,
        LogLevel::Warn => 3,
        LogLevel::Error => 4,
    }
}
