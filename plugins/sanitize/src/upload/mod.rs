//! Files that the server might run, or that are not what they claim to be.
//!
//! A file's name is looked at whole ([`name`]); its content only for what tells such files apart: the first bytes against
//! the declared type, script in an image, a web shell, names in an archive that climb out of it. What users upload is
//! otherwise their own: prose, photos and PDF files are not read as values.
//!
//! Limits: what the window holds of a file; 1,000 names of an archive; 512 bytes behind a script tag.

mod name;

pub(crate) use name::detect as name;

use crate::bytes::{at, between, find, from, is_space, skip_space, starts};
use crate::finding::{Family, Finding, surer};
use crate::lexicon::Lexicon;

/// Names of an archive that are looked at. More: not looked at.
const ARCHIVED: usize = 1000;
/// Bytes behind a script tag in which a dangerous call is looked for. Further away: not found.
const SCRIPT_BYTES: usize = 512;
/// Script tags of a file that are looked at. More: not looked at.
const SCRIPTS: usize = 32;

fn finding(confidence: u8, why: &'static str, at: usize) -> Option<Finding> {
    Some(Finding::new(Family::Upload, confidence, why, at))
}

/// Looks at a file's content. `declared` is its media type, `file` its name; either may be empty. Linear in its length.
pub(crate) fn content(declared: &[u8], file: &[u8], content: &[u8]) -> Option<Finding> {
    let image = starts(declared, b"image/") || name::is_picture(file);
    let svg = starts(declared, b"image/svg") || name::ends(file, b".svg") || name::ends(file, b".svgz");
    let mut found = if svg || image && looks_like_markup(content) { drawing(content) } else { None };
    if image && !svg {
        found = surer(found, disguised(content));
    }
    found = surer(found, script(content, image && !svg));
    surer(found, archive(content))
}

fn looks_like_markup(content: &[u8]) -> bool {
    let start = skip_space(between(content, 0, 64), 0);
    let head = between(content, start, start + 16);
    [&b"<svg"[..], b"<?xml", b"<!doctype", b"<html", b"<script"].iter().any(|tag| starts(head, tag))
}

/// Script in an SVG drawing: elements and attributes that run, and entities.
fn drawing(content: &[u8]) -> Option<Finding> {
    let mut index = 0;
    let mut tags = 0;
    while let Some(offset) = from(content, index).iter().position(|b| *b == b'<') {
        let start = index + offset;
        let rest = between(content, start, start + 4096);
        const ACTIVE: [&[u8]; 8] = [
            b"<script",
            b"<foreignobject",
            b"<iframe",
            b"<embed",
            b"<object",
            b"<handler",
            b"<!entity",
            b"<html",
        ];
        if ACTIVE.iter().any(|tag| starts(rest, tag)) {
            return finding(86, "active-drawing", start);
        }
        let end = rest.iter().skip(1).position(|b| matches!(b, b'<' | b'>')).unwrap_or(rest.len());
        if handler(between(rest, 0, end)) {
            return finding(84, "active-drawing", start);
        }
        tags += 1;
        index = start + 1;
        if tags > 4096 {
            break;
        }
    }
    None
}

/// ` onload=`, `href="javascript:`.
fn handler(tag: &[u8]) -> bool {
    let mut index = 0;
    while let Some(offset) =
        from(tag, index).iter().position(|b| is_space(*b) || matches!(b, b'/' | b'"' | b'\''))
    {
        let start = index + offset + 1;
        let rest = from(tag, start);
        let name = rest.iter().take(32).take_while(|b| b.is_ascii_alphabetic()).count();
        if name > 4 && starts(rest, b"on") && at(rest, skip_space(between(rest, 0, name + 8), name)) == b'=' {
            return true;
        }
        index = start;
    }
    find(tag, b"javascript:", 0).is_some()
}

/// A program or a page behind the type of a picture.
fn disguised(content: &[u8]) -> Option<Finding> {
    let executable = content.starts_with(b"\x7fELF")
        || content.starts_with(b"MZ") && content.len() > 64
        || content.starts_with(b"#!/")
        || content.starts_with(b"\xca\xfe\xba\xbe")
        || content.starts_with(b"\xcf\xfa\xed\xfe");
    let page = starts(content, b"<!doctype html") || starts(content, b"<html") || starts(content, b"<script");
    let code = starts(content, b"<?php") || starts(content, b"<?=") || starts(content, b"<%");
    match (executable, page, code) {
        (true, ..) => finding(88, "disguised-program", 0),
        (_, true, _) => finding(84, "disguised-page", 0),
        (.., true) => finding(90, "disguised-script", 0),
        _ => None,
    }
}

/// What web shells call; sorted.
static SHELL_CALLS: Lexicon = Lexicon::new(&[
    "_cookie",
    "_get",
    "_post",
    "_request",
    "assert",
    "base64_decode",
    "call_user_func",
    "cmd",
    "create_function",
    "createobject",
    "eval",
    "exec",
    "execute",
    "file_put_contents",
    "fsockopen",
    "getruntime",
    "gzinflate",
    "move_uploaded_file",
    "passthru",
    "pcntl_exec",
    "phpinfo",
    "popen",
    "preg_replace",
    "proc_open",
    "process",
    "processbuilder",
    "request",
    "shell",
    "shell_exec",
    "str_rot13",
    "system",
    "unserialize",
    "wscript",
]);

/// A script tag of a server-side language with a dangerous call behind it. In a picture the tag of PHP alone will do.
fn script(content: &[u8], picture: bool) -> Option<Finding> {
    let mut index = 0;
    let mut left = SCRIPTS;
    while let Some(offset) = from(content, index).iter().position(|b| *b == b'<') {
        let start = index + offset;
        let rest = from(content, start);
        index = start + 1;
        let long = starts(rest, b"<?php") && is_space(at(rest, 5))
            || starts(rest, b"<jsp:")
            || starts(rest, b"<script runat");
        let short = starts(rest, b"<?=") || starts(rest, b"<%") || starts(rest, b"<? ");
        if !long && !short {
            continue;
        }
        if picture && long {
            return finding(88, "script-in-picture", start);
        }
        if calls(between(rest, 2, SCRIPT_BYTES)) {
            return finding(86, "web-shell", start);
        }
        left -= 1;
        if left == 0 {
            break;
        }
    }
    None
}

fn calls(code: &[u8]) -> bool {
    // Bytes of a picture that happen to be a tag are no text.
    if !between(code, 0, 16).iter().all(|b| (b' '..0x7f).contains(b) || is_space(*b)) {
        return false;
    }
    let mut index = 0;
    while index < code.len() {
        let end = crate::bytes::word_end(code, index);
        let word = between(code, index, end);
        let next = at(code, skip_space(between(code, 0, end + 8), end));
        let variable = index > 0 && at(code, index - 1) == b'$';
        if SHELL_CALLS.has(word)
            && (next == b'(' || variable && next == b'[' || next == b'.' && word.len() > 5)
        {
            return true;
        }
        // A command in backticks with the request in it.
        if at(code, index) == b'`' && find(between(code, index, index + 64), b"$_", 0).is_some() {
            return true;
        }
        index = end.max(index + 1);
    }
    false
}

/// Names in ZIP and tar archives that climb out of the folder that they are unpacked to.
fn archive(content: &[u8]) -> Option<Finding> {
    if content.starts_with(b"PK\x03\x04") {
        return zip(content);
    }
    if between(content, 257, 262) == b"ustar" {
        return tar(content);
    }
    None
}

fn zip(content: &[u8]) -> Option<Finding> {
    let mut index = 0;
    for _ in 0..ARCHIVED {
        let offset = from(content, index).windows(4).position(|magic| magic == b"PK\x03\x04")?;
        let start = index + offset;
        let length = usize::from(at(content, start + 26)) | usize::from(at(content, start + 27)) << 8;
        if climbs(between(content, start + 30, start + 30 + length.min(1024))) {
            return finding(88, "archive-traversal", start + 30);
        }
        index = start + 30;
    }
    None
}

fn tar(content: &[u8]) -> Option<Finding> {
    let mut index = 0;
    for _ in 0..ARCHIVED {
        let header = between(content, index, index + 512);
        if header.len() < 512 || at(header, 0) == 0 {
            return None;
        }
        let field = between(header, 0, 100);
        let name = between(field, 0, field.iter().position(|b| *b == 0).unwrap_or(100));
        if climbs(name) {
            return finding(88, "archive-traversal", index);
        }
        let octal = between(header, 124, 136).iter().filter(|b| matches!(b, b'0'..=b'7'));
        let size = octal
            .fold(0_usize, |size, digit| size.saturating_mul(8).saturating_add(usize::from(digit - b'0')));
        index = index.saturating_add(512).saturating_add(size.saturating_add(511) & !511);
    }
    None
}

fn climbs(name: &[u8]) -> bool {
    let rooted =
        matches!(at(name, 0), b'/' | b'\\') || at(name, 1) == b':' && at(name, 0).is_ascii_alphabetic();
    rooted && name.len() > 1 || name.split(|b| matches!(b, b'/' | b'\\')).any(|part| part == b"..")
}

#[cfg(test)]
mod tests;
