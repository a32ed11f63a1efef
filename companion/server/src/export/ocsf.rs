//! An event of the trail as an OCSF 1.5 event: HTTP Activity (class 4002) of what a proxy saw, Base Event (class 0) of what an
//! application or the companion reported.

use portcullis_export::{Record, Severity as Grave};
use serde_json::{Map, Value, json};

use crate::event::{Event, Severity};

const VERSION: &str = "1.5.0";
const HTTP_ACTIVITY: u32 = 4002;

/// The record that others get: `index` is its number in the trail, `sealed` what it tells of people, as text.
#[must_use]
pub fn record(event: Event, index: u64, sealed: Option<String>) -> Record {
    let time_ms = u64::try_from(event.at.as_millisecond()).unwrap_or(0);
    let uid = event.key.to_string();
    let severity = match event.severity {
        Severity::Info => Grave::Info,
        Severity::Warning => Grave::Warning,
        Severity::Error => Grave::Error,
    };
    let correlation_id = event.details.get("correlation_id").and_then(Value::as_str).map(str::to_owned);
    let tenant = event.tenant.to_string();
    let event_type = event.event_type.as_str().to_owned();
    let mut body = body(event, &uid, time_ms, index, correlation_id.as_deref());
    if let (Some(ours), Some(sealed)) =
        (body.pointer_mut("/unmapped/portcullis").and_then(Value::as_object_mut), sealed)
    {
        ours.insert("personal_sealed".to_owned(), sealed.into());
    }
    Record { uid, index, time_ms, tenant, event_type, severity, correlation_id, body }
}

fn body(event: Event, uid: &str, time_ms: u64, index: u64, correlation_id: Option<&str>) -> Value {
    let Event { tenant, event_type, severity, user_id, ip_address, user_agent, mut details, .. } = event;
    let is_http = details.contains_key("method") || details.contains_key("status");
    let mut take = |name: &str| details.remove(name);
    let method = take("method");
    let (host, path, query) = (take("host"), take("path"), take("query"));
    let (status, duration) = (take("status"), take("duration_ms"));
    let agent = take("user_agent").or(user_agent.map(Value::from));
    let (class_uid, class_name, category_uid, category_name) = match is_http {
        true => (HTTP_ACTIVITY, "HTTP Activity", 4, "Network Activity"),
        false => (0, "Base Event", 0, "Uncategorized"),
    };
    let activity = if is_http { activity(method.as_ref().and_then(Value::as_str)) } else { 0 };
    let (severity_id, word) = match severity {
        Severity::Info => (1, "Informational"),
        Severity::Warning => (3, "Medium"),
        Severity::Error => (4, "High"),
    };
    let code = status.as_ref().and_then(Value::as_u64);
    let status_id = code.map_or(0, |code| if code < 400 { 1 } else { 2 });
    let mut body = json!({
        "class_uid": class_uid, "class_name": class_name,
        "category_uid": category_uid, "category_name": category_name,
        "activity_id": activity, "type_uid": class_uid * 100 + activity,
        "severity_id": severity_id, "severity": word, "status_id": status_id, "time": time_ms,
        "metadata": {
            "version": VERSION, "uid": uid, "sequence": index, "tenant_uid": tenant.as_str(),
            "product": {"name": "Portcullis", "vendor_name": "Portcullis", "version": env!("CARGO_PKG_VERSION")},
        },
    });
    let object = |pairs: Vec<(&str, Option<Value>)>| {
        let known = pairs.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        let map: Map<String, Value> = known.collect();
        (!map.is_empty()).then_some(Value::Object(map))
    };
    let mut put = |name: &str, value: Option<Value>| {
        if let (Some(body), Some(value)) = (body.as_object_mut(), value) {
            body.insert(name.to_owned(), value);
        }
    };
    put("duration", duration);
    put("actor", user_id.map(|user| json!({"user": {"uid": user}})));
    put("src_endpoint", ip_address.map(|ip| json!({"ip": ip})));
    let url = object(vec![("hostname", host), ("path", path), ("query_string", query)]);
    put("http_request", object(vec![("http_method", method), ("url", url), ("user_agent", agent)]));
    put("http_response", code.map(|code| json!({"code": code})));
    let ours = json!({"event_type": event_type.as_str(), "severity": severity.as_str(), "details": details});
    put("unmapped", Some(json!({"portcullis": ours})));
    if let (Some(metadata), Some(id)) =
        (body.pointer_mut("/metadata").and_then(Value::as_object_mut), correlation_id)
    {
        metadata.insert("correlation_uid".to_owned(), id.into());
    }
    body
}

/// OCSF's number for a method.
fn activity(method: Option<&str>) -> u32 {
    match method {
        None => 0,
        Some("CONNECT") => 1,
        Some("DELETE") => 2,
        Some("GET") => 3,
        Some("HEAD") => 4,
        Some("OPTIONS") => 5,
        Some("POST") => 6,
        Some("PUT") => 7,
        Some("TRACE") => 8,
        Some("PATCH") => 9,
        Some(_) => 99,
    }
}
