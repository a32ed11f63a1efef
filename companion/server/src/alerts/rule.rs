//! What there are alerts for. Thresholds are where to start from; an administrator changes them.

use std::time::Duration;

/// How grave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grade {
    /// Somebody should look at it today.
    Warning,
    /// Somebody should look at it now.
    Critical,
}

impl Grade {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// A condition that is looked at: a figure above a threshold.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Its name.
    pub name: &'static str,
    /// How grave.
    pub grade: Grade,
    /// What the figure counts.
    pub unit: &'static str,
    /// What the figure must be above.
    pub threshold: f64,
    /// How long until it fires.
    pub hold: Duration,
    /// What has happened.
    pub summary: &'static str,
    /// What to do.
    pub action: &'static str,
}

const MINUTE: Duration = Duration::from_secs(60);

/// How long a figure must be back before an incident is over.
pub const CALM: Duration = Duration::from_secs(120);

/// All of them; the names are those of the Prometheus rules in snake case where both have one.
pub const RULES: [Rule; 12] = [
    Rule {
        name: "slow_statements",
        grade: Grade::Warning,
        unit: "per minute",
        threshold: 5.0,
        hold: MINUTE,
        summary: "A tenant's database has many slow statements.",
        action: "GET /api/database/slow-queries/{tenant_id}, then POST /api/database/optimize/{tenant_id}.",
    },
    Rule {
        name: "pool_saturated",
        grade: Grade::Warning,
        unit: "ratio",
        threshold: 0.9,
        hold: MINUTE,
        summary: "A tenant waits for connections to its database, and has nearly all that it may have.",
        action: "Find what holds them (slow statements), or raise DATABASE_POOL_SIZE within what the server takes.",
    },
    Rule {
        name: "pool_timeouts",
        grade: Grade::Critical,
        unit: "per minute",
        threshold: 0.0,
        hold: Duration::ZERO,
        summary: "Connections to a tenant's database were not to be had in time.",
        action: "Look at its slow statements; raise DATABASE_POOL_SIZE or DATABASE_CONNECTIONS_MAX within what the server takes.",
    },
    Rule {
        name: "replication_lag",
        grade: Grade::Warning,
        unit: "seconds",
        threshold: 60.0,
        hold: MINUTE,
        summary: "A standby of a tenant's database is behind.",
        action: "Look at pg_stat_replication there: the standby's disk, the network, a long query on the standby.",
    },
    Rule {
        name: "replication_slot",
        grade: Grade::Critical,
        unit: "bytes",
        threshold: 1_073_741_824.0,
        hold: MINUTE,
        summary: "A replication slot that nobody reads keeps write-ahead log until the disk is full.",
        action: "Start what reads it, or drop it: SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active.",
    },
    Rule {
        name: "disk_nearly_full",
        grade: Grade::Warning,
        unit: "percent used",
        threshold: 90.0,
        hold: MINUTE,
        summary: "The disk of DATA_DIR is nearly full.",
        action: "Make room, or shorten AUDIT_RETENTION.",
    },
    Rule {
        name: "trail_refuses",
        grade: Grade::Critical,
        unit: "batches per minute",
        threshold: 0.0,
        hold: Duration::ZERO,
        summary: "The audit trail refuses batches; records may be lost when modules' bounds are reached.",
        action: "Make room on the disk of DATA_DIR, raise AUDIT_MAX_BYTES, or shorten AUDIT_RETENTION.",
    },
    Rule {
        name: "store_behind",
        grade: Grade::Warning,
        unit: "records",
        threshold: 100_000.0,
        hold: MINUTE,
        summary: "The tables do not show what the audit trail has.",
        action: "Look at /monitoring/database/status and the log; the store is away, full or slow.",
    },
    Rule {
        name: "store_stalled",
        grade: Grade::Warning,
        unit: "stalled",
        threshold: 0.0,
        hold: MINUTE,
        summary: "The store does not take what the audit trail has.",
        action: "Look at /monitoring/database/status and the log; the store is away or full.",
    },
    Rule {
        name: "limits_exceeded",
        grade: Grade::Warning,
        unit: "per second",
        threshold: 10.0,
        hold: MINUTE,
        summary: "Rate limits are exceeded again and again.",
        action: "GET /security tells whose; an attack, a client that does not wait, or a limit that is too low.",
    },
    Rule {
        name: "attack_wave",
        grade: Grade::Warning,
        unit: "per second",
        threshold: 5.0,
        hold: MINUTE,
        summary: "Many more attacks than an hour ago.",
        action: "GET /security tells whose tenants they are against; the events tell from where.",
    },
    Rule {
        name: "pgbouncer_down",
        grade: Grade::Critical,
        unit: "down",
        threshold: 0.0,
        hold: Duration::from_secs(10),
        summary: "The PgBouncer that is managed does not answer.",
        action: "GET /api/database/pgbouncer tells why.",
    },
];

/// How many times more attacks than an hour ago are a wave.
pub const WAVE: f64 = 5.0;

/// The rule of a name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.name == name)
}
