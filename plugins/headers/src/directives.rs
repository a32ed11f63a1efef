//! Policies that consist of named directives with a list each: Content-Security-Policy and Permissions-Policy, built
//! from what an operator writes beside what a profile has.

use std::collections::BTreeMap;

use portcullis_policy::{ConfigErrors, Site, config::nearest_hint, json::Value};

/// What an operator writes: `{"img-src": ["'self'", "https://cdn.example"]}`; `false` leaves a directive out.
pub(crate) type Written = BTreeMap<String, Value>;

/// Directives of one policy. More: a configuration error.
const DIRECTIVES: usize = 64;
/// Entries of one directive. More: a configuration error.
const ENTRIES: usize = 256;

/// In a CSP, this stands for a nonce that is made for each response.
pub(crate) const NONCE: &str = "{nonce}";
const NONCE_SOURCE: &str = "'nonce-{nonce}'";
const STRICT_DYNAMIC: &str = "'strict-dynamic'";

/// Directives of CSP Level 3 and of the specifications beside it (W3C).
pub(crate) static CSP_DIRECTIVES: &[&str] = &[
    "base-uri",
    "child-src",
    "connect-src",
    "default-src",
    "fenced-frame-src",
    "font-src",
    "form-action",
    "frame-ancestors",
    "frame-src",
    "img-src",
    "manifest-src",
    "media-src",
    "object-src",
    "prefetch-src",
    "report-to",
    "report-uri",
    "require-trusted-types-for",
    "sandbox",
    "script-src",
    "script-src-attr",
    "script-src-elem",
    "style-src",
    "style-src-attr",
    "style-src-elem",
    "trusted-types",
    "upgrade-insecure-requests",
    "webrtc",
    "worker-src",
];

/// Directives that need no entry.
static BARE: &[&str] = &["sandbox", "trusted-types", "upgrade-insecure-requests"];

/// Words that mean something only between single quotes.
static KEYWORDS: &[&str] = &[
    "inline-speculation-rules",
    "none",
    "report-sample",
    "self",
    "strict-dynamic",
    "unsafe-eval",
    "unsafe-hashes",
    "unsafe-inline",
    "wasm-unsafe-eval",
];

/// Directives in the order in which they are sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Directives(pub Vec<(String, Vec<String>)>);

impl Directives {
    /// A profile's: the entries of each are separated by blanks.
    pub fn of(preset: &[(&str, &str)]) -> Self {
        let entries = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        Self(preset.iter().map(|(name, text)| ((*name).to_owned(), entries(text))).collect())
    }

    /// Lays what an operator writes over them, directive by directive; `check` tells what is wrong with a directive's
    /// name and entries.
    pub fn overlay(
        mut self,
        written: &Written,
        site: &Site,
        errors: &mut ConfigErrors,
        check: fn(&str, &[String], &Site, &mut ConfigErrors),
    ) -> Self {
        for (name, value) in written {
            let site = site.key(name);
            let known = self.0.iter().position(|(have, _)| have == name);
            let entries = match value {
                Value::Bool(false) => {
                    match known {
                        Some(at) => drop(self.0.remove(at)),
                        None => errors.warning(&site, "is not in the profile", "remove it"),
                    }
                    continue;
                }
                Value::Array(list) => entries(list, &site, errors),
                _ => {
                    errors.error(
                        &site,
                        "is not a list",
                        "write a list of texts, like [\"'self'\"], or false to leave the directive out",
                    );
                    continue;
                }
            };
            check(name, &entries, &site, errors);
            match known.and_then(|at| self.0.get_mut(at)) {
                Some((_, have)) => *have = entries,
                None => self.0.push((name.clone(), entries)),
            }
        }
        if self.0.len() > DIRECTIVES {
            errors.error(site, ["has ", &self.0.len().to_string(), " directives"].concat(), "at most 64");
        }
        self
    }

    /// As a Content-Security-Policy is written (CSP3, 2.2).
    pub fn csp(&self) -> String {
        let line = |(name, entries): &(String, Vec<String>)| {
            [std::slice::from_ref(name), entries].concat().join(" ")
        };
        self.0.iter().map(line).collect::<Vec<_>>().join("; ")
    }

    /// As a Permissions-Policy is written: a structured dictionary (RFC 9651) of inner lists.
    pub fn permissions(&self) -> String {
        let line = |(name, entries): &(String, Vec<String>)| match entries.as_slice() {
            [all] if all == "*" => [name, "=*"].concat(),
            // An origin is a string there, a keyword is a token.
            list => {
                let quoted = |entry: &String| {
                    if matches!(entry.as_str(), "self" | "src" | "*") {
                        entry.clone()
                    } else {
                        ["\"", entry, "\""].concat()
                    }
                };
                let inner = list.iter().map(quoted).collect::<Vec<_>>().join(" ");
                [name, "=(", &inner, ")"].concat()
            }
        };
        self.0.iter().map(line).collect::<Vec<_>>().join(", ")
    }

    /// This policy for a response with a nonce: under `'strict-dynamic'` browsers do not look at `'self'` (CSP3, 8.2), which is
    /// there for responses that get none.
    pub fn with_nonce(&self) -> Self {
        let mut other = self.clone();
        for (_, entries) in &mut other.0 {
            let has = |word: &str| entries.iter().any(|entry| entry == word);
            if has(NONCE_SOURCE) && has(STRICT_DYNAMIC) {
                entries.retain(|entry| entry != "'self'");
            }
        }
        other
    }

    /// This policy for a response that cannot carry a nonce: what the nonce would have let run falls back on the other
    /// sources, and without any on `'none'`.
    pub fn without_nonce(&self) -> Self {
        let mut other = self.clone();
        for (_, entries) in &mut other.0 {
            if entries.iter().any(|entry| entry == NONCE_SOURCE) {
                // Without a nonce to start from, 'strict-dynamic' would switch the other sources off for nothing, and
                // 'unsafe-inline', which browsers pass over beside a nonce, would let every script run.
                entries.retain(|entry| {
                    ![NONCE_SOURCE, STRICT_DYNAMIC, "'unsafe-inline'"].contains(&entry.as_str())
                });
                if entries.is_empty() {
                    entries.push("'none'".to_owned());
                }
            }
        }
        other
    }
}

fn entries(list: &[Value], site: &Site, errors: &mut ConfigErrors) -> Vec<String> {
    if list.len() > ENTRIES {
        errors.error(site, ["has ", &list.len().to_string(), " entries"].concat(), "at most 256");
    }
    let mut entries = Vec::new();
    for (index, value) in list.iter().enumerate().take(ENTRIES) {
        let site = site.index(index);
        match value.as_str() {
            None => errors.error(&site, "is not a text", "write it between quotes"),
            Some(text) if text.is_empty() || !text.bytes().all(is_entry_byte) => errors.error(
                &site,
                [&Value::from(text).to_string(), " would split the policy"].concat(),
                "one entry without blanks, `;`, `,`, quotation marks and control characters; percent-encode what a URL needs",
            ),
            Some(text) => entries.push(text.to_owned()),
        }
    }
    entries
}

fn is_entry_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b';' | b',' | b'"')
}

/// What is certainly wrong with a directive of a Content-Security-Policy. What is weak, the lint says.
pub(crate) fn check_csp(name: &str, entries: &[String], site: &Site, errors: &mut ConfigErrors) {
    if !CSP_DIRECTIVES.contains(&name) {
        errors.error(site, "is not a directive of CSP", nearest_hint(name, CSP_DIRECTIVES));
    }
    if entries.is_empty() && !BARE.contains(&name) {
        errors.error(site, "has no source", "write [\"'none'\"], or false to leave the directive out");
    }
    for (index, entry) in entries.iter().enumerate() {
        let site = site.index(index);
        let bare = !matches!(name, "sandbox" | "report-to" | "trusted-types" | "require-trusted-types-for");
        let starts = ["nonce-", "sha256-", "sha384-", "sha512-"];
        if bare && (KEYWORDS.contains(&entry.as_str()) || starts.iter().any(|start| entry.starts_with(start)))
        {
            let remedy = ["write \"'", entry, "'\""].concat();
            errors.error(&site, ["`", entry, "` without single quotes names a host"].concat(), remedy);
        } else if name == "require-trusted-types-for" && entry != "'script'" {
            errors.error(&site, "is not known here", "write \"'script'\"");
        } else if entry.starts_with("'nonce-") && entry != NONCE_SOURCE {
            errors.error(&site, "a nonce that is always the same is no secret", "write \"'nonce-{nonce}'\"");
        }
    }
}

/// What is certainly wrong with a feature of a Permissions-Policy.
pub(crate) fn check_permission(name: &str, entries: &[String], site: &Site, errors: &mut ConfigErrors) {
    let token = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || !name.bytes().all(token) {
        errors.error(site, "is not the name of a feature", "lower case, digits and `-`, like geolocation");
    }
    for (index, entry) in entries.iter().enumerate() {
        let origin = entry.starts_with("https://") || entry.starts_with("http://");
        if !(origin || matches!(entry.as_str(), "self" | "src" | "*")) {
            errors.error(
                &site.index(index),
                ["`", entry, "` is no origin"].concat(),
                "write self, *, or an origin like https://maps.example; an empty list is for nobody",
            );
        }
    }
}
