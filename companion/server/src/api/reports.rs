//! `POST /reports/{tenant_id}`: what browsers notice, by the Reporting API and by `report-uri` of a Content-Security-Policy (CSP3, 5;
//! W3C Reporting API), as events `CSP_REPORT` and `BROWSER_REPORT`.
//!
//! A browser shows no token, so this is open, and everything in a report is a stranger's word: it is bounded, cleaned, kept
//! without queries and fragments of URLs (they hold secrets), and told once in [`WINDOW`] however often it comes. The
//! answer is the same whether the tenant exists, so that nobody learns which do. Let browsers reach it through the proxy, whose
//! limits hold there too. What is told is written down after the answer: neither the time that this takes nor its failure tells anything.
//!
//! Limits: 64 KiB a body, [`REPORTS`] reports of it, [`KNOWN`] different reports remembered, [`NEW`] new ones a minute of a tenant;
//! what is beyond is counted.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};

use super::Api;
use super::paths::NamedTenant;
use crate::clock::monotonic;
use crate::event::{Event, EventType, Severity, What};
use crate::http::body;
use crate::http::problem::Problem;
use crate::tenant::{TenantId, records};
use crate::units::bounded;

/// The largest body.
const BODY_BYTES: usize = 64 * 1024;
/// Reports of one body that are looked at.
pub const REPORTS: usize = 32;
/// Different reports that are remembered.
pub const KNOWN: usize = 4096;
/// New reports a minute of one tenant.
pub const NEW: u32 = 60;
/// In which a report that comes again is not told again.
pub const WINDOW: Duration = Duration::from_secs(10 * 60);
const MINUTE: Duration = Duration::from_secs(60);
/// Characters of a value that are kept.
const VALUE_CHARS: usize = 300;
/// Without it, a page of another origin takes what was taken for a failure.
const ANY_ORIGIN: (HeaderName, &str) = (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*");

/// What becomes of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is told.
    New,
    /// It was told before.
    Repeated,
    /// There are too many.
    Excess,
}

/// Reports that were told lately.
#[derive(Default)]
pub struct Recent {
    hashes: RandomState,
    state: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    /// When each was told, by a keyed hash: a stranger cannot choose two that meet.
    known: HashMap<u64, Instant>,
    /// New ones of each tenant in the minute that began then.
    tenants: HashMap<TenantId, u32>,
    minute: Option<Instant>,
}

impl Recent {
    /// Whether a report is to be told.
    pub fn admit(&self, tenant: &TenantId, report: &Map<String, Value>, now: Instant) -> Admission {
        let key = self.hashes.hash_one((tenant, Value::Object(report.clone()).to_string()));
        let mut told = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = |at: &Instant| now.saturating_duration_since(*at) < WINDOW;
        if told.known.get(&key).is_some_and(fresh) {
            return Admission::Repeated;
        }
        if told.minute.is_none_or(|began| now.saturating_duration_since(began) >= MINUTE) {
            told.minute = Some(now);
            told.tenants.clear();
        }
        if told.known.len() >= KNOWN {
            told.known.retain(|_, at| fresh(at));
        }
        let count = told.tenants.get(tenant).copied().unwrap_or(0);
        if count >= NEW || told.known.len() >= KNOWN {
            return Admission::Excess;
        }
        told.tenants.insert(tenant.clone(), count.saturating_add(1));
        told.known.insert(key, now);
        Admission::New
    }
}

/// Answers what browsers ask before they report to another origin: their content types are none that forms send (Fetch, 3.2).
/// Anyone may report.
pub async fn preflight(_: NamedTenant) -> impl IntoResponse {
    let allowed = [
        ANY_ORIGIN,
        (header::ACCESS_CONTROL_ALLOW_METHODS, "POST"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "content-type"),
    ];
    (StatusCode::NO_CONTENT, allowed)
}

/// Takes a browser's reports.
pub async fn collect(
    State(api): State<Api>,
    NamedTenant(tenant): NamedTenant,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if !matches!(kind.as_str(), "application/csp-report" | "application/reports+json" | "application/json") {
        let detail = "Content-Type must be application/reports+json or application/csp-report";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-type", detail));
    }
    let bytes = body::bytes(body, BODY_BYTES).await?;
    let document = serde_json::from_slice(&bytes).map_err(|_| Problem::malformed("the body is no JSON"))?;
    let reports =
        read(document).ok_or_else(|| Problem::malformed("the body holds no report of a browser"))?;
    let done = (StatusCode::NO_CONTENT, [ANY_ORIGIN]).into_response();
    if !api.query(records::exists(&*api.storage, &tenant)).await? {
        api.metrics.browser_reports_refused.add(u64::try_from(reports.len()).unwrap_or(u64::MAX));
        return Ok(done);
    }
    let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    let mut events = Vec::new();
    for (event_type, details) in reports {
        match api.reports.admit(&tenant, &details, monotonic()) {
            Admission::New => events.extend(event(&api, &tenant, event_type, details, agent)),
            Admission::Repeated => api.metrics.browser_reports_repeated.add(1),
            Admission::Excess => api.metrics.browser_reports_excess.add(1),
        }
    }
    if !events.is_empty() {
        // Few: what was admitted is bounded.
        tokio::spawn(store(api, events));
    }
    Ok(done)
}

async fn store(api: Api, events: Vec<Event>) {
    let count = u64::try_from(events.len()).unwrap_or(u64::MAX);
    match api.trail.append(events).await {
        Ok(_) => api.metrics.browser_reports_stored.add(count),
        Err(error) => {
            api.metrics.browser_reports_failed.add(count);
            tracing::warn!(category = "audit", count, %error, "browsers' reports were not stored");
        }
    }
}

fn event(
    api: &Api,
    tenant: &TenantId,
    event_type: &str,
    mut details: Map<String, Value>,
    agent: Option<&str>,
) -> Option<Event> {
    let key = api.numbering.next()?;
    let enforced = details.get("disposition").and_then(Value::as_str) != Some("report");
    details.insert("source".to_owned(), "browser".into());
    let severity = match enforced && event_type == EventType::CSP_REPORT {
        true => Severity::Warning,
        false => Severity::Info,
    };
    let event_type = EventType::new(event_type)?;
    let what = What { tenant: tenant.clone(), event_type, severity, at: api.clock.now() };
    let user_agent = agent.map(|agent| bounded(agent, 500));
    Some(Event { user_agent, ..Event::own(key, what, details) })
}

/// The reports of a body in either form: `{"csp-report": {...}}`, or a list of `{"type": ..., "url": ..., "body": {...}}`.
fn read(document: Value) -> Option<Vec<(&'static str, Map<String, Value>)>> {
    match document {
        Value::Object(mut object) => {
            let Some(Value::Object(report)) = object.remove("csp-report") else { return None };
            Some(vec![(EventType::CSP_REPORT, kept("csp-violation", None, &report))])
        }
        Value::Array(list) => {
            let one = |report: &Value| {
                let kind = report.get("type")?.as_str()?;
                let body = report.get("body")?.as_object()?;
                let event_type =
                    if kind == "csp-violation" { EventType::CSP_REPORT } else { "BROWSER_REPORT" };
                Some((event_type, kept(kind, report.get("url"), body)))
            };
            let reports: Vec<_> = list.iter().take(REPORTS).filter_map(one).collect();
            (!reports.is_empty()).then_some(reports)
        }
        _ => None,
    }
}

/// What is kept of a report: the names of the Reporting API, and those that `report-uri` gives the same things.
const FIELDS: [(&str, &[&str]); 11] = [
    ("document_url", &["documentURL", "document-uri"]),
    ("blocked_url", &["blockedURL", "blocked-uri"]),
    ("directive", &["effectiveDirective", "effective-directive", "violated-directive"]),
    ("disposition", &["disposition"]),
    ("source_file", &["sourceFile", "source-file"]),
    ("line", &["lineNumber", "line-number"]),
    ("column", &["columnNumber", "column-number"]),
    ("sample", &["sample", "script-sample"]),
    ("status", &["statusCode", "status-code", "status_code"]),
    ("phase", &["phase"]),
    ("what", &["type", "message", "id"]),
];

fn kept(kind: &str, url: Option<&Value>, body: &Map<String, Value>) -> Map<String, Value> {
    let mut details = Map::new();
    let mut put = |name: &str, value: &Value| {
        let value = match value {
            Value::String(text) if name.ends_with("_url") || name == "source_file" => plain_url(text).into(),
            Value::String(text) => bounded(text, VALUE_CHARS).into(),
            Value::Number(_) | Value::Bool(_) => value.clone(),
            _ => return,
        };
        details.insert(name.to_owned(), value);
    };
    put("report", &Value::from(kind));
    for (name, sources) in FIELDS {
        if let Some(value) = sources.iter().find_map(|source| body.get(*source)) {
            put(name, value);
        }
    }
    if let Some(url) = url.filter(|_| !body.contains_key("documentURL")) {
        put("document_url", url);
    }
    details
}

/// Without query and fragment, which may hold secrets.
fn plain_url(url: &str) -> String {
    let end = url.find(['?', '#']).unwrap_or(url.len());
    bounded(url.get(..end).unwrap_or_default(), VALUE_CHARS)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_forms_tell_the_same() {
        let old = json!({"csp-report": {"document-uri": "https://a.test/x?token=1", "blocked-uri": "inline",
            "effective-directive": "script-src-elem", "disposition": "enforce", "line-number": 3, "other": {"a": 1}}});
        let new = json!([{"type": "csp-violation", "age": 1, "url": "https://a.test/x?token=1", "body": {"documentURL":
            "https://a.test/x?token=1#f", "blockedURL": "inline", "effectiveDirective": "script-src-elem",
            "disposition": "enforce", "lineNumber": 3}}]);
        let read_old = read(old).unwrap();
        assert_eq!(read_old, read(new).unwrap());
        assert_eq!(
            Value::Object(read_old[0].1.clone()),
            json!({"report": "csp-violation", "document_url": "https://a.test/x", "blocked_url": "inline",
                "directive": "script-src-elem", "disposition": "enforce", "line": 3})
        );
    }

    #[test]
    fn what_is_no_report_is_refused() {
        for wrong in [
            json!(null),
            json!("x"),
            json!({}),
            json!({"csp-report": 1}),
            json!([]),
            json!([{"type": 1}]),
            json!([[]]),
        ] {
            assert_eq!(read(wrong.clone()), None, "{wrong}");
        }
        let many = Value::Array(vec![json!({"type": "x", "body": {"sample": "y".repeat(1000)}}); 100]);
        let read = read(many).unwrap();
        assert_eq!(read.len(), REPORTS);
        assert!(read[0].1["sample"].as_str().unwrap().chars().count() <= VALUE_CHARS);
    }

    #[test]
    fn each_is_told_once_and_no_tenant_takes_all_room() {
        let (recent, now) = (Recent::default(), monotonic());
        let tenant = |name: &str| TenantId::new(name).unwrap();
        let report = |number: u32| Map::from_iter([("line".to_owned(), number.into())]);
        assert_eq!(recent.admit(&tenant("a"), &report(0), now), Admission::New);
        assert_eq!(recent.admit(&tenant("a"), &report(0), now), Admission::Repeated);
        assert_eq!(recent.admit(&tenant("b"), &report(0), now), Admission::New);
        assert_eq!(recent.admit(&tenant("a"), &report(0), now + WINDOW), Admission::New);
        let later = now + WINDOW + WINDOW;
        let told =
            (0..200).filter(|n| recent.admit(&tenant("c"), &report(*n), later) == Admission::New).count();
        assert_eq!(told, 60);
        assert_eq!(recent.admit(&tenant("d"), &report(0), later), Admission::New);
        for number in 0..200 {
            let name = format!("t{number}");
            (0..60).for_each(|n| {
                let _ = recent.admit(&tenant(&name), &report(n), later);
            });
        }
        assert!(recent.state.lock().unwrap().known.len() <= KNOWN);
        assert_eq!(
            recent.admit(&tenant("e"), &report(0), later + WINDOW),
            Admission::New,
            "old ones make room"
        );
    }
}
