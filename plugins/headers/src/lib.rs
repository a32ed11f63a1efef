//! The header policy: sets the headers that browsers act on, and removes those that tell which software runs.
//!
//! Defends against clickjacking, MIME sniffing, downgrade to plain HTTP, leaks by the referrer, injected scripts (as far
//! as a policy of sources can), side channels between origins, and against attackers who look up known holes by
//! `Server` and its like (OWASP Secure Headers Project). It acts on every response that reaches it: the
//! application's, our own refusals, and the proxy's.
//!
//! It also gives the application's cookies what they lack, says what caches may keep, and puts nonces into pages (the only
//! thing it changes in a body, and only where it is asked to).
//!
//! It deliberately does not read pages, so a Content-Security-Policy must fit the application; it cannot tell. It does not
//! defend against a script that the application itself marks as its own.
//! Limits: 64 configured headers, 64 further names to remove; values of at most 8 KiB; 64 directives of 256 entries.

mod cache;
mod config;
mod cookies;
mod directives;
mod fields;
mod leaks;
#[cfg(feature = "lint")]
mod lint;
mod nonce;
mod profile;
mod reporting;

use std::rc::Rc;

use portcullis_policy::{
    ConfigErrors, Context, Decision, Effect, Effects, Event, Headers as HeaderList, Metric, Policy,
    ReadsAddress, Site, Substitution, Verdict, Vocabulary, json::Value,
};

pub use cache::{CacheWire, StaticWire};
pub use config::{Existing, Profile, SetWire, Wire};
pub use cookies::{CookieWire, CookiesWire, SameSite, Secure};
pub use reporting::ReportingWire;

use cache::{Cache, Control};
use cookies::Cookies;
use fields::Field;
use nonce::Placeholder;

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

/// Cookies that were given what they lacked.
pub const COOKIES: Metric = Metric {
    name: "portcullis_headers_cookies_hardened_total",
    help: "Cookies of the application that were given attributes they lacked.",
};
/// Pages that were given a nonce.
pub const NONCES: Metric =
    Metric { name: "portcullis_headers_nonces_total", help: "Responses whose policy carries a nonce." };
/// Pages that went without a nonce, though the configuration has a placeholder.
pub const NONCELESS: Metric = Metric {
    name: "portcullis_headers_nonceless_total",
    help: "Pages of a route with nonces that got none: packed by the application, in parts, kept by shared caches, or the host cannot change bodies.",
};

/// Cookies of one response that its record names. More: they are hardened all the same.
const NAMED_COOKIES: usize = 16;

/// What is remembered of a stream.
#[derive(Debug, Default)]
pub struct State {
    /// The request belongs to somebody's session.
    session: bool,
}

/// The compiled policy.
#[derive(Debug)]
pub struct Headers {
    pub(crate) enforce: bool,
    pub(crate) fields: Vec<Field>,
    pub(crate) remove: Vec<String>,
    pub(crate) keep: Vec<String>,
    pub(crate) process_time: Option<Rc<str>>,
    pub(crate) cookies: Option<Cookies>,
    pub(crate) cache: Cache,
    pub(crate) nonce: Option<Placeholder>,
}

impl Policy for Headers {
    const NAME: &'static str = "headers";
    const METRICS: &'static [Metric] = &[HARDENED, REMOVED, REPLACED, WOULD, COOKIES, NONCES, NONCELESS];
    type Wire = Wire;
    type Stream = State;

    fn compile(wire: Wire, site: &Site, _: &Vocabulary, errors: &mut ConfigErrors) -> Option<Self> {
        config::compile(wire, site, errors)
    }

    fn reads_address(&self) -> ReadsAddress {
        ReadsAddress::Never
    }

    fn on(&self, context: &mut Context<'_>, stream: &mut State, event: &Event<'_>, effects: &mut Effects) {
        let headers = match event {
            Event::RequestHeaders { headers, .. } => {
                stream.session = self.cache.has_session(headers);
                self.ask_for_plain_pages(context, headers, effects);
                return;
            }
            Event::ResponseHeaders { headers } => *headers,
            _ => return,
        };
        let before = effects.len();
        let https = context.request.scheme == b"https";
        let mut counts = [&REMOVED, &COOKIES, &NONCES, &NONCELESS, &REPLACED].map(|metric| (metric, 0));
        let [(_, removed), (_, hardened), (_, stamped), (_, missed), (_, replaced)] = &mut counts;
        *removed = self.remove_leaks(headers, effects);
        *hardened = self.harden_cookies(headers, https, effects);
        let nonce = self.control_caches(context, stream, headers, effects);
        *stamped = u64::from(nonce.is_some());
        let page = self.nonce.is_some() && nonce::is_page(&context.request.method, headers);
        *missed = u64::from(page && nonce.is_none());
        *replaced = fields::set(&self.fields, headers, https, nonce.as_deref(), effects);
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
            effects.push(fields::effect(headers, name, fields::seconds(spent)));
        }
        if changed {
            effects.push(Effect::Count(&HARDENED, 1));
        }
        effects.extend(
            counts
                .into_iter()
                .filter(|(_, count)| *count > 0)
                .map(|(metric, count)| Effect::Count(metric, count)),
        );
    }
}

impl Headers {
    /// A page that comes packed or in parts cannot be given its nonce, and would show the placeholder. The proxy's own compressor
    /// has read what the client accepts by then, and packs the page afterwards.
    fn ask_for_plain_pages(&self, context: &Context<'_>, headers: &HeaderList<'_>, effects: &mut Effects) {
        if !self.enforce || self.nonce.is_none() || !context.facts.rewrites_responses() {
            return;
        }
        let asked = nonce::UNREADABLE.into_iter().filter(|name| headers.first(name).is_some());
        effects.extend(asked.map(|name| Effect::RemoveRequestHeader(name.into())));
    }

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
            let mut own: Rc<str> = name.into();
            if let Some(own) = Rc::get_mut(&mut own) {
                own.make_ascii_lowercase();
            }
            let effect = Effect::RemoveResponseHeader(own);
            if !effects.contains(&effect) {
                effects.push(effect);
                removed = removed.saturating_add(1);
            }
        }
        removed
    }

    /// Sends all cookies anew if one of them lacks something; how many did.
    fn harden_cookies(&self, headers: &HeaderList<'_>, https: bool, effects: &mut Effects) -> u64 {
        let Some(cookies) = &self.cookies else { return 0 };
        let harden = |value| (value, cookies.harden(value, https));
        let all: Vec<_> = headers.all("set-cookie").map(harden).collect();
        let changed: Vec<_> = all.iter().filter_map(|(_, hardened)| hardened.as_ref()).collect();
        if changed.is_empty() {
            return 0;
        }
        let name: Rc<str> = "set-cookie".into();
        for (number, (own, hardened)) in all.iter().enumerate() {
            let value = hardened.as_ref().map_or(*own, |hardened| hardened.value.as_slice());
            effects.push(match number {
                0 => Effect::SetResponseHeader(name.clone(), value.into()),
                _ => Effect::AddResponseHeader(name.clone(), value.into()),
            });
        }
        let line = |hardened: &&cookies::Hardened| {
            Value::from([&hardened.name, ": ", &hardened.changed.join(", ")].concat())
        };
        effects.push(Effect::Decide(Decision {
            policy: Self::NAME,
            verdict: Verdict::Allow,
            event_type: "REQUEST",
            reason: "cookies-hardened",
            details: vec![("cookies", changed.iter().take(NAMED_COOKIES).map(line).collect())],
        }));
        u64::try_from(changed.len()).unwrap_or(u64::MAX)
    }

    /// Says what caches may keep, and makes the nonce of a page that nobody shares.
    fn control_caches(
        &self,
        context: &mut Context<'_>,
        stream: &State,
        headers: &HeaderList<'_>,
        effects: &mut Effects,
    ) -> Option<String> {
        const CONTROL: &str = "cache-control";
        let request = context.request;
        let own = headers.first(CONTROL);
        let field = self.fields.iter().find(|field| &*field.name == CONTROL);
        let field = field.filter(|field| own.is_none() || field.existing == Existing::Replace);
        let decided = match self.cache.decide(request.path_only(), stream.session, headers) {
            Control::Static(value) => Some(value),
            // A profile that lets no cache keep anything says so better.
            Control::Session if field.is_none() => Some("no-store"),
            _ => None,
        };
        let control = decided.map(str::as_bytes).or_else(|| field.map(|field| &*field.value)).or(own);
        let readable = context.facts.rewrites_responses()
            && nonce::is_page(&request.method, headers)
            && nonce::is_plain(headers);
        let nonce = self.nonce.as_ref().filter(|_| readable).and_then(|placeholder| {
            let random = Placeholder::fits(headers, control).then(|| context.facts.entropy()).flatten();
            let nonce = random.and_then(|random| Some(nonce::make(*random.first_chunk()?)));
            let put = nonce.as_ref().map_or(&nonce::FILLER[..], |nonce| nonce.as_bytes());
            let substitution = Substitution::new(placeholder.bytes().clone(), put.into())?;
            effects.push(Effect::SubstituteInResponseBody(substitution));
            // What a cache would find unchanged holds an old nonce, and the answer to its question a new one.
            let validators = ["etag", "last-modified"].into_iter().filter(|_| nonce.is_some());
            for name in validators.filter(|name| headers.first(name).is_some()) {
                effects.push(Effect::RemoveResponseHeader(name.into()));
            }
            nonce
        });
        if let Some(value) = decided.or_else(|| (nonce.is_some() && control.is_none()).then_some("no-store"))
        {
            effects.push(Effect::SetResponseHeader(CONTROL.into(), value.as_bytes().into()));
        }
        nonce
    }
}

#[cfg(test)]
mod config_tests;
#[cfg(test)]
mod tests;
