//! What an operator writes, and what becomes of it.

use std::collections::BTreeMap;
use std::rc::Rc;

use portcullis_hpke::TenantKey;
use portcullis_policy::{ConfigErrors, Mode, Site};
use serde::Deserialize;

use crate::json::Pointer;

/// Fields of one kind. More: a configuration error.
pub const FIELDS: usize = 32;
/// Tenants with keys. More: a configuration error.
const TENANTS: usize = 10_000;
const NAME_BYTES: usize = 200;
/// The longest body that can be sealed: as much as hosts are asked to hold back of a request.
const BODY_BYTES: usize = 512 * 1024;
const VALUE_BYTES: usize = 256 * 1024;

/// Headers that say how a message is to be read, or where it goes: without them there is no request.
const NEEDED: [&str; 14] = [
    "host",
    "connection",
    "content-length",
    "content-type",
    "content-encoding",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "keep-alive",
    "proxy-connection",
    "x-request-id",
    "x-forwarded-for",
];

/// What becomes of a request of which something cannot be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "seal_answer"))]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// It is refused.
    #[default]
    Deny,
    /// It passes, and what cannot be sealed passes as it came.
    Allow,
}

/// The section `seal`.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "seal"))]
#[serde(deny_unknown_fields, default)]
pub struct Wire {
    /// `monitor` seals nothing, and counts what `enforce` would seal or refuse.
    pub mode: Mode,
    /// Headers of requests whose values are sealed, by name; at most 32.
    pub headers: Vec<String>,
    /// Values of JSON bodies that are sealed, by JSON Pointer (RFC 6901): `/card/number`; the step `*` is any element or member,
    /// `/items/*/iban`. At most 32.
    pub json: Vec<String>,
    /// Fields of forms (`application/x-www-form-urlencoded`) that are sealed, by name; at most 32.
    pub form: Vec<String>,
    /// By tenant, the public key that its values are sealed to, as `portcullis keys public TENANT` prints it. No secret. At most 10000.
    pub keys: BTreeMap<String, String>,
    /// What the values are for: bound to each of them, and to be said when it is opened. At most 200 bytes.
    pub purpose: String,
    /// What becomes of a request of which something cannot be sealed.
    pub on_error: Answer,
    /// Bytes of a body that is looked at, at most 524288. A longer one cannot be sealed.
    pub body_max_bytes: usize,
    /// Bytes of a value, at most 262144. A longer one cannot be sealed.
    pub value_max_bytes: usize,
    /// Values of one request, 1 to 1000. Beyond them values cannot be sealed.
    pub values_max: usize,
}

impl Default for Wire {
    fn default() -> Self {
        Self {
            mode: Mode::Enforce,
            headers: Vec::new(),
            json: Vec::new(),
            form: Vec::new(),
            keys: BTreeMap::new(),
            purpose: "edge".to_owned(),
            on_error: Answer::Deny,
            body_max_bytes: 256 * 1024,
            value_max_bytes: 16 * 1024,
            values_max: 64,
        }
    }
}

/// A header or a form's field.
#[derive(Debug)]
pub struct Named {
    pub name: Rc<str>,
    /// What it is called in an envelope, like `header x-card`.
    pub field: String,
}

/// The section, compiled.
#[derive(Debug)]
pub struct Config {
    pub enforce: bool,
    pub headers: Vec<Named>,
    pub json: Vec<Pointer>,
    pub form: Vec<Named>,
    pub keys: BTreeMap<String, TenantKey>,
    pub purpose: String,
    pub on_error: Answer,
    pub body_bytes: usize,
    pub value_bytes: usize,
    pub values: usize,
}

impl Config {
    pub fn compile(wire: Wire, site: &Site, errors: &mut ConfigErrors) -> Option<Self> {
        let before = errors.error_count();
        let keys = keys(&wire, &site.key("keys"), errors);
        if wire.purpose.len() > NAME_BYTES || wire.purpose.chars().any(char::is_control) {
            let remedy = format!("at most {NAME_BYTES} bytes of text");
            errors.error(&site.key("purpose"), "cannot be one", remedy);
        }
        for (name, value, least, most) in [
            ("body_max_bytes", wire.body_max_bytes, 1, BODY_BYTES),
            ("value_max_bytes", wire.value_max_bytes, 1, VALUE_BYTES),
            ("values_max", wire.values_max, 1, 1000),
        ] {
            if !(least..=most).contains(&value) {
                errors.error(&site.key(name), value.to_string(), format!("must be {least} to {most}"));
            }
        }
        let config = Self {
            enforce: wire.mode != Mode::Monitor,
            headers: headers(&wire.headers, &site.key("headers"), errors),
            json: pointers(&wire.json, &site.key("json"), errors),
            form: form(&wire.form, &site.key("form"), errors),
            keys,
            purpose: wire.purpose,
            on_error: wire.on_error,
            body_bytes: wire.body_max_bytes,
            value_bytes: wire.value_max_bytes,
            values: wire.values_max,
        };
        let fields = !(config.headers.is_empty() && config.json.is_empty() && config.form.is_empty());
        if fields && config.keys.is_empty() && errors.error_count() == before && wire.mode != Mode::Off {
            let remedy = "give each tenant's: `portcullis keys public TENANT` prints it";
            errors.error(&site.key("keys"), "is empty, and there are fields to seal", remedy);
        }
        (errors.error_count() == before).then_some(config)
    }
}

fn keys(wire: &Wire, site: &Site, errors: &mut ConfigErrors) -> BTreeMap<String, TenantKey> {
    if wire.keys.len() > TENANTS {
        errors.error(site, format!("has {}", wire.keys.len()), format!("at most {TENANTS}"));
    }
    let read = |(tenant, text): (&String, &String)| {
        let key = TenantKey::from_text(text);
        if key.is_none() {
            let remedy = format!("write what `portcullis keys public {tenant}` prints, pcpk1.VERSION.KEY");
            errors.error(&site.key(tenant), "is no public key", remedy);
        }
        key.map(|key| (tenant.clone(), key))
    };
    wire.keys.iter().take(TENANTS).filter_map(read).collect()
}

/// Notes a list that is too long, or an entry that stands in it twice.
fn check(names: &[String], site: &Site, errors: &mut ConfigErrors) {
    if names.len() > FIELDS {
        errors.error(site, format!("has {}", names.len()), format!("at most {FIELDS}"));
    }
    for (place, name) in names.iter().enumerate() {
        if names.iter().take(place).any(|other| other.eq_ignore_ascii_case(name)) {
            errors.error(&site.index(place), format!("`{name}` stands here twice"), "remove one");
        }
    }
}

fn headers(names: &[String], site: &Site, errors: &mut ConfigErrors) -> Vec<Named> {
    check(names, site, errors);
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let mut named = Vec::new();
    for (place, name) in names.iter().enumerate() {
        let lower = name.to_ascii_lowercase();
        if name.is_empty() || name.len() > NAME_BYTES || !name.bytes().all(token) {
            errors.error(&site.index(place), format!("`{name}` is no header's name"), "correct it");
        } else if NEEDED.contains(&lower.as_str()) {
            errors.error(&site.index(place), format!("`{name}` is needed as it is"), "remove it");
        } else {
            named.push(Named { field: format!("header {lower}"), name: lower.into() });
        }
    }
    named
}

fn pointers(texts: &[String], site: &Site, errors: &mut ConfigErrors) -> Vec<Pointer> {
    check(texts, site, errors);
    let mut pointers = Vec::new();
    for (place, text) in texts.iter().enumerate() {
        match Pointer::new(text).filter(|_| text.len() <= NAME_BYTES) {
            Some(pointer) => pointers.push(pointer),
            None => {
                let problem = format!("`{text}` is no JSON Pointer to a part of a document");
                errors.error(&site.index(place), problem, "write it like `/card/number` or `/items/*/iban`");
            }
        }
    }
    pointers
}

fn form(names: &[String], site: &Site, errors: &mut ConfigErrors) -> Vec<Named> {
    check(names, site, errors);
    let mut named = Vec::new();
    for (place, name) in names.iter().enumerate() {
        if name.is_empty() || name.len() > NAME_BYTES {
            errors.error(&site.index(place), "cannot be a field's name", format!("1 to {NAME_BYTES} bytes"));
        } else {
            named.push(Named { field: format!("form {name}"), name: name.as_str().into() });
        }
    }
    named
}
