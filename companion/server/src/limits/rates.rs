//! The four rates that every tenant has, and the rules of the module that count by them.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use portcullis_limits::quota::Quota;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::policies::RatePolicy;

/// The most that a rate may say.
pub const MOST_PER_MINUTE: u32 = 1_000_000;

/// Requests a minute; 0 allows nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rates {
    /// Of the tenant as a whole.
    pub api_calls_per_minute: u32,
    /// Of each user.
    pub login_attempts_per_minute: u32,
    /// Of each user.
    pub file_uploads_per_minute: u32,
    /// Of each user.
    pub report_generation_per_minute: u32,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            api_calls_per_minute: 100,
            login_attempts_per_minute: 5,
            file_uploads_per_minute: 20,
            report_generation_per_minute: 10,
        }
    }
}

impl From<&RatePolicy> for Rates {
    fn from(policy: &RatePolicy) -> Self {
        let RatePolicy {
            api_calls_per_minute,
            login_attempts_per_minute,
            file_uploads_per_minute,
            report_generation_per_minute,
        } = *policy;
        Self {
            api_calls_per_minute,
            login_attempts_per_minute,
            file_uploads_per_minute,
            report_generation_per_minute,
        }
    }
}

impl Rates {
    /// A number that differs whenever the rates do, never 0, exact in any reader of JSON.
    #[must_use]
    pub fn version(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        (hasher.finish() >> 12).max(1)
    }
}

/// The module's default rules: its names are what the counts are kept under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// `api_call`, per tenant.
    ApiCall,
    /// `login`, per tenant and user.
    Login,
    /// `file_upload`, per tenant and user.
    FileUpload,
    /// `report_generation`, per tenant and user.
    ReportGeneration,
}

impl Rule {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::ApiCall, Self::Login, Self::FileUpload, Self::ReportGeneration];

    /// The rule that counts an action.
    #[must_use]
    pub fn of_action(action: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.name() == action)
    }

    /// Its name, also the action's.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ApiCall => "api_call",
            Self::Login => "login",
            Self::FileUpload => "file_upload",
            Self::ReportGeneration => "report_generation",
        }
    }

    /// For whom it counts, as the module writes it.
    #[must_use]
    pub fn subject(self, user: &str) -> String {
        match self {
            Self::ApiCall => String::new(),
            _ => format!("user={user}"),
        }
    }

    /// Its numbers under `rates`, less what modules spend without tokens.
    #[must_use]
    pub fn quota(self, rates: &Rates, share: LocalShare) -> Option<Quota> {
        let limit = match self {
            Self::ApiCall => rates.api_calls_per_minute,
            Self::Login => rates.login_attempts_per_minute,
            Self::FileUpload => rates.file_uploads_per_minute,
            Self::ReportGeneration => rates.report_generation_per_minute,
        };
        let limit = share.rest(limit);
        Quota::new(limit, Duration::from_secs(60), limit).ok()
    }
}

/// The part of each limit, in percent, that modules spend without tokens (`on_error: local_share` with this `share`). It
/// is not the companion's to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct LocalShare(u32);

/// Why a text is no share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 0% to 50%, as `rate_limit.share` of the modules says")]
pub struct NoShare;

impl std::str::FromStr for LocalShare {
    type Err = NoShare;

    fn from_str(text: &str) -> Result<Self, NoShare> {
        let percent = text.strip_suffix('%').and_then(|digits| digits.parse().ok());
        percent.filter(|percent| *percent <= 50).map(Self).ok_or(NoShare)
    }
}

impl LocalShare {
    /// What is left of a limit, at least one; no more than what the modules ask tokens of.
    fn rest(self, limit: u32) -> u32 {
        let part = u64::from(limit) * u64::from(self.0) / 100;
        limit.saturating_sub(u32::try_from(part).unwrap_or(limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_follows_the_rates_alone() {
        let rates = Rates::default();
        assert_eq!(rates.version(), Rates::default().version());
        assert_ne!(rates.version(), Rates { api_calls_per_minute: 101, ..rates }.version());
        assert!(rates.version() < 1 << 53);
    }

    #[test]
    fn every_rate_makes_a_quota() {
        for number in [0, 1, MOST_PER_MINUTE] {
            let rates = Rates {
                api_calls_per_minute: number,
                login_attempts_per_minute: number,
                file_uploads_per_minute: number,
                report_generation_per_minute: number,
            };
            let share = LocalShare::default();
            assert!(Rule::ALL.into_iter().all(|rule| rule.quota(&rates, share).is_some()));
        }
    }

    #[test]
    fn a_share_is_not_the_companions_to_give() {
        for (text, limit, rest) in
            [("0%", 100, 100), ("10%", 100, 90), ("10%", 5, 5), ("50%", 1, 1), ("50%", 0, 0)]
        {
            assert_eq!(text.parse::<LocalShare>().unwrap().rest(limit), rest, "{text} of {limit}");
        }
        for text in ["", "10", "51%", "-1%", "1.5%", "%"] {
            assert_eq!(text.parse::<LocalShare>(), Err(NoShare), "{text}");
        }
    }
}
