//! Cleaning a request's head: the query, cookies and other headers.

use portcullis_policy::{Effect, Effects, Header, Headers};

use super::{Cleaned, Cleaner, View};
use crate::config::Config;
use crate::head::{SHORTEST, is_protocol};
use crate::place::Place;

/// A head with some headers cleaned.
pub(crate) struct Head {
    /// For each header in order, its new value if it has one.
    values: Vec<Option<Vec<u8>>>,
    /// What was cleaned.
    pub cleaned: Cleaned,
}

/// Cleans what can be cleaned; `None` when that is nothing.
pub(crate) fn head(config: &Config, headers: &Headers<'_>) -> Option<Head> {
    let mut cleaned = Cleaned::default();
    let values: Vec<Option<Vec<u8>>> =
        headers.iter().map(|header| value(config, header, &mut cleaned)).collect();
    (cleaned.values > 0).then_some(Head { values, cleaned })
}

/// A header's new value.
fn value(config: &Config, (name, value): Header<'_>, cleaned: &mut Cleaned) -> Option<Vec<u8>> {
    // What a host would not set stays, and is refused.
    if std::str::from_utf8(name).is_err() || value.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)) {
        return None;
    }
    let places = config.places;
    let mut cleaner = Cleaner::new(config, cleaned);
    if name == b":path" {
        let query = value.iter().position(|b| *b == b'?').filter(|_| places.query)? + 1;
        cleaner.pairs(value.get(query..).unwrap_or_default(), query, Place::Query);
    } else if name.eq_ignore_ascii_case(b"cookie") {
        if places.cookies {
            cleaner.cookies(value);
        }
    } else if places.headers && value.len() >= SHORTEST && !is_protocol(name) {
        cleaner.value(Place::Header, name, &View::of(value, 0));
    }
    cleaner.rest(value)
}

impl Head {
    /// The headers as they will be.
    pub(crate) fn headers<'h>(&'h self, headers: &Headers<'h>) -> Headers<'h> {
        let new = headers.iter().zip(&self.values);
        Headers::new(new.map(|((name, value), new)| (name, new.as_deref().unwrap_or(value))).collect())
    }

    /// Asks for the change. A header that something else was asked about before stays as that has it: one that is taken
    /// away, because nobody vouches for it, does not come back because it was dangerous besides.
    pub(crate) fn apply(&self, headers: &Headers<'_>, effects: &mut Effects) {
        let whole = self.headers(headers);
        let mut done: Vec<&[u8]> = Vec::new();
        for ((name, _), _) in headers.iter().zip(&self.values).filter(|(_, new)| new.is_some()) {
            let Ok(text) = std::str::from_utf8(name) else { continue };
            let known = done.iter().any(|known| known.eq_ignore_ascii_case(name));
            if known || effects.iter().any(|effect| is_about(effect, text)) {
                continue;
            }
            done.push(name);
            let lower = text.to_ascii_lowercase();
            for (number, value) in whole.all(&lower).enumerate() {
                let (name, value) = (lower.as_str().into(), value.into());
                effects.push(match number {
                    0 => Effect::SetRequestHeader(name, value),
                    _ => Effect::AddRequestHeader(name, value),
                });
            }
        }
    }
}

fn is_about(effect: &Effect, wanted: &str) -> bool {
    let (Effect::SetRequestHeader(name, _)
    | Effect::AddRequestHeader(name, _)
    | Effect::RemoveRequestHeader(name)) = effect
    else {
        return false;
    };
    name.eq_ignore_ascii_case(wanted)
}
