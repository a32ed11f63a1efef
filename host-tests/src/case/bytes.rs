//! Bytes as a case file writes them.

use std::io::Write as _;

use base64::Engine as _;
use serde::{Deserialize, Deserializer, de::Error};
use serde_json::Value;

/// Text, or `{base64: ...}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

/// The body of a message: text, or one of `{base64}`, `{json}`, `{repeat, times}`, `{gzip}`, `{deflate}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body(pub Vec<u8>);

/// One value, or several under one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Values(pub Vec<Bytes>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Coded {
    base64: String,
}

/// The longest body that a case may ask for.
const MOST_BYTES: usize = 64 * 1024 * 1024;

/// What YAML reads as a number or a truth value stands for its text.
fn plain(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::String(text) => Some(text.clone().into_bytes()),
        Value::Number(number) => Some(number.to_string().into_bytes()),
        Value::Bool(flag) => Some(flag.to_string().into_bytes()),
        _ => None,
    }
}

fn decoded(text: &str) -> Result<Vec<u8>, String> {
    base64::engine::general_purpose::STANDARD.decode(text).map_err(|error| format!("is not base64: {error}"))
}

impl Bytes {
    fn of(value: Value) -> Result<Self, String> {
        if let Some(text) = plain(&value) {
            return Ok(Self(text));
        }
        let coded: Coded = serde_json::from_value(value)
            .map_err(|error| format!("write text or {{base64: ...}}: {error}"))?;
        decoded(&coded.base64).map(Self)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::of(Value::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let list = match Value::deserialize(deserializer)? {
            Value::Array(list) => list,
            one => vec![one],
        };
        let list: Result<Vec<Bytes>, String> = list.into_iter().map(Bytes::of).collect();
        list.map(Self).map_err(D::Error::custom)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BodyWire {
    base64: Option<String>,
    json: Option<Value>,
    repeat: Option<String>,
    times: Option<usize>,
    gzip: Option<String>,
    deflate: Option<String>,
}

impl Body {
    fn of(value: Value) -> Result<Self, String> {
        if let Some(text) = plain(&value) {
            return Ok(Self(text));
        }
        let null = value.get("json").is_some_and(Value::is_null);
        let wire: BodyWire = serde_json::from_value(value).map_err(|error| error.to_string())?;
        let json = if null { Some(Value::Null) } else { wire.json };
        let written = |error: std::io::Error| error.to_string();
        let level = flate2::Compression::default();
        match (wire.base64, json, wire.repeat, wire.times, wire.gzip, wire.deflate) {
            (Some(text), None, None, None, None, None) => decoded(&text).map(Self),
            (None, Some(json), None, None, None, None) => Ok(Self(json.to_string().into_bytes())),
            (None, None, Some(text), Some(times), None, None) => {
                if text.len().saturating_mul(times) > MOST_BYTES {
                    return Err(format!("is longer than {MOST_BYTES} bytes"));
                }
                Ok(Self(text.repeat(times).into_bytes()))
            }
            (None, None, None, None, Some(text), None) => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
                encoder.write_all(text.as_bytes()).map_err(written)?;
                encoder.finish().map(Self).map_err(written)
            }
            (None, None, None, None, None, Some(text)) => {
                let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
                encoder.write_all(text.as_bytes()).map_err(written)?;
                encoder.finish().map(Self).map_err(written)
            }
            _ => Err("write exactly one of base64, json, repeat with times, gzip, deflate".to_owned()),
        }
    }
}

impl<'de> Deserialize<'de> for Body {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::of(Value::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// How a body is cut: pieces of so many bytes, or these sizes and then the rest.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "a number of bytes, or a list of sizes")]
pub enum Chunks {
    /// All of this size, but the last.
    Every(usize),
    /// These sizes; what is left is one more piece.
    Sizes(Vec<usize>),
}

impl Chunks {
    /// The pieces of a body; an empty body is one empty piece.
    #[must_use]
    pub fn cut(&self, body: &[u8]) -> Vec<Vec<u8>> {
        let sizes = match self {
            Self::Every(size) => {
                return match body.is_empty() {
                    true => vec![Vec::new()],
                    false => body.chunks((*size).max(1)).map(<[u8]>::to_vec).collect(),
                };
            }
            Self::Sizes(sizes) => sizes,
        };
        let mut rest = body;
        let mut pieces = Vec::new();
        for size in sizes {
            let (piece, after) = rest.split_at_checked(*size).unwrap_or((rest, b""));
            pieces.push(piece.to_vec());
            rest = after;
        }
        if !rest.is_empty() || pieces.is_empty() {
            pieces.push(rest.to_vec());
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn body(value: Value) -> Result<Vec<u8>, String> {
        serde_json::from_value::<Body>(value).map(|body| body.0).map_err(|error| error.to_string())
    }

    #[test]
    fn bodies_are_written_in_six_ways() {
        assert_eq!(body(json!("text")).unwrap(), b"text");
        assert_eq!(body(json!({"base64": "/w=="})).unwrap(), [0xff]);
        assert_eq!(body(json!({"json": {"a": [1]}})).unwrap(), br#"{"a":[1]}"#);
        assert_eq!(body(json!({"json": null})).unwrap(), b"null");
        assert_eq!(body(json!({"repeat": "ab", "times": 3})).unwrap(), b"ababab");
        assert_eq!(body(json!({"gzip": "text"})).unwrap()[..2], [0x1f, 0x8b]);
        assert_eq!(body(json!({"deflate": "text"})).unwrap()[0], 0x78);
        for wrong in
            [json!({}), json!({"repeat": "a"}), json!({"gzip": "a", "json": 1}), json!({"gzib": "a"})]
        {
            assert!(body(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn chunks_are_the_body_again() {
        for (chunks, count) in [
            (Chunks::Every(1), 5),
            (Chunks::Every(2), 3),
            (Chunks::Every(0), 5),
            (Chunks::Sizes(vec![1, 0, 9]), 3),
            (Chunks::Sizes(vec![]), 1),
            (Chunks::Sizes(vec![2]), 2),
        ] {
            let pieces = chunks.cut(b"abcde");
            assert_eq!((pieces.concat(), pieces.len()), (b"abcde".to_vec(), count), "{chunks:?}");
            assert_eq!(chunks.cut(b"").concat(), b"");
        }
    }
}
