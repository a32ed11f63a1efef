//! JSON bodies: bounded, given a time to arrive, and read so that an error names the place.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Bytes;
use serde::de::DeserializeOwned;

use super::problem::Problem;
use crate::units::bounded;

/// How long a body may take to arrive.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How much of an error's text is told; it may quote the body.
const MAX_ERROR_CHARS: usize = 200;

/// Reads a body of at most `most` bytes.
///
/// # Errors
/// 400, 408 or 413.
pub async fn bytes(body: Body, most: usize) -> Result<Bytes, Problem> {
    match tokio::time::timeout(TIMEOUT, Limited::new(body, most).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-large",
            format!("a body has at most {most} bytes here"),
        )),
        Ok(Err(_)) => Err(Problem::malformed("the body broke off")),
        Err(_) => {
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "timeout", "a body must arrive within 10 seconds"))
        }
    }
}

/// Reads a JSON body of at most `most` bytes.
///
/// # Errors
/// 400 with line and column for what is no JSON, 415 for another media type, 422 with the field for what is JSON and not
/// the object that is asked for.
pub async fn json<T: DeserializeOwned>(headers: &HeaderMap, body: Body, most: usize) -> Result<T, Problem> {
    let media_type =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/json") || headers.contains_key(header::CONTENT_ENCODING)
    {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported-type",
            "Content-Type must be application/json, without Content-Encoding",
        ));
    }
    parse(&bytes(body, most).await?)
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let read = serde_path_to_error::deserialize(&mut reader);
    let read = read.map_err(|error| {
        let path = error.path().to_string();
        (path, error.into_inner())
    });
    let value = match read {
        Ok(value) => value,
        Err((path, error)) if error.is_data() => {
            let path = if path == "." { "body".to_owned() } else { path };
            return Err(Problem::unprocessable(bounded(&format!("{path}: {error}"), MAX_ERROR_CHARS)));
        }
        Err((_, error)) => return Err(not_json(&error)),
    };
    reader.end().map_err(|error| not_json(&error))?;
    // The reader would take an array for an object whose fields come in order.
    match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{') => Ok(value),
        _ => Err(Problem::unprocessable("body: must be an object")),
    }
}

fn not_json(error: &serde_json::Error) -> Problem {
    Problem::malformed(bounded(&format!("the body is no JSON: {error}"), MAX_ERROR_CHARS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[expect(dead_code, reason = "read and not used")]
        inner: Inner,
    }

    #[derive(Debug, serde::Deserialize)]
    struct Inner {
        #[expect(dead_code, reason = "read and not used")]
        count: u8,
    }

    #[test]
    fn an_error_names_the_place() {
        for (body, status, detail) in [
            ("{\"inner\": {\"count\": 1}", 400, "line 1 column 22"),
            ("", 400, "line 1 column 0"),
            ("{\"inner\": {\"count\": 1}} x", 400, "trailing characters at line 1 column 25"),
            ("{\"inner\": {\"count\": 256}}", 422, "inner.count: "),
            ("{\"other\": 1}", 422, "other: unknown field `other`"),
            ("[]", 422, "body: "),
            ("[[1]]", 422, "body: must be an object"),
        ] {
            let problem = parse::<Outer>(body.as_bytes()).unwrap_err();
            assert_eq!(problem.status.as_u16(), status, "{body}: {}", problem.detail);
            assert!(problem.detail.contains(detail), "{body}: {}", problem.detail);
        }
        assert!(parse::<Outer>(b"{\"inner\": {\"count\": 1}}").is_ok());
    }
}
