//! What is counted.

use portcullis_policy::{Effect, Effects, Metric};

use crate::{
    commit::Cost,
    desk::{LEASE_CALLS, LEASE_FAILURES, LEASE_TOKENS},
};

/// Requests that every enforced rule had room for.
pub const ALLOWED: Metric = Metric {
    name: "portcullis_rate_limit_allowed_total",
    help: "Requests to which a rule applied and that passed.",
};
/// Requests that were refused.
pub const LIMITED: Metric = Metric {
    name: "portcullis_rate_limit_limited_total",
    help: "Requests refused because a quota was exceeded.",
};
/// Requests that passed although a monitored rule had no room.
pub const MONITORED: Metric = Metric {
    name: "portcullis_rate_limit_monitored_total",
    help: "Requests that passed although a rule or a ban in mode monitor would have refused them.",
};
/// Requests that left little.
pub const NEAR_LIMIT: Metric = Metric {
    name: "portcullis_rate_limit_near_limit_total",
    help: "Requests that passed and left less than a fifth of a quota.",
};
/// Requests that could not be counted.
pub const ERRORS: Metric = Metric {
    name: "portcullis_rate_limit_errors_total",
    help: "Requests that could not be counted because the shared state failed; on_error decided.",
};
/// Stores that another worker forestalled.
pub const CONFLICTS: Metric = Metric {
    name: "portcullis_rate_limit_conflicts_total",
    help: "Stores that another worker forestalled; they were tried again.",
};
/// Limits that lost their own entry.
pub const FOLDED: Metric = Metric {
    name: "portcullis_rate_limit_folded_total",
    help: "Limits in use that gave up their entry in a full slot; newcomers to that slot are admitted less.",
};
/// Slots that were not ours.
pub const DISCARDED: Metric = Metric {
    name: "portcullis_rate_limit_slots_discarded_total",
    help: "Shared slots found with content of another format, and taken as empty.",
};
/// Refused, and counted all the same.
pub const OVERCOUNTED: Metric = Metric {
    name: "portcullis_rate_limit_overcounted_total",
    help: "Slots where a request stayed counted, or held, although it was refused or should not count.",
};
/// Requests of the banned.
pub const BANNED: Metric =
    Metric { name: "portcullis_rate_limit_banned_total", help: "Requests refused because of a ban." };
/// Bans that were imposed.
pub const BANS: Metric = Metric { name: "portcullis_rate_limit_bans_total", help: "Bans that were imposed." };
/// Strikes and bans for which there was no place.
pub const BANS_FULL: Metric = Metric {
    name: "portcullis_rate_limit_bans_full_total",
    help: "Strikes or bans that were not kept, because all places of their slot are running bans.",
};

/// Requests that had to wait for tokens.
pub const WAITED: Metric = Metric {
    name: "portcullis_rate_limit_waited_total",
    help: "Requests that waited for tokens of a limit that all proxies share.",
};
/// Requests for which no tokens came.
pub const UNLEASED: Metric = Metric {
    name: "portcullis_rate_limit_unleased_total",
    help: "Requests for which no tokens could be had in time; on_error decided.",
};

/// All of them.
pub const ALL: &[Metric] = &[
    ALLOWED,
    LIMITED,
    MONITORED,
    NEAR_LIMIT,
    ERRORS,
    CONFLICTS,
    FOLDED,
    DISCARDED,
    OVERCOUNTED,
    BANNED,
    BANS,
    BANS_FULL,
    WAITED,
    UNLEASED,
    LEASE_CALLS,
    LEASE_FAILURES,
    LEASE_TOKENS,
];

/// What a decision took.
pub(crate) fn count(cost: Cost, effects: &mut Effects) {
    for (metric, count) in [
        (&CONFLICTS, cost.conflicts),
        (&FOLDED, cost.folded),
        (&DISCARDED, cost.discarded),
        (&OVERCOUNTED, cost.overcounted),
    ] {
        if count > 0 {
            effects.push(Effect::Count(metric, u64::from(count)));
        }
    }
}
