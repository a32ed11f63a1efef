//! One value through every decoder and tokenizer of sanitize: in each place, as name and as value, for all families
//! and for one alone.
//!
//! What is found is of a family that was asked for, has a confidence, and shows nothing but printable characters; it is
//! the same each time.

use portcullis_sanitize::{Families, Family, Place, Scope, inspect_value};

use crate::Choices;

const PLACES: [Place; 9] = [
    Place::Path,
    Place::Query,
    Place::Cookie,
    Place::Header,
    Place::Form,
    Place::Json,
    Place::Multipart,
    Place::Xml,
    Place::Text,
];
const NAMES: [&[u8]; 8] = [b"", b"q", b"file", b"url", b"redirect", b"template", b"__proto__", b"user[$ne]"];

/// The first byte chooses what is looked for, the second the place, the third the name; what follows is the value.
pub fn hold(data: &[u8]) {
    let mut choices = Choices(data);
    let (what, place, name) = (choices.next(), choices.next(), choices.next());
    let value = choices.0;
    let scope = scope(what, place, name);
    #[cfg(feature = "planted")]
    assert!(!matches!(value, [b'%', b'2', _, .., b'\'', b';']), "planted");
    let found = inspect_value(value, scope);
    assert_eq!(found, inspect_value(value, scope));
    let Some(found) = found else { return };
    assert!(scope.families.contains(found.family), "{:?} was not asked for", found.family);
    assert!((1..=100).contains(&found.confidence), "{}: confidence {}", found.why, found.confidence);
    let shape = found.shape.text();
    assert!(shape.len() <= 48 && shape.bytes().all(|byte| (b' '..0x7f).contains(&byte)), "{shape:?}");
}

/// What the choosing bytes mean.
pub(crate) fn scope(what: u8, place: u8, name: u8) -> Scope<'static> {
    let families = match usize::from(what & 0x3f) {
        number if number < Family::ALL.len() => Families::NONE.with(Family::ALL[number]),
        _ => Families::EVERY,
    };
    Scope {
        families,
        place: PLACES[usize::from(place) % PLACES.len()],
        is_name: what & 0x80 != 0,
        name: NAMES[usize::from(name) % NAMES.len()],
    }
}
