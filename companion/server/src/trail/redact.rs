//! What is taken out of an event before it is written anywhere, the trail included.
//!
//! A field that is known to hold a credential ([`SECRETS`]) keeps its name and loses its value: `***`. A field of
//! AUDIT_REDACT_FIELDS or a header of AUDIT_REDACT_HEADERS, at any depth of the details, and what a pattern of
//! AUDIT_REDACT_PATTERNS finds in any text, gives way to a keyed hash of the tenant: `redacted:` and 16 hexadecimal digits
//! (64 bits of HMAC-SHA256), so that equal values of one tenant can still be matched and those of two tenants cannot.
//!
//! Against: secrets and personal data that an application writes into its events, or that a pattern knows. Not against:
//! whoever holds AUDIT_REDACTION_KEY and guesses values; values that neither a name nor a pattern tells. Module records
//! are redacted once more, by the module, before they are sent.
//!
//! Limits: [`MAX_RULES`] names and patterns each; patterns have no back-references and take linear time.

use std::borrow::Cow;

use hmac::{Hmac, KeyInit, Mac};
use regex_lite::{Regex, RegexBuilder};
use serde_json::{Map, Value};
use sha2::Sha256;

use crate::event::Event;
use crate::secret::{Secret, hex};

/// Fields whose value is a credential whatever is configured; compared without case, `-` as `_`.
pub const SECRETS: [&str; 18] = [
    "password",
    "passwd",
    "new_password",
    "old_password",
    "secret",
    "client_secret",
    "token",
    "access_token",
    "refresh_token",
    "id_token",
    "session_token",
    "api_key",
    "apikey",
    "private_key",
    "authorization",
    "proxy_authorization",
    "cookie",
    "set_cookie",
];
/// The most names, and the most patterns.
pub const MAX_RULES: usize = 200;
/// The largest compiled pattern, in bytes.
const MAX_PATTERN_BYTES: usize = 256 * 1024;
const MASK: &str = "***";
const HASH_BYTES: usize = 8;

/// Details that we put there ourselves and that programs look records up by.
const OURS: [&str; 3] = ["uid", "correlation_id", "token_id"];

/// Why rules cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedactionError {
    /// More than [`MAX_RULES`].
    #[error("{0} rules, must be at most {MAX_RULES}")]
    TooMany(usize),
    /// Not a JSON array of texts.
    #[error("write a JSON array of regular expressions, like [\"\\\\b[0-9]{{13,19}}\\\\b\"]")]
    NotAnArray,
    /// Not a regular expression.
    #[error("pattern {0}: {1}")]
    Pattern(usize, String),
}

/// The rules, ready.
#[derive(Clone, Debug)]
pub struct Redactor {
    key: Secret,
    /// Lower case, `_` for `-`.
    names: Vec<String>,
    patterns: Vec<Regex>,
}

fn folded(name: &str) -> Cow<'_, str> {
    let name = name.trim();
    match name.bytes().any(|byte| byte.is_ascii_uppercase() || byte == b'-') {
        true => name.to_ascii_lowercase().replace('-', "_").into(),
        false => name.into(),
    }
}

impl Redactor {
    /// Rules of these names of fields and headers, and of `patterns`, a JSON array of regular expressions.
    ///
    /// # Errors
    /// [`RedactionError`].
    pub fn new<'a>(
        key: Secret,
        names: impl IntoIterator<Item = &'a str>,
        patterns: Option<&str>,
    ) -> Result<Self, RedactionError> {
        let names: Vec<_> =
            names.into_iter().map(|name| folded(name).into_owned()).filter(|name| !name.is_empty()).collect();
        let sources: Vec<String> = match patterns {
            None => Vec::new(),
            Some(text) => serde_json::from_str(text).map_err(|_| RedactionError::NotAnArray)?,
        };
        if names.len().max(sources.len()) > MAX_RULES {
            return Err(RedactionError::TooMany(names.len().max(sources.len())));
        }
        let compile = |(number, source): (usize, &String)| {
            let built = RegexBuilder::new(source).size_limit(MAX_PATTERN_BYTES).build();
            built.map_err(|error| RedactionError::Pattern(number, error.to_string()))
        };
        let patterns = sources.iter().enumerate().map(compile).collect::<Result<_, _>>()?;
        Ok(Self { key, names, patterns })
    }

    /// Takes out of `event` what the rules say.
    pub fn apply(&self, event: &mut Event) {
        let of = Of { rules: self, tenant: event.tenant.as_str() };
        for (name, column) in [
            ("user_id", &mut event.user_id),
            ("ip_address", &mut event.ip_address),
            ("user_agent", &mut event.user_agent),
        ] {
            if let Some(text) = column {
                of.text(Some(name), text);
            }
        }
        of.map(&mut event.details, true);
    }
}

/// The rules, for one tenant.
struct Of<'a> {
    rules: &'a Redactor,
    tenant: &'a str,
}

impl Of<'_> {
    fn map(&self, map: &mut Map<String, Value>, outermost: bool) {
        for (name, value) in map.iter_mut() {
            if outermost && OURS.contains(&name.as_str()) {
                continue;
            }
            let name = folded(name);
            if SECRETS.contains(&&*name) {
                *value = MASK.into();
            } else if self.rules.names.iter().any(|known| *known == name) {
                let text = match &*value {
                    Value::Null => continue,
                    Value::String(text) => self.hash(text),
                    other => self.hash(&other.to_string()),
                };
                *value = text.into();
            } else {
                self.value(value);
            }
        }
    }

    /// Details are as deep as their reader allows, which is bounded.
    fn value(&self, value: &mut Value) {
        match value {
            Value::String(text) => self.text(None, text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.value(item)),
            Value::Object(map) => self.map(map, false),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn text(&self, name: Option<&str>, text: &mut String) {
        if name.is_some_and(|name| self.rules.names.iter().any(|known| known == name)) {
            *text = self.hash(text);
            return;
        }
        for pattern in &self.rules.patterns {
            if pattern.is_match(text) {
                let replaced = pattern.replace_all(text, |found: &regex_lite::Captures<'_>| {
                    found.get(0).map(|found| self.hash(found.as_str())).unwrap_or_default()
                });
                *text = replaced.into_owned();
            }
        }
    }

    /// Of this value and this tenant; the tenant's length keeps the two apart.
    fn hash(&self, value: &str) -> String {
        // HMAC takes a key of any length.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.rules.key.expose()) else {
            return MASK.to_owned();
        };
        mac.update(b"portcullis/redaction/1\0");
        mac.update(&self.tenant.len().to_le_bytes());
        mac.update(self.tenant.as_bytes());
        mac.update(value.as_bytes());
        let digest = mac.finalize().into_bytes();
        format!("redacted:{}", hex(digest.get(..HASH_BYTES).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::clock::Timestamp;
    use crate::event::{Epoch, EventType, RecordKey, Sequence, Severity};
    use crate::tenant::TenantId;

    fn rules(names: &[&str], patterns: Option<&str>) -> Result<Redactor, RedactionError> {
        let key = Secret::new("t", "k".repeat(32), 32).unwrap();
        Redactor::new(key, names.iter().copied(), patterns)
    }

    fn event(tenant: &str, details: Value) -> Event {
        Event {
            key: RecordKey {
                epoch: Epoch::new("00000000000000aa").unwrap(),
                sequence: Sequence::new(1).unwrap(),
            },
            tenant: TenantId::new(tenant).unwrap(),
            event_type: EventType::new("PAYMENT").unwrap(),
            severity: Severity::Info,
            user_id: Some("alice".to_owned()),
            ip_address: Some("10.0.0.1".to_owned()),
            user_agent: None,
            details: details.as_object().unwrap().clone(),
            at: Timestamp::UNIX_EPOCH,
            at_arrival: false,
            rate_limit: None,
            gap: None,
        }
    }

    fn redacted(rules: &Redactor, tenant: &str, details: Value) -> Event {
        let mut event = event(tenant, details);
        rules.apply(&mut event);
        event
    }

    #[test]
    fn credentials_go_without_any_rule_and_their_neighbours_stay() {
        let rules = rules(&[], None).unwrap();
        let details = json!({"Password": "hunter2", "request": {"headers": [{"Set-Cookie": ["a=b"]}], "path": "/token"},
            "token_id": "t1", "tokens": 3, "password_age": 4});
        let after = redacted(&rules, "acme", details);
        let expected = json!({"Password": "***", "request": {"headers": [{"Set-Cookie": "***"}], "path": "/token"},
            "token_id": "t1", "tokens": 3, "password_age": 4});
        assert_eq!(Value::Object(after.details), expected);
        assert_eq!(after.user_id.as_deref(), Some("alice"));
    }

    #[test]
    fn equal_values_of_a_tenant_match_and_those_of_two_do_not() {
        let rules = rules(&["Email", "x-customer", "user_id"], None).unwrap();
        let details = json!({"email": "a@b.c", "deep": [{"X_Customer": 7}], "emails": "a@b.c", "uid": "x"});
        let one = redacted(&rules, "acme", details.clone());
        let again = redacted(&rules, "acme", details.clone());
        let other = redacted(&rules, "globex", details);
        assert_eq!(one, again);
        assert_ne!(one.details["email"], other.details["email"]);
        assert_ne!(one.user_id, other.user_id);
        assert!(one.user_id.unwrap().starts_with("redacted:"));
        assert!(one.details["email"].as_str().is_some_and(|text| text.len() == 25));
        assert!(one.details["deep"][0]["X_Customer"].as_str().unwrap().starts_with("redacted:"));
        assert_eq!((&one.details["emails"], &one.details["uid"]), (&json!("a@b.c"), &json!("x")));
    }

    #[test]
    fn what_a_pattern_finds_goes_and_the_rest_of_the_text_stays() {
        let rules = rules(&[], Some(r#"["\\b[0-9]{13,16}\\b"]"#)).unwrap();
        let details = json!({"note": "card 4111111111111111 declined", "order": "411111", "list": ["4111111111111111"]});
        let after = redacted(&rules, "acme", details).details;
        let note = after["note"].as_str().unwrap();
        assert!(note.starts_with("card redacted:") && note.ends_with(" declined"), "{note}");
        assert_eq!(after["order"], "411111");
        assert_eq!(note.split(' ').nth(1), after["list"][0].as_str());
    }

    #[test]
    fn rules_that_cannot_be_used_say_why() {
        assert_eq!(rules(&[], Some("[0-9]+")).unwrap_err(), RedactionError::NotAnArray);
        assert!(matches!(rules(&[], Some(r#"["a", "("]"#)), Err(RedactionError::Pattern(1, _))));
        assert!(matches!(rules(&["a"; 201], None), Err(RedactionError::TooMany(201))));
        let huge = r#"["(((a{1000}){1000}){1000})"]"#;
        assert!(matches!(rules(&[], Some(huge)), Err(RedactionError::Pattern(0, _))));
    }
}
