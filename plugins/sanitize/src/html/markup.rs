//! Tags, attributes and URLs.

use super::declaration::declaration;
use super::{mention, script};
use crate::bytes::{at, between, find, from, is_space, listed, skip_space, starts, trim};
use crate::finding::{Family, Finding, surer};
use crate::lexicon::Lexicon;

/// Elements that run script, load a document, or change what others load, by themselves. Sorted.
#[rustfmt::skip]
pub(super) static ACTIVE: Lexicon = Lexicon::new(&[
    "animate", "animatemotion", "animatetransform", "applet", "base", "bgsound", "embed",
    "foreignobject", "frame", "frameset", "iframe", "ilayer", "import", "isindex", "layer", "link",
    "listener", "math", "meta", "object", "param", "portal", "script", "set", "style", "svg",
    "vmlframe", "xml", "xss",
]);

/// Elements that a value has little reason to hold, but that do nothing alone. Sorted.
#[rustfmt::skip]
pub(super) static ODD: Lexicon = Lexicon::new(&[
    "audio", "body", "button", "details", "dialog", "form", "head", "html", "image", "img", "input",
    "keygen", "marquee", "noembed", "noscript", "plaintext", "select", "source", "template", "textarea",
    "title", "use", "video", "xmp",
]);

/// Attributes that hold a URL which is followed or loaded. Sorted.
#[rustfmt::skip]
static URLS: Lexicon = Lexicon::new(&[
    "action", "background", "cite", "code", "codebase", "content", "data", "dynsrc", "folder",
    "formaction", "from", "href", "icon", "lowsrc", "manifest", "poster", "profile", "src", "srcdoc",
    "srcset", "to", "url", "usemap", "values", "xlink:href", "xml:base",
]);

/// Bytes of an attribute's value that are looked at; what lies behind is read as further attributes.
const CONTENT: usize = 1024;

pub(super) fn finding(confidence: u8, why: &'static str, at: usize) -> Option<Finding> {
    Some(Finding::new(Family::Xss, confidence, why, at))
}

/// Walks all tags of a value.
pub(super) fn tags(value: &[u8]) -> Option<Finding> {
    let mut found = None;
    // Tags may overlap, as an attribute's value may hold a `<` that another parser takes for a tag. Ordinary markup reads
    // each byte once or twice; what needs more is made to be hard to read.
    let mut budget = value.len().saturating_mul(8).saturating_add(8192);
    for index in value.iter().enumerate().filter(|(_, byte)| **byte == b'<').map(|(index, _)| index) {
        found = surer(found, tag(value, index, &mut budget));
        if budget == 0 {
            return surer(found, finding(75, "tangled-markup", index));
        }
        if found.is_some_and(|f: Finding| f.confidence >= 90) {
            break;
        }
    }
    found
}

fn tag(value: &[u8], start: usize, budget: &mut usize) -> Option<Finding> {
    let first = at(value, start + 1);
    match first {
        b'!' | b'?' | b'%' => return declaration(value, start, budget),
        b'/' => return closing(value, start, budget),
        b'a'..=b'z' | b'A'..=b'Z' => {}
        _ => return loose(value, start, budget),
    }
    named(value, start, start + 1, budget)
}

/// What old parsers and careless filters take for a tag: white space, a colon or another `<` before the name, or white
/// space between its letters.
pub(super) fn loose(value: &[u8], start: usize, budget: &mut usize) -> Option<Finding> {
    let first = at(value, start + 1);
    if first == b':' {
        return named(value, start, start + 2, budget);
    }
    if !is_space(first) && first >= 0x20 && first != b'<' {
        return None;
    }
    let name = skip_space(value, start + 1);
    let prefix = name_end(value, name);
    let local = if at(value, prefix.saturating_sub(1)) == b':' { skip_space(value, prefix) } else { name };
    let is_script = starts(from(value, local), b"script") && !at(value, local + 6).is_ascii_alphanumeric();
    is_script.then(|| Finding::new(Family::Xss, 72, "tag", start))
}

/// `<f o r m`: letters one by one. Nobody writes like that to be read.
pub(super) fn spelled(value: &[u8], start: usize) -> Option<Finding> {
    let mut name = [0_u8; 16];
    let mut length = 0;
    let mut index = start + 1;
    while let Some(slot) = name.get_mut(length)
        && at(value, index).is_ascii_alphabetic()
        && !at(value, index + 1).is_ascii_alphabetic()
    {
        *slot = at(value, index).to_ascii_lowercase();
        length += 1;
        let next = skip_space(between(value, 0, index + 8), index + 1);
        if next == index + 1 {
            break;
        }
        index = next;
    }
    let name = between(&name, 0, length);
    (length > 3 && (ACTIVE.has(name) || ODD.has(name))).then(|| Finding::new(Family::Xss, 75, "tag", start))
}

fn named(value: &[u8], start: usize, name_start: usize, budget: &mut usize) -> Option<Finding> {
    if !at(value, name_start + 1).is_ascii_alphanumeric()
        && let Some(found) = spelled(value, start)
    {
        return Some(found);
    }
    let name_end = name_end(value, name_start);
    let name = between(value, name_start, name_end);
    let local = name.rsplit(|b| *b == b':').next().unwrap_or(name);
    let ended = matches!(at(value, name_end), b'>' | b'/' | 0) || is_space(at(value, name_end));
    let drawing = starts(name, b"svg:") || starts(name, b"xi:include");
    let own = if starts(name, b"xsl:") && name.len() > 4 {
        // A style sheet that transforms documents is a program: it reads files and calls the server's language.
        Some(Finding::new(Family::Template, 76, "style-sheet", start))
    } else if name.eq_ignore_ascii_case(b"xml") && at(value, name_end) == b'>' {
        // A document's root; an island of data has an `id` or `src`.
        None
    } else if name.eq_ignore_ascii_case(b"svg") && is_drawing(value) {
        // A drawing as such; what runs in it has a tag or an attribute of its own.
        finding(60, "element", start)
    } else if mention::tag(value, start, name_end)
        || name.eq_ignore_ascii_case(b"meta") && describes(value, name_end)
    {
        finding(55, "element", start)
    } else if ACTIVE.has(local) || drawing {
        let alone = name_end >= value.len() && start > 0;
        finding(if alone { 75 } else { 92 }, "active-element", start)
    } else if ODD.has(local) && (ended || at(value, name_end) < 0x20) {
        finding(55, "element", start)
    } else if ended || at(value, name_end) >= 0x21 {
        None
    } else {
        return None;
    };
    surer(own, attributes(value, name_end, budget))
}

/// `<meta name="viewport" content="..">`: it describes a page, and sends nobody anywhere.
fn describes(value: &[u8], name_end: usize) -> bool {
    let tag = between(value, name_end, name_end + CONTENT);
    let (mut index, mut named) = (skip_junk(tag, 0), false);
    while index < tag.len() && at(tag, index) != b'>' {
        let (name, after) = attribute_name(tag, index);
        let equals = skip_junk(tag, after);
        if !listed(&["content", "name", "property"], name) || at(tag, equals) != b'=' {
            return false;
        }
        let (_, end) = attribute_value(tag, skip_space(tag, equals + 1));
        // A backtick is a quote here, and none for browsers.
        if between(tag, equals, end).contains(&b'`') {
            return false;
        }
        named |= name.eq_ignore_ascii_case(b"name");
        index = skip_junk(tag, end);
    }
    named && at(tag, index) == b'>'
}

/// Whether the value is a drawing from its first byte to its last: SVG, with or without XML's declaration.
fn is_drawing(value: &[u8]) -> bool {
    let value = value.trim_ascii();
    (starts(value, b"<svg") || starts(value, b"<?xml ")) && ends(value, b"</svg>")
}

pub(super) fn name_end(value: &[u8], start: usize) -> usize {
    let mut end = start;
    while matches!(at(value, end), b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b':' | b'-' | b'_') {
        end += 1;
    }
    end
}

pub(super) fn closing(value: &[u8], start: usize, budget: &mut usize) -> Option<Finding> {
    let name = between(value, start + 2, name_end(value, start + 2));
    let escapes = ["iframe", "noscript", "script", "style", "svg", "template", "textarea", "title", "xmp"];
    let drawn = listed(&["svg", "title"], name) && is_drawing(value);
    // The others end a text that a page puts there, and a sentence names them seldom.
    let mentioned = || {
        listed(&["iframe", "script", "style", "svg"], name)
            && mention::tag(value, start, start + 2 + name.len())
    };
    if listed(&escapes, name) && !drawn && !mentioned() {
        return finding(75, "closing-element", start);
    }
    attributes(value, start + 2 + name.len(), budget)
}

/// Reads attributes up to the tag's end, or until the budget of bytes is used up.
pub(super) fn attributes(value: &[u8], start: usize, budget: &mut usize) -> Option<Finding> {
    let mut found = None;
    let mut index = start;
    // A tag that never ends still counts: the page behind the value ends it.
    while index < value.len() && at(value, index) != b'>' {
        let byte = at(value, index);
        if is_space(byte) || matches!(byte, b'/' | b'"' | b'\'' | b'`' | b'=' | b'<') || byte < 0x20 {
            if byte == b'<' {
                break;
            }
            index += 1;
            continue;
        }
        let (name, after) = attribute_name(value, index);
        let equals = skip_junk(value, after);
        if at(value, equals) != b'=' {
            index = after.max(index + 1);
            continue;
        }
        let (content, end) = attribute_value(value, skip_space(value, equals + 1));
        found = surer(found, attribute(name, content, index));
        let end = end.max(index + 1);
        *budget = budget.saturating_sub(end - index);
        if *budget == 0 || found.is_some_and(|f| f.confidence >= 90) {
            break;
        }
        index = end;
    }
    found
}

pub(super) fn attribute_name(value: &[u8], start: usize) -> (&[u8], usize) {
    let mut end = start;
    while end < value.len()
        && !matches!(at(value, end), b'=' | b'>' | b'/' | b'<')
        && !is_space(at(value, end))
        && at(value, end) >= 0x20
    {
        end += 1;
    }
    (between(value, start, end), end)
}

pub(super) fn skip_junk(value: &[u8], start: usize) -> usize {
    let mut index = start;
    while index < value.len()
        && (is_space(at(value, index)) || at(value, index) < 0x20 || at(value, index) == b'/')
    {
        index += 1;
    }
    index
}

fn attribute_value(value: &[u8], start: usize) -> (&[u8], usize) {
    let quote = at(value, start);
    if matches!(quote, b'"' | b'\'' | b'`') {
        let rest = between(value, start + 1, start + 1 + CONTENT);
        let length = rest.iter().position(|b| *b == quote).unwrap_or(rest.len());
        return (between(rest, 0, length), start + length + 2);
    }
    let rest = between(value, start, start + CONTENT);
    let length = rest.iter().position(|b| is_space(*b) || *b == b'>').unwrap_or(rest.len());
    (between(rest, 0, length), start + length)
}

pub(super) fn attribute(name: &[u8], content: &[u8], at_index: usize) -> Option<Finding> {
    if is_handler(name) {
        return finding(95, "event-handler", at_index);
    }
    if starts(name, b"style") && name.len() == 5 {
        if styled(content) {
            return finding(90, "style", at_index);
        }
        // Comments, escapes, blocks and control characters: a style that is written for one parser and read by another.
        let twisted = content.iter().any(|b| matches!(b, b'\\' | b'{' | b'}' | 0..=8 | 0x0e..=0x1f | 0x7f));
        if twisted || find(content, b"/*", 0).is_some() {
            return finding(75, "style", at_index);
        }
    }
    if ends(name, b":schemalocation") || ends(name, b":nonamespaceschemalocation") {
        return Some(Finding::new(Family::Entity, 78, "schema-location", at_index));
    }
    if ends(name, b":handler") || starts(name, b"xmlns:") && ends(content, b"/xinclude") {
        return finding(78, "active-attribute", at_index);
    }
    let listed_url = URLS.has(name) && !(starts(content, b"javascript:") && does_nothing(content));
    if script_url(content) {
        return finding(95, "script-url", at_index);
    }
    // Netscape took any sign for the colon, and some filters still do.
    if listed_url && starts(trim(content), b"javascript") && find(content, b"(", 0).is_some() {
        return finding(78, "script-url", at_index);
    }
    if listed_url && (find(content, b"<script", 0).is_some() || find(content, b"javascript:", 0).is_some()) {
        return finding(90, "script-url", at_index);
    }
    let data_bound = ["datafld", "dataformatas", "datasrc", "dynsrc", "lowsrc", "srcdoc", "xlink:href"];
    listed(&data_bound, name).then(|| Finding::new(Family::Xss, 75, "active-attribute", at_index))
}

fn ends(text: &[u8], suffix: &[u8]) -> bool {
    text.len().checked_sub(suffix.len()).is_some_and(|cut| starts(from(text, cut), suffix))
}

/// `onload`, `onclick` and whatever else browsers will call a handler.
fn is_handler(name: &[u8]) -> bool {
    let letters = name.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
    starts(name, b"on") && (5..=50).contains(&letters)
        || starts(name, b"fscommand")
        || starts(name, b"seeksegmenttime")
}

/// A style that runs or loads script.
fn styled(content: &[u8]) -> bool {
    // One of these stands in everything that is looked for; most styles leave here.
    if !content.iter().any(|b| matches!(b, b'(' | b':' | b'@' | b'-')) {
        return false;
    }
    let mut plain = Vec::new();
    let mut index = 0;
    // CSS comments and backslashes vanish inside of words.
    while index < content.len() && plain.len() < 4096 {
        let byte = at(content, index);
        if byte == b'/' && at(content, index + 1) == b'*' {
            index = find(content, b"*/", index + 2).map_or(content.len(), |end| end + 2);
            continue;
        }
        if byte != b'\\' && byte > b' ' {
            plain.push(byte);
        }
        index += 1;
    }
    [
        "expression(",
        "javascript:",
        "vbscript:",
        "behavior:",
        "behaviour:",
        "binding:url",
        "-moz-binding",
        "-o-link",
        "@import",
    ]
    .iter()
    .any(|word| find(&plain, word.as_bytes(), 0).is_some())
}

/// Whether the value is a URL whose scheme runs script: white space and control characters in it do not count.
pub(super) fn script_url(value: &[u8]) -> bool {
    let mut scheme = [0_u8; 16];
    for (length, byte) in value.iter().filter(|b| **b > b' ' && **b < 0x7f).enumerate() {
        if *byte == b':' {
            let name = scheme.get(..length).unwrap_or_default();
            return match name {
                b"javascript" if does_nothing(value) => false,
                b"javascript" | b"vbscript" | b"livescript" | b"mocha" | b"jscript" => true,
                b"data" => data_url(value),
                b"feed" | b"view-source" | b"url" => find(value, b"javascript:", 0).is_some(),
                _ => false,
            };
        }
        let Some(slot) = scheme.get_mut(length) else { return false };
        *slot = byte.to_ascii_lowercase();
    }
    false
}

/// `javascript:void(0)`, `javascript:;`: a link that leads nowhere.
fn does_nothing(value: &[u8]) -> bool {
    let code = value.iter().position(|b| *b == b':').map_or(&b""[..], |colon| from(value, colon + 1));
    // A longer one may have been cut.
    value.len() < 64 && is_nothing(code, 0)
}

/// Script that does nothing, up to its end or the quote that began it.
pub(super) fn is_nothing(code: &[u8], quote: u8) -> bool {
    let void =
        [&b"void(0)"[..], b"void 0"].iter().find(|void| starts(code, void)).map_or(0, |void| void.len());
    let rest = from(code, void);
    let ended = rest.strip_prefix(b";").unwrap_or(rest);
    (void > 0 || ended.len() < rest.len())
        && (ended.trim_ascii().is_empty() || matches!(quote, b'"' | b'\'') && at(ended, 0) == quote)
}

fn data_url(value: &[u8]) -> bool {
    let head = between(value, 0, 200);
    let Some(comma) = head.iter().position(|b| *b == b',') else { return false };
    let kind = between(head, 0, comma);
    ["html", "svg", "xml", "script", "x-x509"].iter().any(|part| find(kind, part.as_bytes(), 0).is_some())
        || find(value, b"<script", 0).is_some()
}

/// Attributes outside of any tag: the value stands in an attribute, closes its quote, and adds its own.
pub(super) fn attributes_outside(value: &[u8]) -> Option<Finding> {
    let mut found = None;
    let mut index = 0;
    let mut fresh = true;
    let (mut broke, mut bent) = (false, false);
    while let Some(byte) = value.get(index) {
        let handler = fresh && matches!(byte, b'o' | b'O' | b's' | b'S' | b'f' | b'F');
        if handler {
            let broke = broke || bent && !mention::attribute_at(value, index);
            found = surer(found, lone_attribute(value, index, broke));
        }
        // `the button's`: a contraction breaks out of nothing that the sentence would go on in, if it is a sentence.
        let contraction = *byte == b'\''
            && at(value, index.wrapping_sub(1)).is_ascii_alphabetic()
            && at(value, index + 1).is_ascii_alphabetic();
        bent |= contraction;
        broke |= matches!(byte, b'"' | b'\'' | b'`') && !contraction;
        fresh = is_space(*byte)
            || matches!(byte, b'"' | b'\'' | b'`' | b'/' | b';' | b'?' | b'&')
            || *byte < 0x20;
        index += 1;
    }
    found
}

pub(super) fn lone_attribute(value: &[u8], index: usize, broke: bool) -> Option<Finding> {
    let rest = from(value, index);
    if !starts(rest, b"on")
        && !starts(rest, b"style")
        && !starts(rest, b"src")
        && !starts(rest, b"formaction")
    {
        return None;
    }
    let (name, after) = attribute_name(between(value, 0, index + 64), index);
    let equals = skip_junk(between(value, 0, after + 16), after);
    if at(value, equals) != b'=' || at(value, equals + 1) == b'=' {
        return None;
    }
    let content = from(value, skip_space(value, equals + 1));
    // The value ends where the code would begin: the page goes on with it.
    let before = between(value, 0, index);
    let fresh = before.last().is_some_and(|b| is_space(*b) || matches!(b, b'"' | b'\'' | b'`'));
    let ends_here = content.is_empty() && fresh && (broke || before.trim_ascii().is_empty());
    if ends_here && (is_handler(name) || name.eq_ignore_ascii_case(b"formaction")) {
        return finding(72, "event-handler", index);
    }
    if starts(name, b"style") || starts(name, b"src") || starts(name, b"formaction") {
        let content = content.strip_prefix(b"\"").or_else(|| content.strip_prefix(b"'")).unwrap_or(content);
        let runs = name.len() == 5 && styled(between(content, 0, 512)) || script_url(content);
        return runs.then(|| Finding::new(Family::Xss, 85, "attribute", index));
    }
    let handler = is_handler(name) && name.iter().all(u8::is_ascii_alphabetic);
    if !handler {
        return None;
    }
    let code = script::is_code(between(content, 0, 256));
    let head = between(content, 0, 256);
    let calls = head.iter().any(|b| matches!(b, b'(' | b'`')) || starts(head, b"location");
    match (broke, code) {
        (true, true) => finding(90, "event-handler", index),
        (false, true) if calls => {
            finding(if mention::attribute(before, content) { 60 } else { 80 }, "event-handler", index)
        }
        (true, false) if !content.is_empty() => finding(60, "event-handler", index),
        _ => None,
    }
}
