//! The seal policy: named headers, JSON values and form fields of requests are sealed to their tenant's public key before the
//! application sees them. The proxy encrypts and can never decrypt; the companion opens, with a token that may.
//!
//! Defends against whoever reads what lies behind the proxy: logs, queues, databases, an application that has no need of the value,
//! a proxy that is taken over later. A value is bound to tenant, field and purpose (`plugins/hpke/ENVELOPE.md`). The values are found by
//! strict readers: a body that could be read in another way than here is not sealed in part.
//!
//! It deliberately does not seal paths and queries, which stand in logs before they arrive here, responses, and multipart or other
//! bodies than JSON and forms; it authenticates nobody, hides no lengths, and does not notice a value that is sent again. Other
//! policies see the request as it came. It does nothing unless it is configured.
//!
//! What cannot be sealed has the declared answer `on_error`, is counted, recorded, and logged once a minute. Limits: 32 fields of each
//! kind, `body_max_bytes`, `value_max_bytes`, `values_max`; key exchanges with 1024 tenants are kept.

mod cause;
mod config;
mod exchanges;
mod form;
mod json;
mod request;

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use portcullis_hpke::Envelope;
use portcullis_policy::{
    ConfigErrors, Context, Decision, Effect, Effects, Event, Headers, LogLevel, Metric, Policy, ReadsAddress,
    Refusal, Site, Verdict, Vocabulary, json::Value,
};

pub use config::{Answer, Wire};

use cause::Cause;
use config::Config;
use exchanges::Exchanges;
use request::{Kind, kind, pending};

/// Values that were sealed.
pub const SEALED: Metric = Metric {
    name: "portcullis_seal_values_total",
    help: "Values that were sealed to a tenant's public key.",
};
/// Key exchanges.
pub const EXCHANGES: Metric = Metric {
    name: "portcullis_seal_key_exchanges_total",
    help: "Key exchanges for sealing: one for at most 256 values of a tenant.",
};
/// Heads and bodies of which something could not be sealed.
pub const FAILED: Metric = Metric {
    name: "portcullis_seal_failed_total",
    help: "Heads and bodies of requests of which something could not be sealed, refused or not.",
};
/// What mode `monitor` left.
pub const WOULD: Metric = Metric {
    name: "portcullis_seal_monitored_total",
    help: "Values that mode monitor left as they were and enforce would have sealed.",
};

/// Headers that hold a digest of the body, which a changed one does not have (RFC 9530, RFC 3230, RFC 1864).
const DIGESTS: [&str; 4] = ["content-digest", "repr-digest", "digest", "content-md5"];
/// How often a failure is logged.
const LOG_PAUSE: Duration = Duration::from_secs(60);
/// Fields that a record names.
const NAMED: usize = 8;

/// What is remembered of a stream.
#[derive(Debug, Default)]
pub struct State {
    body: Option<(Kind, Vec<u8>)>,
    /// Values that were sealed, and that could be.
    values: usize,
}

/// What was done to one part of a request.
#[derive(Default)]
struct Done<'c> {
    fields: Vec<&'c str>,
    sealed: u64,
    cause: Option<Cause>,
}

impl<'c> Done<'c> {
    fn sealed(&mut self, field: &'c str) {
        self.sealed = self.sealed.saturating_add(1);
        if self.fields.len() < NAMED && !self.fields.contains(&field) {
            self.fields.push(field);
        }
    }
}

/// The compiled policy, and the key exchanges under way: they save work, and change nothing in what is decided.
#[derive(Debug)]
pub struct Seal {
    config: Config,
    exchanges: RefCell<Exchanges>,
    logged: Cell<Option<Duration>>,
}

impl Policy for Seal {
    const NAME: &'static str = "seal";
    const METRICS: &'static [Metric] = &[SEALED, EXCHANGES, FAILED, WOULD];
    type Wire = Wire;
    type Stream = State;

    fn compile(wire: Wire, site: &Site, _: &Vocabulary, errors: &mut ConfigErrors) -> Option<Self> {
        let config = Config::compile(wire, site, errors)?;
        Some(Self { config, exchanges: RefCell::default(), logged: Cell::new(None) })
    }

    fn reads_address(&self) -> ReadsAddress {
        ReadsAddress::Never
    }

    fn on(&self, context: &mut Context<'_>, stream: &mut State, event: &Event<'_>, effects: &mut Effects) {
        match event {
            Event::RequestHeaders { headers, end_of_stream } => {
                self.head(context, stream, headers, effects);
                if !end_of_stream && !effects.iter().any(|effect| matches!(effect, Effect::Refuse(_))) {
                    self.expect_body(context, stream, headers, effects);
                }
            }
            Event::RequestBody { chunk, end_of_stream } => {
                self.body(context, stream, chunk, *end_of_stream, effects);
            }
            Event::ResponseHeaders { .. } | Event::Done { .. } => stream.body = None,
        }
    }
}

impl Seal {
    /// Seals headers: as they will be, after what policies before this one asked for.
    fn head(
        &self,
        context: &mut Context<'_>,
        stream: &mut State,
        headers: &Headers<'_>,
        effects: &mut Effects,
    ) {
        let mut done = Done::default();
        for header in &self.config.headers {
            let values = pending(&header.name, headers, effects);
            let mut sealed: Vec<Rc<[u8]>> = Vec::with_capacity(values.len());
            for value in values {
                match self.value(context, stream, &header.field, &value, effects) {
                    Ok(envelope) => {
                        done.sealed(&header.field);
                        sealed.push(envelope.into_bytes().into());
                    }
                    Err(cause) => {
                        done.cause = done.cause.or(Some(cause));
                        sealed.push(value);
                    }
                }
            }
            if self.config.enforce && done.sealed > 0 {
                for (number, value) in sealed.into_iter().enumerate() {
                    let name = Rc::clone(&header.name);
                    effects.push(match number {
                        0 => Effect::SetRequestHeader(name, value),
                        _ => Effect::AddRequestHeader(name, value),
                    });
                }
            }
        }
        self.conclude(context, done, effects);
    }

    /// Asks for the body, if fields of it are to be sealed.
    fn expect_body(
        &self,
        context: &mut Context<'_>,
        stream: &mut State,
        headers: &Headers<'_>,
        effects: &mut Effects,
    ) {
        let kind = kind(headers);
        let wanted = match kind {
            _ if self.config.json.is_empty() && self.config.form.is_empty() => return,
            Ok(Kind::Json) => !self.config.json.is_empty(),
            Ok(Kind::Form) => !self.config.form.is_empty(),
            Err(_) => true,
        };
        let length = headers
            .first("content-length")
            .and_then(|text| std::str::from_utf8(text).ok()?.trim().parse().ok());
        let cause = match kind {
            // A length of zero is no body.
            _ if !wanted || length == Some(0_u64) => return,
            Ok(_)
                if length.is_some_and(|length| {
                    usize::try_from(length).map_or(true, |length| length > self.config.body_bytes)
                }) =>
            {
                Cause::BodyTooLarge
            }
            Ok(kind) => {
                stream.body = Some((kind, Vec::new()));
                effects.push(Effect::InspectRequestBody);
                return;
            }
            Err(cause) => cause,
        };
        self.conclude(context, Done { cause: Some(cause), ..Done::default() }, effects);
    }

    /// Collects a body, and seals what it holds when it is there as a whole.
    fn body(
        &self,
        context: &mut Context<'_>,
        stream: &mut State,
        chunk: &[u8],
        ends: bool,
        effects: &mut Effects,
    ) {
        let Some((kind, mut bytes)) = stream.body.take() else { return };
        if bytes.len().saturating_add(chunk.len()) > self.config.body_bytes {
            self.conclude(context, Done { cause: Some(Cause::BodyTooLarge), ..Done::default() }, effects);
            if !ends && !effects.iter().any(|effect| matches!(effect, Effect::Refuse(_))) {
                effects.push(Effect::ReleaseRequestBody);
            }
            return;
        }
        bytes.extend_from_slice(chunk);
        if !ends {
            stream.body = Some((kind, bytes));
            return;
        }
        // What a policy before this one makes of it is what the application would get.
        let replaced = effects.iter().rposition(|effect| matches!(effect, Effect::ReplaceRequestBody(_)));
        if let Some(Effect::ReplaceRequestBody(body)) = replaced.and_then(|place| effects.get(place)) {
            bytes.clone_from(body);
        }
        let mut done = Done::default();
        if let Some(body) = self.sealed_body(context, stream, (kind, &bytes), &mut done, effects)
            && self.config.enforce
        {
            effects.extend(DIGESTS.map(|name| Effect::RemoveRequestHeader(name.into())));
            match replaced.and_then(|place| effects.get_mut(place)) {
                Some(effect) => *effect = Effect::ReplaceRequestBody(body),
                None => effects.push(Effect::ReplaceRequestBody(body)),
            }
        }
        self.conclude(context, done, effects);
    }

    /// The body with its values sealed; `None` when none is.
    fn sealed_body<'c>(
        &'c self,
        context: &mut Context<'_>,
        stream: &mut State,
        (kind, body): (Kind, &[u8]),
        done: &mut Done<'c>,
        effects: &mut Effects,
    ) -> Option<Vec<u8>> {
        let found = self.found(kind, body);
        let Ok(found) = found else {
            done.cause = Some(Cause::Unreadable);
            return None;
        };
        if !found.is_empty() && !context.facts.holds_request() {
            done.cause = Some(Cause::NotHeld);
            return None;
        }
        let (mut sealed, mut at) = (Vec::with_capacity(body.len()), 0);
        for Found { range, field, message } in found {
            match self.value(context, stream, field, &message, effects) {
                Ok(envelope) => {
                    sealed.extend_from_slice(body.get(at..range.start)?);
                    let quote = if kind == Kind::Json { "\"" } else { "" };
                    sealed.extend_from_slice([quote, &envelope, quote].concat().as_bytes());
                    at = range.end;
                    done.sealed(field);
                }
                Err(cause) => done.cause = done.cause.or(Some(cause)),
            }
        }
        sealed.extend_from_slice(body.get(at..)?);
        (done.sealed > 0).then_some(sealed)
    }

    /// The values of a body that are to be sealed, in order.
    fn found(&self, kind: Kind, body: &[u8]) -> Result<Vec<Found<'_>>, json::Unreadable> {
        match kind {
            // Nothing at all is no document, and holds nothing.
            Kind::Json if body.is_empty() => Ok(Vec::new()),
            Kind::Json => {
                let found = json::find(body, &self.config.json)?.into_iter();
                let value = |(range, number): json::Found| {
                    let message = body.get(range.clone())?.to_vec();
                    let field = &self.config.json.get(number)?.field;
                    Some(Found { range, field, message })
                };
                Ok(found.filter_map(value).collect())
            }
            Kind::Form => {
                let found = form::find(body, &self.config.form).into_iter();
                let value = |(range, number, message): form::Found| {
                    Some(Found { range, field: &self.config.form.get(number)?.field, message })
                };
                Ok(found.filter_map(value).collect())
            }
        }
    }

    /// Seals one value.
    fn value(
        &self,
        context: &mut Context<'_>,
        stream: &mut State,
        field: &str,
        message: &[u8],
        effects: &mut Effects,
    ) -> Result<String, Cause> {
        if stream.values >= self.config.values {
            return Err(Cause::TooMany);
        }
        stream.values = stream.values.saturating_add(1);
        if message.len() > self.config.value_bytes {
            return Err(Cause::ValueTooLarge);
        }
        let tenant = &context.request.tenant;
        let key = self.config.keys.get(tenant.as_str()).ok_or(Cause::NoKey)?;
        if !self.config.enforce {
            return Ok(String::new());
        }
        let mut exchanges = self.exchanges.try_borrow_mut().map_err(|_| Cause::NoRandomness)?;
        let (batch, is_new) =
            exchanges.with(tenant, key, context.moment.now, context.facts).ok_or(Cause::NoRandomness)?;
        if is_new {
            effects.push(Effect::Count(&EXCHANGES, 1));
        }
        let place = portcullis_hpke::Place { tenant, field, purpose: &self.config.purpose };
        let envelope = batch.seal(&place, message).ok_or(Cause::ValueTooLarge)?;
        Ok(Envelope::to_text(&envelope))
    }

    /// Counts and records what was done to a part of a request, and answers for what could not be.
    fn conclude(&self, context: &Context<'_>, done: Done<'_>, effects: &mut Effects) {
        let Done { fields, sealed, cause } = done;
        if sealed > 0 {
            effects.push(Effect::Count(if self.config.enforce { &SEALED } else { &WOULD }, sealed));
            let reason = if self.config.enforce { "sealed" } else { "would-be-sealed" };
            let details = vec![("fields", fields.into_iter().map(Value::from).collect())];
            effects.push(decision(Verdict::Allow, "REQUEST", reason, details));
        }
        let Some(cause) = cause else { return };
        let (status, reason, title) = cause.answer();
        effects.push(Effect::Count(&FAILED, 1));
        let now = context.moment.now;
        if self.logged.get().is_none_or(|logged| now.saturating_sub(logged) >= LOG_PAUSE) {
            self.logged.set(Some(now));
            let tenant = context.request.tenant.as_str();
            let line = format!("seal: {reason} (tenant {tenant}); like failures are not logged for a minute");
            effects.push(Effect::Log(LogLevel::Warn, line));
        }
        let denied = self.config.enforce && self.config.on_error == Answer::Deny;
        let verdict = if denied { Verdict::Deny } else { Verdict::Monitor };
        effects.push(decision(verdict, "SEALING_FAILED", reason, Vec::new()));
        if denied {
            let problem = "urn:portcullis:problem:not-sealed";
            effects.push(Effect::Refuse(Refusal { status, problem, title, reason, headers: Vec::new() }));
        }
    }
}

/// A value of a body.
struct Found<'c> {
    range: Range<usize>,
    field: &'c str,
    message: Vec<u8>,
}

fn decision(
    verdict: Verdict,
    event_type: &'static str,
    reason: &'static str,
    details: Vec<(&'static str, Value)>,
) -> Effect {
    Effect::Decide(Decision { policy: Seal::NAME, verdict, event_type, reason, details })
}

#[cfg(test)]
mod tests;
