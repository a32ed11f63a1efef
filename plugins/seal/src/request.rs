//! What a request's headers say: of themselves, after what policies before have asked for, and of the body.

use std::rc::Rc;

use portcullis_policy::{Effect, Effects, Headers};

use crate::cause::Cause;

/// What a body is read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// JSON.
    Json,
    /// `application/x-www-form-urlencoded`.
    Form,
}

/// The values of a header as they will be, if what was asked for so far is done.
pub fn pending(name: &str, headers: &Headers<'_>, effects: &Effects) -> Vec<Rc<[u8]>> {
    let mut values: Vec<Rc<[u8]>> = headers.all(name).map(Rc::from).collect();
    for effect in effects {
        match effect {
            Effect::SetRequestHeader(about, value) if about.eq_ignore_ascii_case(name) => {
                values = vec![Rc::clone(value)];
            }
            Effect::AddRequestHeader(about, value) if about.eq_ignore_ascii_case(name) => {
                values.push(Rc::clone(value));
            }
            Effect::RemoveRequestHeader(about) if about.eq_ignore_ascii_case(name) => values.clear(),
            _ => {}
        }
    }
    values
}

/// What the headers say of the body: a type that is read here, in UTF-8, without an encoding, and said once.
pub fn kind(headers: &Headers<'_>) -> Result<Kind, Cause> {
    let encoded = |value: &[u8]| !value.trim_ascii().eq_ignore_ascii_case(b"identity");
    let mut types = headers.all("content-type");
    let (Some(value), None) = (types.next(), types.next()) else { return Err(Cause::MediaType) };
    if headers.all("content-encoding").any(encoded) {
        return Err(Cause::MediaType);
    }
    let text = std::str::from_utf8(value).map_err(|_| Cause::MediaType)?.to_ascii_lowercase();
    let mut parts = text.split(';').map(str::trim);
    let media_type = parts.next().unwrap_or_default();
    let charset = parts.find_map(|part| part.strip_prefix("charset="));
    if !matches!(charset.map(|charset| charset.trim_matches('"')), None | Some("utf-8" | "utf8" | "us-ascii"))
    {
        return Err(Cause::MediaType);
    }
    match media_type {
        "application/x-www-form-urlencoded" => Ok(Kind::Form),
        "application/json" | "text/json" => Ok(Kind::Json),
        other if other.starts_with("application/") && other.ends_with("+json") => Ok(Kind::Json),
        _ => Err(Cause::MediaType),
    }
}
