//! Header values that were found clean before.
//!
//! A browser sends the same `user-agent` and much the same `referer` with every request, and these are the longest values
//! of an ordinary one. What the detectors say depends on the value and its [`Scope`] alone, so that a value in which they
//! found nothing needs no second look. Values are compared byte by byte: a collision costs a look, never an attack.
//!
//! Limits: [`PLACES`] values of at most [`LONGEST`] bytes, name included, in each worker; a newcomer takes the place of
//! whoever has the same hash. Nothing else is kept: it differs from request to request, or is a secret.

use std::cell::RefCell;

use crate::detect::Scope;
use crate::finding::Families;

/// Values that are kept. More: the older one goes.
const PLACES: usize = 256;
/// Bytes of a name and a value that are worth keeping. Longer: looked at each time.
const LONGEST: usize = 512;
/// Shorter values are looked at faster than found here.
const SHORTEST: usize = 24;

struct Known {
    families: Families,
    name: Box<[u8]>,
    value: Box<[u8]>,
}

thread_local! {
    static KNOWN: RefCell<Vec<Option<Known>>> = const { RefCell::new(Vec::new()) };
}

/// Whether nothing was found in this value of a header before.
pub(crate) fn is_known(value: &[u8], scope: Scope<'_>) -> bool {
    let Some(place) = place(value, scope) else { return false };
    KNOWN.with(|known| {
        let Ok(known) = known.try_borrow() else { return false };
        known.get(place).and_then(Option::as_ref).is_some_and(|known| {
            known.families == scope.families && *known.value == *value && *known.name == *scope.name
        })
    })
}

/// Keeps a value of a header in which nothing was found.
pub(crate) fn keep(value: &[u8], scope: Scope<'_>) {
    let Some(place) = place(value, scope) else { return };
    KNOWN.with(|known| {
        let Ok(mut known) = known.try_borrow_mut() else { return };
        if known.is_empty() {
            known.resize_with(PLACES, || None);
        }
        if let Some(slot) = known.get_mut(place) {
            *slot = Some(Known { families: scope.families, name: scope.name.into(), value: value.into() });
        }
    });
}

/// Where a value is kept, if it is one to keep: a multiplicative hash of eight bytes at a time.
fn place(value: &[u8], scope: Scope<'_>) -> Option<usize> {
    let worth = value.len() >= SHORTEST && value.len().saturating_add(scope.name.len()) <= LONGEST;
    let known = [&b"user-agent"[..], b"referer"].iter().any(|name| scope.name.eq_ignore_ascii_case(name));
    if !worth || scope.place != crate::place::Place::Header || scope.is_name || !known {
        return None;
    }
    let mut hash = value.len() as u64;
    for chunk in value.chunks(8).chain(scope.name.chunks(8)) {
        let mut eight = [0; 8];
        if let Some(front) = eight.get_mut(..chunk.len()) {
            front.copy_from_slice(chunk);
        }
        hash = (hash.rotate_left(5) ^ u64::from_le_bytes(eight)).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
    usize::try_from(hash >> 32).ok().map(|hash| hash % PLACES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Family;
    use crate::place::Place;

    fn header(name: &[u8]) -> Scope<'_> {
        Scope { families: Families::EVERY, place: Place::Header, is_name: false, name }
    }

    #[test]
    fn only_the_same_value_in_the_same_scope_is_known() {
        let value = b"Mozilla/5.0 (X11; Linux x86_64)";
        assert!(!is_known(value, header(b"user-agent")));
        keep(value, header(b"user-agent"));
        assert!(is_known(value, header(b"user-agent")));
        assert!(!is_known(value, header(b"referer")));
        assert!(!is_known(b"Mozilla/5.0 (X11; Linux x86_65)", header(b"user-agent")));
        let fewer = Scope {
            families: Families::EVERY.without(Families::NONE.with(Family::Xss)),
            ..header(b"user-agent")
        };
        assert!(!is_known(value, fewer));
    }

    #[test]
    fn what_is_short_long_or_elsewhere_is_not_kept() {
        for (value, scope) in [
            (&b"short"[..], header(b"referer")),
            (&[b'a'; 600][..], header(b"referer")),
            (b"a value of another header", header(b"x-api-key")),
            (b"a value of a parameter that is long", Scope { place: Place::Query, ..header(b"referer") }),
        ] {
            keep(value, scope);
            assert!(!is_known(value, scope));
        }
    }

    #[test]
    fn a_flood_of_values_takes_no_more_room() {
        for number in 0..10_000 {
            keep(format!("a value that is long enough, number {number}").as_bytes(), header(b"referer"));
        }
        KNOWN.with(|known| assert_eq!(known.borrow().len(), PLACES));
    }
}
