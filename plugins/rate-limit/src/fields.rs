//! `RateLimit-Policy`, `RateLimit` (draft-ietf-httpapi-ratelimit-headers-11), `X-RateLimit-*` (of its third draft, as
//! Envoy and others write them) and `Retry-After` (RFC 9110, 10.2.3).
//!
//! Both `RateLimit` fields are lists (RFC 9651) with an item for each rule: its name as a string, what it allows (`q`
//! requests per `w` seconds), how many requests are left (`r`), and for how many seconds (rounded up) no more than those will be
//! admitted (`t`). A refusal lists in `RateLimit` the rules that refuse, so that no `t` ends after `Retry-After`. A
//! concurrency limit has no `w` and no `t`: nobody knows when a place will be free.

use std::rc::Rc;

use crate::{
    commit::{Asks, Claim},
    rule::Rule,
    set::Step,
};

const SECOND_NS: u64 = 1_000_000_000;

/// Which fields responses carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// `RateLimit` and `RateLimit-Policy`.
    pub draft: bool,
    /// `X-RateLimit-*`.
    pub older: bool,
}

/// The older fields' names.
pub const OLDER: [&str; 3] = ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"];

/// Seconds, rounded up, at least 1: a client that waits so long is not too early.
pub fn seconds(ns: u64) -> u64 {
    ns.div_ceil(SECOND_NS).max(1)
}

/// The policies of all rules that apply and are enforced; made with the configuration when it is one.
pub fn policy(rules: &[Rule], claims: &[Claim]) -> Option<Rc<[u8]>> {
    let mut items = claims.iter().filter(|claim| claim.enforce).filter_map(|claim| item(rules, claim));
    let first = items.next()?;
    let Some(second) = items.next() else { return Some(first) };
    let mut text = first.to_vec();
    for item in std::iter::once(second).chain(items) {
        text.extend_from_slice(b", ");
        text.extend_from_slice(&item);
    }
    Some(text.into())
}

/// A rule's item; written anew where a tenant's own policy says something else than the configuration.
fn item(rules: &[Rule], claim: &Claim) -> Option<Rc<[u8]>> {
    let rule = rules.get(claim.rule)?;
    let own = match (&claim.asks, rule.kind.limit()) {
        (Asks::Rate { quota, .. }, configured) if u64::from(quota.limit()) != configured => quota.limit(),
        (Asks::Nothing(_), configured) if configured != 0 => 0,
        _ => return Some(rule.item.clone()),
    };
    let seconds = rule.kind.window_s();
    Some(format!("\"{}\";q={own};w={seconds}", rule.name).into_bytes().into())
}

/// What a limit has left: units, and after how many nanoseconds it is more.
fn remaining(claim: &Claim, refused: bool) -> Option<(u64, Option<u64>)> {
    match (claim.step, &claim.asks) {
        (Step::Refuse { .. }, Asks::Concurrent(_)) => Some((0, None)),
        (Step::Refuse { wait_ns }, _) => Some((0, Some(wait_ns))),
        (Step::Admit { .. } | Step::Hold { .. }, _) if refused => None,
        (Step::Admit { debt, .. }, Asks::Rate { quota, .. }) => {
            let left = quota.left(debt);
            Some((left.requests, Some(left.more_in_ns)))
        }
        (Step::Hold { held, .. }, Asks::Concurrent(most)) => {
            Some((u64::from(most.saturating_sub(held)), None))
        }
        _ => None,
    }
}

/// What is left by the enforced rules; of a refused request, by those that refuse.
pub fn left(rules: &[Rule], claims: &[Claim], refused: bool) -> Vec<u8> {
    let mut text = Vec::with_capacity(64);
    for claim in claims.iter().filter(|claim| claim.enforce) {
        let Some(rule) = rules.get(claim.rule) else { continue };
        let Some((units, more_in_ns)) = remaining(claim, refused) else { continue };
        if !text.is_empty() {
            text.extend_from_slice(b", ");
        }
        text.push(b'"');
        text.extend_from_slice(rule.name.as_bytes());
        text.extend_from_slice(b"\";r=");
        digits(&mut text, units);
        if let Some(more_in_ns) = more_in_ns {
            text.extend_from_slice(b";t=");
            digits(&mut text, seconds(more_in_ns));
        }
    }
    text
}

/// The values of [`OLDER`]: of the enforced rule with least left.
pub fn older(claims: &[Claim], refused: bool) -> Option<[String; 3]> {
    let known = claims.iter().filter(|claim| claim.enforce).filter_map(|claim| {
        let limit = match &claim.asks {
            Asks::Rate { quota, .. } => u64::from(quota.limit()),
            Asks::Concurrent(most) => u64::from(*most),
            Asks::Nothing(_) => 0,
        };
        remaining(claim, refused).map(|(units, more_in_ns)| (units, more_in_ns.unwrap_or(0), limit))
    });
    // Of two with as much left, the one that takes longer.
    let (units, more_in_ns, limit) =
        known.min_by_key(|(units, more_in_ns, _)| (*units, std::cmp::Reverse(*more_in_ns)))?;
    Some([limit, units, seconds(more_in_ns)].map(|number| number.to_string()))
}

/// A number in decimal, without the formatter's cost.
fn digits(text: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut used = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' | u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
        used += 1;
        if number == 0 {
            break;
        }
    }
    text.extend_from_slice(digits.last_chunk::<20>().and_then(|all| all.get(20 - used..)).unwrap_or(b"0"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_full() {
        for number in [0, 7, 10, 99, 100, 1_000_000_000, u64::MAX] {
            let mut text = Vec::new();
            digits(&mut text, number);
            assert_eq!(text, number.to_string().into_bytes());
        }
    }

    #[test]
    fn seconds_are_never_too_few() {
        assert_eq!([0, 1, SECOND_NS, SECOND_NS + 1].map(seconds), [1, 1, 1, 2]);
        assert_eq!(seconds(u64::MAX), u64::MAX.div_ceil(SECOND_NS));
    }
}
