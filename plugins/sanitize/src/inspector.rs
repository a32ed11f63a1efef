//! Walks the values of one event and keeps what was found.

use std::ops::ControlFlow;

use portcullis_policy::json::Value;

use crate::body::json;
use crate::config::Config;
use crate::detect::{Scope, inspect};
use crate::finding::{Families, Family, Finding};
use crate::place::Place;

/// `Break`: something was found that is refused; nothing else needs to be looked at.
pub(crate) type Flow = ControlFlow<()>;

/// Whether a parameter's name or its value was inspected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Name,
    Value,
}

/// What was found, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub finding: Finding,
    pub place: Place,
    pub part: Part,
    /// The parameter's name, made harmless.
    pub name: String,
    /// It is refused rather than noted.
    pub enforced: bool,
}

impl Found {
    /// What the audit record says of it. Never the value.
    pub(crate) fn details(&self) -> Vec<portcullis_policy::Detail> {
        let part = if self.part == Part::Name { "name" } else { "value" };
        vec![
            ("family", Value::from(self.finding.family.code())),
            ("place", Value::from(self.place.code())),
            ("part", Value::from(part)),
            ("name", Value::from(self.name.as_str())),
            ("why", Value::from(self.finding.why)),
            ("confidence", Value::from(self.finding.confidence)),
        ]
    }
}

/// Inspects values until one is refused.
pub(crate) struct Inspector<'p> {
    config: &'p Config,
    /// What is refused, or else the surest of what is only noted.
    pub found: Option<Found>,
    /// How many names and values were inspected.
    pub inspected: u64,
}

/// Bytes of a name that a record holds. More: cut.
const NAME_BYTES: usize = 64;

impl<'p> Inspector<'p> {
    pub(crate) fn new(config: &'p Config) -> Self {
        Self { config, found: None, inspected: 0 }
    }

    /// Inspects the value of a parameter. One that is a JSON document is inspected text by text.
    pub(crate) fn value(&mut self, place: Place, name: &[u8], value: &[u8]) -> Flow {
        if matches!(value, [b'{' | b'[', .., b'}' | b']']) && json::is_document(value) {
            let read = json::walk(value, &mut |part, _, text| self.look(place, part, name, text));
            return read.flow;
        }
        self.look(place, Part::Value, name, value)
    }

    /// Inspects a parameter's name.
    pub(crate) fn name(&mut self, place: Place, name: &[u8]) -> Flow {
        self.look(place, Part::Name, name, name)
    }

    /// Inspects one text as such.
    pub(crate) fn look(&mut self, place: Place, part: Part, name: &[u8], text: &[u8]) -> Flow {
        self.inspected = self.inspected.saturating_add(1);
        let families = self.config.families_for(place, name).without(senseless(place));
        let Some(finding) = inspect(text, Scope { families, place, is_name: part == Part::Name, name })
        else {
            return Flow::Continue(());
        };
        if finding.confidence < self.config.threshold {
            return Flow::Continue(());
        }
        let enforced = self.config.enforced.contains(finding.family);
        let surer = self.found.as_ref().is_none_or(|known| finding.confidence > known.finding.confidence);
        if enforced || surer {
            self.found = Some(Found { finding, place, part, name: harmless(name), enforced });
        }
        if enforced { Flow::Break(()) } else { Flow::Continue(()) }
    }
}

/// What cannot do harm in a place, or is ordinary there. Texts of several lines hold lines like `Location: Berlin`.
const fn senseless(place: Place) -> Families {
    match place {
        Place::Path | Place::Query | Place::Cookie | Place::Header => Families::NONE,
        _ => Families::NONE.with(Family::Header),
    }
}

/// A name as a record may show it: what could be read as markup, command or escape becomes `_`.
fn harmless(name: &[u8]) -> String {
    let shown = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'[' | b']');
    name.iter().take(NAME_BYTES).map(|byte| if shown(byte) { char::from(*byte) } else { '_' }).collect()
}
