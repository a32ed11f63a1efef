//! One limit, compiled.

use std::{rc::Rc, time::Duration};

use portcullis_policy::{Headers, Request};

use crate::{
    config::OnError,
    gcra::{MOST_REQUESTS, Quota},
    key::Counted,
};

/// One limit.
#[derive(Debug)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// What it limits.
    pub kind: Kind,
    /// Its item of `RateLimit-Policy`.
    pub item: Rc<[u8]>,
    /// Whether it refuses, or only reports.
    pub enforce: bool,
    /// Numbers of the actions that count; `None` for every request.
    pub actions: Option<Vec<usize>>,
    /// For whom.
    pub counted: Counted,
    /// Tells it apart from rules that count the same.
    pub salt: u64,
    /// What a request costs.
    pub cost: Price,
    /// Which requests count.
    pub count: Count,
    /// Which of a tenant's own rates replaces limit and burst.
    pub policy: Option<String>,
    /// Tokens are leased from the companion.
    pub global: bool,
    /// Which part of it needs no tokens.
    pub share: Option<Share>,
    /// What becomes of a request that cannot be counted.
    pub on_error: OnError,
    /// Counters of its own.
    pub counters: Counters,
}

/// A part of a limit that needs no tokens, divided among proxies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Percent of the limit.
    pub percent: u32,
    /// Among so many.
    pub proxies: u32,
}

impl Share {
    /// One proxy's part; `None` when that is less than one.
    pub fn of(&self, quota: &Quota) -> Option<Quota> {
        quota.part(self.percent, self.proxies)
    }

    /// What all parts together leave of a number.
    pub fn rest(&self, whole: u32, part: u32) -> u32 {
        whole.saturating_sub(part.saturating_mul(self.proxies)).max(1)
    }
}

/// What a rule limits.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// Units over time.
    Rate {
        /// The limit.
        quota: Quota,
        /// What it may admit without a token.
        share: Option<Quota>,
    },
    /// Requests at the same time.
    Concurrent(u32),
    /// Nothing is allowed, in any window of so many seconds.
    Nothing(u64),
}

impl Kind {
    /// With a tenant's own rate in place of limit and burst, and the same part of it without tokens.
    pub fn with_rate(&self, own: Option<u32>, share: Option<Share>) -> Self {
        match (*self, own) {
            (kind, None) => kind,
            (kind, Some(own)) if u64::from(own) == kind.limit() => kind,
            (Self::Concurrent(most), _) => Self::Concurrent(most),
            (kind, Some(own)) => {
                let seconds = kind.window_s();
                let own = own.min(MOST_REQUESTS);
                match Quota::new(own, Duration::from_secs(seconds), own) {
                    Some(quota) => Self::Rate { quota, share: share.and_then(|share| share.of(&quota)) },
                    None => Self::Nothing(seconds),
                }
            }
        }
    }

    /// Units of a window.
    pub fn limit(&self) -> u64 {
        match self {
            Self::Rate { quota, .. } => u64::from(quota.limit()),
            Self::Concurrent(most) => u64::from(*most),
            Self::Nothing(_) => 0,
        }
    }

    /// The window in seconds.
    pub fn window_s(&self) -> u64 {
        match self {
            Self::Rate { quota, .. } => quota.window().as_secs(),
            Self::Nothing(seconds) => *seconds,
            Self::Concurrent(_) => 1,
        }
    }
}

/// A rule's own counters.
#[derive(Debug, Clone)]
pub struct Counters {
    /// Requests that left less than a fifth.
    pub near: Rc<str>,
    /// Requests for which it had no room.
    pub over: Rc<str>,
}

impl Counters {
    /// Named after the rule; what no name of a counter may hold is `_`.
    pub fn new(rule: &str) -> Self {
        let plain: String = rule.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let name = |what: &str| format!("portcullis_rate_limit_rule_{plain}_{what}_total").into();
        Self { near: name("near_limit"), over: name("over_limit") }
    }
}

/// What a request costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Price {
    /// So many units.
    Fixed(u32),
    /// What stands in a header of the request.
    Request(Told),
    /// What stands in a header of the response.
    Response(Told),
}

/// A cost that a header tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The header, in lower case.
    pub header: String,
    /// Without the header.
    pub default: u32,
    /// The most; and what a value costs that is no whole number.
    pub most: u32,
}

impl Told {
    /// The cost. Who writes nonsense pays the most, so that nobody has an advantage of it.
    pub fn read(&self, headers: &Headers<'_>) -> u32 {
        let Some(value) = headers.first(&self.header) else { return self.default };
        let value = value.trim_ascii();
        let digits = (1..=10).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
        if !digits {
            return self.most;
        }
        let number = value.iter().fold(0_u64, |sum, digit| sum * 10 + u64::from(digit & 0x0f));
        u32::try_from(number).unwrap_or(self.most).min(self.most)
    }
}

/// Which requests count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Count {
    /// All.
    Always,
    /// Those whose response has one of these statuses: from, to.
    On(Vec<(u16, u16)>),
}

impl Count {
    /// Whether a request counts whose response has that status. Without a status it counts.
    pub fn takes(&self, status: Option<u16>) -> bool {
        match (self, status) {
            (Self::Always, _) | (_, None) => true,
            (Self::On(ranges), Some(status)) => {
                ranges.iter().any(|(from, to)| (*from..=*to).contains(&status))
            }
        }
    }
}

impl Rule {
    /// Whether it applies.
    pub fn applies(&self, request: &Request) -> bool {
        let any = |actions: &Vec<usize>| actions.iter().any(|action| request.actions.contains(*action));
        self.actions.as_ref().is_none_or(any)
    }

    /// What a request costs before its response is known.
    pub fn price(&self, headers: &Headers<'_>) -> u32 {
        match &self.cost {
            Price::Fixed(cost) => *cost,
            Price::Request(told) => told.read(headers),
            Price::Response(told) => told.default,
        }
    }

    /// Whether the response decides what is spent.
    pub fn awaits_response(&self) -> bool {
        self.count != Count::Always || matches!(self.cost, Price::Response(_))
    }
}
