//! A case file's types. Unknown keys are errors everywhere.

use std::{collections::BTreeMap, time::Duration};

use portcullis_policy::units::Span;
use serde::{Deserialize, Deserializer, de::Error};
use serde_json::Value;

use super::bytes::{Body, Bytes, Chunks, Values};

/// Where cases run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Host {
    /// On the chain itself.
    Native,
    /// On the built module, under wasmtime.
    Wasmtime,
    /// On the built module, in a real Envoy.
    Envoy,
}

/// A file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileWire {
    #[serde(default)]
    pub defaults: Defaults,
    pub cases: Vec<Case>,
}

/// What all cases of a file start from.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Defaults {
    pub config: Option<Value>,
}

/// A case.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// A sentence that states the behaviour.
    pub name: String,
    /// The module's configuration; once loaded, the file's defaults are part of it.
    #[serde(default)]
    pub config: Option<Value>,
    /// What the host knows of the streams.
    #[serde(default)]
    pub facts: Facts,
    /// Hosts that cannot express the case, and why.
    #[serde(default)]
    pub skip: BTreeMap<Host, String>,
    /// Requests, in order.
    pub steps: Vec<Step>,
}

/// What the host knows of the streams.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Facts {
    /// The route's name.
    pub route_name: Option<String>,
    /// The virtual host's name.
    pub virtual_host: Option<String>,
    /// The JSON text under our namespace in the route's metadata.
    pub route_metadata: Option<String>,
    /// The connection's other end; left out: `127.0.0.1:40000`.
    pub source_address: Option<String>,
    /// Claims of a verified token.
    pub jwt_claims: BTreeMap<String, String>,
    /// The subject of a verified client certificate.
    pub peer_subject: Option<String>,
    /// Filters that left a mark on the stream.
    pub filter_marks: Vec<String>,
    /// Variables of the host's environment that the module may see.
    pub environment: BTreeMap<String, String>,
    /// Whether the host can hold headers back while a body is inspected, and the module is told so.
    pub holds_headers: bool,
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            route_name: None,
            virtual_host: None,
            route_metadata: None,
            source_address: None,
            jwt_claims: BTreeMap::new(),
            peer_subject: None,
            filter_marks: Vec::new(),
            environment: BTreeMap::new(),
            holds_headers: true,
        }
    }
}

impl Facts {
    /// The connection's other end.
    #[must_use]
    pub fn source(&self) -> &str {
        self.source_address.as_deref().unwrap_or("127.0.0.1:40000")
    }

    /// All filters that left a mark; claims are the mark of the filter that verified them.
    #[must_use]
    pub fn marks(&self) -> Vec<&str> {
        let jwt = (!self.jwt_claims.is_empty()).then_some("envoy.filters.http.jwt_authn");
        self.filter_marks.iter().map(String::as_str).chain(jwt).collect()
    }
}

/// A request and what must come of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Time since the case began; left out: no time has passed.
    #[serde(default, deserialize_with = "span")]
    pub at: Option<Duration>,
    /// How often the step is done.
    #[serde(default = "once")]
    pub repeat: u32,
    /// The request.
    #[serde(default)]
    pub request: RequestWire,
    /// What the application answers.
    #[serde(default)]
    pub upstream: UpstreamWire,
    /// What must come of it, each time.
    pub expect: Expect,
}

fn once() -> u32 {
    1
}

fn span<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    Option::<Span>::deserialize(deserializer).map(|span| span.map(|span| span.0))
}

/// A request.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RequestWire {
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: Bytes,
    /// The authority.
    pub host: String,
    /// `http` or `https`.
    pub scheme: String,
    /// Further headers.
    pub headers: BTreeMap<String, Values>,
    /// The body.
    pub body: Option<Body>,
    /// How the body is cut. Without it, the body comes in one piece under a `content-length`.
    pub chunks: Option<Chunks>,
}

impl Default for RequestWire {
    fn default() -> Self {
        Self {
            method: "GET".to_owned(),
            path: Bytes(b"/".to_vec()),
            host: "app.test".to_owned(),
            scheme: "http".to_owned(),
            headers: BTreeMap::new(),
            body: None,
            chunks: None,
        }
    }
}

/// What the application answers.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UpstreamWire {
    /// The status.
    pub status: u16,
    /// Headers.
    pub headers: BTreeMap<String, Values>,
    /// The body.
    pub body: Body,
}

impl Default for UpstreamWire {
    fn default() -> Self {
        Self { status: 200, headers: BTreeMap::new(), body: Body(b"ok".to_vec()) }
    }
}

/// What must come of a request. What is left out is not looked at.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// The status that the client gets.
    pub status: Option<u16>,
    /// `reason` of the `application/problem+json` body.
    pub reason: Option<String>,
    /// Response headers as the client sees them.
    pub headers: BTreeMap<String, Header>,
    /// The response's body as the client sees it.
    pub body: Option<Header>,
    /// The request as the application sees it.
    pub upstream: Option<Upstream>,
    /// A part of the one audit record.
    pub record: Option<Value>,
    /// A part of the one intent, on a strict route.
    pub intent: Option<Value>,
    /// By how much counters grow.
    pub metrics: BTreeMap<String, u64>,
}

/// The request as the application sees it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// Whether it gets there at all.
    #[serde(default = "yes")]
    pub reached: bool,
    /// Its headers.
    #[serde(default)]
    pub headers: BTreeMap<String, Header>,
    /// Its body.
    #[serde(default)]
    pub body: Option<Body>,
    /// What its body looks like, where that is not known to the byte.
    #[serde(default)]
    pub body_matches: Option<Header>,
}

fn yes() -> bool {
    true
}

/// What must stand in a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Header {
    /// It is not there.
    Absent,
    /// These values, in order.
    Values(Vec<Pattern>),
}

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// Just this.
    Exact(Bytes),
    /// Something in which this pattern (`regex-lite` syntax) is found.
    Matches(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Matches {
    matches: String,
}

impl Pattern {
    fn of(value: Value) -> Result<Self, String> {
        if value.get("matches").is_none() {
            return serde_json::from_value(value).map(Self::Exact).map_err(|error| error.to_string());
        }
        let wire: Matches = serde_json::from_value(value).map_err(|error| error.to_string())?;
        regex_lite::Regex::new(&wire.matches).map_err(|error| format!("`{}`: {error}", wire.matches))?;
        Ok(Self::Matches(wire.matches))
    }
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let list = match Value::deserialize(deserializer)? {
            Value::Null => return Ok(Self::Absent),
            Value::Array(list) => list,
            one => vec![one],
        };
        let list: Result<Vec<Pattern>, String> = list.into_iter().map(Pattern::of).collect();
        list.map(Self::Values).map_err(D::Error::custom)
    }
}
