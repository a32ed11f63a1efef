//! What an operator writes of a rule.

use portcullis_policy::{Mode, units::Span};
use serde::Deserialize;

use super::super::{OnError, Scope};
use crate::key::Per;

/// One limit.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RuleWire {
    /// The rule's name, in `RateLimit` fields, counters and records: 1 to 64 of `A-Z a-z 0-9 . _ -`.
    pub name: String,
    /// The actions that count: a name or a list. Left out: every request counts.
    #[serde(default)]
    pub action: Option<ActionNames>,
    /// Who has a quota of their own: any of `tenant`, `user`, `client_ip` and up to four of `{header: name}`; `[]` is one
    /// quota for all. A user is one of the tenant's only if `tenant` is named too. A request without a user counts for
    /// its client address.
    #[serde(default = "per_tenant")]
    pub per: Vec<Per>,
    /// Units per window, a unit being a request unless `cost` says otherwise: 0 to 1000000000. 0: nothing is allowed.
    #[serde(default)]
    pub limit: Option<u64>,
    /// The window: whole seconds, `"1s"` to `"24h"`.
    #[serde(default)]
    pub window: Option<Span>,
    /// Units that may come at once; left out: `limit`.
    #[serde(default)]
    pub burst: Option<u64>,
    /// In place of `limit` and `window`: how many requests may be under way at the same time, 1 to 65535.
    #[serde(default)]
    pub concurrent: Option<u64>,
    /// Units that a request costs: a number, or the header that tells it. Left out: 1.
    #[serde(default)]
    pub cost: Option<CostWire>,
    /// Which requests count: `always`, `on_failure` (the response's status is 400 to 599) or `{on_status: [...]}`. A request
    /// holds its units until its response; one without a response counts.
    #[serde(default)]
    pub count: Option<CountWire>,
    /// A rate of the tenant's own policy, like `login_attempts_per_minute`: where the companion knows one, it replaces
    /// `limit` and `burst`. Wants a window of `1m`, and `tenant` in `per`.
    #[serde(default)]
    pub policy: Option<String>,
    /// `process` or `global`; left out: the section's.
    #[serde(default)]
    pub scope: Option<Scope>,
    /// What becomes of a request that cannot be counted; left out: the section's.
    #[serde(default)]
    pub on_error: Option<OnError>,
    /// `monitor` reports and lets pass, `off` takes the rule out; the section's mode if that is milder.
    #[serde(default)]
    pub mode: Mode,
}

/// A name or a list of names.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum ActionNames {
    /// One name.
    One(String),
    /// Several.
    Many(Vec<String>),
}

/// What a request costs.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum CostWire {
    /// So many units, 1 to the burst.
    Fixed(u64),
    /// What a header tells.
    Told(ToldWire),
}

/// A cost that a header tells. A value that is no whole number, or negative, costs `most`; one above `most` too.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ToldWire {
    /// A header of the request. A client that can write it chooses what it pays: name one that something in front sets.
    #[serde(default)]
    pub request_header: Option<String>,
    /// A header of the response. The request is admitted for `default`; what its response costs beyond is spent
    /// afterwards, even if there is no room, and waited for by those who come later.
    #[serde(default)]
    pub response_header: Option<String>,
    /// Without the header. Left out: 1.
    #[serde(default)]
    pub default: Option<u64>,
    /// The most; left out: the burst.
    #[serde(default)]
    pub most: Option<u64>,
}

/// Which requests count.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum CountWire {
    /// By word.
    Word(CountWord),
    /// By the response's status.
    Status(StatusesWire),
}

/// Which requests count, by word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum CountWord {
    /// All.
    Always,
    /// Those answered with 400 to 599.
    OnFailure,
}

/// Which requests count, by status.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct StatusesWire {
    /// Statuses like `401`, or classes like `"4xx"`.
    pub on_status: Vec<StatusWire>,
}

/// A status or a class of them.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum StatusWire {
    /// One.
    One(u16),
    /// Like `"4xx"`.
    Class(String),
}

fn per_tenant() -> Vec<Per> {
    vec![Per::Tenant]
}
