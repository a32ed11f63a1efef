//! LDAP filters (RFC 4515) and XPath: text that closes what it stands in and goes on with a condition of its own.

use crate::bytes::{at, between, find, from, is_word, skip_space, starts, word_end};
use crate::finding::{Family, Finding};
use crate::lexicon::Lexicon;

/// Looks for an LDAP filter, or for a value that breaks out of one. Linear in the value's length.
pub(super) fn ldap(value: &[u8]) -> Option<Finding> {
    let mut depth = 0_u32;
    let mut index = 0;
    while index < value.len() {
        match at(value, index) {
            b'(' => {
                let inside = skip_space(between(value, 0, index + 16), index + 1);
                let junction = matches!(at(value, inside), b'&' | b'|' | b'!')
                    && at(value, skip_space(between(value, 0, inside + 16), inside + 1)) == b'(';
                if junction
                    && condition(from(value, skip_space(between(value, 0, inside + 16), inside + 1) + 1))
                {
                    return Some(Finding::new(Family::Ldap, 80, "ldap-filter", index));
                }
                // `*()|`: what is tried to see whether anything is escaped.
                if at(value, index.wrapping_sub(1)) == b'*' && starts(from(value, index), b"()|") {
                    return Some(Finding::new(Family::Ldap, 76, "ldap-break", index));
                }
                depth += 1;
            }
            b')' if depth > 0 => depth -= 1,
            b')' => {
                if let Some(confidence) = breaks(value, index) {
                    return Some(Finding::new(Family::Ldap, confidence, "ldap-break", index));
                }
            }
            _ => {}
        }
        index += 1;
    }
    None
}

/// What follows a parenthesis that closes more than the value opened.
fn breaks(value: &[u8], close: usize) -> Option<u8> {
    let mut index = close;
    while at(value, index) == b')' && index < close + 16 {
        index += 1;
    }
    let open = skip_space(between(value, 0, index + 16), index);
    let star = at(value, close.wrapping_sub(1)) == b'*';
    match at(value, open) {
        0 if star && open > value.len().saturating_sub(1) && index > close + 1 => Some(72),
        0 if open < value.len() => Some(78),
        b'&' | b'|' if at(value, skip_space(value, open + 1)) == b'(' => Some(82),
        b'(' => {
            let mut inside = skip_space(between(value, 0, open + 16), open + 1);
            // `*)((|uid=*`: some parsers skip what is too much.
            if at(value, inside) == b'(' && matches!(at(value, inside + 1), b'&' | b'|' | b'!') {
                inside += 1;
            }
            let junction = matches!(at(value, inside), b'&' | b'|' | b'!')
                && matches!(at(value, inside + 1), b'(' | b')' | 0);
            if junction || condition(from(value, inside)) {
                Some(if star || junction { 86 } else { 76 })
            } else {
                None
            }
        }
        _ => None,
    }
}

/// `uid=`, `cn>=`, `objectClass=*`: an attribute and a comparison.
fn condition(rest: &[u8]) -> bool {
    let rest = rest
        .strip_prefix(b"&")
        .or_else(|| rest.strip_prefix(b"|"))
        .or_else(|| rest.strip_prefix(b"!("))
        .unwrap_or(rest);
    let name =
        rest.iter().take(64).take_while(|b| is_word(**b) || matches!(b, b'-' | b'.' | b':' | b';')).count();
    let operator = from(rest, name);
    name > 0
        && (starts(operator, b"=") && at(operator, 1) != b'=' && !starts(operator, b"=>")
            || starts(operator, b">=")
            || starts(operator, b"<=")
            || starts(operator, b"~="))
}

/// Functions of XPath that ask about a document. Sorted.
static FUNCTIONS: Lexicon =
    Lexicon::new(&["comment", "count", "doc", "document", "last", "name", "node", "position", "text"]);

/// Looks for a piece of XPath that was meant to be a value. Linear in the value's length.
pub(super) fn xpath(value: &[u8]) -> Option<Finding> {
    let mut index = 0;
    while index < value.len() {
        match at(value, index) {
            b'/' | b':' | b'[' | b'|' | b'\'' | b'"' | b'(' => {
                if let Some(confidence) = step(value, index) {
                    return Some(Finding::new(Family::Xpath, confidence, "xpath", index));
                }
            }
            _ => {}
        }
        index += 1;
    }
    None
}

fn step(value: &[u8], index: usize) -> Option<u8> {
    let rest = from(value, index);
    match at(rest, 0) {
        b'/' | b':' => node(value, rest),
        b'|' => union(value, rest, index),
        b'(' => argument(value, rest, index),
        b'[' => predicate(value, rest, index),
        _ => condition_behind(rest),
    }
}

/// `//node()`, `/text()`, `::node()`.
fn node(value: &[u8], rest: &[u8]) -> Option<u8> {
    let lead = if starts(rest, b"//") || starts(rest, b"::") { 2 } else { 1 };
    let word = from(rest, lead);
    let end = word_end(word, 0).min(16);
    if end == 0 || !FUNCTIONS.has(between(word, 0, end)) || !starts(from(word, end), b"()") {
        return None;
    }
    let broken = value.iter().any(|b| matches!(b, b'\'' | b'"' | b']' | b'[' | b'|'));
    Some(if broken { 80 } else { 60 })
}

/// `'] | //user/*`.
fn union(value: &[u8], rest: &[u8], index: usize) -> Option<u8> {
    let path = from(rest, skip_space(between(rest, 0, 16), 1));
    let before = between(value, index.saturating_sub(16), index).trim_ascii_end();
    let closes = matches!(before.last(), Some(b'\'' | b'"' | b']' | b')'));
    (starts(path, b"//*") || closes && starts(path, b"//") && is_word(at(path, 2))).then_some(80)
}

/// `count(/*)`, `string-length(//user[1])`, `substring((//user)[1]`; no comment of a programming language.
fn argument(value: &[u8], rest: &[u8], index: usize) -> Option<u8> {
    let inside = from(rest, 1);
    // What XSLT and XPath 3 read files and call servers with.
    const READING: [&[u8]; 6] =
        [b"document", b"doc-available", b"unparsed-text", b"system-property", b"php:function", b"doc"];
    let before = between(value, index.saturating_sub(16), index);
    let reads = READING.iter().any(|name| {
        let start = before.len().saturating_sub(name.len());
        before.len() >= name.len()
            && starts(from(before, start), name)
            && (start == 0 || !is_word(at(before, start - 1)) && at(before, start - 1) != b'.')
    });
    if reads && matches!(at(inside, 0), b'\'' | b'"') {
        return Some(76);
    }
    let called = is_word(at(value, index.wrapping_sub(1)));
    let nested = starts(inside, b"(//") || starts(inside, b"//") || starts(inside, b"/*");
    let comment = starts(inside, b"//*") || find(between(inside, 0, 64), b"*/", 0).is_some();
    // `count(/child::node())`, `name(/descendant::a)`.
    let axis = starts(inside, b"/") && find(between(inside, 0, 24), b"::", 0).is_some();
    if called && axis {
        return Some(76);
    }
    let named = at(inside, 2).is_ascii_alphabetic() || at(inside, 3).is_ascii_alphabetic();
    let path = named || starts(inside, b"/*[") || starts(inside, b"/*)");
    (called && nested && !comment && path).then_some(74)
}

/// `[name(`, `[contains(`: sure behind a quote or a path.
fn predicate(value: &[u8], rest: &[u8], index: usize) -> Option<u8> {
    const ASKING: [&[u8]; 4] = [b"[name(", b"[position(", b"[contains(", b"[starts-with("];
    if !ASKING.iter().any(|call| starts(rest, call)) {
        return None;
    }
    let broken = value.iter().take(index).any(|b| matches!(b, b'\'' | b'"' | b'/'));
    Some(if broken { 76 } else { 50 })
}

/// `' or count(..)`, `' and name()='x`.
fn condition_behind(rest: &[u8]) -> Option<u8> {
    const ASKED: [&[u8]; 9] = [
        b"count(",
        b"name(",
        b"string-length(",
        b"position(",
        b"starts-with(",
        b"contains(",
        b"substring(name",
        b"text(",
        b"local-name(",
    ];
    let closed = rest.iter().skip(1).take(8).take_while(|b| matches!(b, b')' | b']')).count();
    let after = from(rest, skip_space(between(rest, 0, 16), 1 + closed));
    let logic = match after {
        _ if starts(after, b"or ") => 3,
        _ if starts(after, b"and ") => 4,
        _ => return None,
    };
    let call = from(after, skip_space(between(after, 0, 16), logic));
    ASKED.iter().any(|name| starts(call, name)).then_some(84)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_that_are_broken_out_of() {
        for attack in [
            "*)(uid=*))(|(uid=*",
            "admin)(&)",
            "x)(|(password=*)",
            "*)(objectClass=*",
            "(&(objectClass=user)(cn=*))",
            "admin)(!(&(1=0",
            "bar)|(cn=*",
            "*)((|userPassword=*)",
            "*()|&'",
        ] {
            assert!(ldap(attack.as_bytes()).is_some_and(|f| f.confidence >= 70), "{attack}");
        }
        for fine in [
            "f(x) = (y)",
            "(a) and (b)",
            "see above) (see below)",
            "Smith (the elder)",
            ":-) (great!)",
            "if (a == b) (c)",
            "a) first (b) second",
            "f()|g",
        ] {
            assert!(ldap(fine.as_bytes()).is_none_or(|f| f.confidence < 70), "{fine}");
        }
    }

    #[test]
    fn paths_that_ask_about_the_document() {
        assert!(FUNCTIONS.words().is_sorted());
        for attack in [
            "' or count(//user)>1 or 'a'='b",
            "x'] | //user/password | a['",
            "'] | //* | //*['",
            "' and name(/*)='x",
            "a']/parent::node()/text()['",
            "' or string-length(//user[1]/name)=4 or '",
            "count(/child::node())",
            "document('/etc/hosts')",
            "system-property('xsl:vendor')",
            "doc('http://x.test')",
            "php:function('f','a')",
            "doc-available('file:///etc/hosts')",
            "') or contains(name,'adm') or contains(.,'x'",
        ] {
            assert!(xpath(attack.as_bytes()).is_some_and(|f| f.confidence >= 70), "{attack}");
        }
        for fine in [
            "https://shop.example/a(b)",
            "count (of) Monte Cristo",
            "'tis or count me in",
            "the doc (available)",
            "('a') or contains it",
            "http://a.test/x | http://b.test/y",
            "a/b [c] 'd'",
            "text() is a function",
            "window.document('a')",
            "the document ('final')",
            "jsdoc('a')",
        ] {
            assert!(xpath(fine.as_bytes()).is_none_or(|f| f.confidence < 70), "{fine}");
        }
    }
}
