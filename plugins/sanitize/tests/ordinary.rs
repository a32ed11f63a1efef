//! Ordinary values pass: prose in ten languages and more, names, addresses, numbers of products, Markdown, talk about code.

use portcullis_sanitize::{Scope, inspect_value};

/// One value a line; `\\n` and `\\r` stand for line breaks.
const ORDINARY: &str = include_str!("ordinary.txt");
/// The same, of forums, shops, logs, search fields and interfaces: hundreds that pass as they are written.
const EVERYDAY: &str = include_str!("everyday.txt");

fn lines(text: &str) -> impl Iterator<Item = String> {
    text.lines().map(|line| line.replace("\\r", "\r").replace("\\n", "\n"))
}

fn values() -> impl Iterator<Item = String> {
    lines(ORDINARY)
}

fn finds(value: &[u8]) -> Option<String> {
    inspect_value(value, Scope::EVERY)
        .filter(|finding| finding.confidence >= 70)
        .map(|finding| format!("{} {} {}", finding.family.code(), finding.why, finding.confidence))
}

#[test]
fn ordinary_values_pass() {
    assert!(values().count() > 200);
    for value in values() {
        assert_eq!(finds(value.as_bytes()), None, "{value}");
    }
}

#[test]
fn everyday_values_pass_in_every_place() {
    use portcullis_sanitize::Place;
    assert!(lines(EVERYDAY).count() > 450);
    for value in lines(EVERYDAY) {
        assert_eq!(finds(value.as_bytes()), None, "{value}");
        let percent: String = value.bytes().map(|byte| format!("%{byte:02X}")).collect();
        assert_eq!(finds(percent.as_bytes()), None, "percent-encoded: {value}");
        for (place, name) in
            [(Place::Json, "text"), (Place::Form, "comment"), (Place::Text, ""), (Place::Multipart, "note")]
        {
            let scope = Scope { place, name: name.as_bytes(), ..Scope::EVERY };
            let found = inspect_value(value.as_bytes(), scope).filter(|finding| finding.confidence >= 70);
            // A header's line is no header in a text of several lines; the inspector knows, this function does not.
            let found = found.filter(|finding| finding.family != portcullis_sanitize::Family::Header);
            assert!(found.is_none(), "{place:?}: {value}");
        }
    }
}

#[test]
fn they_pass_in_upper_case_and_without_their_line_breaks() {
    for value in values() {
        assert_eq!(finds(value.to_uppercase().as_bytes()), None, "{}", value.to_uppercase());
        // A fence is one by the line that it stands on.
        if value.contains("```") {
            continue;
        }
        let joined = value.replace(['\r', '\n'], " ");
        assert_eq!(finds(joined.as_bytes()), None, "{joined}");
    }
}

#[test]
fn they_pass_when_they_are_encoded() {
    for value in values() {
        let percent: String = value.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let hexadecimal: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
        let references: String = value.chars().map(|letter| format!("&#{};", u32::from(letter))).collect();
        for encoded in [percent, hexadecimal, references] {
            assert_eq!(finds(encoded.as_bytes()), None, "{value}");
        }
    }
}

#[test]
fn they_pass_side_by_side() {
    let all: Vec<String> = values().filter(|value| !value.contains('\n')).collect();
    for pair in all.windows(2) {
        let both = format!("{}, {}", pair[0], pair[1]);
        // Two halves may make a whole that is an attack: quotes that meet. Only prose is put together here.
        if !both.contains(['\'', '"', '`', '=', '<', '(']) {
            assert_eq!(finds(both.as_bytes()), None, "{both}");
        }
    }
}
