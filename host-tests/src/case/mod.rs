//! Cases: requests and what must come of them, as data. The format is described in this crate's README.
//!
//! The same files run on the chain itself, on the built modules under wasmtime, and through real Envoy; all three read
//! them here.

mod bytes;
mod load;
mod types;

pub use bytes::{Body, Bytes, Chunks, Values};
pub use load::{CaseError, CaseFile, all, read};
pub use types::{Case, Expect, Facts, Header, Host, Pattern, RequestWire, Step, Upstream, UpstreamWire};

/// A request as it goes over the wire, apart from its framing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireRequest {
    /// Names and values in order, without pseudo headers and without those that frame the body.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body in pieces; no pieces: no body.
    pub pieces: Vec<Vec<u8>>,
    /// The pieces are sent as chunks; else as one body under a `content-length`.
    pub chunked: bool,
}

impl RequestWire {
    /// The request apart from its first line.
    #[must_use]
    pub fn wire(&self) -> WireRequest {
        let pieces = match (&self.body, &self.chunks) {
            (None, _) => Vec::new(),
            (Some(body), None) => vec![body.0.clone()],
            (Some(body), Some(chunks)) => chunks.cut(&body.0),
        };
        WireRequest {
            headers: flat(&self.headers),
            pieces,
            chunked: self.body.is_some() && self.chunks.is_some(),
        }
    }
}

impl UpstreamWire {
    /// Names and values of the answer's headers, without those that frame the body.
    #[must_use]
    pub fn wire_headers(&self) -> Vec<(String, Vec<u8>)> {
        flat(&self.headers)
    }
}

fn flat(headers: &std::collections::BTreeMap<String, Values>) -> Vec<(String, Vec<u8>)> {
    let pairs = headers.iter().flat_map(|(name, values)| values.0.iter().map(move |value| (name, value)));
    pairs.map(|(name, value)| (name.clone(), value.0.clone())).collect()
}

impl Case {
    /// The module's configuration as it is written: nothing at all if the case gives none.
    #[must_use]
    pub fn configuration(&self) -> Vec<u8> {
        self.config.as_ref().map(|config| config.to_string().into_bytes()).unwrap_or_default()
    }
}
