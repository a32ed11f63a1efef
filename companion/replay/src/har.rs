//! HAR files: what a browser's network panel saves (HTTP Archive 1.2).
//!
//! Each entry's request is read; answers and timings are not. The body's length is made right, because a HAR file holds
//! bodies after decoding.

use serde_json::{Map, Value};

use crate::{Request, Unreadable, curl::parts_of, field, line, place::encode};

/// Whether a JSON document is a HAR file.
pub fn is(document: &Value) -> bool {
    document.get("log").and_then(|log| log.get("entries")).is_some_and(Value::is_array)
}

/// Reads every entry, in order.
///
/// # Errors
/// When the document is not a HAR file. An entry that cannot be read is told in its place.
pub fn read(document: &Value) -> Result<Vec<Result<Request, Unreadable>>, Unreadable> {
    let entries = document.get("log").and_then(|log| log.get("entries")).and_then(Value::as_array);
    let entries = entries.ok_or_else(|| field("log.entries", "must be a list"))?;
    Ok(entries.iter().map(entry).collect())
}

fn entry(entry: &Value) -> Result<Request, Unreadable> {
    let request = entry.get("request").and_then(Value::as_object);
    let request = request.ok_or_else(|| field("request", "must be an object"))?;
    let text =
        |object: &Map<String, Value>, key: &str| object.get(key).and_then(Value::as_str).map(str::to_owned);
    let url = text(request, "url").ok_or_else(|| field("request.url", "must be a text"))?;
    let (scheme, host, target) = parts_of(url.as_bytes());
    let mut read = Request::new(text(request, "method").unwrap_or_else(|| "GET".to_owned()), target);
    read.scheme = scheme;
    for header in request.get("headers").and_then(Value::as_array).into_iter().flatten() {
        let Some(header) = header.as_object() else { continue };
        let (name, value) =
            (text(header, "name").unwrap_or_default(), text(header, "value").unwrap_or_default());
        // HTTP/2 has pseudo headers, which the URL says again.
        if !name.is_empty() && !name.starts_with(':') {
            read = read.with(name, value);
        }
    }
    if read.header("host").is_none() {
        read.headers.insert(0, (b"host".to_vec(), host));
    }
    if let Some(post) = request.get("postData").and_then(Value::as_object) {
        let mut body = line::bytes(post, &["text"])?.unwrap_or_default();
        if body.is_empty() {
            body = parameters(post);
        }
        read.body = body;
        if let Some(kind) = text(post, "mimeType").filter(|kind| !kind.is_empty()) {
            read = read.or("content-type", &kind);
        }
    }
    Ok(read.framed())
}

/// A form whose text was not kept.
fn parameters(post: &Map<String, Value>) -> Vec<u8> {
    let text = |value: Option<&Value>| encode(value.and_then(Value::as_str).unwrap_or_default().as_bytes());
    let list = post.get("params").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let fields: Vec<Vec<u8>> = list
        .iter()
        .map(|field| [&text(field.get("name"))[..], b"=", &text(field.get("value"))].concat())
        .collect();
    fields.join(&b"&"[..])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn entries_become_requests() {
        let har = json!({"log": {"entries": [
            {"request": {"method": "GET", "url": "https://h.test/a?b=c", "headers": [
                {"name": ":path", "value": "/other"}, {"name": "Accept", "value": "*/*"}]}},
            {"request": {"method": "POST", "url": "http://h.test/f", "headers": [
                {"name": "Host", "value": "named.test"}, {"name": "Content-Length", "value": "999"}],
                "postData": {"mimeType": "application/json", "text": "{\"a\":1}"}}},
            {"request": {"method": "POST", "url": "http://h.test/f", "headers": [],
                "postData": {"mimeType": "application/x-www-form-urlencoded", "params": [{"name": "a b", "value": "c"}]}}},
            {"response": {}}
        ]}});
        assert!(is(&har) && !is(&json!({"log": 1})) && read(&json!([])).is_err());
        let mut all = read(&har).unwrap().into_iter();
        let mut next = || all.next().unwrap();
        let first = next().unwrap();
        assert_eq!(first.to_wire(), b"GET /a?b=c HTTP/1.1\r\nhost: h.test\r\nAccept: */*\r\n\r\n");
        assert_eq!(first.scheme, "https");
        let second = next().unwrap();
        assert_eq!(
            (second.header("host"), second.header("content-length")),
            (Some(&b"named.test"[..]), Some(&b"7"[..]))
        );
        assert_eq!(next().unwrap().body, b"a%20b=c");
        assert!(next().is_err());
    }
}
