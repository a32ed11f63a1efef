//! The configuration of descriptors, in the format of envoyproxy/ratelimit: a YAML or JSON file, or a folder of them, one
//! domain each.
//!
//! ```yaml
//! domain: shop
//! descriptors:
//!   - key: tenant                 # any value, each with counts of its own
//!     rate_limit: {unit: minute, requests_per_unit: 100}
//!     descriptors:
//!       - key: path
//!         value: /login           # this value; `/log*` all that begin so
//!         rate_limit: {unit: minute, requests_per_unit: 5}
//!         shadow_mode: true
//! ```
//! A descriptor has a limit where its last entry ends: an exact value goes before the longest prefix, and that before
//! the bare key. Limits: 10,000 descriptors, 10 levels; what is not known is an error, not ignored.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use portcullis_limits::quota::Quota;
use serde::Deserialize;

use super::messages::{Entry, Unit};
use crate::metrics::Counter;

const DESCRIPTORS: usize = 10_000;
const LEVELS: usize = 10;
/// A domain becomes part of a key's name.
const DOMAIN_BYTES: usize = 45;
/// The domain of the modules' own limits.
pub const OWN_DOMAIN: &str = "portcullis";

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file that cannot be read.
    #[error("LIMITS_CONFIG: {}: {source}; set it to a file or a folder of .yaml, .yml and .json", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not the format.
    #[error("LIMITS_CONFIG: {}: {problem}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Where, what, and what to do.
        problem: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileWire {
    domain: String,
    #[serde(default)]
    descriptors: Vec<NodeWire>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeWire {
    key: String,
    #[serde(default)]
    value: Option<String>,
    #[serde(default)]
    rate_limit: Option<LimitWire>,
    #[serde(default)]
    shadow_mode: bool,
    /// Every configured limit has a series of its own; values that clients send have none.
    #[serde(default)]
    #[allow(dead_code, reason = "accepted, because configurations of envoyproxy/ratelimit have it")]
    detailed_metric: bool,
    #[serde(default)]
    descriptors: Vec<NodeWire>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitWire {
    #[serde(default)]
    name: String,
    #[serde(default)]
    unit: Option<String>,
    #[serde(default)]
    requests_per_unit: Option<u32>,
    #[serde(default)]
    unlimited: bool,
}

/// A configured limit.
pub struct Limit {
    /// Its name for people, and the label of its series: where it stands, or the configured name.
    pub name: String,
    /// Its numbers; `None` without a limit.
    pub numbers: Option<(u32, Unit, Quota)>,
    /// It never refuses.
    pub shadow: bool,
    /// Requests within.
    pub within: Counter,
    /// Requests beyond it.
    pub over: Counter,
}

#[derive(Default)]
struct Node {
    limit: Option<Arc<Limit>>,
    /// By key, then by value.
    below: BTreeMap<String, Values>,
}

#[derive(Default)]
struct Values {
    exact: BTreeMap<String, Node>,
    /// Longest first.
    prefixes: Vec<(String, Node)>,
    any: Option<Box<Node>>,
}

/// All domains.
#[derive(Default)]
pub struct Config {
    domains: BTreeMap<String, Node>,
    limits: Vec<Arc<Limit>>,
}

impl Config {
    /// Reads a file, or all files of a folder.
    ///
    /// # Errors
    /// [`ConfigError`] names the file, the place and the remedy.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let failed = |source| ConfigError::Read { path: path.to_owned(), source };
        let mut files = vec![path.to_owned()];
        if path.is_dir() {
            let entries = std::fs::read_dir(path).map_err(failed)?;
            let known = |path: &PathBuf| {
                let extension = path.extension().and_then(|extension| extension.to_str());
                matches!(extension, Some("yaml" | "yml" | "json"))
            };
            files = entries.flatten().map(|entry| entry.path()).filter(known).collect();
            files.sort();
        }
        let mut config = Self::default();
        for file in files {
            let text = std::fs::read_to_string(&file)
                .map_err(|source| ConfigError::Read { path: file.clone(), source })?;
            config.add(&text).map_err(|problem| ConfigError::Format { path: file, problem })?;
        }
        Ok(config)
    }

    /// Adds a domain.
    ///
    /// # Errors
    /// Where, what, and what to do.
    pub fn add(&mut self, text: &str) -> Result<(), String> {
        let wire: FileWire = serde_yaml_ng::from_str(text).map_err(|error| error.to_string())?;
        let domain = wire.domain;
        if !(1..=DOMAIN_BYTES).contains(&domain.len()) || !domain.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return Err(format!("domain: must be 1 to {DOMAIN_BYTES} visible ASCII characters"));
        }
        if domain == OWN_DOMAIN {
            return Err(format!("domain: `{OWN_DOMAIN}` is that of the modules' own limits; choose another"));
        }
        let mut root = Node::default();
        self.fill(&mut root, wire.descriptors, &domain, "descriptors", 1)?;
        if self.domains.insert(domain.clone(), root).is_some() {
            return Err(format!("domain: `{domain}` is there twice; put it into one file"));
        }
        Ok(())
    }

    fn fill(
        &mut self,
        node: &mut Node,
        wires: Vec<NodeWire>,
        above: &str,
        place: &str,
        level: usize,
    ) -> Result<(), String> {
        if level > LEVELS {
            return Err(format!("{place}: at most {LEVELS} levels"));
        }
        let mut seen = HashSet::new();
        for (index, wire) in wires.into_iter().enumerate() {
            let place = format!("{place}[{index}]");
            if wire.key.is_empty() {
                return Err(format!("{place}.key: must not be empty"));
            }
            let value = wire.value.filter(|value| !value.is_empty());
            let name = match &value {
                Some(value) => format!("{above}.{}_{value}", wire.key),
                None => format!("{above}.{}", wire.key),
            };
            if !seen.insert(name.clone()) {
                return Err(format!("{place}: `{name}` is there twice; remove one"));
            }
            let mut below = Node::default();
            if let Some(limit) = wire.rate_limit {
                let limit = Arc::new(limit_of(limit, &name, wire.shadow_mode, &place)?);
                self.limits.push(Arc::clone(&limit));
                if self.limits.len() > DESCRIPTORS {
                    return Err(format!("{place}: at most {DESCRIPTORS} limits"));
                }
                below.limit = Some(limit);
            }
            self.fill(&mut below, wire.descriptors, &name, &format!("{place}.descriptors"), level + 1)?;
            let values = node.below.entry(wire.key).or_default();
            match value {
                None => values.any = Some(Box::new(below)),
                Some(value) => match value.strip_suffix('*') {
                    Some(prefix) => values.prefixes.push((prefix.to_owned(), below)),
                    None => drop(values.exact.insert(value, below)),
                },
            }
            values.prefixes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        }
        Ok(())
    }

    /// The limit for a descriptor's entries.
    #[must_use]
    pub fn find(&self, domain: &str, entries: &[Entry]) -> Option<&Arc<Limit>> {
        let mut node = self.domains.get(domain)?;
        for entry in entries {
            let values = node.below.get(&entry.key)?;
            let prefix = || {
                let fitting = values.prefixes.iter().find(|(prefix, _)| entry.value.starts_with(prefix));
                fitting.map(|(_, node)| node)
            };
            node = values.exact.get(&entry.value).or_else(prefix).or(values.any.as_deref())?;
        }
        node.limit.as_ref()
    }

    /// Whether the domain is configured.
    #[must_use]
    pub fn knows(&self, domain: &str) -> bool {
        self.domains.contains_key(domain)
    }

    /// All limits, in the order of the files.
    #[must_use]
    pub fn limits(&self) -> &[Arc<Limit>] {
        &self.limits
    }
}

fn limit_of(wire: LimitWire, place_name: &str, shadow: bool, place: &str) -> Result<Limit, String> {
    let name = if wire.name.is_empty() { place_name.to_owned() } else { wire.name };
    let make =
        |numbers| Limit { name, numbers, shadow, within: Counter::default(), over: Counter::default() };
    if wire.unlimited {
        if wire.unit.is_some() || wire.requests_per_unit.is_some() {
            return Err(format!("{place}.rate_limit: `unlimited` stands beside a limit; remove one of them"));
        }
        return Ok(make(None));
    }
    let text = wire.unit.unwrap_or_default();
    let unit = unit_named(&text).ok_or_else(|| {
        format!("{place}.rate_limit.unit: `{text}`; must be second, minute, hour, day, week, month or year")
    })?;
    let requests = wire
        .requests_per_unit
        .ok_or_else(|| format!("{place}.rate_limit.requests_per_unit: is missing; 0 allows nothing"))?;
    let quota = quota(requests, unit).ok_or_else(|| {
        format!("{place}.rate_limit.requests_per_unit: {requests}; must be 0 to 1000000000")
    })?;
    Ok(make(Some((requests, unit, quota))))
}

fn unit_named(text: &str) -> Option<Unit> {
    let units = [
        ("second", Unit::Second),
        ("minute", Unit::Minute),
        ("hour", Unit::Hour),
        ("day", Unit::Day),
        ("week", Unit::Week),
        ("month", Unit::Month),
        ("year", Unit::Year),
    ];
    units.into_iter().find(|(name, _)| text.eq_ignore_ascii_case(name)).map(|(_, unit)| unit)
}

/// So many requests per unit.
#[must_use]
pub fn quota(requests: u32, unit: Unit) -> Option<Quota> {
    const DAY: u64 = 24 * 60 * 60;
    let seconds = match unit {
        Unit::Unknown => return None,
        Unit::Second => 1,
        Unit::Minute => 60,
        Unit::Hour => 60 * 60,
        Unit::Day => DAY,
        Unit::Week => 7 * DAY,
        Unit::Month => 30 * DAY,
        Unit::Year => 365 * DAY,
    };
    Quota::new(requests, Duration::from_secs(seconds), requests).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOP: &str = r"
domain: shop
descriptors:
  - key: tenant
    rate_limit: {unit: minute, requests_per_unit: 100}
    descriptors:
      - key: path
        value: /login
        rate_limit: {name: logins, unit: MINUTE, requests_per_unit: 5}
      - key: path
        value: /api/*
        rate_limit: {unit: hour, requests_per_unit: 7}
        shadow_mode: true
      - key: path
        value: /api/v2/*
        rate_limit: {unlimited: true}
  - key: tenant
    value: big
    rate_limit: {unit: second, requests_per_unit: 1000}
    detailed_metric: true
";

    fn config() -> Config {
        let mut config = Config::default();
        config.add(SHOP).unwrap();
        config
    }

    fn found(entries: &[(&str, &str)]) -> Option<String> {
        let entry = |(key, value): &(&str, &str)| Entry { key: (*key).into(), value: (*value).into() };
        let entries: Vec<Entry> = entries.iter().map(entry).collect();
        config().find("shop", &entries).map(|limit| limit.name.clone())
    }

    #[test]
    fn a_limit_is_where_the_last_entry_ends() {
        assert_eq!(found(&[("tenant", "acme")]).as_deref(), Some("shop.tenant"));
        assert_eq!(found(&[("tenant", "big")]).as_deref(), Some("shop.tenant_big"));
        assert_eq!(found(&[("tenant", "acme"), ("path", "/login")]).as_deref(), Some("logins"));
        assert_eq!(found(&[("tenant", "a"), ("path", "/api/x")]).as_deref(), Some("shop.tenant.path_/api/*"));
        assert_eq!(
            found(&[("tenant", "a"), ("path", "/api/v2/x")]).as_deref(),
            Some("shop.tenant.path_/api/v2/*")
        );
        // The value of its own has nothing below it, and goes before the bare key.
        for none in [&[("tenant", "big"), ("path", "/login")][..], &[("path", "/login")], &[]] {
            assert_eq!(found(none), None);
        }
        assert!(config().find("other", &[]).is_none());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        for (text, named) in [
            ("domain: ''", "domain: must be"),
            ("domain: portcullis", "choose another"),
            ("descriptors: []", "domain"),
            ("domain: a\ndescriptors: [{key: ''}]", "descriptors[0].key"),
            ("domain: a\ndescriptors: [{key: k, colour: red}]", "colour"),
            ("domain: a\ndescriptors: [{key: k}, {key: k}]", "twice"),
            (
                "domain: a\ndescriptors: [{key: k, rate_limit: {unit: fortnight, requests_per_unit: 1}}]",
                "fortnight",
            ),
            ("domain: a\ndescriptors: [{key: k, rate_limit: {unit: day}}]", "requests_per_unit: is missing"),
            (
                "domain: a\ndescriptors: [{key: k, rate_limit: {unit: day, requests_per_unit: 2000000000}}]",
                "0 to",
            ),
            ("domain: a\ndescriptors: [{key: k, rate_limit: {unlimited: true, unit: day}}]", "unlimited"),
        ] {
            let error = Config::default().add(text).unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
        }
        assert!(config().add(SHOP).unwrap_err().contains("twice"));
    }
}
