//! Walks the values of one event and keeps what was found.

use std::ops::ControlFlow;

use portcullis_policy::json::Value;

use crate::body::{graphql, json};
use crate::clean;
use crate::config::Config;
use crate::decode;
use crate::detect::{Scope, inspect};
use crate::finding::{Families, Family, Finding, Shape};
use crate::marks::Marks;
use crate::place::Place;
use crate::session;
use crate::tally::Tally;

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
    /// It is refused, or cleaned, rather than noted or tagged.
    pub enforced: bool,
    /// The operator's pattern that matched.
    pub pattern: Option<String>,
    /// What the request's findings come to, and in how many parameters they are.
    pub score: u8,
    pub parameters: usize,
}

impl Found {
    pub(crate) fn new(finding: Finding, place: Place, part: Part, name: &[u8], enforced: bool) -> Self {
        // Of a pair without `=` the name is the content.
        let content = part == Part::Name && !name.iter().all(is_shown);
        let name = if content { harmless(Shape::of(name, 0).text().as_bytes()) } else { harmless(name) };
        let score = finding.confidence;
        Self { finding, place, part, name, enforced, pattern: None, score, parameters: 1 }
    }

    /// What the audit record says of it. Never the value.
    pub(crate) fn details(&self) -> Vec<portcullis_policy::Detail> {
        let part = if self.part == Part::Name { "name" } else { "value" };
        let mut details = vec![
            ("family", Value::from(self.finding.family.code())),
            ("place", Value::from(self.place.code())),
            ("part", Value::from(part)),
            ("name", Value::from(self.name.as_str())),
            ("why", Value::from(self.finding.why)),
            ("confidence", Value::from(self.finding.confidence)),
        ];
        if let Some(pattern) = &self.pattern {
            details.push(("pattern", Value::from(pattern.as_str())));
        }
        if self.parameters > 1 {
            details.push(("score", Value::from(self.score)));
            details.push(("parameters", Value::from(self.parameters as u64)));
        }
        let excerpt = self.finding.shape.text();
        if !excerpt.is_empty() {
            details.push(("excerpt", Value::from(excerpt)));
        }
        details
    }
}

/// What is carried from a request's head to its body.
#[derive(Debug, Default, Clone)]
pub(crate) struct Carried {
    /// Findings that are refused, if they come to enough, and those that are only noted.
    enforced: Tally,
    noted: Tally,
    /// Those that the application is told of.
    pub tagged: Tally,
    /// What it was told.
    pub tag: Option<(u8, Families)>,
    /// How sure it is that another site sent the visitor here.
    pub foreign: u8,
    /// Names and values of pairs so far, in query and form.
    pairs: u32,
    /// What the surest finding came to that was let pass, and told.
    told: u8,
}

impl Carried {
    /// Whether there is nothing to carry.
    pub(crate) fn is_empty(&self) -> bool {
        self.enforced.is_empty()
            && self.noted.is_empty()
            && self.tagged.is_empty()
            && self.foreign == 0
            && self.pairs == 0
            && self.told == 0
    }
}

/// Inspects values until one is refused.
pub(crate) struct Inspector<'p> {
    config: &'p Config,
    /// What is refused, or else the surest of what is only noted.
    pub found: Option<Found>,
    /// The surest of what the application is to be told of, if it comes to enough.
    pub tagged: Option<Found>,
    /// Something of what is refused can be cleaned instead.
    pub cleanable: bool,
    /// Why it is refused, where another action was configured.
    pub instead: Option<&'static str>,
    /// How many names and values were inspected.
    pub inspected: u64,
    pub carried: Carried,
    /// The last text was the key `constructor`.
    constructor: bool,
    /// GraphQL documents so far.
    documents: u32,
}

/// GraphQL documents of one body, from which on they are taken for an attempt to try many things at once. Clients that
/// batch send ten at most by default.
const BATCH: u32 = 26;
/// Bytes of a name that a record holds. More: cut.
const NAME_BYTES: usize = 64;

impl<'p> Inspector<'p> {
    pub(crate) fn new(config: &'p Config) -> Self {
        Self::after(config, Carried::default())
    }

    /// Goes on with what the request's head left.
    pub(crate) fn after(config: &'p Config, carried: Carried) -> Self {
        Self {
            config,
            found: None,
            tagged: None,
            cleanable: false,
            instead: None,
            inspected: 0,
            carried,
            constructor: false,
            documents: 0,
        }
    }

    /// Another one that begins where this one is; what it finds is nobody's.
    pub(crate) fn aside(&self) -> Self {
        Self::after(self.config, self.carried.clone())
    }

    /// Inspects the value of a parameter. One that is a JSON or GraphQL document is inspected text by text.
    pub(crate) fn value(&mut self, place: Place, name: &[u8], value: &[u8]) -> Flow {
        if matches!(value, [b'{' | b'[', .., b'}' | b']']) && json::is_document(value) {
            return json::walk(value, &mut |part, _, text| {
                if part == Part::Value {
                    self.packed(place, name, text)?;
                }
                self.look(place, part, name, text)
            });
        }
        self.packed(place, name, value)?;
        if value.ends_with(b"}") && graphql::is_document(value) {
            return self.graphql(place, name, value);
        }
        self.look(place, Part::Value, name, value)
    }

    /// Inspects the texts of a JSON document in base64, as states and cursors are passed on; of a token (JWT) its header,
    /// which applications read before they know whether to believe it, and its claims, which some believe unseen.
    pub(crate) fn packed(&mut self, place: Place, name: &[u8], value: &[u8]) -> Flow {
        if !matches!(value, [b'e', b'y' | b'w', ..] | [b'W', b'3' | b'y', ..]) {
            return Flow::Continue(());
        }
        let mut parts = value.split(|b| *b == b'.');
        let first = parts.next().unwrap_or(value);
        let Some(document) = unpacked(first) else { return Flow::Continue(()) };
        json::walk(&document, &mut |part, _, text| self.look(place, part, name, text))?;
        let Some(claims) = parts.next().and_then(unpacked) else { return Flow::Continue(()) };
        // Who issued a token, and for whom, are addresses of the own network by right.
        let families = self.config.families_for(place, name).without(ADDRESSES);
        json::walk(&claims, &mut |part, _, text| {
            self.look_for(Scope { families, place, is_name: part == Part::Name, name }, text)
        })
    }

    /// Inspects the strings of a GraphQL document, and its syntax for what is no syntax of GraphQL only at first sight.
    pub(crate) fn graphql(&mut self, place: Place, name: &[u8], document: &[u8]) -> Flow {
        let families = self.config.families_for(place, name).only(ALIKE);
        let scope = Scope { families, place, is_name: false, name };
        if let Some(finding) = inspect(document, scope) {
            self.keep(finding, place, Part::Value, name, None)?;
        }
        self.documents = self.documents.saturating_add(1);
        let batched =
            (self.documents == BATCH).then(|| Finding::new(Family::Protocol, 74, "graphql-batch", 0));
        self.report(place, Part::Value, name, batched)?;
        self.report(place, Part::Value, name, graphql::excess(document))?;
        self.report(place, Part::Value, name, graphql::cycle(document))?;
        self.patterns(place, Part::Value, name, document, self.config.families_for(place, name))?;
        graphql::walk(document, &mut |argument, text| self.look(place, Part::Value, argument, text))
    }

    /// Inspects a parameter's name.
    pub(crate) fn name(&mut self, place: Place, name: &[u8]) -> Flow {
        self.look(place, Part::Name, name, name)
    }

    /// Inspects one text as such.
    pub(crate) fn look(&mut self, place: Place, part: Part, name: &[u8], text: &[u8]) -> Flow {
        let families = self.config.families_for(place, name);
        self.look_for(Scope { families, place, is_name: part == Part::Name, name }, text)
    }

    /// Inspects a header that carries only protocol for what harms whoever logs it, or runs a program with it.
    pub(crate) fn logged(&mut self, name: &[u8], value: &[u8]) -> Flow {
        let families = self.config.families_for(Place::Header, name).only(LOGGED);
        self.look_for(Scope { families, place: Place::Header, is_name: false, name }, value)
    }

    fn look_for(&mut self, scope: Scope<'_>, text: &[u8]) -> Flow {
        let Scope { families, place, name, .. } = scope;
        let part = if scope.is_name { Part::Name } else { Part::Value };
        self.inspected = self.inspected.saturating_add(1);
        if !clean::is_known(text, scope) {
            match inspect(text, scope) {
                Some(finding) => {
                    self.keep(finding, place, part, name, None)?;
                    self.behind(finding, scope, part, text)?;
                }
                None => clean::keep(text, scope),
            }
        }
        // Two keys, one under the other, where neither alone is more than a word.
        let beneath = std::mem::take(&mut self.constructor);
        if part == Part::Name {
            self.constructor = text == b"constructor";
            if beneath && text == b"prototype" {
                let finding = Finding::new(Family::Prototype, 88, "prototype", 0);
                self.report(place, part, name, Some(finding))?;
            }
        }
        if part == Part::Name
            && self.carried.foreign > 0
            && !matches!(place, Place::Cookie | Place::Header)
            && families.contains(Family::Session)
            && session::is_session(text)
        {
            let finding = Finding::new(Family::Session, self.carried.foreign, "foreign-session", 0);
            self.keep(finding, place, part, name, None)?;
        }
        self.patterns(place, part, name, text, families)
    }

    /// A value is told by what is surest in it. What is only noted, or tagged, must not hide what is refused, or tagged.
    fn behind(&mut self, found: Finding, scope: Scope<'_>, part: Part, text: &[u8]) -> Flow {
        let config = self.config;
        for weightier in [config.enforced, config.tagged] {
            if weightier.contains(found.family) {
                break;
            }
            let families = scope.families.only(weightier);
            if families != Families::NONE
                && let Some(finding) = inspect(text, Scope { families, ..scope })
            {
                self.keep(finding, scope.place, part, scope.name, None)?;
            }
        }
        Flow::Continue(())
    }

    /// The operator's patterns.
    fn patterns(&mut self, place: Place, part: Part, name: &[u8], text: &[u8], families: Families) -> Flow {
        let config = self.config;
        for pattern in &config.patterns {
            if families.contains(pattern.family)
                && let Some(finding) = pattern.find(place, text)
            {
                self.keep(finding, place, part, name, Some(pattern.name.clone()))?;
            }
        }
        Flow::Continue(())
    }

    /// Takes what another part of the policy found.
    pub(crate) fn report(&mut self, place: Place, part: Part, name: &[u8], finding: Option<Finding>) -> Flow {
        match finding {
            Some(finding) if self.config.families_for(place, name).contains(finding.family) => {
                self.keep(finding, place, part, name, None)
            }
            _ => Flow::Continue(()),
        }
    }

    /// Counts a pair of a query or a form. Beyond the maximum, that is what is found.
    pub(crate) fn pair(&mut self, place: Place) -> Flow {
        self.carried.pairs = self.carried.pairs.saturating_add(1);
        if self.carried.pairs != self.config.max_parameters.saturating_add(1) {
            return Flow::Continue(());
        }
        let finding = Finding::new(Family::Protocol, 80, "parameters", 0);
        self.report(place, Part::Name, b"", Some(finding))
    }

    fn keep(
        &mut self,
        finding: Finding,
        place: Place,
        part: Part,
        name: &[u8],
        pattern: Option<String>,
    ) -> Flow {
        let enforced = self.config.enforced.contains(finding.family);
        let mut found = Found::new(finding, place, part, name, enforced);
        found.pattern = pattern;
        let tagged = self.config.tagged.contains(finding.family);
        let tally = match (enforced, tagged) {
            (true, _) => &mut self.carried.enforced,
            (_, true) => &mut self.carried.tagged,
            _ => &mut self.carried.noted,
        };
        self.cleanable |= self.config.cleaned.contains(finding.family);
        let score = tally.add(&found);
        if score < self.config.threshold {
            return Flow::Continue(());
        }
        let parameters = tally.parameters();
        // Where only the sum suffices, the surest is what is told.
        if found.finding.confidence < self.config.threshold
            && let Some(best) = &tally.best
        {
            found = best.clone();
            (found.score, found.parameters) = (score, parameters);
        }
        if enforced {
            self.found = Some(found);
            return Flow::Break(());
        }
        if tagged {
            // What the application is told of adds up over the whole request.
            if self.tagged.as_ref().is_none_or(|known| found.score > known.score) {
                self.tagged = Some(found);
            }
            return Flow::Continue(());
        }
        // What is let pass is told once, and again only when something surer comes: a long body has many windows.
        self.carried.noted = Tally::default();
        if found.score > self.carried.told {
            self.carried.told = found.score;
            self.found = Some(found);
        }
        Flow::Continue(())
    }
}

/// A JSON document in base64.
fn unpacked(text: &[u8]) -> Option<Vec<u8>> {
    decode::whole(text, Marks::of(text)).filter(|document| json::is_document(document))
}

/// What is found in a URL by where it leads.
const ADDRESSES: Families = Families::NONE.with(Family::Ssrf).with(Family::Redirect).with(Family::Include);

/// What harms without being asked for: lookups, and functions in the environment of a shell.
const LOGGED: Families = Families::NONE.with(Family::Lookup).with(Family::Command);

/// What may look like a GraphQL document.
const ALIKE: Families =
    Families::NONE.with(Family::Template).with(Family::Code).with(Family::Object).with(Family::Prototype);

/// A name as a record may show it: what could be read as markup, command or escape becomes `_`.
pub(crate) fn harmless(name: &[u8]) -> String {
    name.iter().take(NAME_BYTES).map(|byte| if is_shown(byte) { char::from(*byte) } else { '_' }).collect()
}

fn is_shown(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'[' | b']')
}
