//! What is meant for the application's server rather than its database, its pages or its shell.
//!
//! [`code`] knows the programming languages, [`template`] the templates, [`object`] what is read back into objects,
//! [`url`] where a server should not be sent, [`filter`] LDAP and XPath, [`key`] names that are operators, and [`mail`]
//! the line-based protocols. Each looks only at values that the marks leave to it.

pub(crate) mod code;
mod filter;
mod key;
mod mail;
mod object;
mod template;
mod url;

use crate::detect::Scope;
use crate::finding::{Family, Finding, surer};
use crate::marks::{self, Marks};
use crate::place::Place;
use crate::scanner;

/// What is found in values of letters and digits alone as well: objects that some language reads back, and keys.
pub(crate) fn plain(value: &[u8], scope: Scope<'_>) -> Option<Finding> {
    let found = object::start(value).or_else(|| if scope.is_name { key::plain(value) } else { None });
    found.filter(|finding| scope.families.contains(finding.family)).map(|finding| finding.shown_in(value))
}

/// Runs the detectors that the marks do not rule out. `quoted_out`: the value without the code
/// that it only talks about. Linear in its length.
pub(crate) fn detect(value: &[u8], quoted_out: &[u8], marks: Marks, scope: Scope<'_>) -> Option<Finding> {
    let wants = |family| scope.families.contains(family);
    let mut found = None;
    let mut take = |finding: Option<Finding>| {
        found = surer(found, finding.filter(|finding| wants(finding.family)));
    };
    if (marks.may_be_code() || marks.any(marks::ANGLE | marks::BRACE)) && wants(Family::Code) {
        take(code::detect(quoted_out, marks));
    }
    let directive = marks.any(marks::PAREN) && marks.any(marks::OPERATOR);
    if (marks.any(marks::BRACE | marks::ANGLE | marks::PERCENT) || directive) && wants(Family::Template) {
        take(template::detect(value));
    }
    if scope.is_name
        || marks.any(marks::SCRIPT_WORD | marks::DOLLAR)
        || marks.any(marks::QUOTE) && marks.any(marks::SEMI)
        || marks.any(marks::PAREN) && (value.starts_with(b"db.") || marks.any(marks::SEMI))
    {
        take(key::detect(quoted_out, marks, scope.is_name));
    }
    let parameter = !matches!(scope.place, Place::Header | Place::Path);
    let is_url = marks.any(marks::SLASH | marks::BACKSLASH | marks::COLON)
        && marks.any(marks::DOT | marks::SLASH | marks::BACKSLASH);
    if parameter && (is_url || value == b"169.254.169.254") {
        take(url::detect(quoted_out, scope));
    } else if !parameter && marks.any(marks::COLON) && marks.any(marks::SLASH) {
        take(url::in_header(value, scope));
    }
    if marks.any(marks::PAREN)
        && marks.any(marks::EQUALS | marks::AMP | marks::PIPE | marks::CONTROL)
        && wants(Family::Ldap)
    {
        take(filter::ldap(value));
    }
    if parameter
        && marks.any(marks::SLASH | marks::COLON | marks::QUOTE)
        && marks.any(marks::PAREN | marks::BRACE | marks::PIPE)
    {
        take(filter::xpath(value));
    }
    if marks.any(marks::LINE) {
        take(mail::detect(value, scope));
    }
    if marks.any(marks::COLON) && marks.any(marks::QUOTE | marks::OPERATOR) && wants(Family::Object) {
        take(object::within(value));
    }
    if marks.any(marks::CONTROL) && value.contains(&0) {
        take(Some(Finding::new(Family::Protocol, 80, "null-byte", 0)));
    }
    if marks.any(marks::PERCENT) && !scope.is_name && crate::bytes::find(value, b"%00", 0).is_some() {
        take(Some(Finding::new(Family::Protocol, 72, "null-byte", 0)));
    }
    if marks.any(marks::BACKSLASH)
        && matches!(scope.place, Place::Form | Place::Multipart)
        && let Some(start) = escaped_letter(value)
    {
        take(Some(Finding::new(Family::Protocol, 72, "escaped-letter", start)));
    }
    if marks.any(marks::TOOL_WORD)
        && scope.place == Place::Header
        && scope.name.eq_ignore_ascii_case(b"user-agent")
    {
        take(scanner::agent(value, marks));
    }
    found
}

/// A letter that is escaped although it needs none, within a word: `\u0061lert`.
fn escaped_letter(value: &[u8]) -> Option<usize> {
    let mut index = 0;
    while let Some(start) = crate::bytes::find(value, b"\\u00", index) {
        let rest = crate::bytes::from(value, start);
        let letter = crate::decode::hex_run(crate::bytes::from(rest, 4), 2);
        let plain = matches!(letter, (0x41..=0x5a | 0x61..=0x7a, 2));
        if plain && (crate::bytes::at(rest, 6).is_ascii_alphabetic() || crate::bytes::at(rest, 6) == b'\\') {
            return Some(start);
        }
        index = start + 4;
    }
    None
}
