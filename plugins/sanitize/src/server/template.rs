//! Server-side template injection: an expression between the delimiters of a template engine.
//!
//! `{{..}}`, `{%..%}`, `${..}`, `#{..}`, `*{..}`, `@{..}`, `<%..%>`, `{..}` of Smarty, `#set(..)` of Velocity, `<#..>` of
//! FreeMarker, server-side includes. A placeholder (`{{name}}`, `${user.name}`, `{{ price | round }}`) is none; an
//! expression that computes with constants, calls, or reaches for what every engine has is one.
//!
//! Limits: 512 bytes of one expression are looked at; expressions within expressions that come to more than [`SPENT`] times
//! the value are taken for an attack.

use crate::bytes::{at, between, find, from, is_space, is_word, starts};
use crate::finding::{Family, Finding, surer};
use crate::lexicon::Lexicon;

/// Bytes of an expression. More: only these.
const EXPRESSION_BYTES: usize = 512;
/// How often the bytes of a value are looked at, within one expression and another. More: nobody writes so.
const SPENT: usize = 16;
/// The same of short values, in bytes.
const FREE: usize = 16 * EXPRESSION_BYTES;

/// What only attacks name inside of an expression. Sorted.
#[rustfmt::skip]
static REACHES: Lexicon = Lexicon::new(&[
    "__builtins__", "__class__", "__globals__", "__import__", "__init__", "__mro__", "__subclasses__",
    "_self", "attribute", "call_user_func", "classloader", "cycler", "exec", "execute", "file_excerpt", "file_get_contents",
    "forname", "freemarker", "getclass", "getengine", "getfilter", "getruntime", "include", "joiner",
    "kernel", "lipsum", "memberaccess", "objectconstructor", "passthru", "phpinfo", "popen", "processbuilder",
    "registerundefinedfiltercallback", "runtime", "scriptenginemanager", "shell_exec", "smarty",
    "springmacrorequestcontext", "subprocess", "system", "templatesimpl", "undefined_filter",
]);

/// Objects that an engine offers to every template: dumped, they reveal the application. Sorted.
static OBJECTS: Lexicon = Lexicon::new(&[
    "_context",
    "app",
    "application",
    "class",
    "config",
    "dump",
    "env",
    "environ",
    "global",
    "globals",
    "process",
    "request",
    "self",
    "session",
    "settings",
    "this",
]);

/// What the expression languages of Java's servers know in every page. Sorted.
static SCOPES: Lexicon = Lexicon::new(&[
    "applicationscope",
    "facescontext",
    "initparam",
    "pagecontext",
    "requestscope",
    "sessionscope",
]);

fn finding(confidence: u8, why: &'static str, at: usize) -> Option<Finding> {
    Some(Finding::new(Family::Template, confidence, why, at))
}

/// Looks for an expression. Linear in the value's length.
pub(super) fn detect(value: &[u8]) -> Option<Finding> {
    let mut found = razor(value);
    let mut left = value.len().saturating_mul(SPENT).saturating_add(FREE);
    let mut index = 0;
    while index + 1 < value.len() {
        let Some((open, close)) = delimiters(from(value, index)) else {
            index += 1;
            continue;
        };
        let start = index + open;
        let rest = between(value, start, start + EXPRESSION_BYTES);
        let length = find(rest, close, 0);
        let inside = between(rest, 0, length.unwrap_or(rest.len()));
        let lead = between(value, index, start);
        let Some(rest) = left.checked_sub(inside.len()) else {
            return surer(found, finding(74, "template-nesting", index));
        };
        left = rest;
        found = surer(found, judge(lead, inside, length.is_some(), index));
        index = start;
    }
    surer(found, directive(value))
}

/// Whether an expression begins here: the length of what opens it, and what closes it.
fn delimiters(rest: &[u8]) -> Option<(usize, &'static [u8])> {
    Some(match (at(rest, 0), at(rest, 1)) {
        (b'{', b'{') => (2, b"}}"),
        (b'{', b'%') => (2, b"%}"),
        (b'{', b'!') if at(rest, 2) == b'!' => (3, b"!!}"),
        (b'{', b'#') => (2, b"}"),
        (b'$' | b'#' | b'*' | b'@' | b'~', b'{') => (2, b"}"),
        (b'<', b'%') => (2, b"%>"),
        (b'[', b'[' | b'(') if at(rest, 2) == b'$' => (2, b"]"),
        (b'[', b'=') => (2, b"]"),
        (b'%', b'{') => (2, b"}"),
        (b'{', b'$') => (1, b"}"),
        (b'{', next) if next.is_ascii_alphanumeric() => (1, b"}"),
        (b'#', b's') if starts(rest, b"#set") => (4, b")"),
        _ => return None,
    })
}

/// `@(1+1)`, and nothing else: elsewhere such brackets are prose.
fn razor(value: &[u8]) -> Option<Finding> {
    let inside = value.strip_prefix(b"@(")?.strip_suffix(b")")?;
    let sum = look(between(inside, 0, EXPRESSION_BYTES)).computes;
    if sum { finding(76, "template-sum", 0) } else { None }
}

/// What an expression does.
#[derive(Default)]
struct Doing {
    calls: bool,
    /// Two constants with an operator between.
    computes: bool,
    reaches: bool,
    object: bool,
    index: bool,
    words: u32,
    prose: bool,
}

fn look(inside: &[u8]) -> Doing {
    let mut doing = Doing::default();
    let mut index = 0;
    while index < inside.len() {
        let byte = at(inside, index);
        if is_word(byte) {
            let mut end = index;
            while is_word(at(inside, end)) {
                end += 1;
            }
            let word = between(inside, index, end);
            doing.reaches |= REACHES.has(word);
            doing.object |= doing.words == 0 && OBJECTS.has(word);
            doing.calls |= at(inside, end) == b'(' && !byte.is_ascii_digit();
            doing.prose |= doing.words > 3
                && byte.is_ascii_alphabetic()
                && at(inside, end) == b' '
                && at(inside, end + 1).is_ascii_alphabetic();
            doing.words += 1;
            if byte.is_ascii_digit() {
                doing.computes |= computes(inside, end);
            }
            index = end;
        } else {
            doing.index |= byte == b'[';
            if matches!(byte, b'\'' | b'"') {
                doing.computes |= computes(inside, index + 1);
            }
            index += 1;
        }
    }
    doing
}

/// An operator behind a constant, and a constant behind that.
fn computes(inside: &[u8], mut index: usize) -> bool {
    while is_space(at(inside, index)) {
        index += 1;
    }
    if !matches!(at(inside, index), b'*' | b'+' | b'-' | b'/' | b'%') {
        return false;
    }
    index += 1;
    while is_space(at(inside, index)) || at(inside, index) == b'*' {
        index += 1;
    }
    at(inside, index).is_ascii_digit() || matches!(at(inside, index), b'\'' | b'"')
}

fn judge(lead: &[u8], inside: &[u8], closed: bool, start: usize) -> Option<Finding> {
    let doing = look(inside);
    match lead {
        b"{" => return single(inside, &doing, closed, start),
        b"#set" => {
            let assigns = at(inside, 0) == b'(' && inside.contains(&b'$');
            return if assigns { finding(80, "template-directive", start) } else { None };
        }
        _ => {}
    }
    let inner = inside.trim_ascii();
    if let Some(found) = tag(lead, inner, &doing, start).or_else(|| scope(lead, inner, start)) {
        return Some(found);
    }
    let member = inside.contains(&b'.');
    // `{% include 'footer.html' %}`: a file of the application's own.
    let included = lead == b"{%"
        && (starts(inner, b"include '") || starts(inner, b"include \""))
        && !inside.contains(&b'|');
    if doing.reaches && !included && (doing.calls || doing.index || member || inside.contains(&b'|')) {
        return finding(if doing.prose { 60 } else { 88 }, "template-reach", start);
    }
    if !closed && !doing.calls {
        return None;
    }
    // `''['__cl'+'ass__']`: a name that is put together.
    if doing.computes && doing.index && is_double(lead) && inside.contains(&b'+') && inside.contains(&b'\'') {
        return finding(80, "template-reach", start);
    }
    if doing.computes && !doing.prose {
        return sum(lead, inside, start);
    }
    if starts(inner, b"t(") && lead != b"{{" && member || starts(inner, b"new ") && doing.calls {
        return finding(86, "template-class", start);
    }
    if lead == b"{{" && doing.object && (doing.calls || doing.index || member || doing.words == 1) {
        let dumped = doing.calls
            || doing.index
            || DUMPED.iter().any(|name| starts(inner, name))
            || starts(inner, b"request.application");
        return finding(if dumped { 76 } else { 60 }, "template-object", start);
    }
    if [&b"?new"[..], b"?api", b"?eval"].iter().any(|builtin| find(inside, builtin, 0).is_some()) {
        return finding(86, "template-builtin", start);
    }
    match lead {
        // ERB, ASP, JSP: `<%= 7*7 %>`, `<% import os %>`; a name alone is a placeholder.
        b"<%" if !inner.is_empty() => {
            let code = doing.calls || at(inside, 0) == b'@' || inside.contains(&b'`');
            let sure = code || find(inside, b"import", 0).is_some();
            finding(if sure { 78 } else { 55 }, "template-code", start)
        }
        b"#{" if inside.contains(&b'`') => finding(80, "template-code", start),
        b"@{" if inside.starts_with(b"[") => finding(80, "template-code", start),
        b"*{" | b"~{" | b"%{" if doing.calls => finding(78, "template-call", start),
        b"~{" if starts(inner, b"::") => finding(74, "template-include", start),
        _ if doing.calls && is_double(lead) => {
            finding(if doing.index { 72 } else { 55 }, "template-call", start)
        }
        _ if doing.calls && !doing.prose => finding(55, "template-call", start),
        _ => None,
    }
}

/// Statements in `{% .. %}` that load code or show everything: `debug`, `import os`, `include '/..'`.
fn tag(lead: &[u8], inner: &[u8], doing: &Doing, start: usize) -> Option<Finding> {
    if lead == b"{{" {
        return block(inner, start);
    }
    if lead != b"{%" {
        return None;
    }
    let inner = inner.trim_ascii_start().strip_prefix(b"-").unwrap_or(inner).trim_ascii();
    let word = between(inner, 0, inner.iter().position(|b| !is_word(*b)).unwrap_or(inner.len()));
    let rest = from(inner, word.len()).trim_ascii();
    let string = matches!(at(rest, 0), b'\'' | b'"');
    let elsewhere = string
        && (matches!(at(rest, 1), b'/' | b'\\')
            || starts(from(rest, 1), b"..")
            || find(rest, b":", 0).is_some());
    match word {
        b"debug" if rest.is_empty() => finding(76, "template-debug", start),
        b"include" | b"extends" | b"import" if elsewhere => finding(80, "template-include", start),
        // Tornado's; what others import is a file's name in quotes.
        b"import" if !string && !rest.is_empty() && rest.iter().all(|b| is_word(*b) || *b == b'.') => {
            finding(78, "template-code", start)
        }
        b"set" if doing.computes => {
            let value = rest.iter().position(|b| *b == b'=').map_or(rest, |equals| from(rest, equals + 1));
            sum(lead, value, start)
        }
        _ => None,
    }
}

/// Handlebars and Go: blocks that reach a string's constructor, and `printf`.
fn block(inner: &[u8], start: usize) -> Option<Finding> {
    let quoted = |name: &[u8]| {
        find(inner, name, 0).is_some_and(|place| matches!(at(inner, place.wrapping_sub(1)), b'"' | b'\''))
    };
    let with = starts(inner, b"#with \"") || starts(inner, b"#with split") || starts(inner, b"printf \"");
    (with || quoted(b"constructor")).then(|| Finding::new(Family::Template, 76, "template-reach", start))
}

/// `${pageContext.request}`, `${.data_model}`, `%{#context[..]}`.
fn scope(lead: &[u8], inner: &[u8], start: usize) -> Option<Finding> {
    if !matches!(lead, b"${" | b"#{" | b"*{" | b"%{" | b"@{") {
        return None;
    }
    let length = inner.iter().position(|b| !is_word(*b)).unwrap_or(inner.len());
    let special = lead == b"${" && at(inner, 0) == b'.' && at(inner, 1).is_ascii_alphabetic();
    let context = lead == b"%{" && at(inner, 0) == b'#' && is_word(at(inner, 1));
    if SCOPES.has(between(inner, 0, length)) || special || context {
        return finding(78, "template-scope", start);
    }
    None
}

/// Objects that reveal the application by themselves.
const DUMPED: [&[u8]; 7] = [b"config", b"self", b"_context", b"settings", b"dump", b"app", b"globals"];

fn is_double(lead: &[u8]) -> bool {
    matches!(lead, b"{{" | b"{%" | b"<%" | b"[[" | b"[(")
}

/// Constants alone are computed with by nobody; a sum with names in it may be meant.
fn sum(lead: &[u8], inside: &[u8], start: usize) -> Option<Finding> {
    let constant = inside.iter().filter(|b| b.is_ascii_alphabetic()).count() <= 2;
    let confidence = match (constant, is_double(lead)) {
        (true, _) => 84,
        (false, true) => 60,
        (false, false) => 50,
    };
    finding(confidence, "template-sum", start)
}

/// Smarty: `{system('id')}`, `{$smarty.version}`, `{php}`; elsewhere single braces are objects and placeholders.
fn single(inside: &[u8], doing: &Doing, closed: bool, start: usize) -> Option<Finding> {
    let own = starts(inside, b"$smarty") || starts(inside, b"smarty_internal");
    if own || starts(inside, b"php") && inside.len() == 3 {
        return finding(72, "template-smarty", start);
    }
    if doing.reaches && doing.calls && !inside.contains(&b':') {
        return finding(80, "template-call", start);
    }
    let product = inside.iter().all(|b| b.is_ascii_digit() || matches!(b, b'*' | b' '));
    let sum = doing.computes && doing.words == 2 && closed && product;
    if sum { finding(72, "template-sum", start) } else { None }
}

/// FreeMarker's `<#assign`, Velocity's `#foreach`, ColdFusion's `<cfexecute`, server-side includes, edge-side includes.
fn directive(value: &[u8]) -> Option<Finding> {
    const DIRECTIVES: [(&[u8], &str); 27] = [
        (b"<!--#exec", "server-side-include"),
        (b"<!--#include", "server-side-include"),
        (b"<!--#echo", "server-side-include"),
        (b"<!--#printenv", "server-side-include"),
        (b"<!--#config", "server-side-include"),
        (b"<!--#set", "server-side-include"),
        (b"<!--#fsize", "server-side-include"),
        (b"<esi:", "edge-side-include"),
        (b"<!--esi", "edge-side-include"),
        (b"<cfexecute", "template-directive"),
        (b"<cfinclude", "template-directive"),
        (b"<cfquery", "template-directive"),
        (b"<cfset", "template-directive"),
        (b"<#list ", "template-directive"),
        (b"<#function", "template-directive"),
        (b"<#macro", "template-directive"),
        (b"[#include", "template-directive"),
        (b"[#import", "template-directive"),
        // Velocity.
        (b"#foreach($", "template-directive"),
        (b"#foreach ($", "template-directive"),
        (b"#parse('", "template-directive"),
        (b"#parse(\"", "template-directive"),
        (b"#evaluate(", "template-directive"),
        (b"<#assign", "template-directive"),
        (b"<#import", "template-directive"),
        (b"<#include", "template-directive"),
        (b"[#assign", "template-directive"),
    ];
    let mut index = 0;
    while let Some(offset) = from(value, index).iter().position(|b| matches!(b, b'<' | b'[' | b'#')) {
        let start = index + offset;
        let rest = from(value, start);
        index = start + 1;
        // The second byte of all of them.
        if !matches!(at(rest, 1) | 0x20, b'!' | b'#' | b'c' | b'e' | b'f' | b'p') {
            continue;
        }
        if let Some((_, why)) = DIRECTIVES.iter().find(|(name, _)| starts(rest, name)) {
            return finding(86, why, start);
        }
    }
    None
}

#[cfg(test)]
#[path = "template_tests.rs"]
mod tests;
