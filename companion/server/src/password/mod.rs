//! Whether a password is what a tenant asks for, and whether it is one of the commonest.
//!
//! A password is common when it is one of a list of ours, however it is dressed up: case, `@` for `a`, digits and signs at
//! its ends do not count. So are one character over and over, runs as `abcdefgh` or `87654321`, and rows of a keyboard.
//! Guessing programs try all of these first. The list is of some three hundred words and is no copy of a leaked one: it
//! finds the worst, and is no replacement for a breach service.
//!
//! Nothing of a password is kept or logged.

mod common;

use schemars::JsonSchema;
use serde::Serialize;

use crate::policies::PasswordPolicy;
pub use common::is_common;

/// The longest password that is looked at, in characters.
pub const MAX_CHARS: usize = 1024;

/// What a password is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// As many characters as `min_length`.
    MinLength,
    /// An upper-case letter.
    RequireUppercase,
    /// A lower-case letter.
    RequireLowercase,
    /// A digit.
    RequireNumbers,
    /// Something that is neither letter, digit nor space.
    RequireSpecialChars,
    /// None of the commonest. Every tenant asks for it.
    NotCommon,
}

/// What came of one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Finding {
    /// Which.
    pub rule: Rule,
    /// Whether the tenant asks for it.
    pub required: bool,
    /// Whether the password is so.
    pub passed: bool,
}

/// Each rule, in one order.
#[must_use]
pub fn check(password: &str, policy: &PasswordPolicy) -> [Finding; 6] {
    let has = |of: fn(char) -> bool| password.chars().any(of);
    let least = usize::try_from(policy.min_length).unwrap_or(usize::MAX);
    let special = |char: char| !char.is_alphanumeric() && !char.is_whitespace() && !char.is_control();
    [
        (Rule::MinLength, true, password.chars().count() >= least),
        (Rule::RequireUppercase, policy.require_uppercase, has(char::is_uppercase)),
        (Rule::RequireLowercase, policy.require_lowercase, has(char::is_lowercase)),
        (Rule::RequireNumbers, policy.require_numbers, has(char::is_numeric)),
        (Rule::RequireSpecialChars, policy.require_special_chars, has(special)),
        (Rule::NotCommon, true, !is_common(password)),
    ]
    .map(|(rule, required, passed)| Finding { rule, required, passed })
}

/// Whether everything that is required is so.
#[must_use]
pub fn is_valid(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| finding.passed || !finding.required)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(password: &str) -> Vec<Rule> {
        let findings = check(password, &PasswordPolicy::default());
        findings.into_iter().filter(|finding| !finding.passed).map(|finding| finding.rule).collect()
    }

    #[test]
    fn each_rule_is_told_by_itself() {
        assert!(failed("Gr4nite-Owl").is_empty());
        assert_eq!(failed("Gr4n-ow"), [Rule::MinLength]);
        assert_eq!(failed("gr4nite-owl"), [Rule::RequireUppercase]);
        assert_eq!(failed("GR4NITE-OWL"), [Rule::RequireLowercase]);
        assert_eq!(failed("Granite-Owl"), [Rule::RequireNumbers]);
        assert_eq!(failed("Gr4niteOwls"), [Rule::RequireSpecialChars]);
        assert_eq!(failed("P@ssw0rd2024!"), [Rule::NotCommon]);
        assert_eq!(failed("Ünïcödé-9 ист"), []);
    }

    #[test]
    fn what_is_not_required_may_fail() {
        let policy = PasswordPolicy { require_numbers: false, ..PasswordPolicy::default() };
        assert!(is_valid(&check("Granite-Owl", &policy)));
        assert!(!is_valid(&check("Granite-Owl", &PasswordPolicy::default())));
    }
}
