//! PgBouncer's figures, as Prometheus text: sums over all tenants.

use portcullis_database::bouncer::console::Figures;

use super::Bouncer;
use crate::metrics::{header, put};

impl Bouncer {
    /// The Prometheus text.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        let out = &mut text;
        let state = self.state();
        let (restarts, reloads) = self.counts();
        let sum = |figure: fn(&Figures) -> u64| state.report.databases.values().map(figure).sum::<u64>();
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let longest = state.report.databases.values().map(|figures| figures.longest_wait).max();
        let gauges = [
            ("portcullis_pgbouncer_up", "Whether PgBouncer's console answers.", u64::from(state.up)),
            (
                "portcullis_pgbouncer_databases",
                "Tenants that are reached through PgBouncer.",
                count(state.sizes.len()),
            ),
            (
                "portcullis_pgbouncer_not_offered",
                "Tenants with a server that are not reached through PgBouncer.",
                count(state.not_offered.len()),
            ),
            (
                "portcullis_pgbouncer_connections_max",
                "Connections to servers that it may have.",
                count(state.sizes.values().sum()),
            ),
            (
                "portcullis_pgbouncer_servers",
                "Connections to servers that it has.",
                sum(|figures| figures.servers_active.saturating_add(figures.servers_idle)),
            ),
            (
                "portcullis_pgbouncer_servers_active",
                "Of these, with a client.",
                sum(|figures| figures.servers_active),
            ),
            (
                "portcullis_pgbouncer_clients_waiting",
                "Clients that wait for a server.",
                sum(|figures| figures.clients_waiting),
            ),
        ];
        for (name, help, value) in gauges {
            header(out, name, "gauge", help);
            put(out, format_args!("{name} {value}"));
        }
        let name = "portcullis_pgbouncer_longest_wait_seconds";
        header(out, name, "gauge", "How long the client that waits longest has waited.");
        put(out, format_args!("{name} {}", longest.unwrap_or_default().as_secs_f64()));
        let counters = [
            ("portcullis_pgbouncer_restarts_total", "How often it ended and was started again.", restarts),
            ("portcullis_pgbouncer_reloads_total", "How often it has read its files anew.", reloads),
        ];
        for (name, help, value) in counters {
            header(out, name, "counter", help);
            put(out, format_args!("{name} {value}"));
        }
        text
    }
}
