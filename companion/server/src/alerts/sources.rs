//! Where figures come from: what the companion counts and sees anyway. Nothing is asked of a tenant's database here.

use std::sync::Arc;

use super::reading::{Counters, Figure};
use crate::bouncer::Bouncer;
use crate::databases::Databases;
use crate::metrics::Metrics;
use crate::monitoring::machine::{Machine, used_percent};
use crate::trail::Trail;

/// What is looked at.
pub struct Sources {
    /// Events.
    pub metrics: Arc<Metrics>,
    /// The audit trail.
    pub trail: Trail,
    /// The tenants' databases.
    pub databases: Databases,
    /// PgBouncer, if one is managed.
    pub bouncer: Option<Bouncer>,
    /// The disk.
    pub machine: Machine,
}

impl Sources {
    /// What has been counted so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let mut counters = Counters { slow: self.databases.slow_counts(), ..Counters::default() };
        for (name, _, count) in self.metrics.events() {
            match name {
                "ATTACK_BLOCKED" | "ATTACK_DETECTED" => {
                    counters.attacks = counters.attacks.saturating_add(count);
                }
                "RATE_LIMIT_EXCEEDED" => counters.limits = counters.limits.saturating_add(count),
                _ => {}
            }
        }
        let refused = self.trail.figures();
        for counter in
            [&refused.refused_full, &refused.refused_busy, &refused.refused_keys, &refused.refused_failed]
        {
            counters.refused = counters.refused.saturating_add(counter.value());
        }
        counters.timeouts =
            self.databases.pools().all().into_iter().map(|(tenant, pool)| (tenant, pool.timeouts)).collect();
        counters
    }

    /// What is so at the moment.
    #[must_use]
    pub fn present(&self) -> Vec<Figure> {
        let lag = self.trail.size().saturating_sub(self.trail.projected());
        #[expect(clippy::cast_precision_loss, reason = "a figure is a float")]
        let mut figures = vec![
            Figure::whole("store_behind", lag as f64),
            Figure::whole("store_stalled", f64::from(u8::from(self.trail.is_stalled()))),
        ];
        if let Some(disk) = self.machine.sample().disk {
            figures.push(Figure::whole("disk_nearly_full", used_percent(disk.total, disk.available)));
        }
        if let Some(bouncer) = &self.bouncer {
            figures.push(Figure::whole("pgbouncer_down", f64::from(u8::from(!bouncer.state().up))));
        }
        for (tenant, pool) in self.databases.pools().all() {
            if pool.waiting > 0 {
                figures.push(Figure::of("pool_saturated", &tenant, pool.usage()));
            }
        }
        for (tenant, replication) in self.databases.replication() {
            figures.push(Figure::of("replication_lag", &tenant, replication.lag_seconds));
            figures.push(Figure::of("replication_slot", &tenant, replication.unread_bytes));
        }
        figures
    }
}
