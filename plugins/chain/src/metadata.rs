//! Overrides from the host's route metadata: sections laid over a route's, compiled when a request brings them.
//!
//! The text is the operator's, like the configuration, and what is wrong with it is an error of his: it is logged and
//! counted, and the route applies without it. Limits: [`limits::CONFIG_BYTES`], [`limits::ROUTE_METADATA_CACHE`].

use std::{cell::RefCell, collections::VecDeque, rc::Rc};

use portcullis_policy::{ConfigErrors, Fact, Facts, Site, Vocabulary, config, limits};
use serde_json::{Map, Value};

use crate::{
    Chain, Route, document,
    policies::{SECTIONS, Set},
};

/// What overrides are compiled from, and those that were met last.
pub(crate) struct Overrides {
    enabled: bool,
    vocabulary: Vocabulary,
    policies: Vec<String>,
    /// By the routes' numbers; the defaults' come first.
    sections: Vec<Map<String, Value>>,
    known: RefCell<VecDeque<Overridden>>,
}

impl Overrides {
    pub(crate) fn new(
        enabled: bool,
        vocabulary: Vocabulary,
        policies: Vec<String>,
        sections: Vec<Map<String, Value>>,
    ) -> Self {
        Self { enabled, vocabulary, policies, sections, known: RefCell::default() }
    }

    /// How many are kept compiled.
    #[cfg(test)]
    pub(crate) fn kept(&self) -> usize {
        self.known.borrow().len()
    }

    /// What the host says, if the configuration lets it.
    pub(crate) fn text(&self, facts: &mut dyn Facts) -> Option<Vec<u8>> {
        let text = if self.enabled { facts.fact(Fact::RouteMetadata) } else { None };
        text.filter(|text| !text.is_empty())
    }
}

/// A route with an override, compiled.
struct Overridden {
    route: usize,
    text: Vec<u8>,
    set: Result<Rc<Set>, String>,
}

impl Chain {
    /// The route's policies with the metadata's sections laid over; remembered, because it is the same text for every
    /// request of that route.
    pub(crate) fn overridden(&self, base: &Route, text: &[u8]) -> Result<Rc<Set>, String> {
        let mut known = self.overrides.known.borrow_mut();
        if let Some(found) = known.iter().find(|o| o.route == base.number && o.text == text) {
            return found.set.clone();
        }
        let set = self.compile_override(base, text);
        if known.len() >= limits::ROUTE_METADATA_CACHE {
            known.pop_front();
        }
        known.push_back(Overridden { route: base.number, text: text.to_vec(), set: set.clone() });
        set
    }

    fn compile_override(&self, base: &Route, text: &[u8]) -> Result<Rc<Set>, String> {
        let site = Site::root().key("route_metadata");
        if text.len() > limits::CONFIG_BYTES {
            return Err(format!("{site}: has {} bytes; at most {}", text.len(), limits::CONFIG_BYTES));
        }
        let mut patch = match serde_json::from_slice(text) {
            Ok(Value::Object(patch)) => patch,
            Ok(_) => return Err(format!("{site}: is not a JSON object; write `{{...}}`")),
            Err(error) => return Err(format!("{site}: is not JSON: {error}")),
        };
        let mut errors = ConfigErrors::default();
        let own = document::take_sections(&mut patch, &site, &mut errors);
        for key in patch.keys() {
            errors.error(&site.key(key), "is not a policy", config::nearest_hint(key, SECTIONS));
        }
        let Overrides { vocabulary, policies, sections, .. } = &self.overrides;
        let base_sections = sections.get(base.number).ok_or("the route has no number")?;
        let merged = document::overlay(base_sections, &own);
        let set = base.set.overridden(&own, &merged, policies, &site, vocabulary, &mut errors);
        if errors.has_errors() { Err(errors.to_string()) } else { Ok(Rc::new(set)) }
    }
}
