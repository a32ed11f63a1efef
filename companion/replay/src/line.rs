//! Lines of JSON: requests, lines of access logs, audit records of our own, single values.
//!
//! - **Whole requests**: `method`, `uri` (or `path`, `url`, `target`), `headers` (a list of pairs, or an object), `body`;
//!   or `raw`, all of it as bytes. At the top, or under `request`.
//! - **Access logs**: the same without headers; `referer`, `user_agent`, `authority` (or `host`) and `client` are taken
//!   where they are given. Common spellings of these names are known.
//! - **Audit records** of the module (OCSF HTTP Activity), as far as they tell the request.
//! - **Single values**: `payload`, put where `place` says, or into each usual place in turn.
//!
//! Any field may come base64-encoded under its name and `_base64`. What is expected of a request (`expect_ids`,
//! `no_expect_ids`), `label`, `category` and `attack_type` become [`Entry::labels`].

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value};

use crate::{Header, Place, Request, Unplaceable, Unreadable, field, http, request::HOST};

/// What one line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is counted under: one that all lines of its kind share, then finer ones.
    pub labels: Vec<String>,
    /// The requests that it stands for: one, or one for each place of a value.
    pub cases: Vec<Case>,
}

/// One request of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// Where the line's value was put; `None` for whole requests.
    pub place: Option<Place>,
    /// The request, if there can be one.
    pub request: Result<Request, Unplaceable>,
}

type Object = Map<String, Value>;

/// The label of requests that have none.
pub const REQUESTS: &str = "requests";
/// The label of values that have none.
pub const VALUES: &str = "values";

/// Reads one line.
///
/// # Errors
/// When it is not JSON, of no known shape, or a field cannot be used.
pub fn read(line: &[u8]) -> Result<Entry, Unreadable> {
    let value: Value = serde_json::from_slice(line)?;
    let Value::Object(object) = value else {
        return Err(Unreadable::Shape("no fields at all".to_owned()));
    };
    if let Some(payload) = bytes(&object, &["payload"])? {
        return placed(&object, &payload);
    }
    let inner = match object.get("request") {
        Some(Value::Object(inner)) => inner,
        Some(Value::Null) | None => &object,
        Some(_) => return Err(field("request", "must be an object")),
    };
    let request = match object.get("http_request") {
        Some(Value::Object(activity)) => Some(recorded(&object, activity)?),
        _ => request(inner)?,
    };
    let Some(request) = request else {
        let keys: Vec<&str> = object.keys().take(12).map(String::as_str).collect();
        let keys =
            if keys.is_empty() { "no fields at all".to_owned() } else { format!("`{}`", keys.join("`, `")) };
        return Err(Unreadable::Shape(keys));
    };
    let labels =
        expectations(&object).or_else(|| classes(&object)).unwrap_or_else(|| vec![REQUESTS.to_owned()]);
    Ok(Entry { labels, cases: vec![Case { place: None, request: Ok(request) }] })
}

/// A value into the places that the line names.
fn placed(object: &Object, payload: &[u8]) -> Result<Entry, Unreadable> {
    let unknown = |name: &Value| {
        field(
            "place",
            format!("{name} is not known: query, form, json, header[:NAME], cookie, path, body:TYPE"),
        )
    };
    let parse = |name: &Value| name.as_str().and_then(Place::parse).ok_or_else(|| unknown(name));
    let (places, named) = match object.get("place") {
        None | Some(Value::Null) => (Place::usual(), false),
        Some(Value::Array(list)) => (list.iter().map(parse).collect::<Result<_, _>>()?, true),
        Some(one) => (vec![parse(one)?], true),
    };
    let case = |place: Place| Case { request: place.request(payload, named), place: Some(place) };
    let labels = classes(object).unwrap_or_else(|| vec![VALUES.to_owned()]);
    Ok(Entry { labels, cases: places.into_iter().map(case).collect() })
}

/// A whole request, or a line of an access log; `None` when there is neither.
fn request(object: &Object) -> Result<Option<Request>, Unreadable> {
    if let Some(raw) = bytes(object, &["raw"])? {
        // What no server would read as a request is sent all the same; what it says is looked at as far as it goes.
        let read = http::read(&raw).unwrap_or_else(|_| Request::new("GET", "/"));
        return Ok(Some(Request { wire: Some(raw), ..read }));
    }
    let target = bytes(object, &["uri", "path", "url", "target", "request_uri", "path_and_query"])?;
    let Some(mut target) = target else { return Ok(None) };
    if let Some(query) = bytes(object, &["query", "query_string"])?
        && !query.is_empty()
        && !target.contains(&b'?')
    {
        target.extend_from_slice(&[b"?", query.strip_prefix(b"?").unwrap_or(&query)].concat());
    }
    let method = bytes(object, &["method", "request_method"])?.unwrap_or_else(|| b"GET".to_vec());
    let mut request = Request::new(method, target);
    if let Some(version) = object.get("version").and_then(Value::as_str) {
        request.version = version.into();
    }
    if object.get("scheme").and_then(Value::as_str) == Some("https") {
        request.scheme = "https";
    }
    match object.get("headers") {
        None | Some(Value::Null) => request = logged(object, request)?,
        Some(headers) => request.headers = pairs(headers)?,
    }
    request.body = bytes(object, &["body"])?.unwrap_or_default();
    request.client = client(object);
    Ok(Some(request))
}

/// The few headers that an access log tells.
fn logged(object: &Object, mut request: Request) -> Result<Request, Unreadable> {
    let host =
        bytes(object, &["authority", ":authority", "host", "http_host"])?.unwrap_or_else(|| HOST.into());
    request = request.with("host", host);
    for (name, spellings) in [
        ("user-agent", &["user_agent", "user-agent", "http_user_agent", "useragent"][..]),
        ("referer", &["referer", "referrer", "http_referer"]),
        ("cookie", &["cookie", "http_cookie"]),
        ("x-forwarded-for", &["x_forwarded_for", "x-forwarded-for", "http_x_forwarded_for"]),
        ("content-type", &["content_type", "content-type"]),
        ("x-tenant-id", &["x-tenant-id", "x_tenant_id"]),
        ("x-user-id", &["x-user-id", "x_user_id"]),
    ] {
        // A log writes `-` for what was not there.
        if let Some(value) = bytes(object, spellings)?.filter(|value| value != b"-" && !value.is_empty()) {
            request = request.with(name, value);
        }
    }
    Ok(if object.contains_key("body") || object.contains_key("body_base64") {
        Request { body: bytes(object, &["body"])?.unwrap_or_default(), ..request }.framed()
    } else {
        request
    })
}

fn client(object: &Object) -> Option<String> {
    let keys = ["client", "client_ip", "remote_addr", "downstream_remote_address"];
    let found = keys.iter().find_map(|key| object.get(*key)?.as_str());
    found.filter(|text| !text.is_empty() && *text != "-").map(ToOwned::to_owned)
}

/// An audit record of ours: what it tells of the request. Secrets in it are gone already.
fn recorded(record: &Object, activity: &Object) -> Result<Request, Unreadable> {
    let url = activity.get("url").and_then(Value::as_object);
    let path = text(url, "path").ok_or_else(|| field("http_request.url.path", "is missing"))?;
    let query = text(url, "query_string").map(|query| format!("?{query}")).unwrap_or_default();
    let mut request =
        Request::new(text(Some(activity), "http_method").unwrap_or("GET"), format!("{path}{query}"))
            .with("host", text(url, "hostname").unwrap_or(HOST));
    if let Some(agent) = text(Some(activity), "user_agent") {
        request = request.with("user-agent", agent);
    }
    request.client = text(record.get("src_endpoint").and_then(Value::as_object), "ip").map(ToOwned::to_owned);
    Ok(request)
}

fn text<'v>(object: Option<&'v Object>, key: &str) -> Option<&'v str> {
    object?.get(key)?.as_str().filter(|text| !text.is_empty())
}

fn pairs(headers: &Value) -> Result<Vec<Header>, Unreadable> {
    let wrong = || field("headers", "must be a list of [name, value], or an object of texts");
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone().into_bytes()),
        Value::Number(number) => Some(number.to_string().into_bytes()),
        _ => None,
    };
    let mut all = Vec::new();
    match headers {
        Value::Array(list) => {
            for pair in list {
                let [name, value] = pair.as_array().map(Vec::as_slice).ok_or_else(wrong)? else {
                    return Err(wrong());
                };
                all.push((text(name).ok_or_else(wrong)?, text(value).ok_or_else(wrong)?));
            }
        }
        Value::Object(object) => {
            for (name, value) in object {
                let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
                for value in values {
                    all.push((name.clone().into_bytes(), text(value).ok_or_else(wrong)?));
                }
            }
        }
        _ => return Err(wrong()),
    }
    Ok(all)
}

/// The first of these fields that is there, as text or under its name and `_base64`; `null` is not there.
pub(crate) fn bytes(object: &Object, names: &[&str]) -> Result<Option<Vec<u8>>, Unreadable> {
    for name in names {
        match object.get(*name) {
            Some(Value::String(text)) => return Ok(Some(text.clone().into_bytes())),
            Some(Value::Null) | None => {}
            Some(_) => return Err(field(name, "must be a text")),
        }
        let encoded = format!("{name}_base64");
        match object.get(&encoded) {
            Some(Value::String(text)) => {
                return base64(text).map(Some).ok_or_else(|| field(&encoded, "must be base64"));
            }
            Some(Value::Null) | None => {}
            Some(_) => return Err(field(&encoded, "must be a text")),
        }
    }
    Ok(None)
}

/// Bytes out of base64, as recordings hold them; `None` when it is none.
pub fn base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// What a test expects of a request: that something matches, or that something does not.
fn expectations(object: &Object) -> Option<Vec<String>> {
    let any = |key: &str| object.get(key).and_then(Value::as_array).is_some_and(|list| !list.is_empty());
    let label = match (any("expect_ids"), any("no_expect_ids")) {
        (true, _) => "positive",
        (false, true) => "negative",
        (false, false) => return None,
    };
    let mut labels = vec![label.to_owned()];
    if object.contains_key("paranoia_level") {
        let level = object.get("paranoia_level").and_then(Value::as_u64);
        labels.push(level.map_or_else(|| format!("{label} PL-"), |level| format!("{label} PL{level}")));
    }
    if let Some(family) = object.get("family").and_then(Value::as_str) {
        labels.push(format!("{label} {family}"));
    }
    Some(labels)
}

/// What somebody says that a line is.
fn classes(object: &Object) -> Option<Vec<String>> {
    let text = |key: &str| object.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let given: Vec<&str> = ["label", "category", "attack_type"].into_iter().filter_map(text).collect();
    let (first, finer) = given.split_first()?;
    let mut labels = vec![(*first).to_owned()];
    labels.extend(finer.iter().filter(|name| *name != first).map(|name| format!("{first} {name}")));
    Some(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(line: &str) -> Entry {
        read(line.as_bytes()).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    fn only(line: &str) -> Request {
        let entry = entry(line);
        assert_eq!(entry.cases.len(), 1, "{line}");
        entry.cases[0].request.clone().unwrap()
    }

    #[test]
    fn whole_requests_with_what_is_expected_of_them() {
        let line = r#"{"title": "t", "family": "F", "paranoia_level": 2, "expect_ids": [7], "no_expect_ids": [],
            "request": {"method": "PUT", "uri": "/a?b=c", "version": "HTTP/1.0", "headers": [["Host", "h"], ["A", "1"], ["A", "2"]], "body_base64": "/w=="}}"#;
        assert_eq!(entry(line).labels, ["positive", "positive PL2", "positive F"]);
        let request = only(line);
        assert_eq!(request.to_wire(), b"PUT /a?b=c HTTP/1.0\r\nHost: h\r\nA: 1\r\nA: 2\r\n\r\n\xff");
        let none = r#"{"paranoia_level": null, "no_expect_ids": [1], "uri": "/", "headers": {"host": "h", "x": ["1", 2]}}"#;
        assert_eq!(entry(none).labels, ["negative", "negative PL-"]);
        assert_eq!(only(none).headers.len(), 3);
        assert_eq!(entry(r#"{"expect_ids": [], "request": {"uri": "/"}}"#).labels, [REQUESTS]);
    }

    #[test]
    fn raw_requests_go_out_as_they_are() {
        let raw = only(r#"{"request": {"raw_base64": "R0VUIC94IEhUVFAvMS4xDQpBOiAxDQoNCg=="}}"#);
        assert_eq!(raw.to_wire(), b"GET /x HTTP/1.1\r\nA: 1\r\n\r\n");
        assert_eq!((&raw.target[..], raw.header("a")), (&b"/x"[..], Some(&b"1"[..])));
        assert_eq!(only(r#"{"raw": "?"}"#).to_wire(), b"?");
    }

    #[test]
    fn lines_of_access_logs() {
        let ours = only(
            r#"{"time": "t", "method": "GET", "path": "/a", "authority": "shop.test", "client": "192.0.2.1", "status": 200}"#,
        );
        assert_eq!(
            (ours.header("host"), ours.client.as_deref()),
            (Some(&b"shop.test"[..]), Some("192.0.2.1"))
        );
        let apache = only(
            r#"{"method": "POST", "uri": "/x", "referer": "-", "user_agent": "agent \"x\"", "status": 404}"#,
        );
        assert_eq!(
            (apache.header("referer"), apache.header("user-agent")),
            (None, Some(&b"agent \"x\""[..]))
        );
        assert_eq!(apache.header("host"), Some(HOST.as_bytes()));
        let split = only(
            r#"{"request_method": "GET", "path": "/x", "query_string": "a=1", "http_user_agent": null}"#,
        );
        assert_eq!(split.target, b"/x?a=1");
    }

    #[test]
    fn audit_records_tell_the_request() {
        let record = only(
            r#"{"class_uid": 4002, "src_endpoint": {"ip": "192.0.2.7"}, "http_request": {"http_method": "POST", "user_agent": "a",
                "url": {"path": "/p", "query_string": "q=1", "hostname": "h"}}, "unmapped": {"portcullis": {}}}"#,
        );
        assert_eq!(record.to_wire(), b"POST /p?q=1 HTTP/1.1\r\nhost: h\r\nuser-agent: a\r\n\r\n");
        assert_eq!(record.client.as_deref(), Some("192.0.2.7"));
    }

    #[test]
    fn single_values_go_into_each_place() {
        let usual = entry(r#"{"payload": "a=b", "label": "bad", "attack_type": "kind"}"#);
        assert_eq!(usual.labels, ["bad", "bad kind"]);
        let places: Vec<String> = usual.cases.iter().map(|case| case.place.clone().unwrap().name()).collect();
        assert_eq!(places, ["query", "form", "json", "header"]);
        let named =
            entry(r#"{"payload_base64": "YQpi", "category": "c", "place": ["header:User-Agent", "query"]}"#);
        assert_eq!((named.labels, named.cases[0].request.clone()), (vec!["c".to_owned()], Err(Unplaceable)));
        assert_eq!(named.cases[1].request.as_ref().unwrap().target, b"/search?q=a%0Ab");
        assert_eq!(
            entry(r#"{"payload": "x", "label": "norm", "attack_type": "norm", "place": "path"}"#).labels,
            ["norm"]
        );
        assert_eq!(entry(r#"{"payload": ""}"#).labels, [VALUES]);
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        for (line, part) in [
            ("{", "is not JSON"),
            ("[1]", "it has no fields at all"),
            (r#"{"text": "x", "y": 1}"#, "it has `text`, `y`, and neither `uri`, `request` nor `payload`"),
            (r#"{"payload": 1}"#, "payload: must be a text"),
            (r#"{"payload_base64": "!"}"#, "payload_base64: must be base64"),
            (r#"{"payload": "x", "place": "nowhere"}"#, "place: \"nowhere\" is not known"),
            (r#"{"uri": "/", "headers": [["a"]]}"#, "headers: must be a list of [name, value]"),
            (r#"{"request": 1}"#, "request: must be an object"),
            (r#"{"http_request": {}}"#, "http_request.url.path: is missing"),
        ] {
            let error = read(line.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(part), "{line}: {error}");
        }
    }
}
