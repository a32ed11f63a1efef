//! URLs where a server should not be sent, or a visitor should not: server-side request forgery, remote file inclusion,
//! open redirects.
//!
//! Only a value that is a URL from its start is looked at, as browsers and libraries read it: any slashes, any spelling
//! of an address. Not found on purpose: a plain URL of another site, in whatever parameter; a redirect to a local
//! address, as native applications have it (RFC 8252).

mod host;

use crate::bytes::{at, between, find, from, is_space, starts};
use crate::detect::Scope;
use crate::finding::{Family, Finding, surer};
use crate::lexicon::Lexicon;
use host::Reach;

/// How sure a finding must be in a header.
const SURE_IN_HEADER: u8 = 80;
/// Bytes of a host. More: cut.
const HOST_BYTES: usize = 255;

/// Schemes that only make sense to a server that is sent somewhere. Sorted.
static SCHEMES: Lexicon = Lexicon::new(&[
    "dict",
    "gopher",
    "http+unix",
    "imap",
    "ldap",
    "ldapi",
    "ldaps",
    "netdoc",
    "pop3",
    "rmi",
    "sftp",
    "smb",
    "smtp",
    "telnet",
    "tftp",
]);

/// Schemes that hold another URL. Sorted.
static NESTING: Lexicon = Lexicon::new(&["jar", "unix", "url"]);

/// A value read as a URL.
struct Url<'a> {
    scheme: &'a [u8],
    /// What stands between the scheme and the host.
    slashes: &'a [u8],
    userinfo: &'a [u8],
    host: &'a [u8],
    /// Path, query and fragment.
    rest: &'a [u8],
    /// Control characters or white space stood where none belongs.
    hidden: bool,
}

/// Looks at a value that is a URL. Linear in its length.
pub(super) fn detect(value: &[u8], scope: Scope<'_>) -> Option<Finding> {
    let mut found = metadata(value);
    // A URL that is handed to another reader: `jar:http://..!/`, `url:file://..`, `unix:..|http://..`.
    let (value, nested) = match find(between(value, 0, 8), b":", 0) {
        Some(colon) if colon < 5 && NESTING.has(between(value, 0, colon)) => (from(value, colon + 1), true),
        _ => (value, false),
    };
    let socket = nested && at(value, 0) == b'/' || starts(value, b"http://unix:/");
    if nested && (read(value).is_some() || find(value, b"|http", 0).is_some()) || socket {
        found = surer(found, Some(Finding::new(Family::Ssrf, 80, "nested-url", 0)));
    }
    let Some(url) = read(value) else { return found };
    let named = |list: &[&[u8]]| list.iter().any(|part| find(between(scope.name, 0, 64), part, 0).is_some());
    let (target, file) = (named(&TARGETS), named(&FILES));
    found = surer(found, scheme(&url));
    found = surer(found, ssrf(&url, target, named(&RETURNS)));
    if !scope.is_name {
        found = surer(found, redirect(&url, target));
        found = surer(found, include(&url, target, file));
    }
    found
}

/// Looks at a header that is a URL from its start. Addresses of the own network are ordinary there: where the visitor came
/// from, what another proxy saw. What is left are those that nobody comes from.
pub(super) fn in_header(value: &[u8], scope: Scope<'_>) -> Option<Finding> {
    find(between(value, 0, 24), b"://", 0)?;
    detect(value, scope)
        .filter(|finding| finding.family == Family::Ssrf && finding.confidence >= SURE_IN_HEADER)
}

/// Parts of the names of parameters that hold where to go next.
const TARGETS: [&[u8]; 16] = [
    b"redir",
    b"return",
    b"next",
    b"goto",
    b"dest",
    b"continue",
    b"target",
    b"rurl",
    b"forward",
    b"back",
    b"url",
    b"uri",
    b"link",
    b"origin",
    b"referer",
    b"referrer",
];
/// Those of them that a visitor is sent to, and not the server: a page of the own network may be meant.
const RETURNS: [&[u8]; 9] =
    [b"redir", b"return", b"next", b"goto", b"continue", b"forward", b"back", b"referer", b"referrer"];
/// Parts of the names of parameters that hold a file of the application.
const FILES: [&[u8]; 12] = [
    b"file",
    b"page",
    b"path",
    b"include",
    b"template",
    b"root",
    b"dir",
    b"module",
    b"load",
    b"require",
    b"conf",
    b"lang",
];

/// Reads a value as a URL; `None` when it is none.
fn read(value: &[u8]) -> Option<Url<'_>> {
    let begin = value.iter().position(|b| !is_space(*b) && *b >= 0x20)?;
    let text = from(value, begin);
    let name = text
        .iter()
        .take(20)
        .take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'.' | b'-'))
        .count();
    let (scheme, behind) = if name > 1 && at(text, name) == b':' {
        (between(text, 0, name), from(text, name + 1))
    } else {
        (&b""[..], text)
    };
    let slash = |b: &u8| matches!(b, b'/' | b'\\' | b'\t' | b'\r' | b'\n');
    let slashes = behind.iter().take(16).take_while(|b| slash(b)).count();
    let lead = between(behind, 0, slashes);
    let real = lead.iter().filter(|b| matches!(b, b'/' | b'\\')).count();
    let web = scheme.eq_ignore_ascii_case(b"http") || scheme.eq_ignore_ascii_case(b"https");
    // `https:evil.example` is a URL to browsers; `name:value` is none.
    let short = web && !behind.is_empty() && !is_space(at(behind, 0));
    if real < 2 && !short {
        return None;
    }
    let after = from(behind, slashes);
    let end =
        after.iter().position(|b| matches!(b, b'/' | b'?' | b'#') || is_space(*b)).unwrap_or(after.len());
    // Browsers take a backslash for a slash; with an `@` behind it, readers differ, and that is told below.
    let slash = between(after, 0, end).iter().position(|b| *b == b'\\');
    let end = slash.filter(|_| !between(after, 0, end).contains(&b'@')).unwrap_or(end);
    let authority = between(after, 0, end);
    let (userinfo, place) = match authority.iter().rposition(|b| *b == b'@') {
        Some(sign) => (between(authority, 0, sign), from(authority, sign + 1)),
        None => (&b""[..], authority),
    };
    let host = match at(place, 0) {
        b'[' => {
            between(place, 0, place.iter().position(|b| *b == b']').map_or(place.len(), |close| close + 1))
        }
        _ => between(place, 0, place.iter().position(|b| *b == b':').unwrap_or(place.len())),
    };
    let hidden = begin > 0 && value.iter().take(begin).any(|b| *b != b' ') || real != slashes;
    Some(Url {
        scheme,
        slashes: lead,
        userinfo,
        host: between(host, 0, HOST_BYTES),
        rest: from(after, end),
        hidden,
    })
}

/// The address of a cloud's metadata service, with or without a scheme.
fn metadata(value: &[u8]) -> Option<Finding> {
    let start = find(value, b"169.254.169.254", 0).or_else(|| find(value, b"metadata.google.internal", 0))?;
    let alone = !value.iter().any(|b| is_space(*b));
    Some(Finding::new(Family::Ssrf, if alone { 88 } else { 60 }, "metadata-service", start))
}

fn scheme(url: &Url<'_>) -> Option<Finding> {
    if !url.slashes.starts_with(b"//") {
        return None;
    }
    if SCHEMES.has(url.scheme) {
        return Some(Finding::new(Family::Ssrf, 85, "scheme", 0));
    }
    let wrapper = starts(url.scheme, b"compress.")
        || starts(url.scheme, b"ssh2.")
        || url.scheme.eq_ignore_ascii_case(b"data");
    wrapper.then(|| Finding::new(Family::Include, 85, "wrapper", 0))
}

fn ssrf(url: &Url<'_>, target: bool, returns: bool) -> Option<Finding> {
    let reach = host::reach(url.host)?;
    let (confidence, why) = match reach {
        Reach::Metadata => (92, "metadata-service"),
        Reach::Disguised => (85, "disguised-address"),
        Reach::Callback => (80, "callback-host"),
        Reach::LinkLocal => (80, "link-local"),
        Reach::Loopback if !target => (76, "loopback"),
        Reach::Private if !target => (70, "private-address"),
        // What a development server or a native application is sent back to.
        Reach::Loopback | Reach::Private
            if starts(url.rest, b"/") && find(url.rest, b"callback", 0).is_some() =>
        {
            (40, "loopback")
        }
        Reach::Loopback => (72, "loopback"),
        Reach::Private if returns => (60, "private-address"),
        Reach::Private => (72, "private-address"),
        Reach::Address => (50, "address"),
    };
    Some(Finding::new(Family::Ssrf, confidence, why, 0))
}

fn redirect(url: &Url<'_>, target: bool) -> Option<Finding> {
    let found = |confidence, why| Some(Finding::new(Family::Redirect, confidence, why, 0));
    let dotted = (url.host.contains(&b'.') || url.host.windows(3).any(|part| part == b"\xe3\x80\x82"))
        && url.host.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | 0x80..));
    if !dotted {
        return None;
    }
    // `https://shop.example@evil.example`: what stands before the sign looks like the host.
    if !url.userinfo.is_empty() {
        let posed = url.userinfo.contains(&b'.') && !url.userinfo.contains(&b':')
            || url.userinfo.contains(&b'\\')
            || find(url.userinfo, b"%", 0).is_some();
        return if posed && (target || !url.scheme.is_empty()) {
            found(if target { 80 } else { 72 }, "userinfo")
        } else {
            None
        };
    }
    let odd = url.hidden
        || url.rest.starts_with(b"\\")
        || url.slashes.contains(&b'\\') && url.slashes.starts_with(b"/")
        || url.slashes.len() > 2
        || !url.scheme.is_empty() && url.slashes.len() < 2
        || url.host.windows(3).any(|part| part == b"\xe3\x80\x82");
    match (odd, url.scheme.is_empty(), target) {
        (true, _, true) => found(82, "disguised-target"),
        (true, true, false) if url.rest.len() < 200 && url.slashes.contains(&b'\\') => {
            found(72, "disguised-target")
        }
        (_, true, true) if url.slashes == b"//" || url.slashes == b"\\\\" => found(74, "relative-target"),
        _ => None,
    }
}

fn include(url: &Url<'_>, target: bool, file: bool) -> Option<Finding> {
    let found = |confidence, why| Some(Finding::new(Family::Include, confidence, why, 0));
    let fetched = ["http", "https", "ftp", "ftps"]
        .iter()
        .any(|scheme| url.scheme.eq_ignore_ascii_case(scheme.as_bytes()));
    // A share of Windows.
    if url.scheme.is_empty() && url.slashes == b"\\\\" && url.host.contains(&b'.') && starts(url.rest, b"\\")
    {
        return found(if file { 78 } else { 60 }, "remote-share");
    }
    if !fetched || url.slashes != b"//" {
        return None;
    }
    // What the application appends becomes a query: `http://evil.example/shell.txt?`.
    let cut = url.rest.ends_with(b"?")
        || url.rest.ends_with(b"?\0")
        || url.rest.ends_with(b"\0")
        || url.rest.ends_with(b"??");
    let path = between(
        url.rest,
        0,
        url.rest.iter().position(|b| matches!(b, b'?' | b'#')).unwrap_or(url.rest.len()),
    );
    const SCRIPTS: [&[u8]; 8] = [b".txt", b".php", b".phtml", b".inc", b".asp", b".jsp", b".cgi", b".pl"];
    let script = SCRIPTS
        .iter()
        .any(|end| path.len().checked_sub(end.len()).is_some_and(|start| starts(from(path, start), end)));
    let address = host::reach(url.host) == Some(Reach::Address);
    match (file && !target, cut, script) {
        (true, true, _) | (true, _, true) => found(82, "remote-file"),
        (_, true, _) if !target || script => found(74, "remote-file"),
        (true, ..) if address => found(76, "remote-file"),
        (true, ..) => found(55, "remote-file"),
        (_, _, true) if address || starts(url.scheme, b"ftp") => found(76, "remote-file"),
        _ if address && !target => found(72, "remote-address"),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
