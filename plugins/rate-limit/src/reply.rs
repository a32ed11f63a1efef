//! What a refused client is told, and what an operator finds in the record.

use portcullis_policy::{Decision, Refusal, Verdict, json::Value};

use crate::{
    NAME,
    ban::Ban,
    commit::{Asks, Claim},
    fields::{self, Style},
    rule::Rule,
    set::Step,
};

/// Registered by draft-ietf-httpapi-ratelimit-headers-11, section 5, like the others here.
const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";
const REDUCED_CAPACITY: &str = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity";
const ABNORMAL_USAGE: &str = "https://iana.org/assignments/http-problem-types#abnormal-usage-detected";

/// Of the claims without room, enforced or monitored, the one that asks for the longest wait.
pub fn longest_wait(claims: &[Claim], enforce: bool) -> Option<(&Claim, u64)> {
    claims
        .iter()
        .filter(|claim| claim.enforce == enforce)
        .filter_map(|claim| match claim.step {
            Step::Refuse { wait_ns } => Some((claim, wait_ns)),
            Step::Admit { .. } | Step::Hold { .. } | Step::Dry => None,
        })
        .max_by_key(|(_, wait_ns)| *wait_ns)
}

/// The answer to a request for which a limit has no room.
pub fn exceeded(rules: &[Rule], claims: &[Claim], wait_ns: u64, style: Style) -> Refusal {
    let mut headers = vec![("retry-after", fields::seconds(wait_ns).to_string())];
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if style.draft {
        if let Some(policy) = fields::policy(rules, claims) {
            headers.push(("ratelimit-policy", text(&policy)));
        }
        headers.push(("ratelimit", text(&fields::left(rules, claims, true))));
    }
    if style.older
        && let Some(values) = fields::older(claims, true)
    {
        headers.extend(fields::OLDER.into_iter().zip(values));
    }
    Refusal {
        status: 429,
        problem: QUOTA_EXCEEDED,
        title: "Quota exceeded",
        reason: "quota-exceeded",
        headers,
    }
}

/// The answer to a request that could not be counted.
pub fn unavailable() -> Refusal {
    Refusal {
        status: 503,
        problem: REDUCED_CAPACITY,
        title: "Temporarily reduced capacity",
        reason: "rate-limit-unavailable",
        headers: vec![("retry-after", "1".to_owned())],
    }
}

/// The answer to the banned.
pub fn banned(ban: &Ban, rest_ns: u64) -> Refusal {
    Refusal {
        status: ban.status,
        problem: ABNORMAL_USAGE,
        title: "Banned for a while",
        reason: "banned",
        headers: vec![("retry-after", fields::seconds(rest_ns).to_string())],
    }
}

fn millis(ns: u64) -> Value {
    Value::from(ns.div_ceil(1_000_000))
}

/// Why a request was not counted.
pub fn failed() -> Decision {
    Decision {
        policy: NAME,
        verdict: Verdict::Deny,
        event_type: "REQUEST",
        reason: "rate-limit-unavailable",
        details: Vec::new(),
    }
}

/// That the client is banned.
pub fn kept_out(ban: &Ban, rest_ns: u64, times: u16) -> Decision {
    Decision {
        policy: NAME,
        verdict: if ban.enforce { Verdict::Deny } else { Verdict::Monitor },
        event_type: "RATE_LIMIT_EXCEEDED",
        reason: "banned",
        details: vec![
            ("ban", ban.name.as_str().into()),
            ("times", times.into()),
            ("retry_after_ms", millis(rest_ns)),
        ],
    }
}

/// That a limit has no room.
pub fn limited(rules: &[Rule], claim: &Claim, wait_ns: u64) -> Decision {
    let name = rules.get(claim.rule).map_or("", |rule| rule.name.as_str());
    let mut details = vec![("rule", name.into())];
    match &claim.asks {
        Asks::Rate { quota, cost, .. } => {
            let window = u64::try_from(quota.window().as_millis()).unwrap_or(u64::MAX);
            details.push(("limit", quota.limit().into()));
            details.push(("window_ms", window.into()));
            details.push(("burst", quota.burst().into()));
            details.push(("retry_after_ms", millis(wait_ns)));
            // Those whose weight has not drained yet fill the burst; this one comes on top.
            details.push(("request_count", u64::from(quota.burst()).saturating_add(1).into()));
            if *cost != 1 {
                details.push(("cost", (*cost).into()));
            }
        }
        Asks::Concurrent(most) => details.push(("concurrent", (*most).into())),
        Asks::Nothing(window_ns) => {
            details.push(("limit", 0.into()));
            details.push(("window_ms", millis(*window_ns)));
            details.push(("retry_after_ms", millis(wait_ns)));
            details.push(("request_count", 1.into()));
        }
    }
    Decision {
        policy: NAME,
        verdict: if claim.enforce { Verdict::Deny } else { Verdict::Monitor },
        event_type: "RATE_LIMIT_EXCEEDED",
        reason: "quota-exceeded",
        details,
    }
}
