//! What is weak, though it works: for `portcullis check`, which names the better line. Not part of the modules.
//!
//! After W3C's CSP Level 3, Google's "CSP Is Dead, Long Live CSP!" (Weichselbaum et al., 2016), and OWASP's cheat sheets.

use portcullis_policy::{ConfigErrors, Site, config::nearest_hint};

use crate::{
    config::{CSP, CSP_REPORT_ONLY, parse},
    directives::{CSP_DIRECTIVES, Directives},
    fields::Field,
};

/// Hosts that serve what attackers need to get around an allow-list: callbacks of their choice, or old frameworks.
static BYPASSES: &[&str] = &[
    "accounts.google.com",
    "ajax.googleapis.com",
    "cdn.jsdelivr.net",
    "cdnjs.cloudflare.com",
    "googletagmanager.com",
    "unpkg.com",
    "www.google.com",
    "www.googletagmanager.com",
    "www.gstatic.com",
    "yandex.st",
];

/// Headers that take one of a few words.
static WORDS: &[(&str, &[&str])] = &[
    ("cross-origin-embedder-policy", &["require-corp", "credentialless", "unsafe-none"]),
    (
        "cross-origin-opener-policy",
        &["same-origin", "same-origin-allow-popups", "noopener-allow-popups", "unsafe-none"],
    ),
    ("cross-origin-resource-policy", &["same-origin", "same-site", "cross-origin"]),
    ("document-isolation-policy", &["isolate-and-require-corp", "isolate-and-credentialless", "none"]),
    ("origin-agent-cluster", &["?1", "?0"]),
    (
        "referrer-policy",
        &[
            "no-referrer",
            "no-referrer-when-downgrade",
            "origin",
            "origin-when-cross-origin",
            "same-origin",
            "strict-origin",
            "strict-origin-when-cross-origin",
            "unsafe-url",
        ],
    ),
    ("x-content-type-options", &["nosniff"]),
    ("x-dns-prefetch-control", &["on", "off"]),
    ("x-frame-options", &["DENY", "SAMEORIGIN"]),
    (
        "x-permitted-cross-domain-policies",
        &["none", "master-only", "by-content-type", "by-ftp-filename", "all", "none-this-response"],
    ),
];

/// Looks at every header that is set.
pub(crate) fn fields(fields: &[Field], site: &Site, errors: &mut ConfigErrors) {
    for field in fields {
        let text = field
            .nonced
            .as_deref()
            .map_or_else(|| String::from_utf8_lossy(&field.value).into_owned(), str::to_owned);
        match &*field.name {
            CSP => policy(&parse(&text), &site.key("csp"), errors),
            CSP_REPORT_ONLY => policy(&parse(&text), &site.key("csp_report_only"), errors),
            "permissions-policy" => permissions(&text, &site.key("permissions_policy"), errors),
            "strict-transport-security" => transport(&text, &site.key("set").key(&field.name), errors),
            name => word(name, &text, &site.key("set").key(name), errors),
        }
    }
}

fn word(name: &str, text: &str, site: &Site, errors: &mut ConfigErrors) {
    if name == "x-xss-protection" && text != "0" {
        errors.warning(
            site,
            "browsers have dropped it, and those that had it could be made to block or leak by it",
            "leave it out (`unset`), or set \"0\"; the profile `web` has none",
        );
    }
    if name.starts_with("integrity-policy") && !text.contains("blocked-destinations=(") {
        errors.warning(site, "blocks nothing", "write \"blocked-destinations=(script)\"");
    }
    let Some((_, known)) = WORDS.iter().find(|(header, _)| *header == name) else { return };
    // Parameters follow a semicolon; of a list of referrer policies browsers take the last that they know.
    for part in text.split(',').map(|part| part.split(';').next().unwrap_or_default().trim()) {
        if !known.iter().any(|word| word.eq_ignore_ascii_case(part)) {
            errors.warning(site, format!("`{part}` means nothing to browsers"), nearest_hint(part, known));
        } else if matches!(part, "unsafe-url" | "unsafe-none" | "all") {
            errors.warning(
                site,
                format!("`{part}` switches the protection off"),
                format!("write {:?}", known.first()),
            );
        }
    }
}

fn transport(text: &str, site: &Site, errors: &mut ConfigErrors) {
    let lower = text.to_ascii_lowercase();
    let age = lower.split(';').find_map(|part| part.trim().strip_prefix("max-age=")?.parse::<u64>().ok());
    match age {
        None => errors.warning(
            site,
            "has no max-age: browsers ignore it",
            "write \"max-age=31536000; includeSubDomains\"",
        ),
        Some(age) if age < 15_768_000 => {
            errors.warning(site, format!("{age} s are less than half a year"), "write max-age=31536000");
        }
        Some(age)
            if lower.contains("preload") && (age < 31_536_000 || !lower.contains("includesubdomains")) =>
        {
            errors.warning(
                site,
                "browsers' lists take no host with less than a year, or without its subdomains",
                "write \"max-age=31536000; includeSubDomains; preload\"",
            );
        }
        Some(_) => {}
    }
}

fn permissions(text: &str, site: &Site, errors: &mut ConfigErrors) {
    for (name, list) in text.split(',').filter_map(|part| part.trim().split_once('=')) {
        if list == "*" || list.contains('*') {
            errors.warning(
                &site.key(name),
                "every page in a frame may use it",
                format!("name who needs it, like \"{name}\": [\"self\"], or nobody: []"),
            );
        }
    }
}

/// Looks at a Content-Security-Policy as a whole.
fn policy(policy: &Directives, site: &Site, errors: &mut ConfigErrors) {
    let find =
        |name: &str| policy.0.iter().find(|(have, _)| have == name).map(|(_, sources)| sources.as_slice());
    for (at, (name, sources)) in policy.0.iter().enumerate() {
        let site = site.key(name);
        if !CSP_DIRECTIVES.contains(&name.as_str()) {
            errors.warning(&site, "is no directive that browsers know", nearest_hint(name, CSP_DIRECTIVES));
        }
        if policy.0.iter().take(at).any(|(have, _)| have == name) {
            errors.warning(&site, "stands twice: browsers take the first", "join the two");
        }
        if sources.len() > 1 && sources.iter().any(|source| source == "'none'") {
            errors.warning(&site, "'none' beside other sources means nothing", "take it out, or the others");
        }
        if let Some(source) = sources.iter().find(|source| source.starts_with("http:")) {
            errors.warning(&site, format!("`{source}` comes unencrypted"), "write https://");
        }
    }
    let scripts = ["script-src-elem", "script-src", "default-src"]
        .into_iter()
        .find_map(|name| Some((name, find(name)?)));
    match scripts {
        None => errors.warning(
            &site.key("script-src"),
            "is missing, and default-src too: every script runs",
            "write \"script-src\": [\"'nonce-{nonce}'\", \"'strict-dynamic'\"], or [\"'self'\"]",
        ),
        Some((name, sources)) => script_sources(sources, &site.key(name), errors),
    }
    if find("object-src").or_else(|| find("default-src")).is_none() {
        errors.warning(
            &site.key("object-src"),
            "is missing: plugins run scripts",
            "write \"object-src\": [\"'none'\"]",
        );
    }
    if find("base-uri").is_none() {
        errors.warning(
            &site.key("base-uri"),
            "is missing: an injected <base> redirects every relative script",
            "write \"base-uri\": [\"'none'\"]",
        );
    }
    if find("frame-ancestors").is_none() {
        errors.warning(
            &site.key("frame-ancestors"),
            "is missing: any page may put this one into a frame (clickjacking)",
            "write \"frame-ancestors\": [\"'none'\"]",
        );
    }
}

fn script_sources(sources: &[String], site: &Site, errors: &mut ConfigErrors) {
    let has = |word: &str| sources.iter().any(|source| source == word);
    let marked = sources.iter().any(|source| source.starts_with("'nonce-") || source.starts_with("'sha"));
    let mut weak = |source: &str, problem: &str, remedy: &str| {
        errors.warning(site, format!("`{source}` {problem}"), remedy);
    };
    if has("'unsafe-inline'") && !marked {
        weak(
            "'unsafe-inline'",
            "runs an injected script like your own",
            "mark your own with nonces: [\"'nonce-{nonce}'\", \"'strict-dynamic'\"], with `nonce` set",
        );
    }
    if has("'unsafe-eval'") {
        weak("'unsafe-eval'", "runs texts as code", "take it out; for WebAssembly write 'wasm-unsafe-eval'");
    }
    for source in sources {
        let fixed = source.strip_prefix("'nonce-").is_some_and(|rest| rest != "{nonce}'");
        let host = source.split_once("://").map_or(source.as_str(), |(_, host)| host);
        let host = host.split(['/', ':']).next().unwrap_or(host);
        if fixed {
            weak(source, "is always the same, so no secret", "write 'nonce-{nonce}'");
        } else if matches!(source.as_str(), "*" | "https:" | "http:" | "data:" | "blob:" | "filesystem:") {
            weak(source, "lets scripts from anywhere run", "name the hosts, or use nonces");
        } else if host.starts_with("*.") {
            weak(source, "trusts every host of that domain", "name the one that serves the scripts");
        } else if BYPASSES.contains(&host) {
            weak(
                source,
                "serves scripts that get around this policy",
                "serve the script yourself, or use nonces",
            );
        }
    }
}
