//! `RateLimit-Policy`, `RateLimit` (draft-ietf-httpapi-ratelimit-headers-11) and `Retry-After` (RFC 9110, 10.2.3).
//!
//! Both `RateLimit` fields are lists (RFC 9651) with an item for each rule: its name as a string, what it allows (`q`
//! requests per `w` seconds), how many requests are left (`r`), and for how many seconds (rounded up) no more than those will be
//! admitted (`t`). A refusal lists in `RateLimit` the rules that refuse, so that no `t` ends after `Retry-After`.

use std::rc::Rc;

use crate::{Rule, commit::Claim, gcra::Step};

const SECOND_NS: u64 = 1_000_000_000;

/// Seconds, rounded up, at least 1: a client that waits so long is not too early.
pub fn seconds(ns: u64) -> u64 {
    ns.div_ceil(SECOND_NS).max(1)
}

/// The policies of all rules that apply and are enforced; made with the configuration when it is one.
pub fn policy(rules: &[Rule], claims: &[Claim<'_>]) -> Option<Rc<[u8]>> {
    let mut items = claims.iter().filter(|claim| claim.enforce).filter_map(|claim| rules.get(claim.rule));
    let first = items.next()?;
    let Some(second) = items.next() else { return Some(first.item.clone()) };
    let mut text = first.item.to_vec();
    for rule in std::iter::once(second).chain(items) {
        text.extend_from_slice(b", ");
        text.extend_from_slice(&rule.item);
    }
    Some(text.into())
}

/// What is left by the enforced rules; of a refused request, by those that refuse.
pub fn left(rules: &[Rule], claims: &[Claim<'_>], refused: bool) -> Vec<u8> {
    let mut text = Vec::with_capacity(64);
    for claim in claims.iter().filter(|claim| claim.enforce) {
        let Some(rule) = rules.get(claim.rule) else { continue };
        let (requests, more_in_ns) = match claim.step {
            Step::Refuse { wait_ns } => (0, wait_ns),
            Step::Admit { .. } if refused => continue,
            Step::Admit { debt, .. } => {
                let left = claim.quota.left(debt);
                (left.requests, left.more_in_ns)
            }
        };
        if !text.is_empty() {
            text.extend_from_slice(b", ");
        }
        text.push(b'"');
        text.extend_from_slice(rule.name.as_bytes());
        text.extend_from_slice(b"\";r=");
        digits(&mut text, requests);
        text.extend_from_slice(b";t=");
        digits(&mut text, seconds(more_in_ns));
    }
    text
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
