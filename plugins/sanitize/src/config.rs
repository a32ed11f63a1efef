//! What an operator writes, and what becomes of it.

use std::{collections::BTreeMap, rc::Rc};

use portcullis_policy::{ConfigErrors, Mode, Site};
use serde::Deserialize;

use crate::finding::{Families, Family};
use crate::pattern::{self, Pattern, PatternWire};
use crate::place::Place;
use crate::rewrite::CLEANABLE;

/// What becomes of a request whose body cannot be inspected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// It passes, and is counted.
    Allow,
    /// It is refused.
    Deny,
}

/// What becomes of a body that is longer than the window, and is no upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Oversize {
    /// It is inspected window by window. What was inspected flows on, so that an attack further in breaks off a request of
    /// which the application has the beginning.
    Inspect,
    /// Its first window is inspected, the rest passes, and that is counted.
    Allow,
    /// It is refused with 413.
    Deny,
}

/// What becomes of a request in which an attack is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It is refused: 403.
    #[default]
    Block,
    /// What would run in a page (family `xss`: elements, event handlers, comments, script URLs) is taken out of the values
    /// of query, cookies, headers, forms and JSON; the rest stays byte for byte, and lengths are made right. What is found
    /// in the cleaned request, what cannot be cleaned (other families, names, the path, files, other bodies), and bodies
    /// of which a part had to leave or that the host does not hold back, is refused.
    Clean,
    /// It passes with a request header that tells the application what was found; see `tag_header`. What is found in a
    /// body after the headers have left is refused.
    Tag,
}

/// Which parts of a request are inspected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct PlacesWire {
    /// The path.
    pub path: bool,
    /// Names and values of the query.
    pub query: bool,
    /// Names and values of cookies.
    pub cookies: bool,
    /// Values of all other headers; of those that carry only protocol, the ones that hold a sign which no protocol has.
    pub headers: bool,
    /// The body: forms, JSON, XML, multipart fields and file names, text.
    pub body: bool,
}

impl Default for PlacesWire {
    fn default() -> Self {
        Self { path: true, query: true, cookies: true, headers: true, body: true }
    }
}

/// A part of requests that is not inspected. At least one of `place` and `name` is given.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ExclusionWire {
    /// Where it stands; left out: anywhere.
    pub place: Option<Place>,
    /// The parameter's, cookie's, header's, field's or key's name, case ignored; a `*` at the end stands for any rest.
    /// Left out: all of that place.
    pub name: Option<String>,
    /// What is not looked for; left out: nothing is.
    #[serde(default)]
    pub families: Vec<Family>,
}

/// The section `sanitize`.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Wire {
    /// `monitor` refuses nothing; it decides, counts and records what `enforce` would refuse.
    pub mode: Mode,
    /// 1 to 4. What counts as an attack, by the confidence of the finding: 1 from 85 (only what has no other use),
    /// 2 from 70 (attacks as they are seen in the wild; ordinary text passes), 3 from 55 (blocks some text about code),
    /// 4 from 40 (for interfaces that take names and numbers only).
    pub sensitivity: u8,
    /// A mode for single families; a family that is left out has the mode of the section. The more lenient of the two
    /// applies.
    pub families: BTreeMap<Family, Mode>,
    /// What becomes of a request in which an attack is found, in mode `enforce`.
    pub action: Action,
    /// An action for single families; a family that is left out has the action of the section.
    pub actions: BTreeMap<Family, Action>,
    /// The request header of the action `tag`: `x-` and 1 to 62 of `a-z 0-9 -`. It holds what the findings come to and
    /// their families, like `score=97, families=(xss sql-injection)`. Copies that a client sends are taken away, whatever
    /// the action.
    pub tag_header: String,
    /// Which parts of a request are inspected.
    pub places: PlacesWire,
    /// Bytes of a body that are inspected at once, decoded: the window, 8192 to 524288. The host holds them back until
    /// then (twice as many of UTF-16), and must have room besides for what it reads at once: Envoy answers 413 otherwise,
    /// see `request_body_buffer_limit` in `envoy/bootstrap.yaml`. A body that fits is held until all of it was inspected.
    pub body_max_bytes: u32,
    /// What becomes of a longer body: `inspect` inspects it window by window as it flows, `allow` inspects the first
    /// window alone, `deny` answers 413. Uploads (multipart, and types that are no text) are inspected window by window
    /// in any case. Content that inflates to more than a hundred times its length is answered 413 by `inspect` too.
    pub on_oversize: Oversize,
    /// What becomes of a body whose `content-encoding` or charset is unknown or broken: `deny` answers 415.
    pub on_error: Answer,
    /// What is not inspected; at most 64.
    pub exclusions: Vec<ExclusionWire>,
    /// Methods that are allowed, 1 to 32; another one is an attack of the family `protocol-anomaly`.
    pub methods: Vec<String>,
    /// Parameters of a query or a form, together, 1 to 100000. More: an attack of the family `protocol-anomaly`.
    pub max_parameters: u32,
    /// Patterns of your own; at most 32.
    pub patterns: Vec<PatternWire>,
}

impl Default for Wire {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            sensitivity: 2,
            families: BTreeMap::new(),
            action: Action::default(),
            actions: BTreeMap::new(),
            tag_header: "x-portcullis-findings".to_owned(),
            places: PlacesWire::default(),
            body_max_bytes: 64 * 1024,
            on_oversize: Oversize::Inspect,
            on_error: Answer::Deny,
            exclusions: Vec::new(),
            methods: METHODS.map(str::to_owned).to_vec(),
            max_parameters: 1000,
            patterns: Vec::new(),
        }
    }
}

/// Methods that are allowed by default. CONNECT is for the proxy to allow, which needs to be told to.
const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT"];
/// Methods in one section. More: a configuration error.
const METHOD_COUNT: usize = 32;
/// Bytes of a method. More: a configuration error.
const METHOD_BYTES: usize = 32;
/// Bytes of the name of a tag's header. More: a configuration error.
const TAG_HEADER_BYTES: usize = 64;
/// What `max_parameters` may be.
const PARAMETERS: std::ops::RangeInclusive<u32> = 1..=100_000;
/// Exclusions in one section. More: a configuration error.
const EXCLUSIONS: usize = 64;
/// Bytes of a name in an exclusion. More: a configuration error.
const NAME_BYTES: usize = 128;
/// What `body_max_bytes` may be.
const WINDOW: std::ops::RangeInclusive<u32> = 8 * 1024..=512 * 1024;

/// The compiled form.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// What is looked for at all.
    pub families: Families,
    /// What is refused, or cleaned, rather than noted or tagged.
    pub enforced: Families,
    /// What of that is cleaned, where it can be.
    pub cleaned: Families,
    /// What the application is told of.
    pub tagged: Families,
    /// In which request header.
    pub tag_header: Rc<str>,
    /// The confidence from which a finding counts.
    pub threshold: u8,
    pub places: PlacesWire,
    pub window: usize,
    pub on_oversize: Oversize,
    pub on_error: Answer,
    /// The section's mode is `enforce`.
    pub enforce: bool,
    pub max_parameters: u32,
    pub patterns: Vec<Pattern>,
    exclusions: Vec<Exclusion>,
    methods: Vec<Vec<u8>>,
}

#[derive(Debug, Clone)]
struct Exclusion {
    place: Option<Place>,
    name: Option<Vec<u8>>,
    prefix: bool,
    families: Families,
}

impl Exclusion {
    fn applies(&self, place: Place, name: &[u8]) -> bool {
        if self.place.is_some_and(|own| own != place) {
            return false;
        }
        match &self.name {
            None => true,
            Some(own) if self.prefix => {
                name.get(..own.len()).is_some_and(|start| start.eq_ignore_ascii_case(own))
            }
            Some(own) => name.eq_ignore_ascii_case(own),
        }
    }
}

impl Config {
    /// Reads the wire form; `None` when it has an error.
    pub(crate) fn compile(wire: Wire, site: &Site, errors: &mut ConfigErrors) -> Option<Self> {
        let before = errors.error_count();
        let threshold = match wire.sensitivity {
            1 => 85,
            3 => 55,
            4 => 40,
            other => {
                if other != 2 {
                    errors.error(&site.key("sensitivity"), other.to_string(), "must be 1 to 4");
                }
                70
            }
        };
        if !WINDOW.contains(&wire.body_max_bytes) {
            let remedy = format!("must be {} to {}", WINDOW.start(), WINDOW.end());
            errors.error(&site.key("body_max_bytes"), wire.body_max_bytes.to_string(), remedy);
        }
        let (mut families, mut enforced) = (Families::NONE, Families::NONE);
        let (mut cleaned, mut tagged) = (Families::NONE, Families::NONE);
        for family in Family::ALL {
            let own = wire.families.get(&family).copied().unwrap_or(wire.mode);
            if own != Mode::Off && wire.mode != Mode::Off {
                families = families.with(family);
            }
            let own_action = wire.actions.get(&family).copied();
            if own_action == Some(Action::Clean) && !CLEANABLE.contains(family) {
                let site = site.key("actions").key(family.code());
                errors.error(&site, "cannot be cleaned", "write `block` or `tag`; only `xss` can be cleaned");
            }
            if own == Mode::Enforce && wire.mode == Mode::Enforce {
                match own_action.unwrap_or(wire.action) {
                    Action::Tag => tagged = tagged.with(family),
                    Action::Clean if CLEANABLE.contains(family) => {
                        enforced = enforced.with(family);
                        cleaned = cleaned.with(family);
                    }
                    Action::Block | Action::Clean => enforced = enforced.with(family),
                }
            }
        }
        if !is_tag_header(&wire.tag_header) {
            let remedy = format!("`x-` and 1 to {} of a-z, 0-9 and -", TAG_HEADER_BYTES - 2);
            errors.error(
                &site.key("tag_header"),
                format!("{:?} is not a name for it", wire.tag_header),
                remedy,
            );
        }
        if !PARAMETERS.contains(&wire.max_parameters) {
            let remedy = format!("must be {} to {}", PARAMETERS.start(), PARAMETERS.end());
            errors.error(&site.key("max_parameters"), wire.max_parameters.to_string(), remedy);
        }
        let methods = methods(wire.methods, &site.key("methods"), errors);
        let patterns = pattern::compile(wire.patterns, &site.key("patterns"), errors);
        let exclusions = exclusions(wire.exclusions, &site.key("exclusions"), errors);
        (errors.error_count() == before).then_some(Self {
            families,
            enforced,
            cleaned,
            tagged,
            tag_header: wire.tag_header.into(),
            threshold,
            places: wire.places,
            window: usize::try_from(wire.body_max_bytes).unwrap_or(usize::MAX),
            on_oversize: wire.on_oversize,
            on_error: wire.on_error,
            enforce: wire.mode == Mode::Enforce,
            max_parameters: wire.max_parameters,
            patterns,
            exclusions,
            methods,
        })
    }

    /// Whether a method is allowed. Methods are case-sensitive; no method at all is for the host to refuse.
    pub(crate) fn allows_method(&self, method: &[u8]) -> bool {
        method.is_empty() || self.methods.iter().any(|allowed| allowed == method)
    }

    /// What is looked for in a value of that place and name.
    pub(crate) fn families_for(&self, place: Place, name: &[u8]) -> Families {
        let excluded = self.exclusions.iter().filter(|exclusion| exclusion.applies(place, name));
        excluded.fold(self.families, |families, exclusion| families.without(exclusion.families))
    }
}

fn is_tag_header(name: &str) -> bool {
    name.len() <= TAG_HEADER_BYTES
        && name.strip_prefix("x-").is_some_and(|rest| {
            !rest.is_empty() && rest.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        })
}

fn methods(list: Vec<String>, site: &Site, errors: &mut ConfigErrors) -> Vec<Vec<u8>> {
    if !(1..=METHOD_COUNT).contains(&list.len()) {
        errors.error(site, format!("has {} entries", list.len()), format!("1 to {METHOD_COUNT}"));
    }
    for (index, method) in list.iter().enumerate().take(METHOD_COUNT) {
        let named = method.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if method.is_empty() || method.len() > METHOD_BYTES || !named {
            let remedy = format!("1 to {METHOD_BYTES} letters, digits, `-` and `_`");
            errors.error(&site.index(index), "is no method", remedy);
        }
    }
    list.into_iter().map(String::into_bytes).collect()
}

fn exclusions(list: Vec<ExclusionWire>, site: &Site, errors: &mut ConfigErrors) -> Vec<Exclusion> {
    if list.len() > EXCLUSIONS {
        errors.error(site, format!("has {} entries", list.len()), format!("at most {EXCLUSIONS}"));
    }
    let mut compiled = Vec::new();
    for (index, wire) in list.into_iter().take(EXCLUSIONS).enumerate() {
        let site = site.index(index);
        if wire.place.is_none() && wire.name.is_none() {
            errors.error(&site, "names nothing", "give `place`, `name` or both");
        }
        let mut name = wire.name.map(String::into_bytes);
        if name.as_ref().is_some_and(|name| name.is_empty() || name.len() > NAME_BYTES) {
            errors.error(&site.key("name"), "is empty or too long", format!("1 to {NAME_BYTES} bytes"));
        }
        let prefix = name.as_ref().is_some_and(|name| name.ends_with(b"*"));
        if prefix && let Some(name) = &mut name {
            name.pop();
        }
        let families = match wire.families.as_slice() {
            [] => Families::EVERY,
            some => some.iter().fold(Families::NONE, |set, family| set.with(*family)),
        };
        compiled.push(Exclusion { place: wire.place, name, prefix, families });
    }
    compiled
}

#[cfg(test)]
mod tests {
    use portcullis_policy::config;
    use serde_json::json;

    use super::*;

    fn compile(wire: serde_json::Value) -> Result<Config, String> {
        let mut errors = ConfigErrors::default();
        let site = Site::root().key("sanitize");
        let wire = config::read::<Wire>(wire, &site, &mut errors);
        wire.and_then(|wire| Config::compile(wire, &site, &mut errors)).ok_or_else(|| errors.to_string())
    }

    #[test]
    fn the_more_lenient_mode_applies() {
        let config = compile(json!({"families": {"xss": "monitor", "sql-injection": "off"}})).unwrap();
        assert!(!config.families.contains(Family::Sql) && config.families.contains(Family::Xss));
        assert!(!config.enforced.contains(Family::Xss) && config.enforced.contains(Family::Path));
        let config = compile(json!({"mode": "monitor", "families": {"xss": "enforce"}})).unwrap();
        assert!(config.families.contains(Family::Xss) && !config.enforced.contains(Family::Xss));
        let config = compile(json!({"mode": "off", "families": {"xss": "enforce"}})).unwrap();
        assert_eq!(config.families, Families::NONE);
    }

    #[test]
    fn actions_are_for_what_is_enforced() {
        let config = compile(json!({"action": "clean", "actions": {"ssrf": "tag"}})).unwrap();
        assert!(config.cleaned.contains(Family::Xss) && config.enforced.contains(Family::Xss));
        assert!(!config.cleaned.contains(Family::Sql) && config.enforced.contains(Family::Sql));
        assert!(config.tagged.contains(Family::Ssrf) && !config.enforced.contains(Family::Ssrf));
        let config = compile(json!({"action": "tag", "families": {"xss": "monitor"}})).unwrap();
        assert!(config.tagged.contains(Family::Sql) && !config.tagged.contains(Family::Xss));
        assert_eq!(config.enforced, Families::NONE);
    }

    #[test]
    fn exclusions_name_place_parameter_and_family() {
        let config = compile(json!({"exclusions": [
            {"place": "query", "name": "q", "families": ["sql-injection"]},
            {"name": "html_*"},
            {"place": "cookie"}
        ]}))
        .unwrap();
        let left = |place, name: &str| config.families_for(place, name.as_bytes());
        assert!(!left(Place::Query, "Q").contains(Family::Sql));
        assert!(
            left(Place::Query, "q").contains(Family::Xss) && left(Place::Query, "qq").contains(Family::Sql)
        );
        assert!(left(Place::Form, "q").contains(Family::Sql));
        assert_eq!(left(Place::Json, "html_body"), Families::NONE);
        assert_eq!(left(Place::Cookie, "any"), Families::NONE);
        assert!(left(Place::Json, "html").contains(Family::Xss));
    }

    #[test]
    fn each_error_names_key_and_remedy() {
        for (wire, part) in [
            (json!({"sensitivity": 5}), "sanitize.sensitivity: 5; must be 1 to 4"),
            (json!({"body_max_bytes": 10}), "sanitize.body_max_bytes: 10; must be 8192 to 524288"),
            (
                json!({"exclusions": [{}]}),
                "sanitize.exclusions[0]: names nothing; give `place`, `name` or both",
            ),
            (json!({"exclusions": [{"name": ""}]}), "sanitize.exclusions[0].name: is empty or too long"),
            (
                json!({"exclusions": vec![json!({"name": "a"}); 65]}),
                "sanitize.exclusions: has 65 entries; at most 64",
            ),
            (
                json!({"places": {"cookie": false}}),
                "sanitize.places.cookie: is not a known key; did you mean `cookies`?",
            ),
            (json!({"families": {"sql": "off"}}), "sql"),
            (json!({"methods": []}), "sanitize.methods: has 0 entries; 1 to 32"),
            (json!({"methods": ["G T"]}), "sanitize.methods[0]: is no method"),
            (json!({"max_parameters": 0}), "sanitize.max_parameters: 0; must be 1 to 100000"),
            (json!({"patterns": [{"name": "", "regex": "a"}]}), "sanitize.patterns[0].name: is no name"),
            (json!({"patterns": [{"name": "a", "regex": "("}]}), "sanitize.patterns[0].regex: "),
            (json!({"patterns": [{"name": "a", "regex": "a*"}]}), "regex: matches the empty text"),
            (json!({"patterns": [{"name": "a", "regex": "a".repeat(257)}]}), "has 257 bytes; 1 to 256"),
            (
                json!({"patterns": [{"name": "a", "regex": "(?:\\w{99}){99}"}]}),
                "sanitize.patterns[0].regex: ",
            ),
            (json!({"patterns": [{"name": "a", "regex": "a", "confidence": 0}]}), "confidence: 0; must be"),
            (json!({"patterns": vec![json!({"name": "a", "regex": "a"}); 33]}), "has 33 entries; at most 32"),
            (
                json!({"actions": {"sql-injection": "clean"}}),
                "actions.sql-injection: cannot be cleaned; write",
            ),
            (json!({"tag_header": "Host"}), "sanitize.tag_header: \"Host\" is not a name for it; `x-` and"),
            (json!({"on_error": "refuse"}), "sanitize.on_error: `refuse` is not known here"),
        ] {
            let problems = compile(wire.clone()).unwrap_err();
            assert!(problems.contains(part), "{wire}: {problems}");
        }
    }
}
