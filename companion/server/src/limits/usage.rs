//! How much of each limit is used: of every tenant and rule, the subject that has used most, as this process has counted it lately.
//!
//! It is noted where limits are counted: what is spent at once, and what is out on leases. Who used it is not kept. What another
//! companion counts is known to that one alone.
//!
//! Limits: [`ENTRIES`] pairs of tenant and rule; beyond those, new ones are passed over until old ones are forgotten, after [`LIFE`].

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use portcullis_limits::key::Name;
use portcullis_limits::quota::Quota;

/// Pairs of tenant and rule that are kept.
pub const ENTRIES: usize = 20_000;
/// How long something is told that was not counted again.
pub const LIFE: Duration = Duration::from_secs(60);
/// A subject that used less takes the place of one that used more when that was so long ago.
const FRESH: Duration = Duration::from_secs(10);
/// How often old ones are looked for while there is no room.
const SWEEP: Duration = Duration::from_secs(1);

/// How much of a limit is used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Used {
    /// 0 to 1.
    pub share: f64,
    /// What is left.
    pub remaining: u64,
    /// What there is at most.
    pub burst: u32,
    /// When it was counted.
    pub at: Instant,
}

/// A tenant's limit, and how much of it is used.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Whose; `*` for one that all share.
    pub tenant: String,
    /// Which.
    pub rule: String,
    /// How much.
    pub used: Used,
}

/// Of all tenants.
#[derive(Default)]
pub struct Usage(Mutex<Table>);

#[derive(Default)]
struct Table {
    tenants: HashMap<String, HashMap<String, Used>>,
    /// Pairs in it.
    pairs: usize,
    /// When old ones were looked for last: who asks for a limit waits for that.
    swept: Option<Instant>,
}

impl Usage {
    /// Notes what was counted.
    pub fn note<'a>(&self, counted: impl Iterator<Item = (Name<'a>, &'a Quota, u64)>, now: Instant) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, quota, remaining) in counted {
            let burst = quota.burst();
            let used = Used { share: share(remaining, burst), remaining, burst, at: now };
            let known = all.tenants.get_mut(name.tenant).and_then(|rules| rules.get_mut(name.rule));
            if let Some(known) = known {
                if used.share >= known.share || now.saturating_duration_since(known.at) > FRESH {
                    *known = used;
                }
                continue;
            }
            let rested = all.swept.is_none_or(|at| now.saturating_duration_since(at) >= SWEEP);
            if all.pairs >= ENTRIES && rested {
                all.forget(now);
            }
            if all.pairs < ENTRIES {
                all.tenants.entry(name.tenant.to_owned()).or_default().insert(name.rule.to_owned(), used);
                all.pairs = all.pairs.saturating_add(1);
            }
        }
    }

    /// The limits that are used most, of all tenants or of one, at most `limit`.
    #[must_use]
    pub fn nearest(&self, tenant: Option<&str>, limit: usize, now: Instant) -> Vec<Line> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.forget(now);
        let wanted =
            all.tenants.iter().filter(|(name, _)| tenant.is_none_or(|tenant| tenant == name.as_str()));
        let mut lines: Vec<Line> = wanted
            .flat_map(|(tenant, rules)| {
                rules.iter().map(|(rule, used)| Line {
                    tenant: tenant.clone(),
                    rule: rule.clone(),
                    used: *used,
                })
            })
            .collect();
        lines.sort_by(|a, b| {
            b.used
                .share
                .total_cmp(&a.used.share)
                .then_with(|| (&a.tenant, &a.rule).cmp(&(&b.tenant, &b.rule)))
        });
        lines.truncate(limit);
        lines
    }
}

/// Nothing of what allows nothing is left.
fn share(remaining: u64, burst: u32) -> f64 {
    let remaining = f64::from(u32::try_from(remaining).unwrap_or(u32::MAX));
    if burst == 0 { 1.0 } else { (1.0 - remaining / f64::from(burst)).clamp(0.0, 1.0) }
}

impl Table {
    fn forget(&mut self, now: Instant) {
        self.tenants.retain(|_, rules| {
            rules.retain(|_, used| now.saturating_duration_since(used.at) <= LIFE);
            !rules.is_empty()
        });
        self.pairs = self.tenants.values().map(HashMap::len).sum();
        self.swept = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::monotonic;

    fn note(usage: &Usage, tenant: &str, rule: &str, remaining: u64, now: Instant) {
        let quota = Quota::new(10, Duration::from_secs(60), 10).unwrap();
        usage.note(std::iter::once((Name::new(tenant, rule, "user=a").unwrap(), &quota, remaining)), now);
    }

    #[test]
    fn the_subject_that_used_most_is_told_for_a_while() {
        let (usage, start) = (Usage::default(), monotonic());
        let after = |seconds| start + Duration::from_secs(seconds);
        note(&usage, "acme", "login", 1, start);
        note(&usage, "acme", "login", 8, after(5));
        note(&usage, "acme", "api_call", 0, after(5));
        note(&usage, "globex", "login", 5, after(5));
        let told = |tenant, limit, now| -> Vec<(String, String, u64)> {
            let lines = usage.nearest(tenant, limit, now);
            lines.into_iter().map(|line| (line.tenant, line.rule, line.used.remaining)).collect()
        };
        let line = |tenant: &str, rule: &str, remaining| (tenant.to_owned(), rule.to_owned(), remaining);
        let all = [line("acme", "api_call", 0), line("acme", "login", 1), line("globex", "login", 5)];
        assert_eq!(told(None, 10, after(6)), all);
        assert_eq!(told(None, 1, after(6)), all[..1]);
        assert_eq!(told(Some("globex"), 10, after(6)), all[2..]);
        // Who used most is quiet by now.
        note(&usage, "acme", "login", 8, after(11));
        assert_eq!(told(Some("acme"), 10, after(12))[1], line("acme", "login", 8));
        assert_eq!(told(None, 10, after(80)), []);
    }

    #[test]
    fn it_stays_within_its_bounds() {
        let (usage, start) = (Usage::default(), monotonic());
        for number in 0..ENTRIES + 50 {
            note(&usage, &format!("t{number}"), "login", 3, start);
        }
        assert_eq!(usage.nearest(None, usize::MAX, start).len(), ENTRIES);
        let table = |usage: &Usage| {
            let table = usage.0.lock().unwrap();
            (table.pairs, table.swept)
        };
        let full = table(&usage);
        for number in 0..10_000 {
            note(&usage, &format!("new{number}"), "login", 3, start + SWEEP / 2);
        }
        assert_eq!(table(&usage), full, "looked through once, and not for each that finds no room");
        note(&usage, "late", "login", 3, start + LIFE * 2);
        assert_eq!(usage.nearest(None, usize::MAX, start + LIFE * 2).len(), 1, "old ones made room");
        assert!((share(0, 0) - 1.0).abs() < 1e-9 && share(u64::MAX, 5).abs() < 1e-9);
    }
}
