//! What came of a request, compared with what must come of it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    case::{Expect, Header, Pattern},
    host::HeaderMap,
};

/// What came of a request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    /// The status that the client got; `None`: no answer.
    pub status: Option<u16>,
    /// Response headers as the client saw them.
    pub headers: HeaderMap,
    /// The response's body.
    pub body: Vec<u8>,
    /// The request's headers as the application saw them; `None`: it never got there.
    pub upstream: Option<HeaderMap>,
    /// The request's body as the application saw it.
    pub upstream_body: Vec<u8>,
    /// The audit records of this request. One is usual.
    pub records: Vec<Value>,
    /// The intents that were stored before it went on; one on a strict route.
    pub intents: Vec<Value>,
    /// By how much counters grew. One that is left out did not.
    pub metrics: BTreeMap<String, u64>,
}

impl Observed {
    /// `reason` of an `application/problem+json` body.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        let kind = self.headers.first("content-type")?;
        if !kind.starts_with(b"application/problem+json") {
            return None;
        }
        let body: Value = serde_json::from_slice(&self.body).ok()?;
        body.get("reason")?.as_str().map(str::to_owned)
    }
}

impl Expect {
    /// Everything that is not as it must be, a sentence each; none if all is well.
    #[must_use]
    pub fn differences(&self, seen: &Observed) -> Vec<String> {
        let mut found = Vec::new();
        if self.status.is_some() && self.status != seen.status {
            found.push(format!(
                "status: {}, expected {}; body {}",
                said(seen.status),
                said(self.status),
                shown(&seen.body)
            ));
        }
        let reason = seen.reason();
        if self.reason.is_some() && self.reason != reason {
            found.push(format!("reason: {}, expected {}", said(reason), said(self.reason.as_ref())));
        }
        headers("response header", &self.headers, &seen.headers, &mut found);
        if let Some(Header::Values(patterns)) = &self.body {
            for pattern in patterns.iter().filter(|pattern| !pattern.fits(&seen.body)) {
                found.push(format!("body: {}, expected {}", shown(&seen.body), pattern.shown()));
            }
        }
        if let Some(upstream) = &self.upstream {
            match (&seen.upstream, upstream.reached) {
                (Some(map), true) => {
                    headers("request header", &upstream.headers, map, &mut found);
                    if let Some(body) = upstream.body.as_ref().filter(|body| body.0 != seen.upstream_body) {
                        let (is, wanted) = (shown(&seen.upstream_body), shown(&body.0));
                        found.push(format!("request body: {is}, expected {wanted}"));
                    }
                    if let Some(Header::Values(patterns)) = &upstream.body_matches {
                        for pattern in patterns.iter().filter(|pattern| !pattern.fits(&seen.upstream_body)) {
                            let is = shown(&seen.upstream_body);
                            found.push(format!("request body: {is}, expected {}", pattern.shown()));
                        }
                    }
                }
                (None, true) => found.push("upstream: not reached, expected to be".to_owned()),
                (Some(_), false) => found.push("upstream: reached, expected not to be".to_owned()),
                (None, false) => {}
            }
        }
        if let Some(record) = &self.record {
            match seen.records.as_slice() {
                [one] => within(record, Some(one), "record", &mut found),
                several => found.push(format!("record: {} records, expected one", several.len())),
            }
        }
        if let Some(intent) = &self.intent {
            match seen.intents.as_slice() {
                [one] => within(intent, Some(one), "intent", &mut found),
                several => found.push(format!("intent: {} intents, expected one", several.len())),
            }
        }
        for (name, by) in &self.metrics {
            let grew = seen.metrics.get(name).copied().unwrap_or(0);
            if grew != *by {
                found.push(format!("metric {name}: grew by {grew}, expected {by}"));
            }
        }
        found
    }
}

fn headers(what: &str, wanted: &BTreeMap<String, Header>, seen: &HeaderMap, found: &mut Vec<String>) {
    for (name, header) in wanted {
        let values = seen.all(name);
        let fits = match header {
            Header::Absent => values.is_empty(),
            Header::Values(patterns) => {
                patterns.len() == values.len()
                    && patterns.iter().zip(&values).all(|(pattern, value)| pattern.fits(value))
            }
        };
        if !fits {
            let values: Vec<String> = values.iter().map(|value| shown(value)).collect();
            let expected = match header {
                Header::Absent => "none".to_owned(),
                Header::Values(patterns) => {
                    patterns.iter().map(Pattern::shown).collect::<Vec<_>>().join(", ")
                }
            };
            let values = if values.is_empty() { "none".to_owned() } else { values.join(", ") };
            found.push(format!("{what} {name}: {values}, expected {expected}"));
        }
    }
}

impl Pattern {
    fn fits(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(bytes) => bytes.0 == value,
            Self::Matches(pattern) => matches(pattern, &String::from_utf8_lossy(value)),
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::Exact(bytes) => shown(&bytes.0),
            Self::Matches(pattern) => format!("a match of `{pattern}`"),
        }
    }
}

fn matches(pattern: &str, text: &str) -> bool {
    regex_lite::Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(text))
}

/// Whether `wanted` is a part of `seen`: objects key by key, lists element by element and of one length.
fn within(wanted: &Value, seen: Option<&Value>, path: &str, found: &mut Vec<String>) {
    let seen = seen.unwrap_or(&Value::Null);
    let pattern =
        wanted.as_object().filter(|object| object.len() == 1).and_then(|object| object.get("matches"));
    if let Some(Value::String(pattern)) = pattern {
        let text = match seen {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        if seen.is_null() || !matches(pattern, &text) {
            found.push(format!("{path}: {seen}, expected a match of `{pattern}`"));
        }
        return;
    }
    match (wanted, seen) {
        (Value::Object(wanted), Value::Object(object)) => {
            for (key, value) in wanted {
                within(value, object.get(key), &format!("{path}.{key}"), found);
            }
        }
        (Value::Array(wanted), Value::Array(list)) if wanted.len() == list.len() => {
            for (number, (value, seen)) in wanted.iter().zip(list).enumerate() {
                within(value, Some(seen), &format!("{path}[{number}]"), found);
            }
        }
        _ if wanted == seen => {}
        _ => found.push(format!("{path}: {seen}, expected {wanted}")),
    }
}

fn said<T: std::fmt::Display>(value: Option<T>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| value.to_string())
}

/// The longest text of a message that is shown.
const SHOWN: usize = 200;

fn shown(bytes: &[u8]) -> String {
    let cut = bytes.get(..SHOWN);
    let text = String::from_utf8_lossy(cut.unwrap_or(bytes));
    format!("{text:?}{}", if cut.is_some() && bytes.len() > SHOWN { "..." } else { "" })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn seen() -> Observed {
        Observed {
            status: Some(403),
            headers: HeaderMap::new()
                .with("content-type", "application/problem+json")
                .with("a", "1")
                .with("b", "x")
                .with("b", "y"),
            body: br#"{"reason":"why"}"#.to_vec(),
            upstream: Some(HeaderMap::new()),
            upstream_body: b"sent".to_vec(),
            records: vec![json!({"a": {"b": "text", "c": [1, {"d": 2}]}})],
            intents: Vec::new(),
            metrics: BTreeMap::from([("m".to_owned(), 2)]),
        }
    }

    fn differences(expect: Value) -> String {
        serde_json::from_value::<Expect>(expect).unwrap().differences(&seen()).join("\n")
    }

    #[test]
    fn what_is_as_expected_makes_no_words() {
        let all = json!({
            "status": 403, "reason": "why", "upstream": {"body": "sent"}, "body": {"matches": "why"},
            "headers": {"A": "1", "b": ["x", {"matches": "^y"}], "c": null},
            "record": {"a": {"b": {"matches": "^te"}, "c": [1, {"d": 2, "e": null}]}, "gone": null},
            "metrics": {"m": 2, "other": 0},
        });
        assert_eq!(differences(all), "");
        assert_eq!(differences(json!({})), "");
    }

    #[test]
    fn every_difference_is_named() {
        for (expect, said) in [
            (json!({"status": 200}), r#"status: 403, expected 200; body "{\"reason\":\"why\"}""#),
            (json!({"reason": "other"}), "reason: why, expected other"),
            (json!({"headers": {"a": null}}), r#"response header a: "1", expected none"#),
            (json!({"headers": {"b": "x"}}), r#"response header b: "x", "y", expected "x""#),
            (json!({"headers": {"c": {"matches": "z"}}}), "response header c: none, expected a match of `z`"),
            (
                json!({"body": {"matches": "who"}}),
                r#"body: "{\"reason\":\"why\"}", expected a match of `who`"#,
            ),
            (json!({"upstream": {"reached": false}}), "upstream: reached, expected not to be"),
            (json!({"upstream": {"body": "sen"}}), r#"request body: "sent", expected "sen""#),
            (json!({"record": {"a": {"b": "t"}}}), r#"record.a.b: "text", expected "t""#),
            (json!({"record": {"a": {"c": [1]}}}), r#"record.a.c: [1,{"d":2}], expected [1]"#),
            (json!({"record": {"a": {"b": null}}}), r#"record.a.b: "text", expected null"#),
            (json!({"record": {"x": {"matches": ""}}}), "record.x: null, expected a match of ``"),
            (json!({"metrics": {"m": 1}}), "metric m: grew by 2, expected 1"),
        ] {
            assert_eq!(differences(expect), said);
        }
    }
}
