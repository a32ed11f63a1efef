//! Serialized objects: text or bytes that a language's reader turns into objects, running their code on the way.
//!
//! PHP (`O:8:"..":`), Java (`aced 0005`, base64 or hex), .NET's `BinaryFormatter`, Python's pickle, Ruby's Marshal,
//! node-serialize. Known by how they begin, so that ordinary base64 is not concerned.

use crate::bytes::{at, between, find, from, starts};
use crate::finding::{Family, Finding};

fn finding(confidence: u8, why: &'static str, at: usize) -> Option<Finding> {
    Some(Finding::new(Family::Object, confidence, why, at))
}

/// Looks at how a value begins: one comparison for most values.
pub(super) fn start(value: &[u8]) -> Option<Finding> {
    let value = value.trim_ascii_start();
    match at(value, 0) {
        b'r' if value.starts_with(b"rO0AB") => finding(86, "java-object", 0),
        b'H' if value.starts_with(b"H4sIAAAAAAAA") && value.len() > 200 => finding(50, "packed-object", 0),
        b'a' | b'A' if starts(value, b"aced0005") => finding(86, "java-object", 0),
        0xac if value.starts_with(b"\xac\xed\x00\x05") || value.starts_with(b"\xac\xed\x05") => {
            finding(86, "java-object", 0)
        }
        b'A' if value.starts_with(b"AAEAAAD/////") => finding(90, "dotnet-object", 0),
        // The same within a view state, at each place that base64 can shift it to.
        b'/' if value.starts_with(b"/wE")
            && [&b"AAEAAAD/////"[..], b"AAQAAAP////8", b"ABAAAA/////w"]
                .iter()
                .any(|start| find(between(value, 0, 64), start, 0).is_some()) =>
        {
            finding(90, "dotnet-object", 0)
        }
        b'B' if value.starts_with(b"BAh") && ruby(value) => {
            // What begins with an object, a class or a module; sessions begin with a hash (`BAh7`).
            let class = matches!(at(value, 3), b'v' | b'V' | b'j' | b'm' | b'l') && value.len() > 16;
            // An object by name, at once (`o:`) or as the first of a list (`[`, its length, `o:` or `u:`).
            let named = value.starts_with(b"BAhvOg")
                || value.starts_with(b"BAhb") && matches!(value.get(6..8), Some(b"86" | b"U6"));
            finding(if class || named { 80 } else { 60 }, "ruby-object", 0)
        }
        b'-' | b'!'
            if [&b"!ruby/"[..], b"--- !ruby/", b"- !ruby/"].iter().any(|start| value.starts_with(start)) =>
        {
            finding(84, "yaml-object", 0)
        }
        0x04 if value.starts_with(b"\x04\x08") && value.len() > 4 => finding(78, "ruby-object", 0),
        b'g' if value.starts_with(b"gAS") || value.starts_with(b"gAJ") || value.starts_with(b"gAN") => {
            // Ends with the opcode STOP, a dot.
            let stops = value.ends_with(b"Lg==") || value.ends_with(b"4=") || value.ends_with(b"u");
            match (value.len() >= 20, stops) {
                (true, true) => finding(80, "python-object", 0),
                (true, false) => finding(60, "python-object", 0),
                _ => None,
            }
        }
        0x80 if matches!(at(value, 1), 2..=5) && value.ends_with(b".") => finding(80, "python-object", 0),
        b'c' | b'(' if pickle(value) => finding(82, "python-object", 0),
        b'$' | b'_' if starts(value, b"_$$nd_func$$_") => finding(92, "node-object", 0),
        _ => None,
    }
}

/// The session of a Rails application begins this way as well; only what has a class in it counts.
fn ruby(value: &[u8]) -> bool {
    value.len() >= 8
        && value.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=' | b'-' | b'_'))
}

/// Protocol 0: a module and a name on lines of their own, as in `cos\nsystem\n`.
fn pickle(value: &[u8]) -> bool {
    let rest = from(value, usize::from(at(value, 0) == b'('));
    let mut lines = between(rest, 0, 64).split(|b| *b == b'\n');
    let (module, name) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    at(module, 0) == b'c'
        && !name.is_empty()
        && name.len() < 32
        && matches!(
            module.get(1..),
            Some(
                b"os"
                    | b"posix"
                    | b"nt"
                    | b"subprocess"
                    | b"builtins"
                    | b"__builtin__"
                    | b"commands"
                    | b"sys"
            )
        )
        && lines.next().is_some()
}

/// Looks for what may stand within other text: PHP's objects and node-serialize's functions. Linear in the value's length.
pub(super) fn within(value: &[u8]) -> Option<Finding> {
    if value.contains(&b'$') && find(value, b"_$$nd_func$$_", 0).is_some() {
        return finding(92, "node-object", 0);
    }
    let mut index = 0;
    while let Some(offset) = from(value, index).iter().position(|b| *b == b':') {
        let colon = index + offset;
        index = colon + 1;
        let letter = at(value, colon.wrapping_sub(1));
        if !matches!(letter, b'O' | b'o' | b'C' | b'c')
            || colon >= 2 && crate::bytes::is_word(at(value, colon - 2))
        {
            continue;
        }
        if php(from(value, colon + 1)) {
            return finding(88, "php-object", colon - 1);
        }
    }
    None
}

/// `8:"stdClass":`, or `+8:"..":` as filters are passed by.
fn php(rest: &[u8]) -> bool {
    let rest = rest.strip_prefix(b"+").unwrap_or(rest);
    let digits = rest.iter().take(6).take_while(|b| b.is_ascii_digit()).count();
    if digits == 0 || at(rest, digits) != b':' {
        return false;
    }
    let quoted = from(rest, digits + 1);
    let quoted = quoted.strip_prefix(b"\\").unwrap_or(quoted);
    let Some(name) = quoted.strip_prefix(b"\"").or_else(|| quoted.strip_prefix(b"'")) else { return false };
    let length = name.iter().take(256).take_while(|b| crate::bytes::is_word(**b) || **b == b'\\').count();
    length > 0
        && matches!(at(name, length), b'"' | b'\'' | b'\\')
        && between(name, length, length + 4).contains(&b':')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detect(value: &[u8]) -> Option<Finding> {
        start(value).or_else(|| within(value))
    }

    #[test]
    fn objects_of_each_language() {
        for attack in [
            &b"rO0ABXNyABFqYXZh"[..],
            b"\xac\xed\x00\x05sr",
            b"ACED0005",
            b"AAEAAAD/////AQAAAAAAAAA",
            b"\x04\x08o:\x0bObject",
            b"\x80\x04\x95\x1f.",
            b"cos\nsystem\n(S'id'\ntR.",
            b"{\"a\":\"_$$ND_FUNC$$_function(){}\"}",
            b"O:8:\"stdClass\":0:{}",
            b"a:1:{i:0;O:+3:\"Foo\":1:{s:1:\"a\";i:2;}}",
            b"C:11:\"ArrayObject\":37:{x:i:0;}",
            b"--- !ruby/object:Gem::Installer",
            b"BAhvOhJHZW06Okluc3RhbGxlcgA",
            b"BAhvOgpHZW1zCg==",
            b"BAhbCG86CEZvbwA=",
            b"- !ruby/hash:Some::Class",
            b"  rO0ABXNyABFqYXZh",
            b"/wEyxAcAAQAAAP////8BAAAAAAAAAAwCAAAA",
            b"gAJjcG9zaXgKc3lzdGVtCnEAWAIAAABpZHEBhXECUnEDLg==",
        ] {
            assert!(
                detect(attack).is_some_and(|f| f.confidence >= 70),
                "{}",
                String::from_utf8_lossy(attack)
            );
        }
        for fine in [
            &b"rO0B"[..],
            b"aced",
            b"To: 8:30",
            b"CO:2:1",
            b"cost\nof\nliving",
            b"ratio: 3:\"4\"",
            b"BAhello",
            b"BAhbB2kGaQc=",
            b"/wEPDwUKMTY3NzE5MjIyMGRk",
            b"- ruby/hash",
            b"BAh7B0kiD3Nlc3Npb25faWQGOgZFVA==",
            b"--- ruby/object",
            b"a:1:{s:1:\"x\";i:1;}",
        ] {
            assert!(detect(fine).is_none_or(|f| f.confidence < 70), "{}", String::from_utf8_lossy(fine));
        }
    }
}
