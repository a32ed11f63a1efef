//! The header policy: sets the headers that browsers act on, and removes those that tell which software runs.
//!
//! Defends against clickjacking, MIME sniffing, downgrade to plain HTTP, leaks by the referrer, injected scripts (as far
//! as a policy of sources can), side channels between origins, and against attackers who look up known holes by
//! `Server` and its like (OWASP Secure Headers Project). It acts on every response that reaches it: the
//! application's, our own refusals, and the proxy's.
//!
//! It deliberately does not look at bodies, so a Content-Security-Policy must fit the application; it cannot tell.
//! Limits: 64 configured headers, 64 further names to remove; values of at most 8 KiB.

mod config;
mod leaks;
mod profile;

use std::rc::Rc;

use portcullis_policy::{
    ConfigErrors, Context, Effect, Effects, Event, Headers as HeaderList, Metric, Policy, Site, Vocabulary,
};

pub use config::{Existing, Profile, SetWire, Wire};

/// Responses that were changed.
pub const HARDENED: Metric =
    Metric { name: "portcullis_headers_hardened_total", help: "Responses whose headers were changed." };
/// Headers that were removed because they tell about the stack.
pub const REMOVED: Metric =
    Metric { name: "portcullis_headers_removed_total", help: "Stack-revealing response headers removed." };
/// Upstream values that gave way to configured ones.
pub const REPLACED: Metric = Metric {
    name: "portcullis_headers_replaced_total",
    help: "Upstream header values replaced by configured ones.",
};
/// Responses that mode `monitor` would have changed.
pub const WOULD: Metric = Metric {
    name: "portcullis_headers_monitored_total",
    help: "Responses that mode monitor left alone and enforce would have changed.",
};

/// A header to be set.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    pub name: Rc<str>,
    pub value: Rc<[u8]>,
    pub existing: Existing,
    /// RFC 6797, 7.2: not over plain HTTP.
    pub https_only: bool,
}

/// The compiled policy.
#[derive(Debug)]
pub struct Headers {
    pub(crate) enforce: bool,
    pub(crate) fields: Vec<Field>,
    pub(crate) remove: Vec<String>,
    pub(crate) keep: Vec<String>,
    pub(crate) process_time: Option<Rc<str>>,
}

impl Policy for Headers {
    const NAME: &'static str = "headers";
    const METRICS: &'static [Metric] = &[HARDENED, REMOVED, REPLACED, WOULD];
    type Wire = Wire;
    type Stream = ();

    fn compile(wire: Wire, site: &Site, _: &Vocabulary, errors: &mut ConfigErrors) -> Option<Self> {
        config::compile(wire, site, errors)
    }

    fn on(&self, context: &mut Context<'_>, (): &mut (), event: &Event<'_>, effects: &mut Effects) {
        let Event::ResponseHeaders { headers } = event else { return };
        let before = effects.len();
        let removed = self.remove_leaks(headers, effects);
        let replaced = self.set_fields(headers, context.request.scheme == b"https", effects);
        let changed = effects.len() > before;
        if !self.enforce {
            effects.truncate(before);
            if changed {
                effects.push(Effect::Count(&WOULD, 1));
            }
            return;
        }
        if let Some(name) = &self.process_time {
            let spent = context.moment.now.saturating_sub(context.request.started);
            let text = format!("{}.{:06}", spent.as_secs(), spent.subsec_micros());
            effects.push(Effect::SetResponseHeader(name.clone(), text.into_bytes().into()));
        }
        for (metric, count) in [(&HARDENED, u64::from(changed)), (&REMOVED, removed), (&REPLACED, replaced)] {
            if count > 0 {
                effects.push(Effect::Count(metric, count));
            }
        }
    }
}

impl Headers {
    fn remove_leaks(&self, headers: &HeaderList<'_>, effects: &mut Effects) -> u64 {
        let mut removed: u64 = 0;
        for (name, _) in headers.iter() {
            let listed =
                |list: &[String]| list.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()));
            if !(leaks::is_leak(name) || listed(&self.remove)) || listed(&self.keep) {
                continue;
            }
            // Removing takes all values: once per name is enough, and values of one name stand in any place.
            let Ok(name) = std::str::from_utf8(name) else { continue };
            let effect = Effect::RemoveResponseHeader(name.to_ascii_lowercase().into());
            if !effects.contains(&effect) {
                effects.push(effect);
                removed = removed.saturating_add(1);
            }
        }
        removed
    }

    fn set_fields(&self, headers: &HeaderList<'_>, https: bool, effects: &mut Effects) -> u64 {
        let mut replaced: u64 = 0;
        for field in self.fields.iter().filter(|field| https || !field.https_only) {
            let mut values = headers.all(&field.name);
            let (first, more) = (values.next(), values.next().is_some());
            let same = !more && first.is_some_and(|value| *value == *field.value);
            let effect = match (first, field.existing) {
                (Some(_), Existing::Keep) => continue,
                _ if same => continue,
                (Some(_), Existing::Append) => {
                    Effect::AddResponseHeader(field.name.clone(), field.value.clone())
                }
                (Some(_), Existing::Replace) => {
                    replaced = replaced.saturating_add(1);
                    Effect::SetResponseHeader(field.name.clone(), field.value.clone())
                }
                (None, _) => Effect::SetResponseHeader(field.name.clone(), field.value.clone()),
            };
            effects.push(effect);
        }
        replaced
    }
}

#[cfg(test)]
mod tests;
