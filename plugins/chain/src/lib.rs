//! The ordered policies behind one configuration.
//!
//! A chain resolves tenant, user, client address, action and route once per stream, hands each event to the policies
//! that the route runs, and merges what they ask for. It is pure like the policies: hosts bring events and carry out
//! effects.
//!
//! Limits: see [`portcullis_policy::limits`]. A request beyond [`limits::HEADERS`] or [`limits::HEADER_BYTES`] is
//! refused with 431 before any policy looks at it.

mod actions;
mod allowed;
mod client;
mod document;
mod identity;
mod matching;
#[cfg(feature = "route-metadata")]
mod metadata;
mod path;
mod policies;
mod problem;
#[cfg(feature = "schema")]
mod schema;
mod stream;

use std::{rc::Rc, time::Duration};

use portcullis_policy::{ConfigErrors, Metric, Site, Vocabulary};

/// The audit policy's queue and ledger, which a host drives.
#[cfg(feature = "audit")]
pub use portcullis_audit as audit;
/// The rate-limit policy's work between requests, which a host drives.
#[cfg(feature = "rate-limit")]
pub use portcullis_rate_limit as rate_limit;

pub use document::{ActionWire, CompanionWire, DocumentWire, RouteWire};
pub use identity::{AddressFrom, ClientIpWire, SourceWire, TenantWire, Unknown, UserWire};
pub use matching::{MatchWire, OneOrMany};
pub use path::normalize;
pub use policies::{BUILT_IN, SECTIONS, policy_metrics};
pub use problem::Reply;
#[cfg(feature = "schema")]
pub use schema::schema;
pub use stream::{Ports, Stream};

use actions::Actions;
use document::Document;
use identity::Identity;
use matching::Match;
use policies::Set;

/// Requests whose headers arrived.
pub(crate) const REQUESTS: Metric =
    Metric { name: "portcullis_requests_total", help: "Requests whose headers arrived." };
pub(crate) const REFUSED: Metric =
    Metric { name: "portcullis_refused_total", help: "Requests that were refused, whatever the reason." };
pub(crate) const UNIDENTIFIED: Metric = Metric {
    name: "portcullis_unidentified_total",
    help: "Requests refused before any policy: tenant or user not known, or headers too large.",
};
pub(crate) const METADATA_INVALID: Metric = Metric {
    name: "portcullis_route_metadata_invalid_total",
    help: "Requests whose route metadata could not be used; the configuration without it applied.",
};

/// Every metric of the chain and of the policies that are compiled in.
pub fn metrics() -> Vec<&'static Metric> {
    let mut all = vec![&REQUESTS, &REFUSED, &UNIDENTIFIED, &METADATA_INVALID];
    all.extend(policy_metrics());
    all
}

/// A compiled configuration; immutable, shared by all streams of a worker.
pub struct Chain {
    identity: Identity,
    actions: Actions,
    defaults: Route,
    routes: Vec<Route>,
    companion: CompanionWire,
    #[cfg(feature = "route-metadata")]
    overrides: metadata::Overrides,
}

/// What a route runs.
struct Route {
    #[cfg(feature = "route-metadata")]
    number: usize,
    name: String,
    matches: Match,
    set: Rc<Set>,
}

impl Chain {
    /// Compiles a configuration document. The warnings come with the chain; if there is an error, every problem is
    /// in the answer, each with path and remedy.
    pub fn from_json(bytes: &[u8]) -> Result<(Self, ConfigErrors), ConfigErrors> {
        let mut errors = ConfigErrors::default();
        let chain = Self::compile(bytes, &mut errors);
        match chain {
            Some(chain) if !errors.has_errors() => Ok((chain, errors)),
            _ => Err(errors),
        }
    }

    fn compile(bytes: &[u8], errors: &mut ConfigErrors) -> Option<Self> {
        let root = Site::root();
        let Document { wire, sections, routes: own_sections } = Document::read(bytes, errors)?;
        let identity = Identity::compile(wire.tenant, wire.user, wire.client_ip, errors);
        let actions = Actions::compile(wire.actions, errors);
        let vocabulary = Vocabulary { actions: actions.names() };
        let enabled =
            wire.policies.unwrap_or_else(|| BUILT_IN.iter().map(|name| (*name).to_owned()).collect());
        for (index, name) in enabled.iter().enumerate() {
            if !SECTIONS.contains(&name.as_str()) {
                let hint = portcullis_policy::config::nearest_hint(name, SECTIONS);
                errors.error(&root.key("policies").index(index), format!("`{name}` is not a policy"), hint);
            }
        }
        if !(Duration::from_millis(100)..=Duration::from_secs(30)).contains(&wire.companion.timeout.0) {
            errors.error(
                &root.key("companion").key("timeout"),
                wire.companion.timeout.to_string(),
                "must be 100ms to 30s",
            );
        }
        #[cfg(not(feature = "route-metadata"))]
        if wire.route_metadata == Some(true) {
            errors.error(
                &root.key("route_metadata"),
                "this build reads none",
                "use the build with all policies",
            );
        }
        let set = Rc::new(Set::compile(&sections, &enabled, &root, &vocabulary, errors));
        let defaults = Route {
            #[cfg(feature = "route-metadata")]
            number: 0,
            name: String::new(),
            matches: Match::default(),
            set,
        };
        let (mut routes, mut routes_sections) = (Vec::new(), Vec::new());
        let mut wires = wire.routes.into_iter();
        for (index, own) in own_sections.into_iter().enumerate() {
            // A route that could not be read was noted; its sections are checked all the same.
            let wire = wires.next().unwrap_or_default();
            let site = root.key("routes").index(index);
            let matches = Match::compile(wire.matches, &site.key("match"), errors);
            let merged = document::overlay(&sections, &own);
            let set = defaults.set.overridden(&own, &merged, &enabled, &site, &vocabulary, errors);
            routes.push(Route {
                #[cfg(feature = "route-metadata")]
                number: index.saturating_add(1),
                name: wire.name,
                matches,
                set: Rc::new(set),
            });
            routes_sections.push(merged);
        }
        routes_sections.insert(0, sections);
        Some(Self {
            identity,
            actions,
            defaults,
            routes,
            companion: wire.companion,
            #[cfg(feature = "route-metadata")]
            overrides: metadata::Overrides::new(
                wire.route_metadata.unwrap_or(true),
                vocabulary,
                enabled,
                routes_sections,
            ),
        })
    }

    /// Where records go.
    pub fn companion(&self) -> &CompanionWire {
        &self.companion
    }

    /// The audit policy whose queue holds the records of all routes: the defaults', else the first route's that has
    /// one. `None` when nothing is audited.
    #[cfg(feature = "audit")]
    pub fn audit(&self) -> Option<&audit::Audit> {
        std::iter::once(&self.defaults).chain(&self.routes).find_map(|route| route.set.audit())
    }

    /// Whether requests of some route wait until their intent is stored.
    #[cfg(feature = "audit")]
    pub fn is_strict(&self) -> bool {
        let mut routes = std::iter::once(&self.defaults).chain(&self.routes);
        routes.any(|route| route.set.audit().is_some_and(|audit| audit.is_strict()))
    }

    /// Whether there is a limit that all proxies share.
    #[cfg(feature = "rate-limit")]
    pub fn has_global_limits(&self) -> bool {
        let mut routes = std::iter::once(&self.defaults).chain(&self.routes);
        routes.any(|route| route.set.rate_limit().is_some_and(|limits| limits.is_global()))
    }
}

#[cfg(test)]
mod tests;
