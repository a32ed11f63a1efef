//! The sanitize policy: finds attacks in what a request brings along, and refuses it.
//!
//! Defends the application against text that was meant to be data and becomes a program: in a database ([`sql`]), a page
//! ([`html`]), a shell ([`shell`]), a path ([`path`]), a logger ([`lookup`]), or the server itself ([`server`]); against files that
//! are not what they claim to be ([`upload`]), sessions that others chose ([`session`]), tools and probes ([`scanner`]), and messages
//! that two readers understand differently ([`protocol`]). Path, query, cookies, headers and body are cut into names and
//! values; each is decoded the way applications do ([`decode`]) and read by small tokenizers. A finding has a confidence;
//! findings are summed ([`tally`]), and the configured sensitivity says how much is needed.
//!
//! It deliberately has no list of payloads: words in prose are no attack, structure is. It does not judge what users upload
//! beyond that, does not replace parameterized statements and escaping in the application, and does not look at responses. A
//! request passes as it came or is refused, unless the operator has it cleaned ([`rewrite`]) or tagged ([`action`]). A value
//! that an application puts together from several parameters is seen in parts.
//!
//! Limits: a body longer than `body_max_bytes` is inspected in windows of that size ([`body`]); a value
//! is decoded at most [`decode::ROUNDS`] times; 64 exclusions; names in records are cut at 64 bytes. All work is linear in
//! the bytes of the request.

#[cfg(any(test, feature = "schema"))]
mod about;
mod action;
mod body;
mod bytes;
mod clean;
mod config;
mod decode;
mod detect;
mod finding;
mod head;
mod html;
mod inspector;
mod lexicon;
mod lookup;
mod markdown;
mod marks;
mod parameters;
mod path;
mod pattern;
mod place;
mod protocol;
mod report;
mod rewrite;
mod scanner;
mod server;
mod session;
mod shell;
mod sql;
mod tally;
mod upload;

use std::ops::ControlFlow;

use portcullis_policy::{
    ConfigErrors, Context, Effect, Effects, Event, Headers, Metric, Policy, ReadsAddress, Site, Vocabulary,
};

#[cfg(feature = "schema")]
pub use about::{ABOUT, About};
pub use config::{Action, Answer, ExclusionWire, Oversize, PlacesWire, Wire};
pub use detect::{Scope, inspect as inspect_value};
pub use finding::{Families, Family, Finding, Shape};
pub use pattern::PatternWire;
pub use place::Place;
pub use report::{BLOCKED, CLEANED, DETECTED, INSPECTED, OVERSIZE, TAGGED, UNDECODABLE};

use body::{Body, Progress, Report};
use config::Config;
use inspector::{Carried, Inspector};
use report::Uninspected;
use rewrite::Whole;

/// The compiled policy.
#[derive(Debug)]
pub struct Sanitize {
    config: Config,
}

/// What the policy remembers of one stream: the body, while it is collected.
#[derive(Debug, Default)]
pub struct Stream {
    body: Option<Box<Body>>,
    /// What the head leaves to be summed with the body.
    carried: Option<Box<Carried>>,
    /// The body as it came, while it may still be cleaned.
    whole: Option<Box<Whole>>,
    /// Bytes of the body that are still to come, as far as its length was told.
    to_come: Option<u64>,
    /// How odd a body is, if one comes of which the head said nothing.
    untold: Option<u8>,
}

impl Policy for Sanitize {
    const NAME: &'static str = "sanitize";
    const METRICS: &'static [Metric] = report::METRICS;
    type Wire = Wire;
    type Stream = Stream;

    fn compile(wire: Wire, site: &Site, _: &Vocabulary, errors: &mut ConfigErrors) -> Option<Self> {
        Config::compile(wire, site, errors).map(|config| Self { config })
    }

    fn hears_responses(&self) -> bool {
        false
    }

    fn reads_address(&self) -> ReadsAddress {
        ReadsAddress::Never
    }

    fn on(&self, context: &mut Context<'_>, stream: &mut Stream, event: &Event<'_>, effects: &mut Effects) {
        match event {
            Event::RequestHeaders { headers, end_of_stream } => {
                self.head(stream, headers, *end_of_stream, effects);
            }
            Event::RequestBody { chunk, end_of_stream } => {
                self.body(stream, chunk, *end_of_stream, context.facts.holds_request(), effects);
            }
            Event::ResponseHeaders { .. } | Event::Done { .. } => (stream.body, stream.whole) = (None, None),
        }
    }
}

impl Sanitize {
    fn head(&self, stream: &mut Stream, headers: &Headers<'_>, ends: bool, effects: &mut Effects) {
        self.strip_tags(headers, effects);
        let mut inspector = Inspector::new(&self.config);
        let mut flow = head::inspect(&self.config, headers, &mut inspector);
        if flow.is_break()
            && let Some(cleaned) = self.clean_head(&mut inspector, headers, effects)
        {
            (inspector, flow) = (cleaned, ControlFlow::Continue(()));
        }
        conclude(&inspector, effects);
        if flow.is_break() {
            return;
        }
        self.tag(&mut inspector, true, effects);
        if ends || !self.config.places.body {
            return;
        }
        stream.body = Body::expected(headers, &self.config).map(Box::new);
        if stream.body.is_some() {
            stream.carried = (!inspector.carried.is_empty()).then(|| Box::new(inspector.carried));
            stream.whole = self.whole(headers);
            stream.to_come = length(headers);
            stream.untold = protocol::untold(headers);
            effects.push(Effect::InspectRequestBody);
        }
    }

    /// Inspects a chunk of the body. `holds`: all of the request still waits.
    fn body(&self, stream: &mut Stream, chunk: &[u8], ends: bool, holds: bool, effects: &mut Effects) {
        let Some(mut body) = stream.body.take() else { return };
        stream.whole = stream.whole.take().and_then(|whole| whole.with(chunk));
        stream.to_come = stream.to_come.map(|left| left.saturating_sub(chunk.len() as u64));
        let carried = stream.carried.take().map(|carried| *carried).unwrap_or_default();
        let whole = if ends && holds { stream.whole.take() } else { None };
        let before = whole.is_some().then(|| carried.clone());
        let mut inspector = Inspector::after(&self.config, carried);
        let untold = if chunk.is_empty() { None } else { stream.untold.take() };
        let mut progress = match untold.map(|confidence| protocol::came(confidence, &mut inspector)) {
            Some(ControlFlow::Break(())) => Progress::Found,
            _ => body.add(chunk, ends, &mut inspector),
        };
        if progress == Progress::Found
            && let Some(cleaned) = self.clean_body(&mut inspector, whole, before, effects)
        {
            (inspector, progress) = (cleaned, Progress::Done(Report::default()));
        }
        conclude(&inspector, effects);
        if progress == Progress::Found || self.tag(&mut inspector, holds, effects) {
            return;
        }
        match progress {
            Progress::Done(report) => {
                let refused = self.uninspected(report, effects);
                if !refused && !ends {
                    effects.push(Effect::ReleaseRequestBody);
                }
                return;
            }
            // The last window is inspected when the end is told. An application that has all the bytes it was promised would
            // not wait for that: they do not leave before.
            Progress::Passed if stream.to_come == Some(0) => {}
            Progress::Passed => effects.push(Effect::PassRequestBody),
            Progress::More | Progress::Found => {}
        }
        stream.body = Some(body);
        stream.carried = (!inspector.carried.is_empty()).then(|| Box::new(inspector.carried));
    }

    /// Answers for what could not be inspected; whether that refuses the request.
    fn uninspected(&self, report: Report, effects: &mut Effects) -> bool {
        let config = &self.config;
        let (why, allowed) = match report {
            Report { undecodable: true, .. } => (Uninspected::Undecodable, config.on_error == Answer::Allow),
            Report { oversize: true, .. } => (Uninspected::Oversize, config.on_oversize == Oversize::Allow),
            _ => return false,
        };
        report::uninspected(why, allowed, config.enforce, effects);
        !allowed && config.enforce
    }
}

/// The body's length in bytes, if it is told. One that is no number or too large is no length.
fn length(headers: &Headers<'_>) -> Option<u64> {
    std::str::from_utf8(headers.first("content-length")?).ok()?.trim().parse().ok()
}

/// Counts what was inspected, and decides on what was found.
fn conclude(inspector: &Inspector<'_>, effects: &mut Effects) {
    if inspector.inspected > 0 {
        effects.push(Effect::Count(&INSPECTED, inspector.inspected));
    }
    if let Some(found) = &inspector.found {
        report::attack(found, inspector.instead, effects);
    }
}

#[cfg(test)]
pub(crate) mod tests;
