//! The ordered policies. A new policy is one line of [`policies!`].

#![cfg_attr(
    not(any(
        feature = "headers",
        feature = "access",
        feature = "rate-limit",
        feature = "sanitize",
        feature = "seal",
        feature = "audit"
    )),
    allow(
        dead_code,
        unused_variables,
        unused_mut,
        clippy::ptr_arg,
        reason = "a build may hold no policy at all"
    )
)]

use std::rc::Rc;

use portcullis_policy::{
    ConfigErrors, Context, Decision, Effect, Effects, Event, Facts, Metric, Moment, Policy, ReadsAddress,
    Request, SharedState, Site, Vocabulary, config,
};
use serde_json::{Map, Value};

/// What a stream lends to the policies for one event.
pub(crate) struct Scene<'a> {
    pub moment: Moment,
    pub request: &'a Request,
    pub shared: &'a mut dyn SharedState,
    pub facts: &'a mut dyn Facts,
    pub watchers: &'a mut Watchers,
}

macro_rules! policies {
    ($($(#[$feature:meta])* $field:ident: $policy:ty,)*) => {
        /// Every policy's section in the configuration, compiled in or not.
        pub const SECTIONS: &[&str] = &[$(stringify!($field)),*];

        /// The sections of the policies that this build holds.
        pub const BUILT_IN: &[&str] = &[$($(#[$feature])* <$policy as Policy>::NAME),*];

        /// The policies that one route runs.
        #[derive(Default)]
        pub(crate) struct Set { $($(#[$feature])* $field: Option<Rc<$policy>>,)* }

        /// What they remember of one stream.
        #[derive(Default)]
        pub(crate) struct States { $($(#[$feature])* $field: <$policy as Policy>::Stream,)* }

        impl Set {
            /// Compiles the sections; one that is left out, or not in `enabled`, takes its defaults or does not run.
            pub fn compile(
                sections: &Map<String, Value>,
                enabled: &[String],
                site: &Site,
                vocabulary: &Vocabulary,
                errors: &mut ConfigErrors,
            ) -> Self {
                Self { $($(#[$feature])* $field: section(sections, enabled, site, vocabulary, errors),)* }
            }

            /// This set with the sections of `own` compiled anew; what is not in `own` stays shared.
            pub fn overridden(
                &self,
                own: &Map<String, Value>,
                sections: &Map<String, Value>,
                enabled: &[String],
                site: &Site,
                vocabulary: &Vocabulary,
                errors: &mut ConfigErrors,
            ) -> Self {
                Self { $($(#[$feature])* $field: if own.contains_key(<$policy as Policy>::NAME) {
                    section(sections, enabled, site, vocabulary, errors)
                } else {
                    self.$field.clone()
                },)* }
            }

            /// Whether some policy needs the response's headers, or hears of the stream's end.
            pub fn hears_responses(&self) -> bool {
                let mut hears = false;
                $($(#[$feature])* if let Some(policy) = &self.$field {
                    hears |= policy.hears_responses();
                })*
                hears
            }

            /// Of which requests some policy reads the client's address.
            pub fn reads_address(&self) -> ReadsAddress {
                let mut reads = ReadsAddress::Never;
                $($(#[$feature])* if let Some(policy) = &self.$field {
                    reads = reads.max(policy.reads_address());
                })*
                reads
            }

            /// Hands an event to each policy in order, until one refuses or has to wait; the answer is who waits. An
            /// event for which one has waited begins with that one.
            #[allow(unused_assignments, reason = "nobody comes after the last policy")]
            pub fn on(
                &self,
                mut from: Option<&'static str>,
                states: &mut States,
                scene: &mut Scene<'_>,
                decisions: &mut Vec<Decision>,
                event: &Event<'_>,
                effects: &mut Effects,
            ) -> Option<&'static str> {
                $($(#[$feature])*
                if let Some(policy) = &self.$field
                    && from.is_none_or(|from| from == <$policy as Policy>::NAME)
                {
                    from = None;
                    match step(&**policy, &mut states.$field, scene, decisions, event, effects) {
                        Flow::On => {}
                        Flow::Refused => return None,
                        Flow::Waits => return Some(<$policy as Policy>::NAME),
                    }
                })*
                scene.watchers.conclude(effects);
                None
            }
        }

        /// The sections' schemas, by name.
        #[cfg(feature = "schema")]
        pub(crate) fn section_schemas(
            generator: &mut schemars::SchemaGenerator,
        ) -> Vec<(&'static str, schemars::Schema)> {
            Vec::from([$($(#[$feature])*
                (<$policy as Policy>::NAME, generator.subschema_for::<<$policy as Policy>::Wire>()),)*])
        }

        /// Every metric of every policy that is compiled in.
        pub fn policy_metrics() -> Vec<&'static Metric> {
            let mut all = Vec::new();
            $($(#[$feature])* all.extend(<$policy as Policy>::METRICS);)*
            all
        }
    };
}

policies! {
    #[cfg(feature = "headers")]
    headers: portcullis_headers::Headers,
    #[cfg(feature = "access")]
    access: portcullis_access::Access,
    #[cfg(feature = "rate-limit")]
    rate_limit: portcullis_rate_limit::RateLimit,
    #[cfg(feature = "sanitize")]
    sanitize: portcullis_sanitize::Sanitize,
    #[cfg(feature = "seal")]
    seal: portcullis_seal::Seal,
    #[cfg(feature = "audit")]
    audit: portcullis_audit::Audit,
}

impl Set {
    /// The audit policy, if the route is audited.
    #[cfg(feature = "audit")]
    pub fn audit(&self) -> Option<&portcullis_audit::Audit> {
        self.audit.as_deref()
    }

    /// The rate-limit policy, if the route has one.
    #[cfg(feature = "rate-limit")]
    pub fn rate_limit(&self) -> Option<&portcullis_rate_limit::RateLimit> {
        self.rate_limit.as_deref()
    }

    /// Whether the route's requests leave records.
    pub fn is_audited(&self) -> bool {
        #[cfg(feature = "audit")]
        return self.audit.is_some();
        #[cfg(not(feature = "audit"))]
        return false;
    }
}

/// Compiles one section; `None` when it has an error, is switched off or is not enabled.
fn section<P: Policy>(
    sections: &Map<String, Value>,
    enabled: &[String],
    site: &Site,
    vocabulary: &Vocabulary,
    errors: &mut ConfigErrors,
) -> Option<Rc<P>> {
    let site = site.key(P::NAME);
    let value = sections.get(P::NAME).cloned().unwrap_or_else(|| Value::Object(Map::new()));
    let off = value.get("mode").and_then(Value::as_str) == Some("off");
    let wire = config::read::<P::Wire>(value, &site, errors)?;
    let policy = P::compile(wire, &site, vocabulary, errors)?;
    (!off && enabled.iter().any(|name| name == P::NAME)).then(|| Rc::new(policy))
}

/// The policies that look at the request's body. A host knows of one who looks: so a body is let go, as a whole or in part, when
/// none of them holds it any more.
#[derive(Default)]
pub(crate) struct Watchers {
    looking: Vec<&'static str>,
    /// Those that let go of what this event has shown.
    passed: Vec<&'static str>,
}

impl Watchers {
    /// Keeps to itself what of a policy's effects (those from `seen` on) is not all policies' yet.
    fn note(&mut self, policy: &'static str, seen: usize, effects: &mut Effects) {
        let (looking, passed) = (&mut self.looking, &mut self.passed);
        let mut place = 0_usize;
        effects.retain(|effect| {
            place = place.saturating_add(1);
            match effect {
                _ if place <= seen => true,
                Effect::InspectRequestBody => {
                    looking.push(policy);
                    true
                }
                Effect::ReleaseRequestBody => {
                    looking.retain(|name| *name != policy);
                    looking.is_empty()
                }
                Effect::PassRequestBody => {
                    passed.push(policy);
                    false
                }
                _ => true,
            }
        });
    }

    /// All policies have seen the event.
    fn conclude(&mut self, effects: &mut Effects) {
        let passed = std::mem::take(&mut self.passed);
        if !self.looking.is_empty() && self.looking.iter().all(|name| passed.contains(name)) {
            effects.push(Effect::PassRequestBody);
        }
    }
}

/// How an event goes on after a policy.
enum Flow {
    On,
    Refused,
    Waits,
}

/// One policy, one event. Its decisions become visible to the policies after it; a refusal ends the event.
fn step<P: Policy>(
    policy: &P,
    state: &mut P::Stream,
    scene: &mut Scene<'_>,
    decisions: &mut Vec<Decision>,
    event: &Event<'_>,
    effects: &mut Effects,
) -> Flow {
    let seen = effects.len();
    let mut context = Context {
        moment: scene.moment,
        request: scene.request,
        decisions,
        shared: &mut *scene.shared,
        facts: &mut *scene.facts,
    };
    policy.on(&mut context, state, event, effects);
    scene.watchers.note(P::NAME, seen, effects);
    let mut flow = Flow::On;
    for effect in effects.iter().skip(seen) {
        match effect {
            Effect::Decide(decision) if decisions.len() < MAX_DECISIONS => decisions.push(decision.clone()),
            Effect::Refuse(_) => flow = Flow::Refused,
            Effect::Wait => flow = Flow::Waits,
            _ => {}
        }
    }
    flow
}

/// Decisions kept per stream. A policy decides once or twice per event; what comes later is in the log and metrics.
const MAX_DECISIONS: usize = 32;
