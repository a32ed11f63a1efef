//! What an operator writes, and what becomes of it.

use std::collections::BTreeMap;

use portcullis_policy::{ConfigErrors, Mode, Site};
use serde::Deserialize;

use crate::{
    Headers,
    cache::{Cache, CacheWire},
    cookies::{Cookies, CookiesWire},
    directives::{self, Directives, NONCE, Written},
    fields::Field,
    leaks::is_leak,
    nonce::Placeholder,
    profile::{self, Base},
    reporting::{self, ReportingWire},
};

/// The set of headers to start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// The required set, to the letter, on every response.
    #[default]
    Required,
    /// What suits most web applications today.
    Web,
    /// What answers programs: nothing runs, loads or is framed, no cache keeps it.
    Api,
    /// All that browsers offer, for an application that was written for it.
    Strict,
    /// Nothing but what is named here.
    None,
}

/// What becomes of a value that the application sets itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Existing {
    /// It stays, and ours is not set.
    Keep,
    /// Ours takes its place. The default: an application that forgets, or is made to forget, must not weaken what the
    /// operator configured.
    #[default]
    Replace,
    /// Both are sent. Browsers enforce every Content-Security-Policy that they get; of most other headers they take
    /// the first.
    Append,
}

/// A header to set: its value, or its value and what becomes of an existing one.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum SetWire {
    /// The value.
    Value(String),
    /// The value and more.
    Full(FullWire),
}

/// A header's value and what becomes of an existing one.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct FullWire {
    /// The value; left out: the profile's.
    pub value: Option<String>,
    /// What becomes of a value that the application sets.
    pub existing: Option<Existing>,
}

/// A directive's sources or a feature's allow-list; `false` leaves out what the profile has.
#[cfg(feature = "schema")]
#[derive(schemars::JsonSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "tells the schema what `directives` reads")]
enum EntriesWire {
    /// The list.
    List(Vec<String>),
    /// Left out.
    Absent(bool),
}

/// The section `headers`.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "headers"))]
#[serde(deny_unknown_fields, default)]
pub struct Wire {
    /// `monitor` changes nothing and counts what would change.
    pub mode: Mode,
    /// The set of headers to start from.
    pub profile: Profile,
    /// Headers to set beside or instead of the profile's, by name.
    pub set: BTreeMap<String, SetWire>,
    /// Headers of the profile that are not set.
    pub unset: Vec<String>,
    /// What becomes of values that the application sets, unless `set` says otherwise for a header.
    pub existing: Existing,
    /// Headers to remove from responses, beside those known to tell about the stack.
    pub remove: Vec<String>,
    /// Headers not to remove, although they are known to tell about the stack.
    pub keep: Vec<String>,
    /// Whether `x-process-time` tells the seconds from request to response.
    pub process_time: bool,
    /// Directives of the Content-Security-Policy, laid over the profile's: `{"img-src": ["'self'", "https://cdn.example"]}`;
    /// `[]` for one that needs no source, `false` for none. `'nonce-{nonce}'` is a nonce made for each response, see `nonce`.
    #[cfg_attr(feature = "schema", schemars(with = "BTreeMap<String, EntriesWire>"))]
    pub csp: Written,
    /// Directives of a second policy that is reported and not enforced, to try what is to come: laid over the enforced one.
    /// Empty: there is none.
    #[cfg_attr(feature = "schema", schemars(with = "BTreeMap<String, EntriesWire>"))]
    pub csp_report_only: Written,
    /// Features of the Permissions-Policy, laid over the profile's: `{"camera": ["self", "https://meet.example"]}`; `[]` for
    /// nobody.
    #[cfg_attr(feature = "schema", schemars(with = "BTreeMap<String, EntriesWire>"))]
    pub permissions_policy: Written,
    /// The text in pages that gives way to the nonce of the response: exactly 24 characters of `A-Z a-z 0-9 _ -` that
    /// nobody can guess, the same in the application's templates: `<script nonce="...">`. Left out: no nonces.
    pub nonce: Option<String>,
    /// Where browsers send reports.
    pub reporting: ReportingWire,
    /// What a browser forgets with this response: `cache`, `cookies`, `storage`, `executionContexts` or `*`. For the route
    /// that logs out.
    pub clear_site_data: Vec<String>,
    /// What cookies of the application are given that lack it.
    pub cookies: CookiesWire,
    /// What caches may keep.
    pub cache: CacheWire,
}

impl Default for Wire {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            profile: Profile::default(),
            set: BTreeMap::new(),
            unset: Vec::new(),
            existing: Existing::default(),
            remove: Vec::new(),
            keep: Vec::new(),
            process_time: true,
            csp: Written::new(),
            csp_report_only: Written::new(),
            permissions_policy: Written::new(),
            nonce: None,
            reporting: ReportingWire::default(),
            clear_site_data: Vec::new(),
            cookies: CookiesWire::default(),
            cache: CacheWire::default(),
        }
    }
}

const FIELDS: usize = 64;
const VALUE_BYTES: usize = 8 * 1024;

pub(crate) const CSP: &str = "content-security-policy";
pub(crate) const CSP_REPORT_ONLY: &str = "content-security-policy-report-only";

pub(crate) fn compile(mut wire: Wire, site: &Site, errors: &mut ConfigErrors) -> Option<Headers> {
    let before = errors.error_count();
    let base = match wire.profile {
        Profile::Required => &profile::REQUIRED,
        Profile::Web => &profile::WEB,
        Profile::Api => &profile::API,
        Profile::Strict => &profile::STRICT,
        Profile::None => &profile::NONE,
    };
    let unset = names(std::mem::take(&mut wire.unset), &site.key("unset"), errors);
    let mut remove = names(std::mem::take(&mut wire.remove), &site.key("remove"), errors);
    let mut keep = names(std::mem::take(&mut wire.keep), &site.key("keep"), errors);
    let mut fields = preset_fields(&wire, base, site, errors);
    for name in unset.iter().filter(|name| !fields.iter().any(|field| *field.name == ***name)) {
        errors.warning(&site.key("unset"), format!("`{name}` is not in the profile"), "remove it");
    }
    fields.retain(|field| !unset.iter().any(|name| **name == *field.name));
    set_fields(&wire, &mut fields, site, errors);
    for name in fields.iter().filter(|field| remove.iter().any(|name| **name == *field.name)) {
        errors.error(&site.key("remove"), format!("`{}` is set and removed", name.name), "choose one");
    }
    // What the operator tells of the stack on purpose.
    keep.extend(
        fields.iter().filter(|field| is_leak(field.name.as_bytes())).map(|field| field.name.to_string()),
    );
    if base.obsolete {
        let obsolete =
            profile::OBSOLETE.iter().filter(|name| !fields.iter().any(|field| *field.name == ***name));
        remove.extend(obsolete.map(|name| (*name).to_owned()));
    }
    let nonce = wire.nonce.and_then(|text| Placeholder::compile(text, &site.key("nonce"), errors));
    if nonce.is_some() && !fields.iter().any(|field| field.nonced.is_some()) {
        errors.warning(
            &site.key("nonce"),
            "no policy asks for a nonce",
            "write \"'nonce-{nonce}'\" into csp.script-src, or remove it",
        );
    }
    #[cfg(feature = "lint")]
    crate::lint::fields(&fields, site, errors);
    let defaults = wire.profile != Profile::None;
    // One that is configured is told, and not measured.
    let timed = wire.process_time && !fields.iter().any(|field| *field.name == *"x-process-time");
    let headers = Headers {
        enforce: wire.mode != Mode::Monitor,
        fields,
        remove,
        keep,
        process_time: timed.then(|| "x-process-time".into()),
        cookies: Cookies::compile(wire.cookies, base.cookies, &site.key("cookies"), errors),
        cache: Cache::compile(wire.cache, defaults, &site.key("cache"), errors),
        nonce,
    };
    (errors.error_count() == before).then_some(headers)
}

/// What the profile and the structured keys amount to.
fn preset_fields(wire: &Wire, base: &Base, site: &Site, errors: &mut ConfigErrors) -> Vec<Field> {
    let field =
        |name: &str, value: &str, https_only: bool| Field::new(name, value, wire.existing, https_only);
    let mut fields: Vec<Field> =
        base.headers.iter().map(|preset| field(preset.name, preset.value, preset.https_only)).collect();
    let reporting = reporting::compile(&wire.reporting, &site.key("reporting"), errors);
    let reported = |mut policy: Directives| {
        for (name, value) in &reporting.csp {
            if !policy.0.iter().any(|(have, _)| have == name) {
                policy.0.push((name.clone(), vec![value.clone()]));
            }
        }
        policy
    };
    let raw = |name: &str| {
        wire.set.iter().any(|(set, what)| {
            set.eq_ignore_ascii_case(name) && !matches!(what, SetWire::Full(FullWire { value: None, .. }))
        })
    };
    let here = site.key("csp");
    let enforced = Directives::of(base.csp).overlay(&wire.csp, &here, errors, directives::check_csp);
    let tried = site.key("csp_report_only");
    let report_only = enforced.clone().overlay(&wire.csp_report_only, &tried, errors, directives::check_csp);
    let here = site.key("permissions_policy");
    let permissions = Directives::of(base.permissions).overlay(
        &wire.permissions_policy,
        &here,
        errors,
        directives::check_permission,
    );
    for (name, key, written) in [
        (CSP, "csp", &wire.csp),
        (CSP_REPORT_ONLY, "csp_report_only", &wire.csp_report_only),
        ("permissions-policy", "permissions_policy", &wire.permissions_policy),
    ] {
        if !written.is_empty() && raw(name) {
            errors.error(&site.key(key), "stands beside the same header in `set`", "choose one");
        }
    }
    if !enforced.0.is_empty() {
        fields.push(Field::policy(CSP, &reported(enforced), wire.existing));
    }
    if !wire.csp_report_only.is_empty() {
        fields.push(Field::policy(CSP_REPORT_ONLY, &reported(report_only), wire.existing));
    }
    if !permissions.0.is_empty() {
        fields.push(field("permissions-policy", &permissions.permissions(), false));
    }
    fields.extend(reporting.headers.iter().map(|(name, value, https)| field(name, value, *https)));
    let kinds = ["cache", "cookies", "storage", "executionContexts", "*"];
    for (index, kind) in
        wire.clear_site_data.iter().enumerate().filter(|(_, kind)| !kinds.contains(&kind.as_str()))
    {
        let hint = portcullis_policy::config::nearest_hint(kind, &kinds);
        let problem = format!("`{}` is not known here", kind.escape_default());
        errors.error(&site.key("clear_site_data").index(index), problem, hint);
    }
    if !wire.clear_site_data.is_empty() {
        let quoted = ["\"", &wire.clear_site_data.join("\",\""), "\""].concat();
        fields.push(field("clear-site-data", &quoted, false));
    }
    fields
}

/// Lays `set` over them.
fn set_fields(wire: &Wire, fields: &mut Vec<Field>, site: &Site, errors: &mut ConfigErrors) {
    let set = site.key("set");
    if wire.set.len() > FIELDS {
        errors.error(&set, format!("has {} headers", wire.set.len()), format!("at most {FIELDS}"));
    }
    for (name, what) in &wire.set {
        let site = set.key(name);
        let Some(name) = header_name(name, &site, errors) else { continue };
        let (value, existing) = match what {
            SetWire::Value(value) => (Some(value), None),
            SetWire::Full(full) => (full.value.as_ref(), full.existing),
        };
        let existing = existing.unwrap_or(wire.existing);
        let known = fields.iter_mut().find(|field| *field.name == *name);
        match (value, known) {
            (Some(value), known) if is_value(value, &site, errors) => {
                let https_only = known
                    .as_ref()
                    .is_some_and(|known| known.https_only && name != "strict-transport-security");
                let field = if value.contains(NONCE) {
                    Field::policy(&name, &parse(value), existing)
                } else {
                    Field::new(&name, value, existing, https_only)
                };
                match known {
                    Some(known) => *known = field,
                    None => fields.push(field),
                }
            }
            (Some(_), _) => {}
            (None, Some(known)) => known.existing = existing,
            (None, None) => {
                errors.error(&site.key("value"), "is missing", "add it: the profile has none for this header")
            }
        }
    }
}

/// A policy that was written as one text.
pub(crate) fn parse(text: &str) -> Directives {
    let directive = |part: &str| {
        let mut words = part.split_whitespace().map(str::to_owned);
        words.next().map(|name| (name, words.collect()))
    };
    Directives(text.split(';').filter_map(directive).collect())
}

fn names(list: Vec<String>, site: &Site, errors: &mut ConfigErrors) -> Vec<String> {
    if list.len() > FIELDS {
        errors.error(site, format!("has {} names", list.len()), format!("at most {FIELDS}"));
    }
    list.into_iter()
        .enumerate()
        .filter_map(|(index, name)| header_name(&name, &site.index(index), errors))
        .collect()
}

/// A header's name in lower case (RFC 9110, 5.1: a token).
fn header_name(name: &str, site: &Site, errors: &mut ConfigErrors) -> Option<String> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let lower = name.to_ascii_lowercase();
    if name.is_empty() || name.len() > 128 || !name.bytes().all(token) {
        errors.error(
            site,
            format!("{name:?} is not a header name"),
            "letters, digits and `-`, like X-Frame-Options",
        );
        return None;
    }
    if matches!(
        lower.as_str(),
        "connection" | "content-length" | "transfer-encoding" | "upgrade" | "host" | "te"
    ) {
        errors.error(site, format!("`{name}` frames the message"), "the proxy alone may touch it");
        return None;
    }
    Some(lower)
}

/// A header's value (RFC 9110, 5.5): no control character, no blank at either end.
pub(crate) fn is_value(value: &str, site: &Site, errors: &mut ConfigErrors) -> bool {
    if let Some(at) = value.bytes().position(|byte| byte.is_ascii_control() && byte != b'\t') {
        let problem = format!("holds a control character (CR, LF, NUL or the like) at byte {at}");
        errors.error(site, problem, "it would split the message; take it out");
        return false;
    }
    if value.trim() != value {
        errors.error(site, "begins or ends with a blank", "take it out");
        return false;
    }
    if value.len() > VALUE_BYTES {
        errors.error(site, format!("has {} bytes", value.len()), format!("at most {VALUE_BYTES}"));
        return false;
    }
    true
}
