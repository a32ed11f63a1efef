//! What a route or an action applies to. Every condition that is given must hold.

use portcullis_policy::{ConfigErrors, Fact, Facts, Site};
use serde::Deserialize;

use crate::path::loosen;

/// One or several names.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum OneOrMany {
    /// One.
    One(String),
    /// Any of several.
    Many(Vec<String>),
}

impl OneOrMany {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }
}

/// Conditions, all of which must hold. Paths are compared in normal form: escaped unreserved characters, empty and dot
/// segments undone; those of actions as the laxest of applications read them, without case, slashes at the end and `;..`.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MatchWire {
    /// The route's name in the host's configuration.
    pub route_name: Option<String>,
    /// The virtual host's name in the host's configuration.
    pub virtual_host: Option<String>,
    /// The authority without port, in lower case; `*.example.com` takes any label in front.
    pub host: Option<OneOrMany>,
    /// The whole path.
    pub path: Option<OneOrMany>,
    /// The path's start; ends at a segment: `/upload` takes `/upload` and `/upload/x`, not `/uploads`.
    pub path_prefix: Option<OneOrMany>,
    /// A regular expression over the whole path (`regex-lite` syntax, at most 256 bytes).
    pub path_regex: Option<String>,
    /// The method.
    pub method: Option<OneOrMany>,
    /// The media type of `content-type`, without parameters.
    pub content_type: Option<OneOrMany>,
}

/// What a match looks at.
pub(crate) struct Target<'a> {
    pub path: &'a [u8],
    /// The path as the laxest of applications read it ([`crate::path::loosen`]).
    pub loose: &'a [u8],
    pub host: &'a [u8],
    pub method: &'a [u8],
    pub content_type: &'a [u8],
}

/// Compiled conditions.
#[derive(Debug, Clone, Default)]
pub struct Match {
    route_name: Option<String>,
    virtual_host: Option<String>,
    hosts: Vec<String>,
    paths: Vec<String>,
    prefixes: Vec<String>,
    regex: Option<regex_lite::Regex>,
    methods: Vec<String>,
    content_types: Vec<String>,
    /// Paths are compared with the loose one.
    loose: bool,
}

const REGEX_BYTES: usize = 256;

impl Match {
    pub(crate) fn compile(wire: MatchWire, site: &Site, errors: &mut ConfigErrors) -> Self {
        let lists = |list: Option<OneOrMany>| list.map(OneOrMany::into_vec).unwrap_or_default();
        let matcher = Self {
            route_name: wire.route_name,
            virtual_host: wire.virtual_host,
            hosts: lists(wire.host).iter().map(|host| host.to_ascii_lowercase()).collect(),
            paths: lists(wire.path),
            prefixes: lists(wire.path_prefix),
            regex: wire.path_regex.and_then(|text| compile_regex(&text, &site.key("path_regex"), errors)),
            methods: lists(wire.method),
            content_types: lists(wire.content_type).iter().map(|t| t.to_ascii_lowercase()).collect(),
            loose: false,
        };
        for (key, list) in [("path", &matcher.paths), ("path_prefix", &matcher.prefixes)] {
            for path in list.iter().filter(|path| !path.starts_with('/')) {
                errors.error(
                    &site.key(key),
                    format!("`{path}` does not start with `/`"),
                    "write the path from its root",
                );
            }
        }
        for method in matcher.methods.iter().filter(|method| method.bytes().any(|b| !b.is_ascii_uppercase()))
        {
            errors.error(
                &site.key("method"),
                format!("`{method}` is not a method"),
                "methods are upper case, like POST",
            );
        }
        matcher
    }

    /// The same for paths as the laxest of applications read them: whoever is counted must not be missed for a slash.
    pub(crate) fn loosened(mut self) -> Self {
        for path in self.paths.iter_mut().chain(&mut self.prefixes) {
            *path = String::from_utf8_lossy(&loosen(path.as_bytes())).into_owned();
        }
        self.loose = true;
        self
    }

    /// Whether every condition holds. Asks the host only for what is configured, and last.
    pub(crate) fn holds(&self, target: &Target<'_>, facts: &mut dyn Facts) -> bool {
        let any = |list: &[String], test: &dyn Fn(&[u8]) -> bool| {
            list.is_empty() || list.iter().any(|item| test(item.as_bytes()))
        };
        let asked = if self.loose { target.loose } else { target.path };
        any(&self.methods, &|method| method == target.method)
            && any(&self.paths, &|path| path == asked)
            && any(&self.prefixes, &|prefix| under(asked, prefix))
            && any(&self.hosts, &|pattern| host_matches(target.host, pattern))
            && any(&self.content_types, &|kind| media_type(target.content_type).eq_ignore_ascii_case(kind))
            && self.regex.as_ref().is_none_or(|regex| {
                // A path that is not UTF-8 is matched with replacement characters.
                regex.is_match(&String::from_utf8_lossy(target.path))
            })
            && known(self.route_name.as_deref(), Fact::RouteName, facts)
            && known(self.virtual_host.as_deref(), Fact::VirtualHost, facts)
    }
}

fn known(wanted: Option<&str>, fact: Fact<'_>, facts: &mut dyn Facts) -> bool {
    wanted.is_none_or(|wanted| facts.fact(fact).is_some_and(|is| is == wanted.as_bytes()))
}

fn under(path: &[u8], prefix: &[u8]) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || prefix.ends_with(b"/") || rest.starts_with(b"/"))
}

/// The media type without its parameters.
fn media_type(content_type: &[u8]) -> &[u8] {
    content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii()
}

fn host_matches(host: &[u8], pattern: &[u8]) -> bool {
    let host = without_port(host);
    match pattern.strip_prefix(b"*") {
        Some(suffix) if suffix.starts_with(b".") => host
            .len()
            .checked_sub(suffix.len())
            .and_then(|start| host.get(start..).filter(|_| start > 0))
            .is_some_and(|end| end.eq_ignore_ascii_case(suffix)),
        _ => host.eq_ignore_ascii_case(pattern),
    }
}

/// An authority without its port; an IPv6 literal keeps its brackets.
pub(crate) fn without_port(host: &[u8]) -> &[u8] {
    match host.iter().rposition(|byte| *byte == b':') {
        Some(colon)
            if host.get(colon + 1..).is_some_and(|port| port.iter().all(u8::is_ascii_digit))
                && !host
                    .get(..colon)
                    .is_some_and(|front| front.contains(&b':') && !front.ends_with(b"]")) =>
        {
            host.get(..colon).unwrap_or(host)
        }
        _ => host,
    }
}

/// Compiles an operator's pattern so that it must match the whole text.
pub(crate) fn compile_regex(text: &str, site: &Site, errors: &mut ConfigErrors) -> Option<regex_lite::Regex> {
    if text.len() > REGEX_BYTES {
        errors.error(site, format!("has {} bytes", text.len()), format!("at most {REGEX_BYTES}"));
        return None;
    }
    match regex_lite::RegexBuilder::new(&format!("^(?:{text})$")).size_limit(1 << 16).build() {
        Ok(regex) => Some(regex),
        Err(error) => {
            errors.error(site, error.to_string(), "write a pattern in the syntax of the crate regex-lite");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use portcullis_policy::NoFacts;

    use super::*;

    fn holds(wire: serde_json::Value, method: &str, host: &str, path: &str, content_type: &str) -> bool {
        let mut errors = ConfigErrors::default();
        let wire = serde_json::from_value(wire).unwrap();
        let matcher = Match::compile(wire, &Site::root(), &mut errors);
        assert!(!errors.has_errors(), "{errors}");
        let target = Target {
            path: path.as_bytes(),
            loose: path.as_bytes(),
            host: host.as_bytes(),
            method: method.as_bytes(),
            content_type: content_type.as_bytes(),
        };
        matcher.holds(&target, &mut NoFacts)
    }

    #[test]
    fn conditions_hold_or_not() {
        use serde_json::json;
        for (wire, wanted) in [
            (json!({}), true),
            (json!({"method": "POST"}), true),
            (json!({"method": ["GET", "PUT"]}), false),
            (json!({"path": "/a/b"}), true),
            (json!({"path": "/a"}), false),
            (json!({"path_prefix": "/a"}), true),
            (json!({"path_prefix": "/a/b"}), true),
            (json!({"path_prefix": "/a/bc"}), false),
            (json!({"path_prefix": "/"}), true),
            (json!({"path_regex": "/[a-c]/."}), true),
            (json!({"path_regex": "/[a-c]"}), false),
            (json!({"host": "APP.test"}), true),
            (json!({"host": "*.test"}), true),
            (json!({"host": "*.app.test"}), false),
            (json!({"host": "app.tes"}), false),
            (json!({"content_type": "application/json"}), true),
            (json!({"content_type": "text/plain"}), false),
            (json!({"route_name": "r"}), false),
            (json!({"method": "POST", "path": "/nope"}), false),
        ] {
            let is = holds(wire.clone(), "POST", "app.test:8080", "/a/b", "Application/JSON; charset=utf-8");
            assert_eq!(is, wanted, "{wire}");
        }
        assert!(!under(b"/uploads", b"/upload"));
        assert!(host_matches(b"[::1]:80", b"[::1]") && host_matches(b"::1", b"::1"));
        assert!(!host_matches(b".test", b"*.test"));
    }

    #[test]
    fn wrong_conditions_are_named() {
        let mut errors = ConfigErrors::default();
        let wire = serde_json::from_value(serde_json::json!(
            {"path": "a", "path_regex": "(", "method": "post"}
        ))
        .unwrap();
        Match::compile(wire, &Site::root().key("m"), &mut errors);
        let text = errors.to_string();
        for part in ["m.path: `a` does not start", "m.path_regex: ", "m.method: `post`"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
