//! Tenants' own rates, as the companion knows them.
//!
//! Every tenant that was seen is asked for within 5 s, again and again; the companion answers those that have changed.

use std::collections::BTreeMap;

use portcullis_policy::Tenant;

use super::wire;
use crate::TENANT_RATES;

/// Tenants that are remembered. When there are more, those not seen lately give way; a tenant that finds no place has
/// the configured limits.
const MOST: usize = 4000;
/// Tenants of one call: an answer must be read within a millisecond. When more are due, one call follows the other.
pub const CALL_TENANTS: usize = 64;
/// Each tenant is asked for so often; a tick and the call come on top, and five seconds are promised.
const ROUND_NS: u64 = 4_000_000_000;
/// Calls that came due between two ticks are made up for; of before, not.
const BEHIND_NS: u64 = 600_000_000;

/// What is known of a tenant.
#[derive(Debug, Clone, Copy, Default)]
struct Own {
    version: u64,
    rates: [Option<u32>; TENANT_RATES.len()],
    seen: bool,
}

/// What is known of tenants.
#[derive(Debug, Default)]
pub struct Policies {
    tenants: BTreeMap<String, Own>,
    /// The last that was asked for.
    cursor: String,
    /// When the last call was due.
    due_ns: Option<u64>,
    asked_ns: Option<u64>,
    under_way: bool,
}

impl Policies {
    /// A tenant's rate; notes that it was seen.
    pub fn rate(&mut self, tenant: &Tenant, name: &str) -> Option<u32> {
        if let Some(own) = self.tenants.get_mut(tenant.as_str()) {
            own.seen = true;
            let place = TENANT_RATES.iter().position(|known| *known == name)?;
            return own.rates.get(place).copied().flatten();
        }
        if self.tenants.len() >= MOST {
            let idle = self.tenants.iter().find(|(_, own)| !own.seen).map(|(tenant, _)| tenant.clone())?;
            self.tenants.remove(&idle);
        }
        self.tenants.insert(tenant.as_str().to_owned(), Own { seen: true, ..Own::default() });
        None
    }

    /// The next call, if one is due.
    pub fn call(&mut self, process: u64, now_ns: u64) -> Option<Vec<u8>> {
        let calls = u64::try_from(self.tenants.len().div_ceil(CALL_TENANTS)).ok()?;
        let gap_ns = ROUND_NS.checked_div(calls)?;
        let due_ns = self.due_ns.map_or(0, |last| last.saturating_add(gap_ns));
        // An answer that never comes must not end it.
        let since = self.asked_ns.map_or(u64::MAX, |asked| now_ns.saturating_sub(asked));
        if now_ns < due_ns || (self.under_way && since < 2 * ROUND_NS) {
            return None;
        }
        let from = (std::ops::Bound::Excluded(self.cursor.clone()), std::ops::Bound::Unbounded);
        let mut list = Vec::new();
        for (tenant, own) in self.tenants.range_mut::<String, _>(from).take(CALL_TENANTS) {
            list.push((tenant.clone(), own.version));
            own.seen = false;
        }
        self.cursor = match list.last() {
            Some((last, _)) if list.len() == CALL_TENANTS => last.clone(),
            _ => String::new(),
        };
        if list.is_empty() {
            return None;
        }
        self.due_ns = Some(due_ns.max(now_ns.saturating_sub(BEHIND_NS)));
        self.asked_ns = Some(now_ns);
        self.under_way = true;
        Some(wire::tenants(process, &list))
    }

    /// The answer. What cannot be read changes nothing.
    pub fn answered(&mut self, body: Option<&[u8]>) {
        self.under_way = false;
        for changed in body.and_then(wire::changed).unwrap_or_default() {
            if let Some(own) = self.tenants.get_mut(&changed.tenant) {
                own.version = changed.version;
                own.rates = TENANT_RATES.map(|name| changed.rates.get(name).copied());
            }
        }
    }
}
