//! Names that are operators: of document databases (`a[$ne]`), and those that reach every object's prototype.
//!
//! A name is a parameter's or a JSON key; JavaScript in `$where` stands in a value.

use crate::bytes::{at, between, find, from, is_word, starts};
use crate::finding::{Family, Finding};
use crate::lexicon::Lexicon;
use crate::marks::{self, Marks};

/// Operators that compare: what turns a value into a condition. Sorted.
static COMPARING: Lexicon = Lexicon::new(&[
    "all",
    "and",
    "comment",
    "elemmatch",
    "eq",
    "exists",
    "gt",
    "gte",
    "in",
    "lt",
    "lte",
    "ne",
    "nin",
    "nor",
    "not",
    "or",
    "regex",
]);

/// Operators that run code or read further collections. Sorted.
static RUNNING: Lexicon = Lexicon::new(&[
    "accumulator",
    "expr",
    "function",
    "graphlookup",
    "jsonschema",
    "lookup",
    "merge",
    "out",
    "unionwith",
    "where",
]);

/// Looks at a name, or at a value that names such a thing. Linear in the length.
pub(super) fn detect(value: &[u8], marks: Marks, is_name: bool) -> Option<Finding> {
    // Either word is one of script in a value.
    let found = if is_name || marks.any(marks::SCRIPT_WORD) { prototype(value, is_name) } else { None };
    let found = found.or_else(|| if marks.any(marks::DOLLAR) { operator(value, is_name) } else { None });
    let found = found.or_else(|| if marks.any(marks::SEMI) { script(value) } else { None });
    found.or_else(|| {
        let whole = [&b")"[..], b");"].iter().any(|end| value.trim_ascii_end().ends_with(end));
        let done = starts(value, b"db.") && whole && is_done(value);
        done.then(|| Finding::new(Family::Nosql, 74, "shell-call", 0))
    })
}

/// Looks at a name of letters alone.
pub(super) fn plain(name: &[u8]) -> Option<Finding> {
    if matches!(at(name, 0), b'_' | b'c' | b'C') { prototype(name, true) } else { None }
}

/// JavaScript behind a string in `$where`: `'; return true; var x='`.
fn script(value: &[u8]) -> Option<Finding> {
    // Searched for at the first loop of its kind, and once.
    let mut timed_until = None;
    let mut index = 0;
    while let Some(semicolon) = find(value, b";", index) {
        let lead = between(value, semicolon.saturating_sub(16), semicolon).trim_ascii_end();
        let rest = from(value, semicolon + 1);
        let word = from(rest, crate::bytes::skip_space(between(rest, 0, 8), 0));
        let returns = starts(word, b"return") && !is_word(at(word, 6));
        let spins = [&b"while"[..], b"for"]
            .iter()
            .any(|loops| starts(word, loops) && from(word, loops.len()).trim_ascii_start().starts_with(b"("));
        let drops = starts(word, b"db.") && is_done(word);
        // A loop that waits until some time is over.
        let waits = starts(word, b"do") && from(word, 2).trim_ascii_start().starts_with(b"{");
        if waits && *timed_until.get_or_insert_with(|| last_timed_while(value)) > semicolon {
            return Some(Finding::new(Family::Nosql, 76, "where-script", semicolon));
        }
        if matches!(lead.last(), Some(b'\'' | b'"')) && (returns || spins || drops) {
            return Some(Finding::new(Family::Nosql, 76, "where-script", semicolon));
        }
        index = semicolon + 1;
    }
    None
}

/// Where the last `while` stands in a script that asks what time it is; 0 where there is none.
fn last_timed_while(value: &[u8]) -> usize {
    let mut last = 0;
    let timed = find(value, b"new date", 0).is_some();
    while timed && let Some(place) = find(value, b"while", last + 1) {
        last = place;
    }
    last
}

/// `db.users.drop(`: what MongoDB's shell does to a collection.
fn is_done(call: &[u8]) -> bool {
    const DONE: [&[u8]; 6] = [b".drop(", b".find(", b".insert(", b".remove(", b".update(", b".delete"];
    let collection = crate::bytes::word_end(between(call, 0, 64), 3);
    DONE.iter().any(|done| starts(from(call, collection), done))
}

fn operator(value: &[u8], is_name: bool) -> Option<Finding> {
    let mut index = 0;
    while let Some(offset) = from(value, index).iter().position(|b| *b == b'$') {
        let start = index + offset;
        index = start + 1;
        let word = from(value, start + 1);
        let end = word.iter().take(16).take_while(|b| is_word(**b)).count();
        let name = between(word, 0, end);
        let (running, comparing) = (RUNNING.has(name), COMPARING.has(name));
        if !running && !comparing {
            continue;
        }
        let lead = if start == 0 { 0 } else { at(value, start - 1) };
        let next = at(word, end);
        let whole = matches!(next, 0 | b']' | b'[' | b'.') && matches!(lead, 0 | b'[' | b'.');
        let confidence = if is_name && whole {
            if running { 86 } else { 76 }
        } else if matches!(lead, 0 | b'"' | b'\'' | b'{' | b' ' | b'[')
            && (lead != 0 || running && marks_script(from(word, end)))
            && matches!(next, b'"' | b'\'' | b':' | b']')
            && value.contains(&b':')
        {
            // A document within a value.
            if running { 84 } else { 74 }
        } else if !is_name && running && lead == b'[' {
            80
        } else if !is_name && start == 1 && lead == b'[' && starts(from(word, end), b"]=") {
            // The rest of a name that was cut at its first equals sign.
            74
        } else {
            continue;
        };
        return Some(Finding::new(Family::Nosql, confidence, "nosql-operator", start));
    }
    None
}

/// `: '..'`, `: {..`: what a database would run, rather than a price's label.
fn marks_script(rest: &[u8]) -> bool {
    let rest = from(rest, 1).trim_ascii_start();
    matches!(at(rest, 0), b'\'' | b'"' | b'{') || starts(rest, b"function")
}

fn prototype(value: &[u8], is_name: bool) -> Option<Finding> {
    let found = |confidence, at| Some(Finding::new(Family::Prototype, confidence, "prototype", at));
    if let Some(start) = find(value, b"__proto__", 0) {
        let lead = if start == 0 { 0 } else { at(value, start - 1) };
        let next = at(value, start + 9);
        if is_name {
            return found(88, start);
        }
        let reached = matches!(next, b'.' | b'[' | b']' | b'"' | b'\'')
            && matches!(lead, 0 | b'.' | b'[' | b'"' | b'\'' | b'{' | b'?' | b'&' | b' ');
        return found(if reached { 76 } else { 45 }, start);
    }
    let start = find(value, b"constructor", 0)?;
    let rest = from(value, start + 11);
    let rest = rest.strip_prefix(b"]").unwrap_or(rest);
    let rest = rest.strip_prefix(b"\"]").or_else(|| rest.strip_prefix(b"']")).unwrap_or(rest);
    let next = rest.iter().take(3).position(|b| is_word(*b)).unwrap_or(3);
    if starts(from(rest, next), b"prototype") && next > 0 {
        return found(if is_name { 88 } else { 78 }, start);
    }
    // The key alone is a word; with `prototype` under it, both count.
    (is_name && value.len() == 11).then(|| Finding::new(Family::Prototype, 55, "prototype", start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family(value: &str, is_name: bool) -> Option<Family> {
        detect(value.as_bytes(), Marks::of(value.as_bytes()), is_name)
            .filter(|f| f.confidence >= 70)
            .map(|f| f.family)
    }

    #[test]
    fn operators_as_names() {
        assert!(COMPARING.words().is_sorted() && RUNNING.words().is_sorted());
        for attack in ["$ne", "$where", "user[$gt]", "a[b][$regex]", "filter.$or", "$GT", "$or[0][a]"] {
            assert_eq!(family(attack, true), Some(Family::Nosql), "{attack}");
        }
        for fine in ["$filter", "$top", "$ref", "$schema", "cost$", "$news", "a[$x]", "$limit", "or"] {
            assert_eq!(family(fine, true), None, "{fine}");
        }
        assert_eq!(family("'; return true; var x='", false), Some(Family::Nosql));
        assert_eq!(family("'; while(1); var x='", false), Some(Family::Nosql));
        assert_eq!(family("';db.users.drop();'", false), Some(Family::Nosql));
        assert_eq!(family("db.users.drop();", false), Some(Family::Nosql));
        assert_eq!(family("db.users.drop() removes them", false), None);
        assert_eq!(
            family("0;var a=new Date();do{b=new Date();}while(b-a<10000)", false),
            Some(Family::Nosql)
        );
        assert_eq!(family("1; do { it } while (you can)", false), None);
        assert_eq!(family("' } ], $comment:'x'", false), Some(Family::Nosql));
        assert_eq!(family("'x'; db.users is large", false), None);
        assert_eq!(family("$where: '1 == 1'", false), Some(Family::Nosql));
        assert_eq!(family("[$regex]=.*", false), Some(Family::Nosql));
        assert_eq!(family("'fine'; returned it", false), None);
        assert_eq!(family("'fine'; while we wait (a bit)", false), None);
        assert_eq!(family("{\"$gt\": \"\"}", false), Some(Family::Nosql));
        assert_eq!(family("I paid $in cash", false), None);
    }

    #[test]
    fn the_way_to_the_prototype() {
        for attack in
            ["__proto__", "a[__proto__][b]", "constructor[prototype][x]", "a.constructor.prototype.b"]
        {
            assert_eq!(family(attack, true), Some(Family::Prototype), "{attack}");
        }
        assert_eq!(family("a.__proto__.b=1", false), Some(Family::Prototype));
        for fine in ["constructor", "prototype", "proto", "the __proto__ property"] {
            assert_eq!(family(fine, false), None, "{fine}");
        }
    }
}
