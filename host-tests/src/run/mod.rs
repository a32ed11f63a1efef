//! Running cases.
//!
//! A [`CaseHost`] serves requests in one configuration; [`replay`] brings a case's steps to it and compares. Cases are
//! written for an edge proxy like the one in `envoy/bootstrap.yaml`: what it adds to a request is added here too.

mod native;
mod wasm;

use std::{net::SocketAddr, time::Duration};

pub use native::Native;
pub use wasm::{Wasm, is_intent, options, properties, receipt, records_of};

use crate::{
    case::{Case, RequestWire, UpstreamWire},
    expect::Observed,
    host::HeaderMap,
};

/// Something that serves the requests of a case.
pub trait CaseHost {
    /// Lets time pass until so long after the start of the case.
    ///
    /// # Errors
    /// When the host cannot.
    fn at(&mut self, since_start: Duration) -> Result<(), String>;

    /// Serves one request; the application, if it is reached, answers as it is told.
    ///
    /// # Errors
    /// When the host fails, as opposed to answering.
    fn exchange(&mut self, request: &RequestWire, upstream: &UpstreamWire) -> Result<Observed, String>;
}

/// Does all steps of a case, and answers what came of each.
///
/// # Errors
/// Names the first step that did not go as expected, and every difference.
pub fn replay(case: &Case, host: &mut dyn CaseHost) -> Result<Vec<Observed>, String> {
    let mut all = Vec::new();
    for (number, step) in case.steps.iter().enumerate() {
        let named = |time: u32, problem: String| {
            let time =
                if step.repeat > 1 { format!(", time {time} of {}", step.repeat) } else { String::new() };
            format!("steps[{number}]{time}: {problem}")
        };
        if let Some(at) = step.at {
            host.at(at).map_err(|problem| named(1, problem))?;
        }
        for time in 1..=step.repeat {
            let seen =
                host.exchange(&step.request, &step.upstream).map_err(|problem| named(time, problem))?;
            let differences = step.expect.differences(&seen);
            if !differences.is_empty() {
                return Err(named(time, differences.join("; ")));
            }
            all.push(seen);
        }
    }
    Ok(all)
}

/// The request as the module gets to see it: headers, and the body's pieces.
#[must_use]
pub fn edge_request(request: &RequestWire, source: &str) -> (HeaderMap, Vec<Vec<u8>>) {
    let wire = request.wire();
    let mut headers = HeaderMap::new()
        .with(":authority", &request.host)
        .with(":path", &request.path.0)
        .with(":method", &request.method)
        .with(":scheme", &request.scheme);
    for (name, value) in &wire.headers {
        headers.add(name, value);
    }
    // Envoy with `use_remote_address: true`.
    if let Ok(source) = source.parse::<SocketAddr>() {
        let mut chain = headers.all("x-forwarded-for").join(&b","[..]);
        if !chain.is_empty() {
            chain.push(b',');
        }
        chain.extend_from_slice(source.ip().to_string().as_bytes());
        headers.replace("x-forwarded-for", chain);
    }
    let framed = headers.first("content-length").is_some() || headers.first("transfer-encoding").is_some();
    if !framed && wire.chunked {
        headers.add("transfer-encoding", "chunked");
    } else if !framed && !wire.pieces.is_empty() {
        headers.add("content-length", wire.pieces.concat().len().to_string());
    }
    (headers, wire.pieces)
}

/// The application's answer as the module gets to see it.
#[must_use]
pub fn upstream_answer(upstream: &UpstreamWire) -> HeaderMap {
    let mut headers = HeaderMap::new().with(":status", upstream.status.to_string());
    for (name, value) in upstream.wire_headers() {
        headers.add(name, value);
    }
    if headers.first("content-length").is_none() && headers.first("transfer-encoding").is_none() {
        headers.add("content-length", upstream.body.0.len().to_string());
    }
    headers
}
