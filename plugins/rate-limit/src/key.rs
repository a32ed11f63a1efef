//! What a rule counts, and for whom: the key of its state.
//!
//! The slot follows from what is counted (the actions) and for whom (tenant, user, address), the entry within the slot
//! also from the rule's name and window. So limits over several windows on the same thing share a slot, and cost one
//! load and one store; limits on different things do not crowd one slot. Everything follows from the configuration's
//! text, so counts outlive a configuration update, unless the rule's name, actions, `per` or window change (or the
//! burst, so much that another floor applies: see [`crate::set`]).

use std::{net::IpAddr, time::Duration};

use portcullis_policy::{Request, limits};
use serde::Deserialize;

use crate::sip::{Sip13, spread};

/// Who has a quota of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// Each tenant.
    Tenant,
    /// Each user.
    User,
    /// Each client address; of IPv6 the first 64 bits, which is what one customer gets.
    ClientIp,
}

/// What rules count alike, and for whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    tenant: bool,
    user: bool,
    client_ip: bool,
    prefix: u64,
}

/// The second half of the hash's key: the seed is 64 bits.
const DOMAIN: u64 = u64::from_le_bytes(*b"ratelimi");

impl Counted {
    /// From a rule's `per`, and its actions' names in order, `None` for every request.
    pub fn new(per: &[Per], actions: Option<&[String]>) -> Self {
        let [tenant, user, client_ip] =
            [Per::Tenant, Per::User, Per::ClientIp].map(|each| per.contains(&each));
        let mut sip = Sip13::new(0, DOMAIN);
        sip.word(u64::from(tenant) | u64::from(user) << 1 | u64::from(client_ip) << 2);
        sip.word(u64::from(actions.is_some()));
        for name in actions.unwrap_or_default() {
            sip.field(b'a', name.as_bytes());
        }
        Self { tenant, user, client_ip, prefix: sip.finish() }
    }

    /// How many of tenant, user and address tell quotas apart: few means that many requests share one.
    pub fn breadth(&self) -> usize {
        [self.tenant, self.user, self.client_ip].into_iter().filter(|part| *part).count()
    }

    /// Stands for actions and `per`.
    pub fn prefix(&self) -> u64 {
        self.prefix
    }

    /// Tells rules that count the same apart.
    pub fn salt(&self, name: &str, window: Duration) -> u64 {
        let mut sip = Sip13::new(self.prefix, DOMAIN);
        sip.field(b'n', name.as_bytes());
        sip.word(window.as_secs());
        sip.finish()
    }

    /// Where the request is counted.
    pub fn place(&self, seed: u64, request: &Request) -> Place {
        let mut sip = Sip13::new(seed, DOMAIN);
        sip.word(self.prefix);
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
        Place { hash: sip.finish() }
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
        u32::try_from(self.hash % u64::from(limits::SHARED_SLOTS)).unwrap_or(0)
    }

    /// The hash of a rule's entry in that slot.
    pub fn entry(self, salt: u64) -> u64 {
        spread(self.hash ^ salt)
    }
}
