//! What the demonstration application answers. Whatever it does not know it answers like an application that takes
//! everything: 200.

use serde_json::{Value, json};

use super::{
    Response,
    request::{ECHO_BYTES, Request},
};

/// The largest answer of `/bytes/N`. More: as many.
const MOST_BYTES: usize = 10 * 1024 * 1024;

const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";

const PAGE: &str = r#"<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Demonstration</title><link rel="stylesheet" href="/static/app.css">
<script nonce="portcullis-demonstration" src="/static/app.js" integrity="{integrity}"></script></head>
<body>
<h1>The demonstration application</h1>
<p>You see it through Envoy and Portcullis. Look at the response's headers; then ask for
<a href="/search?q=1%27%20OR%20%271%27%3D%271">something that looks like an attack</a>.</p>
</body>
</html>
"#;

const STYLE: &str =
    "body { font-family: sans-serif; max-width: 40rem; margin: 3rem auto; line-height: 1.5; }\n";

const SCRIPT: &str = "\"use strict\";\n";
/// SHA-384 of the script, as pages write it (W3C, Subresource Integrity).
const INTEGRITY: &str = "sha384-xkfRlW1o/12WPjFaNyRGWMTu+oSgZhrVjoOW5J3gH5+BR9iBauzFwFUOCOKARbI6";

/// The answer to a request.
pub(super) fn answer(request: &Request) -> Response {
    let path = request.path();
    match path {
        "/" => page(),
        "/echo" => echo(request),
        "/login" | "/api/login" => login(request),
        "/static/app.css" => response(200, "text/css", STYLE),
        "/static/app.js" => response(200, "text/javascript", SCRIPT),
        _ => {
            if let Some(status) = path.strip_prefix("/status/").and_then(|rest| rest.parse().ok())
                && (200..=599).contains(&status)
            {
                return response(status, JSON, json!({ "status": status }).to_string());
            }
            if let Some(count) = path.strip_prefix("/bytes/").and_then(|rest| rest.parse::<usize>().ok()) {
                return response(200, "text/plain", "x".repeat(count.min(MOST_BYTES)));
            }
            response(
                200,
                JSON,
                json!({ "demonstration": true, "method": request.method, "path": path }).to_string(),
            )
        }
    }
}

/// The front page: its script bears the placeholder of nonces, and it remembers a visitor's taste.
fn page() -> Response {
    let mut answer = response(200, HTML, PAGE.replace("{integrity}", INTEGRITY));
    answer.headers.push(("Set-Cookie", "theme=light; Path=/".to_owned()));
    answer
}

fn response(status: u16, content_type: &'static str, body: impl Into<Vec<u8>>) -> Response {
    Response { status, content_type, headers: Vec::new(), body: body.into() }
}

/// The request as it arrived here, behind Envoy.
fn echo(request: &Request) -> Response {
    let headers: Vec<Value> = request.headers.iter().map(|(name, value)| json!([name, value])).collect();
    let whole = usize::try_from(request.body_bytes).is_ok_and(|bytes| bytes <= ECHO_BYTES);
    let echo = json!({
        "method": request.method,
        "path": request.target,
        "headers": headers,
        "body": String::from_utf8_lossy(&request.body),
        "body_bytes": request.body_bytes,
        "body_complete": whole,
    });
    response(200, JSON, echo.to_string())
}

/// There is one password, `correct-horse`.
fn login(request: &Request) -> Response {
    let right = request.body.windows(13).any(|part| part == b"correct-horse");
    if !right {
        return response(401, JSON, json!({ "error": "wrong name or password" }).to_string());
    }
    let mut answer = response(200, JSON, json!({ "welcome": true }).to_string());
    answer.headers.push(("Set-Cookie", "session=demonstration; Path=/".to_owned()));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(target: &str, body: &str) -> Response {
        answer(&Request {
            method: "POST".into(),
            target: target.into(),
            body: body.into(),
            ..Request::default()
        })
    }

    #[test]
    fn answers() {
        assert_eq!(asked("/login", "user=a&password=guess").status, 401);
        let welcome = asked("/login", "user=a&password=correct-horse");
        assert!(welcome.status == 200 && welcome.headers.iter().any(|(name, _)| *name == "Set-Cookie"));
        assert_eq!(asked("/status/503", "").status, 503);
        assert_eq!(asked("/status/7", "").status, 200);
        assert_eq!(asked("/bytes/99999999999", "").body.len(), MOST_BYTES);
        assert_eq!(asked("/static/app.css?v=1", "").content_type, "text/css");
        assert_eq!(asked("/whatever", "").status, 200);
    }

    #[test]
    fn an_echo_keeps_order_and_duplicates() {
        let pairs =
            [("B", "1"), ("a", "2"), ("B", "3")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        let request = Request { target: "/echo?q".into(), headers: pairs.into(), ..Request::default() };
        let body: Value = serde_json::from_slice(&answer(&request).body).unwrap();
        assert_eq!(body["headers"], json!([["B", "1"], ["a", "2"], ["B", "3"]]));
        assert_eq!(body["path"], "/echo?q");
    }
}
