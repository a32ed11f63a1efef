//! The pools' figures, as Prometheus text.
//!
//! Sums over all tenants, and series of their own for the tenants that use most: so many that a server can keep them, however many
//! tenants there are.

use portcullis_database::pool::Statistics;
use portcullis_database::replication::Replication;

use super::Databases;
use crate::metrics::{header, put};

/// Tenants that have series of their own.
const TENANTS: usize = 20;

impl Databases {
    /// The Prometheus text.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        let out = &mut text;
        let all = self.pools().all();
        let (open, cap) = self.pools().open();
        let sum = |figure: fn(&Statistics) -> u64| all.iter().map(|(_, pool)| figure(pool)).sum::<u64>();
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let gauges = [
            ("portcullis_pools", "Tenants' databases that are known.", count(all.len())),
            ("portcullis_pool_connections", "Connections to tenants' databases that are open.", count(open)),
            (
                "portcullis_pool_connections_max",
                "Connections to tenants' databases that may be open.",
                count(cap),
            ),
            (
                "portcullis_pool_connections_in_use",
                "Connections to tenants' databases that are lent.",
                sum(|pool| pool.checked_out.try_into().unwrap_or(0)),
            ),
            (
                "portcullis_pool_waiting",
                "Who waits for a connection.",
                sum(|pool| pool.waiting.try_into().unwrap_or(0)),
            ),
            (
                "portcullis_index_plans_running",
                "Plans of indexes that are being applied, watched or taken back.",
                count(self.0.running.count()),
            ),
        ];
        for (name, help, value) in gauges {
            header(out, name, "gauge", help);
            put(out, format_args!("{name} {value}"));
        }
        let counters = [
            ("portcullis_pool_loans_total", "Connections that were lent.", sum(|pool| pool.loans)),
            (
                "portcullis_pool_timeouts_total",
                "Connections that were not to be had in time.",
                sum(|pool| pool.timeouts),
            ),
            (
                "portcullis_pool_slow_statements_total",
                "Slow statements through the pools.",
                sum(|pool| pool.slow),
            ),
            (
                "portcullis_pool_slow_untold_total",
                "Slow statements that came too fast to be written down.",
                self.pools().lost(),
            ),
        ];
        for (name, help, value) in counters {
            header(out, name, "counter", help);
            put(out, format_args!("{name} {value}"));
        }
        self.render_cache(out);
        let replication = self.replication();
        for (name, help, figure) in [
            (
                "portcullis_replication_lag_seconds_max",
                "How far the standby that is most behind is behind, of all tenants' servers.",
                (|one: &Replication| one.lag_seconds) as fn(&Replication) -> f64,
            ),
            (
                "portcullis_replication_unread_bytes_max",
                "Write-ahead log that a server keeps for replication slots that nobody reads, at most.",
                |one: &Replication| one.unread_bytes,
            ),
        ] {
            header(out, name, "gauge", help);
            let most = replication.iter().map(|(_, one)| figure(one)).fold(0.0, f64::max);
            put(out, format_args!("{name} {most}"));
        }
        let mut most = all;
        most.sort_by_key(|(_, pool)| {
            std::cmp::Reverse((pool.waiting, pool.checked_out, pool.slow, pool.loans))
        });
        let usage = "portcullis_pool_tenant_usage_ratio";
        header(
            out,
            usage,
            "gauge",
            "Connections in use of those that a tenant may have; of the tenants that use most.",
        );
        for (tenant, pool) in most.iter().take(TENANTS) {
            // A name has visible ASCII characters only; two of them need an escape here.
            let tenant = tenant.replace('\\', "\\\\").replace('"', "\\\"");
            put(out, format_args!("{usage}{{tenant=\"{tenant}\"}} {}", pool.usage()));
        }
        text
    }

    /// Answers that are kept.
    fn render_cache(&self, out: &mut String) {
        let cache = self.pools().cached();
        let requests = "portcullis_database_cache_requests_total";
        header(out, requests, "counter", "Reads through the result cache, by what came of them.");
        for (result, count) in [("hit", cache.hits), ("miss", cache.misses)] {
            put(out, format_args!("{requests}{{result=\"{result}\"}} {count}"));
        }
        let refused = "portcullis_database_cache_refused_total";
        header(out, refused, "counter", "Reads whose answers were not kept, by reason.");
        for (why, count) in cache.refused {
            put(out, format_args!("{refused}{{reason=\"{why}\"}} {count}"));
        }
        for (name, help, value) in [
            ("portcullis_database_cache_entries", "Answers that are kept.", cache.entries),
            ("portcullis_database_cache_bytes", "Bytes of the answers that are kept.", cache.bytes),
        ] {
            header(out, name, "gauge", help);
            put(out, format_args!("{name} {value}"));
        }
    }
}
