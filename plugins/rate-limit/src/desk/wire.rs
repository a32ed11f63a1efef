//! What is said to the companion and what it answers, in JSON.

use std::collections::BTreeMap;

use portcullis_policy::{
    LeaseAsk,
    json::{Value, json},
};
use serde::Deserialize;

use crate::lease::{Asked, Grant};

fn name(process: u64) -> String {
    format!("{process:016x}")
}

/// One ask.
pub fn ask(ask: &LeaseAsk, asked: Asked) -> Value {
    json!({
        "tenant": ask.tenant,
        "rule": ask.rule,
        "subject": ask.subject,
        "limit": ask.limit,
        "window_ms": ask.window_ms,
        "burst": ask.burst,
        "held": asked.held,
        "want": asked.want,
        "need": ask.need.min(asked.want),
        "give_back": asked.give_back,
        "sequence": asked.sequence,
    })
}

/// A call for tokens.
pub fn leases(process: u64, asks: Vec<Value>) -> Vec<u8> {
    json!({"process": name(process), "asks": asks}).to_string().into_bytes()
}

/// A call for policies.
pub fn tenants(process: u64, tenants: &[(String, u64)]) -> Vec<u8> {
    json!({"process": name(process), "tenants": tenants}).to_string().into_bytes()
}

#[derive(Deserialize)]
struct Grants {
    grants: Vec<GrantWire>,
}

#[derive(Deserialize)]
struct GrantWire {
    keep: u32,
    granted: u32,
    expires_ms: u64,
    #[serde(default)]
    retry_after_ms: u64,
}

/// What was granted, in the order of the asks; `None` when it cannot be read.
pub fn grants(body: &[u8]) -> Option<Vec<Grant>> {
    let wire: Grants = serde_json::from_slice(body).ok()?;
    let grant = |wire: GrantWire| Grant {
        keep: wire.keep,
        granted: wire.granted,
        expires_ms: wire.expires_ms,
        retry_after_ms: wire.retry_after_ms,
    };
    Some(wire.grants.into_iter().map(grant).collect())
}

#[derive(Deserialize)]
struct Changes {
    changed: Vec<Changed>,
}

/// A tenant's policy.
#[derive(Debug, Deserialize)]
pub struct Changed {
    /// The tenant.
    pub tenant: String,
    /// Rises with each change.
    pub version: u64,
    /// By name.
    pub rates: BTreeMap<String, u32>,
}

/// Policies that have changed; `None` when they cannot be read.
pub fn changed(body: &[u8]) -> Option<Vec<Changed>> {
    serde_json::from_slice::<Changes>(body).ok().map(|wire| wire.changed)
}
