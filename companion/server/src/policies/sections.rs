//! What a tenant may set, and what it has that sets nothing.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// All that a tenant may set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecurityPolicies {
    /// How often.
    pub rate: RatePolicy,
    /// What a password must be.
    pub password: PasswordPolicy,
    /// How long a session lasts.
    pub session: SessionPolicy,
    /// What may be built in its database without anybody's approval.
    pub database: DatabasePolicy,
}

/// Requests a minute; 0 allows none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RatePolicy {
    /// All calls, per tenant.
    pub api_calls_per_minute: u32,
    /// Logins, per tenant and user.
    pub login_attempts_per_minute: u32,
    /// Uploads, per tenant and user.
    pub file_uploads_per_minute: u32,
    /// Reports, per tenant and user.
    pub report_generation_per_minute: u32,
}

/// What a password must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PasswordPolicy {
    /// Characters at least.
    pub min_length: u32,
    /// An upper-case letter.
    pub require_uppercase: bool,
    /// A lower-case letter.
    pub require_lowercase: bool,
    /// A digit.
    pub require_numbers: bool,
    /// Something that is neither letter nor digit.
    pub require_special_chars: bool,
    /// Days until it must be changed; 0 is never.
    pub max_age_days: u32,
}

/// How long a session lasts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SessionPolicy {
    /// Minutes from its beginning.
    pub session_timeout_minutes: u32,
    /// Sessions of one user at once; one more ends the oldest.
    pub max_concurrent_sessions: u32,
    /// Minutes without use.
    pub inactive_timeout_minutes: u32,
}

impl Default for RatePolicy {
    fn default() -> Self {
        Self {
            api_calls_per_minute: 100,
            login_attempts_per_minute: 5,
            file_uploads_per_minute: 20,
            report_generation_per_minute: 10,
        }
    }
}

impl Default for PasswordPolicy {
    fn default() -> Self {
        Self {
            min_length: 8,
            require_uppercase: true,
            require_lowercase: true,
            require_numbers: true,
            require_special_chars: true,
            max_age_days: 90,
        }
    }
}

impl Default for SessionPolicy {
    fn default() -> Self {
        Self { session_timeout_minutes: 60, max_concurrent_sessions: 3, inactive_timeout_minutes: 30 }
    }
}

/// Which indexes are built without anybody's approval. By default none: they are planned, and wait for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DatabasePolicy {
    /// Whether any are.
    pub auto_apply: bool,
    /// Ordered indexes on columns.
    pub allow_btree: bool,
    /// Those of some rows alone.
    pub allow_partial: bool,
    /// Those of something computed.
    pub allow_expression: bool,
    /// Those that carry further columns.
    pub allow_covering: bool,
    /// Those that summarize runs of pages.
    pub allow_brin: bool,
    /// The most that one may take, as foreseen; megabytes of 1,048,576 bytes.
    pub max_index_megabytes: u32,
    /// What all that were built through the companion may take together.
    pub budget_megabytes: u32,
    /// By how much a row that is written may become dearer by one of them, in percent.
    pub max_write_tax_percent: u32,
    /// The first hour of the day (UTC) in which they may be built.
    pub window_start_hour: u32,
    /// The hour before which; at or before the first, the window goes on over midnight.
    pub window_end_hour: u32,
}

impl Default for DatabasePolicy {
    fn default() -> Self {
        Self {
            auto_apply: false,
            allow_btree: true,
            allow_partial: true,
            allow_expression: true,
            allow_covering: true,
            allow_brin: true,
            max_index_megabytes: 1024,
            budget_megabytes: 4096,
            max_write_tax_percent: 100,
            window_start_hour: 0,
            window_end_hour: 24,
        }
    }
}
