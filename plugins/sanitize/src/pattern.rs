//! Patterns of the operator: what the families do not know of an application.
//!
//! Limits: [`PATTERNS`] of them, [`REGEX_BYTES`] of each, 64 KiB compiled; the first [`TEXT_BYTES`] of a value are
//! matched. The engine (`regex-lite`) takes time proportional to text times pattern, whatever the pattern is.

use portcullis_policy::{ConfigErrors, Site};
use serde::Deserialize;

use crate::bytes::between;
use crate::finding::{Family, Finding};
use crate::place::Place;

/// Patterns in one section. More: a configuration error.
const PATTERNS: usize = 32;
/// Bytes of a pattern. More: a configuration error.
const REGEX_BYTES: usize = 256;
/// Bytes of a pattern once compiled. More: a configuration error.
const COMPILED_BYTES: usize = 1 << 16;
/// Bytes of a pattern's name. More: a configuration error.
const NAME_BYTES: usize = 64;
/// Bytes of a value that are matched. Further bytes: not seen.
const TEXT_BYTES: usize = 4096;

/// A pattern to look for in names and values, percent escapes undone.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PatternWire {
    /// What records call it: 1 to 64 letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// The pattern, found anywhere in a value (`regex-lite` syntax, at most 256 bytes; `(?i)` ignores case).
    pub regex: String,
    /// Where it is looked for; left out: everywhere.
    #[serde(default)]
    pub places: Vec<Place>,
    /// How sure a match is, 1 to 100.
    #[serde(default = "default_confidence")]
    pub confidence: u8,
    /// The family that a match counts for: its mode and its exclusions apply.
    #[serde(default = "default_family")]
    pub family: Family,
}

const fn default_confidence() -> u8 {
    90
}

const fn default_family() -> Family {
    Family::Custom
}

/// A compiled pattern.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    pub name: String,
    pub family: Family,
    regex: regex_lite::Regex,
    places: Vec<Place>,
    confidence: u8,
}

impl Pattern {
    /// Looks for the pattern in a value. Bytes that are no UTF-8 read as U+FFFD.
    pub(crate) fn find(&self, place: Place, text: &[u8]) -> Option<Finding> {
        if !self.places.is_empty() && !self.places.contains(&place) {
            return None;
        }
        let text = between(text, 0, TEXT_BYTES);
        let matched = self.regex.find(&String::from_utf8_lossy(text))?.start();
        Some(Finding::new(self.family, self.confidence, "pattern", matched).shown_in(text))
    }
}

/// Compiles the list; what has an error is left out and told.
pub(crate) fn compile(list: Vec<PatternWire>, site: &Site, errors: &mut ConfigErrors) -> Vec<Pattern> {
    if list.len() > PATTERNS {
        errors.error(site, format!("has {} entries", list.len()), format!("at most {PATTERNS}"));
    }
    let mut compiled = Vec::new();
    for (index, wire) in list.into_iter().take(PATTERNS).enumerate() {
        let site = site.index(index);
        let named = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if wire.name.is_empty() || wire.name.len() > NAME_BYTES || !wire.name.bytes().all(named) {
            let remedy = format!("1 to {NAME_BYTES} letters, digits, `-`, `_` and `.`");
            errors.error(&site.key("name"), "is no name for records", remedy);
        }
        if !(1..=100).contains(&wire.confidence) {
            errors.error(&site.key("confidence"), wire.confidence.to_string(), "must be 1 to 100");
        }
        let site = site.key("regex");
        if wire.regex.is_empty() || wire.regex.len() > REGEX_BYTES {
            errors.error(&site, format!("has {} bytes", wire.regex.len()), format!("1 to {REGEX_BYTES}"));
            continue;
        }
        match regex_lite::RegexBuilder::new(&wire.regex).size_limit(COMPILED_BYTES).build() {
            Ok(regex) if regex.is_match("") => {
                errors.error(&site, "matches the empty text", "make it name something that must be there");
            }
            Ok(regex) => compiled.push(Pattern {
                name: wire.name,
                family: wire.family,
                regex,
                places: wire.places,
                confidence: wire.confidence,
            }),
            Err(error) => {
                errors.error(
                    &site,
                    error.to_string(),
                    "write a pattern in the syntax of the crate regex-lite",
                );
            }
        }
    }
    compiled
}
