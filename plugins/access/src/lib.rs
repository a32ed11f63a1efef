//! The access policy: from where, and on whose behalf, a request may come at all.
//!
//! Defends against requests that a foreign page makes a visitor's browser send (CSRF: OWASP Cross-Site Request Forgery
//! Prevention Cheat Sheet), by three means that can be combined: what browsers say of a request's origin ([`origin`]), and a signed
//! token that only the own pages can read ([`csrf`]). Against pages that read what is not theirs ([`cors`]), and against
//! whoever is not where administrators are ([`addresses`]).
//!
//! It deliberately does not authenticate, and does not look into bodies: a token travels in a header. It does nothing
//! unless it is configured.
//!
//! Limits: 256 networks, 64 origins, 64 methods and headers of CORS, 4 keys.

pub mod addresses;
mod config;
pub mod cors;
pub mod csrf;
pub mod origin;

use portcullis_policy::fields::is_private;
use portcullis_policy::{
    ConfigErrors, Context, Decision, Detail, Effect, Effects, Event, Headers, Metric, Mode, Policy,
    ReadsAddress, Refusal, Site, Verdict, Vocabulary, json::Value,
};

pub use addresses::AddressesWire;
pub use config::Wire;
pub use cors::CorsWire;
pub use csrf::CsrfWire;
pub use origin::OriginWire;

use addresses::Networks;
use cors::Cors;
use csrf::{Csrf, Flaw};
use origin::Origin;

/// Requests that were refused.
pub const REFUSED: Metric =
    Metric { name: "portcullis_access_refused_total", help: "Requests refused by address, origin or token." };
/// Requests that mode `monitor` would have refused.
pub const WOULD: Metric = Metric {
    name: "portcullis_access_monitored_total",
    help: "Requests that mode monitor let pass and enforce would have refused by address, origin or token.",
};
/// Tokens that were handed out.
pub const TOKENS: Metric = Metric {
    name: "portcullis_access_tokens_total",
    help: "Tokens against forged requests that were handed out.",
};
/// Requests that could not be judged for want of a key.
pub const KEYLESS: Metric = Metric {
    name: "portcullis_access_keyless_total",
    help: "Requests that met a host without a usable key for tokens.",
};

/// Why a request is refused.
struct Cause {
    reason: &'static str,
    title: &'static str,
    problem: &'static str,
    status: u16,
    details: Vec<Detail>,
}

impl Cause {
    fn forbidden(reason: &'static str, title: &'static str, problem: &'static str) -> Self {
        Self { reason, title, problem, status: 403, details: Vec::new() }
    }
}

/// What is remembered of a stream.
#[derive(Debug, Default)]
pub struct State {
    /// A token that the response hands out.
    token: Option<String>,
    /// The request's origin, as CORS has judged it.
    cors: cors::Answer,
    /// The answer to a preflight request is ours.
    preflight: bool,
}

/// The compiled policy.
#[derive(Debug)]
pub struct Access {
    enforce: bool,
    networks: Option<Networks>,
    origin: Option<Origin>,
    csrf: Option<Csrf>,
    cors: Option<Cors>,
}

impl Policy for Access {
    const NAME: &'static str = "access";
    const METRICS: &'static [Metric] = &[REFUSED, WOULD, TOKENS, KEYLESS];
    type Wire = Wire;
    type Stream = State;

    fn compile(wire: Wire, site: &Site, _: &Vocabulary, errors: &mut ConfigErrors) -> Option<Self> {
        let before = errors.error_count();
        let access = Self {
            enforce: wire.mode != Mode::Monitor,
            networks: wire.addresses.map(|wire| Networks::compile(&wire, &site.key("addresses"), errors)),
            origin: wire.origin.map(|wire| Origin::compile(wire, &site.key("origin"), errors)),
            csrf: wire.csrf.map(|wire| Csrf::compile(wire, &site.key("csrf"), errors)),
            cors: wire.cors.map(|wire| Cors::compile(wire, &site.key("cors"), errors)),
        };
        (errors.error_count() == before).then_some(access)
    }

    fn reads_address(&self) -> ReadsAddress {
        if self.networks.is_some() { ReadsAddress::Always } else { ReadsAddress::Never }
    }

    fn on(&self, context: &mut Context<'_>, stream: &mut State, event: &Event<'_>, effects: &mut Effects) {
        match event {
            Event::RequestHeaders { headers, .. } => self.request(context, stream, headers, effects),
            Event::ResponseHeaders { headers } => {
                if let Some(cors) = self.cors.as_ref().filter(|_| self.enforce) {
                    cors.respond(&stream.cors, stream.preflight, headers, effects);
                }
                if let (Some(csrf), Some(token)) = (&self.csrf, stream.token.take())
                    && keep_private(headers, effects)
                {
                    effects.push(Effect::AddResponseHeader(
                        "set-cookie".into(),
                        csrf.cookie(&token).into_bytes().into(),
                    ));
                    effects.push(Effect::Count(&TOKENS, 1));
                }
            }
            _ => {}
        }
    }
}

/// Whether no shared cache answers somebody else with this response, whose token is one visitor's (RFC 9111, 7.3): caches are
/// told so where nobody tells them anything. What they may keep goes without a token; the next page brings one.
fn keep_private(headers: &Headers<'_>, effects: &mut Effects) -> bool {
    const CONTROL: &str = "cache-control";
    let set = effects.iter().rev().find_map(|effect| match effect {
        Effect::SetResponseHeader(name, value) | Effect::AddResponseHeader(name, value)
            if **name == *CONTROL =>
        {
            Some(is_private(value))
        }
        _ => None,
    });
    if let Some(private) = set.or_else(|| headers.first(CONTROL).map(is_private)) {
        return private;
    }
    effects.push(Effect::SetResponseHeader(CONTROL.into(), b"private".as_slice().into()));
    true
}

impl Access {
    fn request(
        &self,
        context: &mut Context<'_>,
        stream: &mut State,
        headers: &Headers<'_>,
        effects: &mut Effects,
    ) {
        if let Some(cause) = self.cause(context, stream, headers, effects) {
            return self.refuse(cause, effects);
        }
        // A preflight request asks for permission: nobody but we knows what is permitted.
        if let Some(cors) = self.cors.as_ref().filter(|_| self.enforce)
            && let Some(headers) = cors.preflight(&stream.cors, headers)
        {
            stream.preflight = true;
            effects.push(Effect::Refuse(Refusal {
                status: 204,
                problem: "urn:portcullis:preflight",
                title: "Preflight answered",
                reason: "preflight",
                headers,
            }));
        }
    }

    /// The first reason to refuse.
    fn cause(
        &self,
        context: &mut Context<'_>,
        stream: &mut State,
        headers: &Headers<'_>,
        effects: &mut Effects,
    ) -> Option<Cause> {
        if let Some(networks) = &self.networks
            && !networks.hold(context.request.client_ip)
        {
            const PROBLEM: &str = "urn:portcullis:problem:address-not-allowed";
            return Some(Cause::forbidden("address-not-allowed", "Not allowed from this address", PROBLEM));
        }
        if let Some(cors) = &self.cors {
            stream.cors = cors.judge(headers);
        }
        // A page that CORS names is no foreign one; that everybody may read what is public names nobody.
        let welcome = stream.cors.is_permitted() && self.cors.as_ref().is_some_and(|cors| !cors.everybody);
        if let Some(origin) = &self.origin
            && !welcome
            && let Err(fact) = origin.judge(&context.request.method, headers)
        {
            let cause = Cause::forbidden(
                "cross-origin",
                "Request of another site",
                "urn:portcullis:problem:cross-origin",
            );
            return Some(Cause { details: vec![("origin", Value::from(fact))], ..cause });
        }
        let csrf = self.csrf.as_ref()?;
        let Some(keys) = csrf.keys(context.facts) else {
            effects.push(Effect::Count(&KEYLESS, 1));
            let problem = "urn:portcullis:problem:csrf-unavailable";
            let cause = Cause::forbidden("csrf-unavailable", "Tokens cannot be checked", problem);
            return (!origin::is_safe(&context.request.method)).then_some(Cause { status: 503, ..cause });
        };
        let bound = csrf.binding(&context.request.tenant, headers);
        let flaw = csrf.check(&keys, &bound, context.moment, &context.request.method, headers);
        match flaw {
            Ok(lasting) => {
                if !lasting {
                    stream.token = csrf.make(&keys, &bound, context.moment);
                }
                None
            }
            Err(flaw) => {
                let reason = match flaw {
                    Flaw::Missing => "csrf-token-missing",
                    Flaw::Different | Flaw::Forged => "csrf-token-invalid",
                    Flaw::Expired => "csrf-token-expired",
                };
                Some(Cause::forbidden(reason, "Token missing or not valid", "urn:portcullis:problem:csrf"))
            }
        }
    }

    fn refuse(&self, cause: Cause, effects: &mut Effects) {
        let Cause { reason, title, problem, status, details } = cause;
        effects.push(Effect::Decide(Decision {
            policy: Self::NAME,
            verdict: if self.enforce { Verdict::Deny } else { Verdict::Monitor },
            event_type: "UNAUTHORIZED_ACCESS",
            reason,
            details,
        }));
        effects.push(Effect::Count(if self.enforce { &REFUSED } else { &WOULD }, 1));
        if self.enforce {
            effects.push(Effect::Refuse(Refusal { status, problem, title, reason, headers: Vec::new() }));
        }
    }
}
