//! How the companion is called.

use std::time::Duration;

use portcullis_chain::Chain;

use crate::{
    abi::{self, Buffer, Map, Status},
    map,
};

/// Where it is, and what opens its door. The token is never logged.
#[derive(Default)]
pub struct Companion {
    cluster: String,
    /// How long a call may take.
    pub timeout: Duration,
    /// The value of `authorization`; empty when there is no token.
    authorization: String,
}

impl Companion {
    /// As the configuration and the host's environment say.
    pub fn new(chain: &Chain) -> Self {
        let wire = chain.companion();
        let token = std::env::var(&wire.token_env).unwrap_or_default();
        let authorization = match token.trim() {
            "" => String::new(),
            token => ["Bearer ", token].concat(),
        };
        Self { cluster: wire.cluster.clone(), timeout: wire.timeout.0, authorization }
    }

    /// The host's name for it.
    #[cfg(feature = "audit")]
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Posts to it; the number under which the answer will come. Must run for the root context.
    pub fn post(&self, path: &str, media_type: &str, body: &[u8]) -> Result<u32, Status> {
        let headers = [
            (":method", "POST"),
            (":path", path),
            (":authority", self.cluster.as_str()),
            ("content-type", media_type),
            ("authorization", self.authorization.as_str()),
        ];
        let headers = headers.get(..if self.authorization.is_empty() { 4 } else { 5 }).unwrap_or(&headers);
        abi::http_call(&self.cluster, headers, body, self.timeout)
    }
}

/// An answer: its status, `None` when none came, and as much of its body as is wanted.
pub fn answer(has_headers: bool, body: usize, most: usize) -> (Option<u16>, Vec<u8>) {
    if !has_headers {
        return (None, Vec::new());
    }
    let bytes = abi::header_map(Map::Call).unwrap_or_default();
    let status = map::parse(&bytes).first(":status").and_then(crate::http::number);
    (status, abi::buffer(Buffer::Call, 0, body.min(most)).unwrap_or_default())
}
