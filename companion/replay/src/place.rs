//! Puts a single value where an application would take it from.

use crate::{Request, request::HOST};

/// Where in a request a value is put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A parameter of the query of a GET.
    Query,
    /// A field of a form that is posted.
    Form,
    /// A text of a JSON document that is posted.
    Json,
    /// A request header of that name.
    Header(String),
    /// A cookie.
    Cookie,
    /// A segment of the path.
    Path,
    /// The whole body, of that type.
    Body(String),
}

/// A value that a place cannot hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unplaceable;

/// The name of the parameter, field, key or cookie that holds the value.
const NAME: &str = "q";
/// The header where none is named.
const HEADER: &str = "x-input";

impl Place {
    /// The places of values that name none, in turn.
    pub fn usual() -> Vec<Self> {
        vec![Self::Query, Self::Form, Self::Json, Self::Header(HEADER.to_owned())]
    }

    /// Reads `query`, `form`, `json`, `header`, `header:NAME`, `cookie`, `path` or `body:TYPE`.
    pub fn parse(text: &str) -> Option<Self> {
        let is_name =
            |name: &&str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let is_type = |name: &&str| !name.is_empty() && name.bytes().all(|b| (b' '..0x7f).contains(&b));
        match text.split_once(':') {
            Some(("header", name)) => Some(name).filter(is_name).map(|name| Self::Header(name.to_owned())),
            Some(("body", name)) => Some(name).filter(is_type).map(|name| Self::Body(name.to_owned())),
            Some(_) => None,
            None => Some(match text {
                "query" => Self::Query,
                "form" => Self::Form,
                "json" => Self::Json,
                "header" => Self::Header(HEADER.to_owned()),
                "cookie" => Self::Cookie,
                "path" => Self::Path,
                _ => return None,
            }),
        }
    }

    /// Its name in tables.
    pub fn name(&self) -> String {
        match self {
            Self::Query => "query".to_owned(),
            Self::Form => "form".to_owned(),
            Self::Json => "json".to_owned(),
            Self::Header(name) if name == HEADER => "header".to_owned(),
            Self::Header(name) => format!("header:{name}"),
            Self::Cookie => "cookie".to_owned(),
            Self::Path => "path".to_owned(),
            Self::Body(kind) => format!("body:{kind}"),
        }
    }

    /// A browser's request with the value in this place. `escaped`: the value may be percent-encoded already, and then
    /// goes as it is.
    ///
    /// # Errors
    /// When no request can hold the value there: a line break in a header, bytes that are not UTF-8 in JSON.
    pub fn request(&self, value: &[u8], escaped: bool) -> Result<Request, Unplaceable> {
        let encoded = || if escaped && is_encoded(value) { keep(value) } else { encode(value) };
        let parameter = || [NAME.as_bytes(), b"=", &encoded()].concat();
        Ok(match self {
            Self::Query => browser("GET", [b"/search?", &parameter()[..]].concat()),
            Self::Path => browser("GET", [b"/items/", &encoded()[..]].concat()),
            Self::Form => {
                browser("POST", "/submit").with_body("application/x-www-form-urlencoded", parameter())
            }
            Self::Json => {
                let text = std::str::from_utf8(value).map_err(|_| Unplaceable)?;
                browser("POST", "/api/items")
                    .with_body("application/json", serde_json::json!({ NAME: text }).to_string())
            }
            Self::Header(_) | Self::Cookie if value.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)) => {
                return Err(Unplaceable);
            }
            Self::Header(name) => {
                let mut request = browser("GET", "/");
                request.headers.retain(|(key, _)| !key.eq_ignore_ascii_case(name.as_bytes()));
                request.with(name.as_str(), value)
            }
            Self::Cookie => browser("GET", "/").with("cookie", [NAME.as_bytes(), b"=", value].concat()),
            Self::Body(kind) => browser("POST", "/submit").with_body(kind, value),
        })
    }
}

fn browser(method: &str, target: impl Into<Vec<u8>>) -> Request {
    Request::new(method, target)
        .with("host", HOST)
        .with("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
        .with("accept", "*/*")
}

/// Percent-encoded already: it has an escape, and no byte that a URL cannot hold.
fn is_encoded(value: &[u8]) -> bool {
    let holds = |byte: &u8| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(byte);
    let is_escape = |three: &[u8]| matches!(three, [b'%', high, low] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit());
    value.iter().all(holds) && value.windows(3).any(is_escape)
}

/// As it is, except for what would end the target.
fn keep(value: &[u8]) -> Vec<u8> {
    value.iter().flat_map(|byte| if *byte == b'#' { b"%23".to_vec() } else { vec![*byte] }).collect()
}

pub(crate) fn encode(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len().saturating_mul(2));
    for byte in value {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            out.push(*byte);
        } else {
            out.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_holds_the_value() {
        let value = b"a b&c='\xc3\xa9";
        let of = |place: &str| Place::parse(place).unwrap().request(value, true).unwrap();
        assert_eq!(of("query").target, b"/search?q=a%20b%26c%3D%27%C3%A9");
        assert_eq!(of("path").target, b"/items/a%20b%26c%3D%27%C3%A9");
        assert_eq!(of("form").body, b"q=a%20b%26c%3D%27%C3%A9");
        assert_eq!(of("json").body, "{\"q\":\"a b&c='\u{e9}\"}".as_bytes());
        assert_eq!(of("header").header("x-input"), Some(&value[..]));
        assert_eq!(of("cookie").header("cookie"), Some(&b"q=a b&c='\xc3\xa9"[..]));
        let agent = of("header:User-Agent");
        assert_eq!(
            agent.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(b"user-agent")).count(),
            1
        );
        assert_eq!(agent.header("user-agent"), Some(&value[..]));
        let body = of("body:application/xml");
        assert_eq!(
            (&body.body[..], body.header("content-type")),
            (&value[..], Some(&b"application/xml"[..]))
        );
        for place in Place::usual() {
            assert_eq!(Place::parse(&place.name()), Some(place.clone()));
            assert!(place.request(value, false).unwrap().is_plainly_framed());
        }
    }

    #[test]
    fn what_is_encoded_already_is_not_encoded_again() {
        let target = |value: &[u8], escaped| Place::Query.request(value, escaped).unwrap().target;
        assert_eq!(target(b"..%2f..%2Fx#", true), b"/search?q=..%2f..%2Fx%23");
        assert_eq!(target(b"..%2f", false), b"/search?q=..%252f");
        assert_eq!(target(b"100%", true), b"/search?q=100%25");
        assert_eq!(target(b"<%2f>", true), b"/search?q=%3C%252f%3E");
    }

    #[test]
    fn what_a_place_cannot_hold_is_told() {
        for (place, value) in [("header", &b"a\nb"[..]), ("cookie", b"a\0"), ("json", b"\xff")] {
            assert_eq!(Place::parse(place).unwrap().request(value, false), Err(Unplaceable), "{place}");
        }
        for wrong in ["", "body", "header:", "header:a b", "body:\n", "url:x"] {
            assert_eq!(Place::parse(wrong), None, "{wrong}");
        }
    }
}
