//! Headers that are set: what a field is, and what becomes of it on a response.
//!
//! This runs on every response. Values and names are shared with the configuration, and a host is asked to replace only what the
//! response has: to add costs a proxy less, because nothing needs to be looked for.

use std::{rc::Rc, time::Duration};

use portcullis_policy::{Effect, Effects, Headers};

use crate::{
    config::Existing,
    directives::{Directives, NONCE},
};

/// A header to be set.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    pub name: Rc<str>,
    /// Where there is a nonce to be had: the value for responses that get none.
    pub value: Rc<[u8]>,
    /// The value with `{nonce}` in it.
    pub nonced: Option<Box<str>>,
    pub existing: Existing,
    /// RFC 6797, 7.2: not over plain HTTP.
    pub https_only: bool,
}

impl Field {
    pub fn new(name: &str, value: &str, existing: Existing, https_only: bool) -> Self {
        Self { name: name.into(), value: value.as_bytes().into(), nonced: None, existing, https_only }
    }

    /// A Content-Security-Policy, perhaps with nonces.
    pub fn policy(name: &str, policy: &Directives, existing: Existing) -> Self {
        let whole = policy.with_nonce().csp();
        let field = Self::new(name, &policy.without_nonce().csp(), existing, false);
        Self { nonced: whole.contains(NONCE).then(|| whole.into()), ..field }
    }

    fn value(&self, nonce: Option<&str>) -> Rc<[u8]> {
        match (&self.nonced, nonce) {
            (Some(text), Some(nonce)) => text.replace(NONCE, nonce).into_bytes().into(),
            _ => self.value.clone(),
        }
    }
}

const CONTROL: &str = "cache-control";

/// Sets what is to be set; how many values of the application gave way.
pub(crate) fn set(
    fields: &[Field],
    headers: &Headers<'_>,
    https: bool,
    nonce: Option<&str>,
    effects: &mut Effects,
) -> u64 {
    let controlled = effects
        .iter()
        .any(|effect| matches!(effect, Effect::SetResponseHeader(name, _) if **name == *CONTROL));
    // Those, and what else a response is told.
    effects.reserve(fields.len().saturating_add(8));
    let mut replaced: u64 = 0;
    for field in fields.iter().filter(|field| https || !field.https_only) {
        if controlled && *field.name == *CONTROL {
            continue;
        }
        let value = field.value(nonce);
        let mut values = headers.all(&field.name);
        let (first, more) = (values.next(), values.next().is_some());
        let same = !more && first.is_some_and(|own| *own == *value);
        effects.push(match (first, field.existing) {
            (Some(_), Existing::Keep) => continue,
            _ if same => continue,
            (None, _) | (Some(_), Existing::Append) => Effect::AddResponseHeader(field.name.clone(), value),
            (Some(_), Existing::Replace) => {
                replaced = replaced.saturating_add(1);
                Effect::SetResponseHeader(field.name.clone(), value)
            }
        });
    }
    replaced
}

/// Sets one header, whatever the response has.
pub(crate) fn effect(headers: &Headers<'_>, name: &Rc<str>, value: Rc<[u8]>) -> Effect {
    match headers.first(name) {
        Some(_) => Effect::SetResponseHeader(name.clone(), value),
        None => Effect::AddResponseHeader(name.clone(), value),
    }
}

/// Seconds with six digits behind the point.
pub(crate) fn seconds(span: Duration) -> Rc<[u8]> {
    // The most seconds have 20 digits.
    let mut text = [b'0'; 27];
    let mut at = text.len();
    let mut put = |digit: u8| {
        at = at.saturating_sub(1);
        if let Some(place) = text.get_mut(at) {
            *place = digit;
        }
    };
    let mut micros = span.subsec_micros();
    for _ in 0..6 {
        put(b'0' | u8::try_from(micros % 10).unwrap_or_default());
        micros /= 10;
    }
    put(b'.');
    let mut whole = span.as_secs();
    loop {
        put(b'0' | u8::try_from(whole % 10).unwrap_or_default());
        whole /= 10;
        if whole == 0 {
            break;
        }
    }
    text.get(at..).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_written_in_full() {
        for (span, wanted) in [
            (Duration::ZERO, "0.000000"),
            (Duration::from_micros(2_233_567), "2.233567"),
            (Duration::new(10, 999_999_999), "10.999999"),
            (Duration::from_nanos(1_001), "0.000001"),
            (Duration::MAX, "18446744073709551615.999999"),
        ] {
            assert_eq!(&*seconds(span), wanted.as_bytes());
        }
    }
}
