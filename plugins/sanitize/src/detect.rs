//! One value through all detectors: as it is, and in the forms in which an application may come to see it.

use std::borrow::Cow;

use crate::decode;
use crate::finding::{Families, Family, Finding, surer};
use crate::marks::{self, Marks};
use crate::place::Place;
use crate::{html, lookup, markdown, path, server, shell, sql};

/// From here on, no further detector is asked.
const SURE: u8 = 85;

/// How a value is read.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'n> {
    /// What is looked for.
    pub families: Families,
    /// Where the value stands. Climbing out of the request's own path is an attack, whatever it reaches.
    pub place: Place,
    /// The value is a parameter's name.
    pub is_name: bool,
    /// The parameter's name: some values are attacks only where a file or a target is expected.
    pub name: &'n [u8],
}

impl Scope<'static> {
    /// Everything, in a parameter's value.
    pub const EVERY: Self =
        Self { families: Families::EVERY, place: Place::Query, is_name: false, name: b"" };
}

/// Inspects one value, from which the encoding of its place (percent escapes, JSON escapes) was already taken. Linear in
/// its length; allocates only when there is something to decode.
pub fn inspect(value: &[u8], scope: Scope<'_>) -> Option<Finding> {
    let marks = Marks::of(value);
    let mut found = server::plain(value, scope);
    if marks.is_plain() && value.len() < decode::SHORTEST {
        return found;
    }
    if !marks.is_plain() {
        found = surer(found, form(value, marks, scope));
        if is_sure(found) {
            return found;
        }
    }
    decoded(value, marks, scope, found)
}

/// How often a value that is encoded as a whole is decoded: base64 of base64.
const WHOLE: usize = 2;

/// The forms that a value may take before it is used, up to the first that is surely an attack.
fn decoded(value: &[u8], marks: Marks, scope: Scope<'_>, mut found: Option<Finding>) -> Option<Finding> {
    let (mut value, mut marks) = (Cow::Borrowed(value), marks);
    for round in 0..=WHOLE {
        if marks.may_be_encoded()
            && let Some(peeled) = decode::peel(&value)
        {
            marks = Marks::of(&peeled);
            value = Cow::Owned(peeled);
            found = surer(found, server::plain(&value, scope));
            found = surer(found, form(&value, marks, scope));
        }
        if marks.any(marks::BACKSLASH)
            && !is_sure(found)
            && let Some(style) = decode::peel_style(&value)
        {
            let families = Families::NONE.with(Family::Xss);
            let scope = Scope {
                families: if scope.families.contains(Family::Xss) { families } else { Families::NONE },
                ..scope
            };
            found = surer(found, form(&style, Marks::of(&style), scope));
        }
        if marks.any(marks::COMMENT)
            && !is_sure(found)
            && let Some(bare) = decode::without_comments(&value)
        {
            found = surer(found, form(&bare, Marks::of(&bare), scope));
        }
        if round == WHOLE || is_sure(found) {
            break;
        }
        let Some(whole) = decode::whole(&value, marks) else { break };
        marks = Marks::of(&whole);
        value = Cow::Owned(whole);
        found = surer(found, server::plain(&value, scope));
        found = surer(found, form(&value, marks, scope));
    }
    found
}

fn is_sure(found: Option<Finding>) -> bool {
    found.is_some_and(|finding| finding.confidence >= SURE)
}

/// Runs the detectors that the marks do not rule out over one form of a value.
fn form(value: &[u8], marks: Marks, scope: Scope<'_>) -> Option<Finding> {
    if marks.is_plain() {
        return None;
    }
    let families = scope.families;
    let wants = |family| families.contains(family);
    // What talks about code is no code, in places that hold texts.
    let texts = !matches!(scope.place, Place::Path | Place::Header | Place::Cookie)
        && marks.any(marks::SPACE | marks::LINE);
    let blocks = if texts && marks.any(marks::LINE) { markdown::without_blocks(value) } else { None };
    let commands = blocks.as_deref().unwrap_or(value);
    let spans = if texts && marks.any(marks::QUOTE) { markdown::without_spans(commands) } else { None };
    let code = spans.as_deref().unwrap_or(commands);
    let mut found = None;
    let mut take = |finding: Option<Finding>| {
        found = surer(found, finding.filter(|finding| families.contains(finding.family)));
        is_sure(found)
    };
    let sure = wants(Family::Sql) && marks.may_be_sql() && take(sql::detect(value, marks))
        || marks.may_be_markup()
            && (wants(Family::Xss) || wants(Family::Entity) || wants(Family::Code))
            && take(html::detect(value, code, marks))
        || wants(Family::Path)
            && (marks.may_be_path()
                || marks.any(marks::COLON)
                || path::is_padded(value)
                || path::is_system(value))
            && take(path::detect(value, marks, scope.place == Place::Path))
        || wants(Family::Command) && marks.may_be_shell() && take(shell::detect(commands))
        || wants(Family::Lookup) && marks.any(marks::DOLLAR) && take(lookup::lookup(value));
    if !sure && wants(Family::Header) && marks.any(marks::LINE | marks::HIGH) {
        let text = !matches!(scope.place, Place::Path | Place::Query | Place::Cookie | Place::Header);
        take(lookup::header_break(value, text));
    }
    if !is_sure(found) {
        found = surer(found, server::detect(value, code, marks, scope));
    }
    found.map(|finding: Finding| finding.shown_in(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family(value: &str) -> Option<Family> {
        inspect(value.as_bytes(), Scope::EVERY)
            .filter(|finding| finding.confidence >= 70)
            .map(|finding| finding.family)
    }

    #[test]
    fn an_attack_is_found_under_each_encoding() {
        for encoded in [
            "<script>go()</script>",
            "%3Cscript%3Ego()%3C/script%3E",
            "%253Cscript%253Ego()%253C/script%253E",
            "&lt;script&gt;go()&lt;/script&gt;",
            "&#60;script&#x3e;go()",
            "\\u003cscript\\u003ego()",
            "\\x3cscript\\x3ego()",
            "%u003cscript%u003ego()",
            "\u{ff1c}script\u{ff1e}go()",
            "<scr\0ipt>go()",
            "PHNjcmlwdD5nbygpPC9zY3JpcHQ+",
            "JTNDc2NyaXB0JTNFZ28oKSUzQy9zY3JpcHQlM0U=",
            "UEhOamNtbHdkRDVuYnlncFBDOXpZM0pwY0hRKw==",
            "PHNjcmlwdD5nbygpPC9zY3JpcHQ%2B",
            "data:text/plain;base64,PHNjcmlwdD5nbygpPC9zY3JpcHQ+",
            "3c7363726970743e676f28293c2f7363726970743e",
            "+ADw-script+AD4-go()",
            "\\74script\\76go()",
            "\\3c script\\3e go()",
            "<scr/**/ipt>go()",
            "0x3c7376672f6f6e6c6f61643d676f28293e",
        ] {
            assert_eq!(family(encoded), Some(Family::Xss), "{encoded}");
        }
    }

    #[test]
    fn short_values_and_objects_are_found_under_their_encodings_too() {
        for (encoded, expected) in [
            ("fCBpZA==", Family::Command),
            ("7c206964", Family::Command),
            ("e3s3Kjd9fQ==", Family::Template),
            ("7b7b372a377d7d", Family::Template),
            ("AAEAAAD%2F%2F%2F%2F%2FAQAAAAAAAAAM", Family::Object),
            ("ck8wQUJYTnlBQkZxWVhaaExuVjBhV3d1U0dGemFFMWhjQT09", Family::Object),
        ] {
            assert_eq!(family(encoded), Some(expected), "{encoded}");
        }
    }

    #[test]
    fn code_that_is_quoted_hides_none_that_is_not() {
        for attack in [
            "See:\n```sh\nls\n```\n; cat /etc/passwd",
            "These are three words `a` and `b`; $(cat /etc/passwd)",
            "```\n' union select name from members --\n```",
            "Do it as `told` here: <script>go()</script>",
        ] {
            assert!(family(attack).is_some(), "{attack}");
        }
    }

    #[test]
    fn what_only_looks_encoded_passes() {
        for fine in [
            "100% sure & happy",
            "AT&amp;T",
            "Caf\u{e9} \u{4e16}\u{754c}",
            "YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXo=",
            "SGVsbG8sIHRoaXMgaXMgYSBncmVldGluZyBpbiBiYXNlNjQu",
            "550e8400-e29b-41d4-a716-446655440000",
            "C:\\new\\folder",
        ] {
            assert_eq!(family(fine), None, "{fine}");
        }
    }

    #[test]
    fn a_family_that_is_not_wanted_is_not_reported() {
        let scope =
            Scope { families: Families::EVERY.without(Families::NONE.with(Family::Xss)), ..Scope::EVERY };
        assert!(inspect(b"<script>go()</script>", scope).is_none_or(|finding| finding.family != Family::Xss));
        let only = Scope { families: Families::NONE.with(Family::Sql), ..Scope::EVERY };
        assert_eq!(inspect(b"x' or 1=1 --", only).map(|finding| finding.family), Some(Family::Sql));
    }
}
