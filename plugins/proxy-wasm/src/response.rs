//! Changes to a response's headers, in as few host calls as may be.
//!
//! Setting a header is a host call, and costs a proxy about as much as copying three. So where many change and few stay, all
//! of them are handed over at once: what is there, with the changes made. The result is the same, but for the order of
//! names. A host that refuses gets the changes one by one.
//!
//! Only hosts that are known to take a whole map for a response are given one. Limits: [`PAIRS`] headers; more are changed one
//! by one.

use portcullis_policy::{Effect, Header, Headers};

use crate::{abi, map};

/// Changes that cost as much as copying this many headers that stay.
const WORTH: usize = 3;
/// Hosts take 1024.
const PAIRS: usize = 256;

/// Makes the changes that effects ask for, and takes them out of the effects; leaves them there where one by one is cheaper, or the
/// host refuses. A value that must not be set ([`is_unsafe`]) is taken out and told.
pub fn write(headers: &Headers<'_>, effects: &mut Vec<Effect>, tell: impl Fn(&[u8])) {
    let changes = effects.iter().filter(|effect| is_change(effect)).count();
    let pays = changes.saturating_sub(1).saturating_mul(WORTH) > headers.len().saturating_add(changes);
    if !pays || headers.is_empty() || headers.len().saturating_add(changes) > PAIRS {
        return;
    }
    effects.retain(|effect| match effect {
        Effect::SetResponseHeader(name, value) | Effect::AddResponseHeader(name, value)
            if is_unsafe(value) =>
        {
            tell(name.as_bytes());
            false
        }
        _ => true,
    });
    let bytes = map::serialize(&changed(headers, effects));
    if abi::replace_header_map(abi::Map::Response, &bytes).is_ok() {
        effects.retain(|effect| !is_change(effect));
    }
}

/// A value that would split the message.
pub fn is_unsafe(value: &[u8]) -> bool {
    value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0))
}

fn is_change(effect: &Effect) -> bool {
    matches!(
        effect,
        Effect::SetResponseHeader(..) | Effect::AddResponseHeader(..) | Effect::RemoveResponseHeader(_)
    )
}

/// The headers with the changes made, in the order in which they are asked for.
fn changed<'a>(headers: &Headers<'a>, effects: &'a [Effect]) -> Vec<Header<'a>> {
    let mut pairs: Vec<Header<'a>> = Vec::with_capacity(headers.len().saturating_add(effects.len()));
    pairs.extend(headers.iter());
    let named = |known: &[u8], name: &str| {
        known.len() == name.len()
            && known.last().map(u8::to_ascii_lowercase) == name.as_bytes().last().map(u8::to_ascii_lowercase)
            && known.eq_ignore_ascii_case(name.as_bytes())
    };
    let without = |pairs: &mut Vec<Header<'a>>, name: &str| {
        // Most names are new.
        if pairs.iter().any(|(known, _)| named(known, name)) {
            pairs.retain(|(known, _)| !named(known, name));
        }
    };
    for effect in effects {
        match effect {
            Effect::SetResponseHeader(name, value) => {
                without(&mut pairs, name);
                pairs.push((name.as_bytes(), value));
            }
            Effect::AddResponseHeader(name, value) => pairs.push((name.as_bytes(), value)),
            Effect::RemoveResponseHeader(name) => without(&mut pairs, name),
            _ => {}
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    const THERE: [Header<'static>; 4] =
        [(b":status", b"200"), (b"server", b"nginx"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")];

    fn set(name: &str, value: &[u8]) -> Effect {
        Effect::SetResponseHeader(name.into(), value.into())
    }

    #[test]
    fn changes_are_made_in_order() {
        let effects = [
            Effect::RemoveResponseHeader("SERVER".into()),
            set("x-frame-options", b"DENY"),
            set("x-frame-options", b"SAMEORIGIN"),
            Effect::AddResponseHeader("set-cookie".into(), b"c=3"[..].into()),
            Effect::InspectRequestBody,
        ];
        let wanted: [Header<'_>; 5] = [
            (b":status", b"200"),
            (b"set-cookie", b"a=1"),
            (b"set-cookie", b"b=2"),
            (b"x-frame-options", b"SAMEORIGIN"),
            (b"set-cookie", b"c=3"),
        ];
        assert_eq!(changed(&Headers::new(THERE.to_vec()), &effects), wanted);
    }

    #[test]
    fn a_host_that_refuses_leaves_every_change_to_be_made() {
        // Off wasm there is no host: every call is refused.
        let mut effects: Vec<Effect> = (0..12).map(|n| set(&format!("x-{n}"), b"1")).collect();
        let before = effects.clone();
        effects.push(set("x-split", b"a\r\nb: c"));
        let told = std::cell::RefCell::new(Vec::new());
        write(&Headers::new(THERE.to_vec()), &mut effects, |name| told.borrow_mut().push(name.to_vec()));
        assert_eq!(effects, before);
        assert_eq!(*told.borrow(), [b"x-split"]);
    }
}
