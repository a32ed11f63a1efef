//! What an operator writes, and what becomes of it.

use std::collections::BTreeMap;

use portcullis_policy::{ConfigErrors, Mode, Site};
use serde::Deserialize;

use crate::{
    Field, Headers,
    profile::{REQUIRED, WEB},
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
    /// Nothing but what `set` names.
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
        }
    }
}

const FIELDS: usize = 64;
const VALUE_BYTES: usize = 8 * 1024;

pub(crate) fn compile(wire: Wire, site: &Site, errors: &mut ConfigErrors) -> Option<Headers> {
    let before = errors.error_count();
    let names = |list: Vec<String>, key: &str, errors: &mut ConfigErrors| {
        let site = site.key(key);
        if list.len() > FIELDS {
            errors.error(&site, format!("has {} names", list.len()), format!("at most {FIELDS}"));
        }
        list.into_iter()
            .enumerate()
            .filter_map(|(index, name)| header_name(&name, &site.index(index), errors))
            .collect::<Vec<_>>()
    };
    let unset = names(wire.unset, "unset", errors);
    let remove = names(wire.remove, "remove", errors);
    let keep = names(wire.keep, "keep", errors);
    let presets = match wire.profile {
        Profile::Required => REQUIRED,
        Profile::Web => WEB,
        Profile::None => &[],
    };
    let mut fields: Vec<Field> = presets
        .iter()
        .filter(|preset| !unset.iter().any(|name| name == preset.name))
        .map(|preset| Field {
            name: preset.name.into(),
            value: preset.value.as_bytes().into(),
            existing: wire.existing,
            https_only: preset.https_only,
        })
        .collect();
    for name in unset.iter().filter(|name| !presets.iter().any(|preset| preset.name == name.as_str())) {
        errors.warning(&site.key("unset"), format!("`{name}` is not in the profile"), "remove it");
    }
    let set = site.key("set");
    if wire.set.len() > FIELDS {
        errors.error(&set, format!("has {} headers", wire.set.len()), format!("at most {FIELDS}"));
    }
    for (name, what) in wire.set {
        let site = set.key(&name);
        let Some(name) = header_name(&name, &site, errors) else { continue };
        let (value, existing) = match what {
            SetWire::Value(value) => (Some(value), None),
            SetWire::Full(full) => (full.value, full.existing),
        };
        let known = fields.iter_mut().find(|field| *field.name == *name);
        let existing = existing.unwrap_or(wire.existing);
        let value = match (value, &known) {
            (Some(value), _) if is_value(&value, &site, errors) => value.into_bytes().into(),
            (Some(_), _) => continue,
            (None, Some(known)) => known.value.clone(),
            (None, None) => {
                errors.error(
                    &site.key("value"),
                    "is missing",
                    "add it: the profile has none for this header",
                );
                continue;
            }
        };
        match known {
            Some(known) => (known.value, known.existing) = (value, existing),
            None => fields.push(Field { name: name.into(), value, existing, https_only: false }),
        }
    }
    for name in fields.iter().filter(|field| remove.iter().any(|name| **name == *field.name)) {
        errors.error(&site.key("remove"), format!("`{}` is set and removed", name.name), "choose one");
    }
    let process_time = wire.process_time.then(|| "x-process-time".into());
    let headers = Headers { enforce: wire.mode != Mode::Monitor, fields, remove, keep, process_time };
    (errors.error_count() == before).then_some(headers)
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
fn is_value(value: &str, site: &Site, errors: &mut ConfigErrors) -> bool {
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
