//! Reading configuration: every problem at once, each with its path and a remedy.
//!
//! A document is read into wire types by serde, which stops at the first problem. [`read`] goes on: it notes the
//! problem, takes the offending value out, and reads again, until the rest is sound. So an operator mends a
//! configuration in one round. What cannot be expressed by types is checked by each policy's `compile`.

mod reader;

use std::fmt::{self, Write};

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::limits;
use reader::{ReadError, Step};

/// Where in the document something stands, like `rate_limit.rules[2].window`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Site(String);

impl Site {
    /// The whole document.
    pub fn root() -> Self {
        Self::default()
    }

    /// A key below this place.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        if self.0.is_empty() { Self(key.to_owned()) } else { Self(format!("{}.{key}", self.0)) }
    }

    /// An element below this place, counted from 0.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "(document)" } else { &self.0 })
    }
}

/// Whether a problem keeps the configuration from being used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// It does.
    Error,
    /// It does not, but should be looked at.
    Warning,
}

/// One problem: where, what, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Whether the configuration can be used all the same.
    pub severity: Severity,
    /// Where it stands.
    pub site: Site,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { site, problem, remedy, .. } = self;
        write!(f, "{}: {}; {}", Harmless(&site.to_string()), Harmless(problem), Harmless(remedy))
    }
}

/// A text that may quote what a document holds, for a terminal or a log: what would move the cursor, end the line or turn
/// the direction of writing stands escaped.
struct Harmless<'a>(&'a str);

impl fmt::Display for Harmless<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                write!(f, "{}", c.escape_unicode())
            }
            c if c.is_control() => write!(f, "{}", c.escape_unicode()),
            c => f.write_char(c),
        })
    }
}

/// All problems of a document, in the order in which they were found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigErrors {
    list: Vec<ConfigError>,
    beyond: usize,
}

impl ConfigErrors {
    /// Notes an error.
    pub fn error(&mut self, site: &Site, problem: impl Into<String>, remedy: impl Into<String>) {
        self.push(Severity::Error, site, problem.into(), remedy.into());
    }

    /// Notes a warning.
    pub fn warning(&mut self, site: &Site, problem: impl Into<String>, remedy: impl Into<String>) {
        self.push(Severity::Warning, site, problem.into(), remedy.into());
    }

    fn push(&mut self, severity: Severity, site: &Site, problem: String, remedy: String) {
        // An error is never crowded out by warnings: those stop at half of the room.
        let room = match severity {
            Severity::Error => limits::CONFIG_ERRORS,
            Severity::Warning => limits::CONFIG_ERRORS / 2,
        };
        let found = ConfigError { severity, site: site.clone(), problem, remedy };
        if self.list.contains(&found) {
            return;
        }
        if self.list.len() < room || (severity == Severity::Error && !self.has_errors()) {
            self.list.push(found);
        } else {
            self.beyond = self.beyond.saturating_add(1);
        }
    }

    /// Whether the configuration cannot be used.
    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|e| e.severity == Severity::Error)
    }

    /// How many errors there are so far, to tell whether a step added one.
    pub fn error_count(&self) -> usize {
        self.list.iter().filter(|e| e.severity == Severity::Error).count()
    }

    /// All problems.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.list.iter()
    }

    /// Problems that were found but not kept, see [`limits::CONFIG_ERRORS`].
    pub fn beyond(&self) -> usize {
        self.beyond
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, error) in self.list.iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        if self.beyond > 0 {
            write!(f, "\nand {} more", self.beyond)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Reads a value into its wire type and notes every problem; `None` when there was an error.
pub fn read<T: DeserializeOwned>(value: Value, site: &Site, errors: &mut ConfigErrors) -> Option<T> {
    let before = errors.error_count();
    salvage(value, site, errors).filter(|_| errors.error_count() == before)
}

/// Reads a value and notes every problem; what is left without the offending parts, so that the rest can be checked
/// in the same round.
pub fn salvage<T: DeserializeOwned>(mut value: Value, site: &Site, errors: &mut ConfigErrors) -> Option<T> {
    let before = errors.error_count();
    for _ in 0..limits::CONFIG_ERRORS {
        let ReadError { problem, path } = match reader::read::<T>(&value) {
            Ok(read) => return Some(read),
            Err(failed) => failed,
        };
        if !note(&problem, &path, site, errors, before) || !take_out(&mut value, &path) {
            return None;
        }
    }
    None
}

/// Notes what serde said; false when nothing can be taken out to go on.
fn note(problem: &str, steps: &[Step], site: &Site, errors: &mut ConfigErrors, before: usize) -> bool {
    let mut place = site.clone();
    for step in steps {
        place = match step {
            Step::Key(key) => place.key(key),
            Step::Index(index) => place.index(*index),
        };
    }
    if let Some(key) = problem.strip_prefix("missing field `").and_then(|rest| rest.split('`').next()) {
        // It may be missing because an earlier round took it out: then it was noted already.
        if errors.error_count() == before {
            errors.error(&place.key(key), "is missing", "add it");
        }
        return false;
    }
    if let Some(rest) = problem.strip_prefix("unknown field `") {
        let mut words = rest.split('`');
        let key = words.next().unwrap_or_default().to_owned();
        let known: Vec<&str> = words.skip(1).step_by(2).collect();
        errors.error(&place, "is not a known key", nearest_hint(&key, &known));
        return true;
    }
    if let Some(rest) = problem.strip_prefix("unknown variant `") {
        let mut words = rest.split('`');
        let key = words.next().unwrap_or_default().to_owned();
        let known: Vec<&str> = words.skip(1).step_by(2).collect();
        errors.error(&place, format!("`{key}` is not known here"), nearest_hint(&key, &known));
        return true;
    }
    let (what, remedy) = match problem.split_once(';') {
        Some((what, remedy)) => (what.trim(), remedy.trim().to_owned()),
        None => match problem.split_once(", expected ") {
            Some((what, expected)) => (what, format!("must be {expected}")),
            None => (problem, "correct it".to_owned()),
        },
    };
    errors.error(&place, what, remedy);
    true
}

/// Names the nearest known key, or all of them when none is near.
pub fn nearest_hint(key: &str, known: &[&str]) -> String {
    match nearest(key, known) {
        Some(name) => format!("did you mean `{name}`?"),
        None if known.is_empty() => "remove it".to_owned(),
        None => format!("known here: {}", known.join(", ")),
    }
}

/// The known key that was probably meant.
pub fn nearest<'a>(key: &str, known: &[&'a str]) -> Option<&'a str> {
    let (edits, name) = known.iter().map(|name| (distance(key, name), *name)).min()?;
    (edits <= 1 + name.len() / 4).then_some(name)
}

/// Levenshtein's distance, for names of at most 64 bytes; longer ones are far from everything.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() > 64 || b.len() > 64 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (y, cell) in b.iter().zip(row.iter_mut().skip(1)) {
            let above = *cell;
            let best = (above + 1).min(left + 1).min(diagonal + usize::from(x != y));
            diagonal = above;
            *cell = best;
            left = best;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(usize::MAX)
}

/// Removes the value at the path; false when there is no such place.
fn take_out(value: &mut Value, steps: &[Step]) -> bool {
    let Some((last, parents)) = steps.split_last() else { return false };
    let mut here = value;
    for step in parents {
        let next = match step {
            Step::Key(key) => here.get_mut(key.as_str()),
            Step::Index(index) => here.get_mut(*index),
        };
        match next {
            Some(next) => here = next,
            None => return false,
        }
    }
    match (here, last) {
        (Value::Object(map), Step::Key(key)) => map.remove(key).is_some(),
        // An element is not removed, so that later ones keep their number: its whole list goes.
        (Value::Array(list), Step::Index(index)) if *index < list.len() => {
            list.truncate(*index);
            true
        }
        _ => false,
    }
}

/// Lays one document over another (RFC 7386, JSON Merge Patch): objects key by key, everything else as a whole.
/// `null` takes a key away, so that the default applies again.
pub fn merge(base: &mut Value, patch: &Value) {
    match (base, patch) {
        (Value::Object(base), Value::Object(patch)) => {
            for (key, value) in patch {
                if value.is_null() {
                    base.remove(key);
                } else {
                    merge(base.entry(key.clone()).or_insert(Value::Null), value);
                }
            }
        }
        (base, Value::Object(patch)) => {
            let mut fresh = Value::Object(serde_json::Map::new());
            merge(&mut fresh, &Value::Object(patch.clone()));
            *base = fresh;
        }
        (base, patch) => *base = patch.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;
    use crate::units::{Mode, Span};

    #[derive(Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Rule {
        name: String,
        #[serde(default)]
        window: Option<Span>,
    }

    #[derive(Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Section {
        #[serde(default)]
        mode: Mode,
        #[serde(default)]
        rules: Vec<Rule>,
        #[serde(default)]
        size: u32,
    }

    fn problems(value: Value) -> Vec<String> {
        let mut errors = ConfigErrors::default();
        let read = read::<Section>(value, &Site::root().key("s"), &mut errors);
        assert_eq!(read.is_none(), errors.has_errors());
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_problem_is_named_at_once() {
        let found = problems(json!({
            "mod": "off", "mode": "enforced", "size": -1,
            "rules": [{"name": "a", "window": "5 parsecs"}, {"name": "b", "windw": "5s"}]
        }));
        let all = found.join("\n");
        for part in [
            "s.mod: is not a known key; did you mean `mode`?",
            "s.mode: `enforced` is not known here; did you mean `enforce`?",
            "s.size: ",
            "s.rules[0].window: `5 parsecs` is not a length of time; write a whole number",
            "s.rules[1].windw: is not a known key; did you mean `window`?",
        ] {
            assert!(all.contains(part), "{part} not in\n{all}");
        }
        assert_eq!(found.len(), 5, "{all}");
    }

    #[test]
    fn what_a_terminal_would_obey_is_shown_escaped() {
        let found = problems(json!({"\u{1b}[2J\nx": 1, "mode": "\u{202e}off", "size": 7})).join("\n");
        assert!(found.contains("s.\\u{1b}[2J\\u{a}x: is not a known key"), "{found}");
        assert!(found.contains("`\\u{202e}off` is not known here"), "{found}");
        assert_eq!(found.lines().count(), 2, "{found}");
        let german = problems(json!({"größe": 1})).join("");
        assert!(german.starts_with("s.größe: "), "{german}");
    }

    #[test]
    fn a_missing_key_is_named() {
        assert_eq!(problems(json!({"rules": [{}]})), ["s.rules[0].name: is missing; add it"]);
        assert!(problems(json!({"rules": [{"name": "x"}]})).is_empty());
        assert!(!problems(json!([1])).is_empty());
    }

    #[test]
    fn merging_follows_rfc_7386() {
        let mut base = json!({"a": {"b": 1, "c": [1]}, "d": 2});
        merge(&mut base, &json!({"a": {"b": 5, "c": [2], "x": {"y": null}}, "d": null}));
        assert_eq!(base, json!({"a": {"b": 5, "c": [2], "x": {}}}));
    }
}
