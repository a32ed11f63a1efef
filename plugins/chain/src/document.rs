//! The configuration document as a whole: what stands beside the policies' own sections, and how sections of routes
//! are laid over the defaults.

use portcullis_policy::{ConfigErrors, Site, config, limits, units::Span};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    identity::{ClientIpWire, TenantWire, UserWire},
    matching::MatchWire,
    policies::{BUILT_IN, SECTIONS},
};

/// Everything but the policies' sections.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct DocumentWire {
    /// Whose traffic it is.
    pub tenant: TenantWire,
    /// Who within the tenant.
    pub user: UserWire,
    /// Where the client's address stands.
    pub client_ip: ClientIpWire,
    /// What kinds of request there are; a request has all that match, and the first names it in records.
    pub actions: Option<Vec<ActionWire>>,
    /// Overrides by route; the first that matches wins.
    pub routes: Vec<RouteWire>,
    /// Whether the route's metadata in the host may override once more: a JSON text under the namespace `portcullis`,
    /// key `config`.
    pub route_metadata: Option<bool>,
    /// Where records go.
    pub companion: CompanionWire,
    /// Which policies this instance runs; left out: all.
    pub policies: Option<Vec<String>>,
}

/// A kind of request.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ActionWire {
    /// Its name, which rules and records use: 1 to 50 of `a-z 0-9 _ -`.
    pub name: String,
    /// Requests that belong to it: any of these.
    #[serde(rename = "match", default)]
    pub matches: Vec<MatchWire>,
}

/// An override: what it matches, and sections laid over the defaults (RFC 7386).
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct RouteWire {
    /// A name for records and messages.
    pub name: String,
    /// What it applies to.
    #[serde(rename = "match")]
    pub matches: MatchWire,
}

/// Where records go.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct CompanionWire {
    /// The host's name for the companion's ingest listener (Envoy: a cluster).
    pub cluster: String,
    /// How long one delivery may take, `100ms` to `30s`.
    pub timeout: Span,
    /// The variable of the host's environment that holds the ingest token; no secret stands in this document.
    pub token_env: String,
}

impl Default for CompanionWire {
    fn default() -> Self {
        Self {
            cluster: "portcullis_ingest".to_owned(),
            timeout: Span(std::time::Duration::from_secs(2)),
            token_env: "PORTCULLIS_INGEST_TOKEN".to_owned(),
        }
    }
}

/// A document split into its parts.
pub(crate) struct Document {
    pub wire: DocumentWire,
    /// The policies' sections, by name.
    pub sections: Map<String, Value>,
    /// For each of `wire.routes` its own sections.
    pub routes: Vec<Map<String, Value>>,
}

impl Document {
    /// Parses and splits; problems go into `errors`.
    pub fn read(bytes: &[u8], errors: &mut ConfigErrors) -> Option<Self> {
        let root = Site::root();
        if bytes.len() > limits::CONFIG_BYTES {
            let most = limits::CONFIG_BYTES;
            errors.error(&root, format!("has {} bytes", bytes.len()), format!("at most {most}"));
            return None;
        }
        // An empty configuration is a whole one: every default applies.
        let text = if bytes.trim_ascii().is_empty() { b"{}" } else { bytes };
        let mut top = match serde_json::from_slice(text) {
            Ok(Value::Object(top)) => top,
            Ok(_) => {
                errors.error(&root, "is not a JSON object", "write `{...}`");
                return None;
            }
            Err(error) => {
                errors.error(&root, format!("is not JSON: {error}"), "correct it at that line and column");
                return None;
            }
        };
        let sections = take_sections(&mut top, &root, errors);
        let mut routes = Vec::new();
        if let Some(Value::Array(list)) = top.get_mut("routes") {
            for (index, route) in list.iter_mut().enumerate() {
                let Value::Object(route) = route else { continue };
                routes.push(take_sections(route, &root.key("routes").index(index), errors));
            }
        }
        if routes.len() > limits::ROUTES {
            let problem = format!("has {} routes", routes.len());
            errors.error(&root.key("routes"), problem, format!("at most {}", limits::ROUTES));
            return None;
        }
        let wire = config::salvage(Value::Object(top), &root, errors).unwrap_or_default();
        Some(Self { wire, sections, routes })
    }
}

/// Lays a route's sections over the defaults.
pub(crate) fn overlay(base: &Map<String, Value>, patch: &Map<String, Value>) -> Map<String, Value> {
    let mut merged = Value::Object(base.clone());
    config::merge(&mut merged, &Value::Object(patch.clone()));
    match merged {
        Value::Object(merged) => merged,
        _ => Map::new(),
    }
}

/// Takes the policies' sections out of an object.
pub(crate) fn take_sections(
    object: &mut Map<String, Value>,
    site: &Site,
    errors: &mut ConfigErrors,
) -> Map<String, Value> {
    let mut sections = Map::new();
    for name in SECTIONS {
        let Some(section) = object.remove(*name) else { continue };
        if BUILT_IN.contains(name) {
            sections.insert((*name).to_owned(), section);
        } else {
            errors.warning(
                &site.key(name),
                "is not part of this module",
                "use portcullis-seal.wasm, which holds all",
            );
        }
    }
    // Whoever reads the rest knows the rest's keys alone: a section whose name is misspelt is named here.
    object.retain(|key, _| {
        let Some(meant) = config::nearest(key, SECTIONS) else { return true };
        errors.error(&site.key(key), "is not a known key", format!("did you mean `{meant}`?"));
        false
    });
    sections
}
