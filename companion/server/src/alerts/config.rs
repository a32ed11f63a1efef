//! Where alerts are told and from which figures on: one file of mode 0600, written by the API or by hand.
//!
//! ```json
//! {"webhooks": {"ops": {"url": "https://hooks.example/portcullis", "secret": "whsec_..."}},
//!  "rules": {"slow_statements": {"threshold": 10, "hold_seconds": 600}, "attack_wave": {"enabled": false}}}
//! ```

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::rule::{self, Rule};
use super::webhook::{SigningSecret, Target, WebhookError};
use crate::secret::replace_file;
use crate::units::is_plain_name;

/// Webhooks at most.
pub const MOST: usize = 10;
/// The largest file.
const MAX_BYTES: u64 = 64 * 1024;

/// Why a configuration is none.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file.
    #[error("{path}: {source}; check its owner and permissions, or set ALERT_CONFIG to another")]
    File {
        /// Which.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// Not what it should be.
    #[error("{path}: {problem}")]
    Malformed {
        /// Which.
        path: String,
        /// The place, and what is wrong.
        problem: String,
    },
}

/// As it stands in the file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    #[serde(default)]
    webhooks: BTreeMap<String, WebhookWire>,
    #[serde(default)]
    rules: BTreeMap<String, Setting>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WebhookWire {
    url: String,
    secret: String,
}

impl std::fmt::Debug for WebhookWire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// What is changed of a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    /// What the figure must be above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// How many seconds it must be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_seconds: Option<u32>,
    /// Whether it is looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

/// Where an alert is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Webhook {
    /// The address.
    pub target: Target,
    /// What messages are signed with.
    pub secret: SigningSecret,
}

impl Webhook {
    /// Reads an address and a secret.
    ///
    /// # Errors
    /// Which of the two is wrong, and how it should be.
    pub fn new(url: &str, secret: &str) -> Result<Self, WebhookError> {
        Ok(Self { target: Target::new(url)?, secret: SigningSecret::new(secret)? })
    }
}

/// What is configured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// By name.
    pub webhooks: BTreeMap<String, Webhook>,
    /// What is changed of rules, by name.
    pub rules: BTreeMap<String, Setting>,
}

impl Config {
    /// What holds of a rule.
    #[must_use]
    pub fn of(&self, rule: &Rule) -> Setting {
        let own = self.rules.get(rule.name).copied().unwrap_or_default();
        Setting {
            threshold: Some(own.threshold.unwrap_or(rule.threshold)),
            hold_seconds: Some(
                own.hold_seconds.unwrap_or_else(|| rule.hold.as_secs().try_into().unwrap_or(u32::MAX)),
            ),
            enabled: Some(own.enabled.unwrap_or(true)),
        }
    }

    fn read(text: &str) -> Result<Self, String> {
        let mut reader = serde_json::Deserializer::from_str(text);
        let wire: Wire = serde_path_to_error::deserialize(&mut reader)
            .map_err(|error| format!("{}: {}", error.path(), error.inner()))?;
        if wire.webhooks.len() > MOST {
            return Err(format!("webhooks: at most {MOST}"));
        }
        let mut webhooks = BTreeMap::new();
        for (name, one) in wire.webhooks {
            if !is_plain_name(&name) {
                return Err(format!(
                    "webhooks: {name:?}: 1 to 50 lower-case letters, digits and underscores, a letter first"
                ));
            }
            let webhook = Webhook::new(&one.url, &one.secret);
            webhooks.insert(name.clone(), webhook.map_err(|error| format!("webhooks.{name}: {error}"))?);
        }
        for (name, setting) in &wire.rules {
            check(name, *setting).map_err(|problem| format!("rules.{name}: {problem}"))?;
        }
        Ok(Self { webhooks, rules: wire.rules })
    }

    fn text(&self) -> String {
        let webhook = |(name, webhook): (&String, &Webhook)| {
            let wire = WebhookWire { url: webhook.target.url().to_owned(), secret: webhook.secret.text() };
            (name.clone(), wire)
        };
        let wire = Wire { webhooks: self.webhooks.iter().map(webhook).collect(), rules: self.rules.clone() };
        serde_json::to_string_pretty(&wire).unwrap_or_default() + "\n"
    }
}

/// Whether a rule can be changed so.
///
/// # Errors
/// What is wrong, and what may be.
pub fn check(name: &str, setting: Setting) -> Result<(), String> {
    if rule::find(name).is_none() {
        let known: Vec<&str> = rule::RULES.iter().map(|rule| rule.name).collect();
        return Err(format!("there is no such rule; there are {}", known.join(", ")));
    }
    if setting.threshold.is_some_and(|threshold| !threshold.is_finite() || threshold < 0.0) {
        return Err("threshold: must be 0 or more".to_owned());
    }
    if setting.hold_seconds.is_some_and(|hold| hold > 86_400) {
        return Err("hold_seconds: must be 0 to 86400".to_owned());
    }
    Ok(())
}

/// The file.
#[derive(Clone, Debug)]
pub struct File(pub PathBuf);

impl File {
    /// What stands in it; nothing when it is not there.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(&self) -> Result<Config, ConfigError> {
        let path = self.0.display().to_string();
        let failed = |source| ConfigError::File { path: path.clone(), source };
        let text = match read(&self.0) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Config::default()),
            Err(error) => return Err(failed(error)),
        };
        Config::read(&text).map_err(|problem| ConfigError::Malformed { path, problem })
    }

    /// Replaces it.
    ///
    /// # Errors
    /// [`ConfigError::File`].
    pub fn store(&self, config: &Config) -> Result<(), ConfigError> {
        let failed = |source| ConfigError::File { path: self.0.display().to_string(), source };
        replace_file(&self.0, config.text().as_bytes(), None).map_err(failed)
    }
}

/// There are secrets in it: others must not read it.
fn read(path: &Path) -> io::Result<String> {
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;
    let file = std::fs::File::open(path)?;
    let mode = file.metadata()?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(io::Error::other(format!("readable by others (mode {mode:o}); run: chmod 600")));
    }
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz";

    #[test]
    fn what_is_written_is_read_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let file = File(folder.path().join("alerts.json"));
        assert_eq!(file.load().unwrap(), Config::default());
        let mut config = Config::default();
        config
            .webhooks
            .insert("ops".to_owned(), Webhook::new("https://hooks.example/a?b=c", SECRET).unwrap());
        config.rules.insert("attack_wave".to_owned(), Setting { threshold: Some(2.5), ..Setting::default() });
        file.store(&config).unwrap();
        assert_eq!(file.load().unwrap(), config);
        assert!(!format!("{config:?}").contains("MDEy"), "no secret is shown");
        std::fs::set_permissions(&file.0, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        assert!(file.load().unwrap_err().to_string().contains("chmod 600"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, said) in [
            ("{", "EOF"),
            ("{\"webhook\": {}}", "unknown field `webhook`"),
            (
                "{\"rules\": {\"attacks\": {}}}",
                "rules.attacks: there is no such rule; there are slow_statements",
            ),
            ("{\"rules\": {\"attack_wave\": {\"threshold\": -1}}}", "threshold: must be 0 or more"),
            ("{\"webhooks\": {\"Ops\": {\"url\": \"https://a\", \"secret\": \"x\"}}}", "lower-case"),
            ("{\"webhooks\": {\"ops\": {\"url\": \"ftp://a\", \"secret\": \"x\"}}}", "webhooks.ops: url:"),
            (
                "{\"webhooks\": {\"ops\": {\"url\": \"https://a\", \"secret\": \"short\"}}}",
                "webhooks.ops: secret:",
            ),
        ] {
            let problem = Config::read(text).unwrap_err();
            assert!(problem.contains(said), "{text}: {problem}");
        }
    }
}
