//! Counts in Redis (7 and later), for several companions.
//!
//! One Lua script does for all levels of a question what [`crate::step`] does for one key. All keys of a tenant carry the hash tag
//! `{tenant}`, so they lie in one slot of a cluster.
//!
//! What it defends against besides: a Redis that has lost state. A marker with a random generation stands in Redis and is
//! remembered here. When it is gone, or Redis runs in another process than the marker says and does not sync every write
//! (`appendfsync always`), nothing of a limit is granted until its window has passed. No connection is used before that is
//! checked. A Redis that evicts keys when its memory is full (`maxmemory` with another policy than `noeviction`) is not used: a
//! count that is gone would be a full limit again. What it evicted while nobody looked counts as a loss. A step of Redis's clock
//! forward is not followed while this process runs: time goes at most as fast as our own monotonic clock. Not against: a step
//! while no companion runs; a policy that is changed under a connection, until a probe or the next connection finds it; in a cluster,
//! the loss of a shard that does not hold the marker.
//!
//! Limits: a call waits at most 250 ms, and after a failure none is tried for 200 ms: callers are told so at once. What a
//! lost answer had granted stays debited. Idle keys go after their debt, and two hours.

mod connection;
mod eviction;

use crate::{
    key::Name,
    quota::{Quota, longest_remembered, remembered_ms},
    step,
    wire::Checked,
};

pub use connection::{Later, Memory, Redis, RedisError};

/// Nanoseconds of a tick.
const TICK_NS: u128 = 16;
/// What tenants' markers outlive the last call by: more than any key.
const SPARE_MS: u64 = 3 * 60 * 60 * 1000;
const SCRIPT: &str = include_str!("step.lua");

/// Ticks of a token, and of the burst. Rounded up: the rate is a little lower, the burst exact.
fn ticks(quota: &Quota) -> (u64, u64) {
    let token = quota.interval().div_ceil(u128::from(quota.limit().max(1)) * TICK_NS).max(1);
    let burst = if quota.is_nothing() { 0 } else { token * u128::from(quota.burst()) };
    (u64::try_from(token).unwrap_or(u64::MAX), u64::try_from(burst).unwrap_or(u64::MAX))
}

/// How long nothing is granted after a loss, in microseconds.
fn silence_us(quota: &Quota) -> u64 {
    let pause = u64::try_from(longest_remembered().as_micros()).unwrap_or(u64::MAX);
    (quota.refill_ns() / 1000).saturating_add(1).saturating_add(pause)
}

/// The start of a tenant's keys. Braces within a name would move the hash tag, so they are escaped.
fn prefix(tenant: &str) -> String {
    use std::fmt::Write as _;
    let mut text = String::from("pcl:{");
    for byte in tenant.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' | b'*' => {
                text.push(char::from(byte))
            }
            // Writing into a String cannot fail.
            _ => drop(write!(text, "%{byte:02x}")),
        }
    }
    text.push('}');
    text
}

/// The key of a tenant's marker.
#[must_use]
pub fn marker(tenant: &str) -> String {
    prefix(tenant)
}

/// The key of a limit.
#[must_use]
pub fn key(name: &Name<'_>) -> String {
    format!("{}:{}:{}", prefix(name.tenant), name.rule, name.subject)
}

/// A question to one tenant's keys, as the script takes it.
struct Question {
    mode: &'static str,
    keys: Vec<String>,
    arguments: Vec<String>,
    life_ms: u64,
}

impl Question {
    fn new(mode: &'static str, tenant: &str) -> Self {
        Self { mode, keys: vec![marker(tenant)], arguments: Vec::new(), life_ms: SPARE_MS }
    }

    fn level(&mut self, name: &Name<'_>, quota: &Quota) {
        let (token, burst) = ticks(quota);
        self.keys.push(key(name));
        self.arguments.extend([token, burst, silence_us(quota)].map(|number| number.to_string()));
        self.life_ms = self.life_ms.max((quota.refill_ns() / 1_000_000).saturating_add(SPARE_MS));
    }

    fn ask(&mut self, asked: &Checked<'_>) {
        let Checked { name, quota, ask } = asked;
        self.level(name, quota);
        let step::Ask { process, sequence, held, want, need, give_back } = *ask;
        self.arguments.extend([format!("{process:016x}"), format!("{sequence:020}")]);
        let ahead = (quota.burst() / 10).max(1);
        self.arguments.extend([held, want, need, give_back, ahead].map(|number| number.to_string()));
        self.arguments.push(remembered_ms(quota.lease_ms()).saturating_mul(1000).to_string());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_tick_never_makes_a_limit_wider() {
        for (limit, window, burst) in
            [(7, 60_000, 7), (1_000_000, 1000, 1), (1_000_000_000, 1000, 9), (1, 1, 1)]
        {
            let quota = Quota::new(limit, Duration::from_millis(window), burst).unwrap();
            let (token, whole) = ticks(&quota);
            assert!(u128::from(token) * TICK_NS * u128::from(limit) >= quota.interval());
            assert_eq!(whole, token * u64::from(burst));
        }
    }

    #[test]
    fn every_tenant_has_one_hash_tag_of_its_own() {
        let tag = |tenant: &str| {
            let key = key(&Name::new(tenant, "login", "user={x}").unwrap());
            let start = key.find('{').unwrap();
            let end = key.find('}').unwrap();
            assert!(marker(tenant).ends_with(&key[start..=end]));
            key[start + 1..end].to_owned()
        };
        let tags = ["acme", "}", "{", "{}", "a}b", "a%7db", "*"].map(tag);
        assert!(tags.iter().all(|tag| !tag.is_empty()));
        let distinct: std::collections::BTreeSet<_> = tags.iter().collect();
        assert_eq!(distinct.len(), tags.len());
    }
}
