//! Cleaning a request's body: a form or a JSON document that is there as a whole.

use portcullis_policy::{Effect, Effects, Headers};

use super::{Cleaned, Cleaner, View};
use crate::body::Body;
use crate::config::Config;
use crate::place::Place;

/// A body that may be cleaned once it is there, kept as it comes.
#[derive(Debug)]
pub(crate) struct Whole {
    place: Place,
    bytes: Vec<u8>,
    most: usize,
    /// Reads the cleaned body as the one that came was read.
    reader: Body,
}

/// Headers that hold a digest of the body, which a changed one does not have (RFC 9530, RFC 3230, RFC 1864).
const DIGESTS: [&str; 4] = ["content-digest", "repr-digest", "digest", "content-md5"];

impl Whole {
    /// A body to keep, if its type is one that can be cleaned. Longer than the window: it is let go, and refused instead.
    pub(crate) fn expected(headers: &Headers<'_>, config: &Config) -> Option<Box<Self>> {
        let reader = Body::expected(headers, config)?;
        let place = reader.cleanable()?;
        Some(Box::new(Self { place, bytes: Vec::new(), most: config.window, reader }))
    }

    /// With a further chunk; `None`: that is more than can be kept.
    pub(crate) fn with(mut self: Box<Self>, chunk: &[u8]) -> Option<Box<Self>> {
        let fits = self.bytes.len().saturating_add(chunk.len()) <= self.most;
        if fits {
            self.bytes.extend_from_slice(chunk);
        }
        fits.then_some(self)
    }

    /// Cleans the whole body; `None` when there is nothing that can be removed. With it comes what will read it.
    pub(crate) fn clean(self, config: &Config) -> Option<(Vec<u8>, Cleaned, Body)> {
        // These begin UTF-16, whatever is declared.
        if matches!(self.bytes.get(..2), Some(b"\xff\xfe" | b"\xfe\xff")) {
            return None;
        }
        let mut cleaned = Cleaned::default();
        let mut cleaner = Cleaner::new(config, &mut cleaned);
        match self.place {
            Place::Form => cleaner.pairs(&self.bytes, 0, Place::Form),
            _ => cleaner.document(Place::Json, &View::of(&self.bytes, 0)),
        }
        let rest = cleaner.rest(&self.bytes)?;
        Some((rest, cleaned, self.reader))
    }
}

/// Asks for the change.
pub(crate) fn apply(body: Vec<u8>, effects: &mut Effects) {
    effects.extend(DIGESTS.map(|name| Effect::RemoveRequestHeader(name.into())));
    effects.push(Effect::ReplaceRequestBody(body));
}
