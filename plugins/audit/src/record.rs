//! One request as one record: OCSF 1.5 HTTP Activity (class 4002), with what only we know under
//! `unmapped.portcullis`.
//!
//! Every field has a maximum, in bytes of the finished text, and ends with `…` where it was cut; together they keep a
//! line within [`LINE_BYTES`].

use std::{net::IpAddr, time::Duration};

use portcullis_policy::{Decision, Outcome, Request, Verdict, json::Value};

use crate::{
    redact::{Redactor, host_only},
    text::Text,
};

/// The longest line that the companion takes, without its end.
pub const LINE_BYTES: usize = 16 * 1024;
const PATH_BYTES: usize = 2048;
const QUERY_BYTES: usize = 3072;
const HOST_BYTES: usize = 256;
const AGENT_BYTES: usize = 600;
/// Names from the configuration and the host: short, but not ours.
const NAME_BYTES: usize = 200;
const DETAILS_BYTES: usize = 2048;
const DETAIL_BYTES: usize = 512;
/// Decisions that refused nothing and are noted.
const NOTES: usize = 4;
/// All recorded headers together, and one value.
pub(crate) const HEADERS_BYTES: usize = 3072;
pub(crate) const HEADER_BYTES: usize = 512;

/// The text of a record begins alike for every request.
pub(crate) const START: &str = concat!(
    r#"{"class_uid":4002,"class_name":"HTTP Activity","category_uid":4,"category_name":"Network Activity","#,
    r#""metadata":{"version":"1.5.0","product":{"name":"Portcullis","vendor_name":"Portcullis","version":""#,
    env!("CARGO_PKG_VERSION"),
    r#""}"#
);

/// What a record tells about.
pub(crate) struct Account<'a> {
    pub request: &'a Request,
    pub decisions: &'a [Decision],
    pub now: Duration,
    pub outcome: &'a Outcome,
    /// Recorded headers, as the inside of a JSON object.
    pub headers: &'a [u8],
    /// From the request's headers to the response's.
    pub response: Option<Duration>,
}

/// How grave, as we name it and as OCSF counts it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Severity {
    Info,
    Warning,
    Error,
}

/// Writes the record.
pub(crate) fn write(account: &Account<'_>, redactor: &Redactor) -> Vec<u8> {
    let (request, outcome) = (account.request, account.outcome);
    let decision = decisive(account.decisions);
    // A response that never passed us is the proxy's own: with a 4xx it refused the request before we saw it.
    let by_proxy = account.response.is_none() && matches!(outcome.status, Some(400..500));
    let denied = by_proxy || decision.is_some_and(|decision| decision.verdict == Verdict::Deny);
    let severity = match outcome.status {
        _ if denied => Severity::Warning,
        None | Some(500..) => Severity::Error,
        _ => Severity::Info,
    };
    let mut out = Text::with_capacity(1280);
    begin(&mut out, request);
    activity(&mut out, request, severity, !denied && outcome.status.is_some_and(|status| status < 400));
    let total = outcome.total.unwrap_or_else(|| account.now.saturating_sub(request.started));
    number(&mut out, ",\"duration\":", u64::try_from(total.as_millis()).unwrap_or(u64::MAX));
    who(&mut out, request);
    http_request(&mut out, account, redactor);
    if let Some(status) = outcome.status {
        number(&mut out, ",\"http_response\":{\"code\":", u64::from(status));
        if let Some(length) = outcome.response_bytes {
            number(&mut out, ",\"length\":", length);
        }
        out.raw("}");
    }
    ours(&mut out, account, decision, denied, severity);
    number(&mut out, ",\"durations_us\":{\"total\":", micros(total));
    if let Some(response) = account.response {
        number(&mut out, ",\"response\":", micros(response));
    }
    out.raw("}}}}");
    out.into_bytes()
}

/// Writes what a request asks for, before anybody knows what will come of it.
pub(crate) fn intent(account: &Account<'_>, redactor: &Redactor) -> Vec<u8> {
    let request = account.request;
    let mut out = Text::with_capacity(1024);
    begin(&mut out, request);
    let activity = activity_id(request);
    number(&mut out, ",\"activity_id\":", activity);
    number(&mut out, ",\"type_uid\":", activity.saturating_add(400_200));
    out.raw(",\"severity_id\":1,\"status_id\":0");
    number(&mut out, ",\"time\":", request.started_wall_ns / 1_000_000);
    who(&mut out, request);
    http_request(&mut out, account, redactor);
    out.raw(",\"unmapped\":{\"portcullis\":{\"event_type\":\"REQUEST_INTENT\",\"severity\":\"INFO\"");
    where_to(&mut out, request);
    out.raw("}}}");
    out.into_bytes()
}

fn begin(out: &mut Text, request: &Request) {
    out.raw(START);
    field(out, ",\"correlation_uid\":", request.correlation_id.as_str().as_bytes(), NAME_BYTES);
    field(out, ",\"tenant_uid\":", request.tenant.as_str().as_bytes(), NAME_BYTES);
    out.raw("}");
}

/// The first refusal, else the first that would have been one.
fn decisive(decisions: &[Decision]) -> Option<&Decision> {
    let first = |verdict| decisions.iter().find(|decision| decision.verdict == verdict);
    first(Verdict::Deny).or_else(|| first(Verdict::Monitor))
}

fn activity_id(request: &Request) -> u64 {
    match request.method.as_slice() {
        b"" => 0,
        b"CONNECT" => 1,
        b"DELETE" => 2,
        b"GET" => 3,
        b"HEAD" => 4,
        b"OPTIONS" => 5,
        b"POST" => 6,
        b"PUT" => 7,
        b"TRACE" => 8,
        b"PATCH" => 9,
        _ => 99,
    }
}

fn activity(out: &mut Text, request: &Request, severity: Severity, success: bool) {
    let activity = activity_id(request);
    let severity = match severity {
        Severity::Info => 1,
        Severity::Warning => 3,
        Severity::Error => 4,
    };
    number(out, ",\"activity_id\":", activity);
    number(out, ",\"type_uid\":", activity.saturating_add(400_200));
    number(out, ",\"severity_id\":", severity);
    number(out, ",\"status_id\":", if success { 1 } else { 2 });
    number(out, ",\"time\":", request.started_wall_ns / 1_000_000);
}

fn who(out: &mut Text, request: &Request) {
    if let Some(user) = &request.user {
        field(out, ",\"actor\":{\"user\":{\"uid\":", user.as_str().as_bytes(), NAME_BYTES);
        out.raw("}}");
    }
    if let Some(address) = request.client_ip {
        out.raw(",\"src_endpoint\":{\"ip\":\"");
        match address {
            IpAddr::V4(v4) => {
                for (number, octet) in v4.octets().into_iter().enumerate() {
                    out.raw(if number == 0 { "" } else { "." });
                    out.number(u64::from(octet));
                }
            }
            IpAddr::V6(v6) => out.raw(&v6.to_string()),
        }
        out.raw("\"}");
    }
}

fn http_request(out: &mut Text, account: &Account<'_>, redactor: &Redactor) {
    let request = account.request;
    out.raw(",\"http_request\":{");
    if !request.method.is_empty() {
        field(out, "\"http_method\":", &request.method, NAME_BYTES);
        out.raw(",");
    }
    out.raw("\"url\":{");
    for (name, value, most) in [
        ("\"scheme\":", request.scheme.as_slice(), NAME_BYTES),
        ("\"hostname\":", host_only(&request.host), HOST_BYTES),
    ] {
        if !value.is_empty() {
            field(out, name, value, most);
            out.raw(",");
        }
    }
    out.raw("\"path\":\"");
    let end = out.len().saturating_add(PATH_BYTES);
    redactor.path(request.path_only(), out, end);
    out.raw("\"");
    if let Some(query) = request.query() {
        out.raw(",\"query_string\":\"");
        let end = out.len().saturating_add(QUERY_BYTES);
        redactor.query(query, out, end);
        out.raw("\"");
    }
    out.raw("}");
    if !request.user_agent.is_empty() {
        field(out, ",\"user_agent\":", &request.user_agent, AGENT_BYTES);
    }
    if let Some(length) = account.outcome.request_bytes {
        number(out, ",\"length\":", length);
    }
    if !account.headers.is_empty() {
        out.raw(",\"http_headers\":[");
        out.raw_bytes(account.headers);
        out.raw("]");
    }
    out.raw("}");
}

/// What OCSF has no place for, without its end.
fn ours(
    out: &mut Text,
    account: &Account<'_>,
    decision: Option<&Decision>,
    denied: bool,
    severity: Severity,
) {
    let request = account.request;
    let name = match severity {
        Severity::Info => "INFO",
        Severity::Warning => "WARNING",
        Severity::Error => "ERROR",
    };
    let verdict = match decision {
        _ if denied => "deny",
        Some(decision) if decision.verdict == Verdict::Monitor => "monitor",
        _ => "allow",
    };
    let event_type = decision.map_or("REQUEST", |decision| decision.event_type);
    field(out, ",\"unmapped\":{\"portcullis\":{\"event_type\":", event_type.as_bytes(), NAME_BYTES);
    field(out, ",\"severity\":", name.as_bytes(), NAME_BYTES);
    field(out, ",\"decision\":", verdict.as_bytes(), NAME_BYTES);
    where_to(out, request);
    if let Some(decision) = decision {
        field(out, ",\"policy\":", decision.policy.as_bytes(), NAME_BYTES);
        field(out, ",\"reason\":", decision.reason.as_bytes(), NAME_BYTES);
        if !decision.details.is_empty() {
            details(out, decision);
        }
    }
    notes(out, account.decisions);
    if !account.outcome.details.is_empty() {
        field(out, ",\"response_details\":", &account.outcome.details, NAME_BYTES);
    }
}

fn where_to(out: &mut Text, request: &Request) {
    for (name, value) in [(",\"action\":", &request.action), (",\"route\":", &request.route)] {
        if !value.is_empty() {
            field(out, name, value.as_bytes(), NAME_BYTES);
        }
    }
}

/// What policies did to a request that they let pass, or to its response. At most [`NOTES`].
fn notes(out: &mut Text, decisions: &[Decision]) {
    let noted = |decision: &&Decision| decision.verdict == Verdict::Allow && !decision.details.is_empty();
    let mut before = ",\"notes\":[{\"policy\":";
    for decision in decisions.iter().filter(noted).take(NOTES) {
        field(out, before, decision.policy.as_bytes(), NAME_BYTES);
        field(out, ",\"reason\":", decision.reason.as_bytes(), NAME_BYTES);
        details(out, decision);
        out.raw("}");
        before = ",{\"policy\":";
    }
    if decisions.iter().any(|decision| noted(&decision)) {
        out.raw("]");
    }
}

/// The decision's facts, as many as have room; a fact that has none is left out whole, and `cut` says so.
fn details(out: &mut Text, decision: &Decision) {
    out.raw(",\"details\":{");
    let end = out.len().saturating_add(DETAILS_BYTES);
    let mut first = true;
    for (name, value) in &decision.details {
        let before = out.len();
        if !first {
            out.raw(",");
        }
        out.string(name.as_bytes(), NAME_BYTES);
        out.raw(":");
        match value {
            Value::String(text) => out.string(text.as_bytes(), DETAIL_BYTES),
            other => out.raw(&other.to_string()),
        }
        if out.len() > end {
            out.truncate(before);
            out.raw(if first { "\"cut\":true" } else { ",\"cut\":true" });
            break;
        }
        first = false;
    }
    out.raw("}");
}

fn field(out: &mut Text, name: &str, value: &[u8], most: usize) {
    out.raw(name);
    out.string(value, most);
}

fn number(out: &mut Text, name: &str, value: u64) {
    out.raw(name);
    out.number(value);
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
