//! What a rule counts, and for whom: the key of its state.
//!
//! The slot follows from whom it is counted for (tenant, user, address), the entry within the slot also from what is counted
//! (the actions), the rule's name and its window. So all limits of one user share a slot, and cost one load and one store
//! together; those of different users do not crowd one slot. Everything follows from the configuration's
//! text, so counts outlive a configuration update, unless the rule's name, actions, `per` or window change (or the
//! burst, so much that another floor applies: see [`crate::set`]).

use std::{net::IpAddr, time::Duration};

use portcullis_policy::{Headers, ReadsAddress, Request, limits};
use serde::Deserialize;

use crate::sip::{Sip13, spread};

/// Slots of limits: 1.7 million places. The rest are for bans.
pub const LIMIT_SLOTS: u32 = 131_072;
const _: () = assert!(LIMIT_SLOTS < limits::SHARED_SLOTS);

/// What the companion takes as a subject, in bytes. Longer: a hash of it.
const SUBJECT_BYTES: usize = 256;

/// Headers that tell quotas apart, in one rule. More: a configuration error.
pub const HEADERS: usize = 4;

/// Who has a quota of their own.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// Each tenant.
    Tenant,
    /// Each user.
    User,
    /// Each client address; of IPv6 the first 64 bits, which is what one customer gets.
    ClientIp,
    /// Each value of the request's header of that name; requests without it share one. Only its hash is kept. A client
    /// that can write the header can choose its quota: name one that something in front has checked.
    Header(String),
}

/// What rules count alike, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    tenant: bool,
    user: bool,
    client_ip: bool,
    headers: Vec<String>,
    /// Stands for whom, not for what.
    whom: u64,
    prefix: u64,
}

/// The second half of the hash's key: the seed is 64 bits.
const DOMAIN: u64 = u64::from_le_bytes(*b"ratelimi");

impl Counted {
    /// From a rule's `per`, and its actions' names in order, `None` for every request.
    pub fn new(per: &[Per], actions: Option<&[String]>) -> Self {
        let [tenant, user, client_ip] =
            [Per::Tenant, Per::User, Per::ClientIp].map(|each| per.contains(&each));
        let mut headers: Vec<String> = Vec::new();
        for each in per {
            if let Per::Header(name) = each {
                headers.push(name.to_ascii_lowercase());
            }
        }
        headers.sort();
        headers.dedup();
        let mut sip = Sip13::new(0, DOMAIN);
        sip.word(u64::from(tenant) | u64::from(user) << 1 | u64::from(client_ip) << 2);
        for name in &headers {
            sip.field(b'h', name.as_bytes());
        }
        let whom = sip.finish();
        sip.word(u64::from(actions.is_some()));
        for name in actions.unwrap_or_default() {
            sip.field(b'a', name.as_bytes());
        }
        Self { tenant, user, client_ip, headers, whom, prefix: sip.finish() }
    }

    /// How many things tell quotas apart: few mean that many requests share one.
    pub fn breadth(&self) -> usize {
        let parts = [self.tenant, self.user, self.client_ip].into_iter().filter(|part| *part).count();
        parts.saturating_add(self.headers.len())
    }

    /// Of which requests the client's address tells quotas apart.
    pub fn reads_address(&self) -> ReadsAddress {
        match (self.client_ip, self.user) {
            (true, _) => ReadsAddress::Always,
            (false, true) => ReadsAddress::OfUnnamed,
            (false, false) => ReadsAddress::Never,
        }
    }

    /// Whether each tenant has its own.
    pub fn is_per_tenant(&self) -> bool {
        self.tenant
    }

    /// Whether both count a request in the same place: see [`Self::place`].
    pub fn shares_place(&self, other: &Self) -> bool {
        self.whom == other.whom
    }

    /// An order in which those that share a place follow each other.
    pub fn order(&self) -> (u64, u64) {
        (self.whom, self.prefix)
    }

    /// Tells rules that count the same apart.
    pub fn salt(&self, name: &str, window: Duration) -> u64 {
        let mut sip = Sip13::new(self.prefix, DOMAIN);
        sip.field(b'n', name.as_bytes());
        sip.word(window.as_secs());
        sip.finish()
    }

    /// Where the request is counted: the same for all that counts for the same one.
    pub fn place(&self, seed: u64, request: &Request, headers: &Headers<'_>) -> Place {
        let mut sip = Sip13::new(seed, DOMAIN);
        sip.word(self.whom);
        if self.tenant {
            sip.field(b't', request.tenant.as_str().as_bytes());
        }
        match &request.user {
            Some(user) if self.user => sip.field(b'u', user.as_str().as_bytes()),
            None if self.user && !self.client_ip => address(&mut sip, request.client_ip),
            _ => {}
        }
        if self.client_ip {
            address(&mut sip, request.client_ip);
        }
        for name in &self.headers {
            match headers.first(name) {
                Some(value) => sip.field(b'h', value),
                None => sip.word(0),
            }
        }
        Place { hash: sip.finish() }
    }

    /// The same in words that every process writes alike, for what they share; without the tenant. What could be long, or
    /// secret, is a hash.
    pub fn subject(&self, request: &Request, headers: &Headers<'_>) -> String {
        let mut parts: Vec<String> = Vec::new();
        match &request.user {
            Some(user) if self.user => parts.push(format!("user={}", user.as_str())),
            None if self.user && !self.client_ip => parts.push(written(request.client_ip)),
            _ => {}
        }
        if self.client_ip {
            parts.push(written(request.client_ip));
        }
        for name in &self.headers {
            let mut sip = Sip13::new(0, DOMAIN);
            let value = headers.first(name).unwrap_or_default();
            sip.field(b'h', value);
            let first = sip.finish();
            sip.field(b'2', value);
            parts.push(format!("{name}={first:016x}{:016x}", sip.finish()));
        }
        let text = parts.join("|");
        if text.len() <= SUBJECT_BYTES {
            return text;
        }
        let mut sip = Sip13::new(0, DOMAIN);
        sip.field(b's', text.as_bytes());
        let first = sip.finish();
        sip.field(b'2', text.as_bytes());
        format!("hash={first:016x}{:016x}", sip.finish())
    }
}

/// An address as one customer has it.
fn written(address: Option<IpAddr>) -> String {
    match address.map(|address| address.to_canonical()) {
        Some(IpAddr::V4(v4)) => format!("ip={v4}"),
        Some(IpAddr::V6(v6)) => {
            let [a, b, c, d, ..] = v6.segments();
            format!("ip={a:x}:{b:x}:{c:x}:{d:x}::")
        }
        None => "ip=".to_owned(),
    }
}

fn address(sip: &mut Sip13, address: Option<IpAddr>) {
    match address.map(|address| address.to_canonical()) {
        Some(IpAddr::V4(v4)) => sip.field(b'4', &v4.octets()),
        Some(IpAddr::V6(v6)) => sip.field(b'6', v6.octets().first_chunk::<8>().unwrap_or(&[0; 8])),
        None => sip.word(0),
    }
}

/// A hash that nobody outside can foresee.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    hash: u64,
}

impl Place {
    /// The shared slot.
    pub fn slot(self) -> u32 {
        u32::try_from(self.hash % u64::from(LIMIT_SLOTS)).unwrap_or(0)
    }

    /// The shared slot of its bans.
    pub fn ban_slot(self) -> u32 {
        let bans = limits::SHARED_SLOTS.saturating_sub(LIMIT_SLOTS).max(1);
        LIMIT_SLOTS.saturating_add(u32::try_from(self.hash % u64::from(bans)).unwrap_or(0))
    }

    /// The hash of a rule's entry in that slot.
    pub fn entry(self, salt: u64) -> u64 {
        spread(self.hash ^ salt)
    }
}
