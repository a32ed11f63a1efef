//! The action `clean`: takes out of a request what would run in a page, and leaves the rest as it came.
//!
//! Only values are changed: of the query, of cookies and other headers, of forms and of JSON documents (those in a
//! parameter too). Bytes are removed from where they stand, in whatever encoding; none is written. So a value that holds
//! nothing to remove leaves byte for byte as it came, and the framing of its place (`&`, `;`, JSON's quotes) is never
//! touched. What is removed is what [`html::dangerous`] names, in the value as it is and in each form that applications
//! may decode it to.
//!
//! The cleaner is not trusted: a cleaned request is inspected again like one that just came, and is refused when anything
//! is found. Hence cleaning twice is cleaning once.
//!
//! Not cleaned, and so refused: other families than [`CLEANABLE`], names, the path, script broken out of a string,
//! values that are encoded as a whole (base64, UTF-7), values longer than [`LONGEST`], multipart, XML, GraphQL and plain text
//! bodies, bodies with a content encoding or another charset than ASCII's supersets, and bodies of which a part has left.

mod body;
mod head;
mod view;

use std::ops::Range;

use crate::body::json;
use crate::bytes::{at, skip_space};
use crate::config::Config;
use crate::decode;
use crate::detect::{Scope, inspect};
use crate::finding::{Families, Family};
use crate::html;
use crate::inspector::harmless;
use crate::place::Place;

pub(crate) use body::{Whole, apply};
pub(crate) use head::head;

use view::View;

/// What can be taken out of a value and leave the value.
pub(crate) const CLEANABLE: Families = Families::NONE.with(Family::Xss);

/// Bytes of a value that is cleaned. Longer: it stays, and is refused.
const LONGEST: usize = 64 * 1024;
/// How often is looked again at what removing has brought together. More: what is left is refused.
const ROUNDS: usize = 8;
/// The confidence from which a finding has its value cleaned.
const WEAKEST: u8 = 50;
/// Cleaned values that a record names. More: counted.
const NAMED: usize = 8;

/// Which values were cleaned.
#[derive(Debug, Default)]
pub(crate) struct Cleaned {
    /// The first ones, like `query q`; each once.
    pub names: Vec<String>,
    /// How many there were.
    pub values: u64,
}

/// Removes from one original text: a query, a header, a body.
struct Cleaner<'c> {
    config: &'c Config,
    cleaned: &'c mut Cleaned,
    /// What goes from the original.
    cuts: Vec<Range<u32>>,
}

impl<'c> Cleaner<'c> {
    fn new(config: &'c Config, cleaned: &'c mut Cleaned) -> Self {
        Self { config, cleaned, cuts: Vec::new() }
    }

    /// Pairs of a query or a form.
    fn pairs(&mut self, text: &[u8], start: usize, place: Place) {
        let mut index = start;
        for pair in text.split(|b| *b == b'&') {
            if let Some(equals) = pair.iter().position(|b| *b == b'=') {
                let (name, value) = pair.split_at(equals);
                let value = View::of(value.get(1..).unwrap_or_default(), index + equals + 1).percent(true);
                self.value(place, &decode::percent(name, true), &value);
            }
            index += pair.len() + 1;
        }
    }

    /// A `cookie` header.
    fn cookies(&mut self, text: &[u8]) {
        let mut index = 0;
        for pair in text.split(|b| *b == b';') {
            if let Some(equals) = pair.iter().position(|b| *b == b'=') {
                let (name, value) = pair.split_at(equals);
                let value = View::of(value.get(1..).unwrap_or_default(), index + equals + 1).percent(false);
                self.value(Place::Cookie, &decode::percent(name.trim_ascii(), false), &value);
            }
            index += pair.len() + 1;
        }
    }

    /// A value, which may be a JSON document.
    fn value(&mut self, place: Place, name: &[u8], view: &View) {
        if matches!(view.bytes.as_slice(), [b'{' | b'[', .., b'}' | b']']) && json::is_document(&view.bytes) {
            self.document(place, view);
        } else {
            self.text(place, name, view);
        }
    }

    /// The texts of a JSON document.
    fn document(&mut self, place: Place, view: &View) {
        let bytes = view.bytes.as_slice();
        let mut key = Vec::new();
        let mut index = 0;
        while let Some(byte) = bytes.get(index) {
            index += 1;
            if *byte != b'"' {
                continue;
            }
            let end = json::string_end(bytes, index).place;
            let text = view.part(index..end).json();
            index = end + 1;
            if at(bytes, skip_space(bytes, index)) == b':' {
                key = text.bytes;
            } else {
                self.text(place, &key, &text);
            }
        }
    }

    /// One text, if it holds what can be cleaned: in each form that it may be decoded to.
    fn text(&mut self, place: Place, name: &[u8], view: &View) {
        let families = self.config.families_for(place, name).only(self.config.cleaned);
        let weakest = self.config.threshold.min(WEAKEST);
        let scope = Scope { families, place, is_name: false, name };
        let found = inspect(&view.bytes, scope)
            .is_some_and(|found| found.confidence >= weakest && families.contains(found.family));
        if !found || view.bytes.len() > LONGEST {
            return;
        }
        let before = self.cuts.len();
        let mut form = view.without(&[]);
        for _ in 0..=decode::ROUNDS {
            for _ in 0..ROUNDS {
                let cuts = html::dangerous(&form.bytes, self.config.threshold);
                if cuts.is_empty() {
                    break;
                }
                self.cuts.extend(cuts.iter().filter_map(|cut| form.origin(cut)));
                form = form.without(&cuts);
            }
            match form.peeled() {
                Some(peeled) => form = peeled,
                None => break,
            }
        }
        if self.cuts.len() > before {
            self.note(place, name);
        }
    }

    fn note(&mut self, place: Place, name: &[u8]) {
        self.cleaned.values = self.cleaned.values.saturating_add(1);
        let name = format!("{} {}", place.code(), harmless(name));
        if self.cleaned.names.len() < NAMED && !self.cleaned.names.contains(&name) {
            self.cleaned.names.push(name);
        }
    }

    /// The original without what goes; `None` when nothing does.
    fn rest(mut self, original: &[u8]) -> Option<Vec<u8>> {
        if self.cuts.is_empty() {
            return None;
        }
        self.cuts.sort_by_key(|cut| cut.start);
        let mut rest = Vec::with_capacity(original.len());
        let mut index = 0;
        for cut in self.cuts {
            let (start, end) = (cut.start as usize, cut.end as usize);
            rest.extend_from_slice(original.get(index..start.max(index)).unwrap_or_default());
            index = index.max(end);
        }
        rest.extend_from_slice(original.get(index..).unwrap_or_default());
        Some(rest)
    }
}

#[cfg(test)]
mod tests;
