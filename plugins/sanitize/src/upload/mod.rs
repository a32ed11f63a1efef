//! Files that the server might run, or that are not what they claim to be.
//!
//! A file's name is looked at whole ([`name`]); its content only for what tells such files apart: the first bytes against
//! the declared type, script in an image, a web shell, names in an archive that climb out of it. What users upload is
//! otherwise their own: prose, photos and PDF files are not read as values. Files are looked at as they stream by, in
//! constant memory, from the first byte to the last.
//!
//! Limits: 512 bytes behind a script tag; 4 KiB of a drawing's tag; names in archives of other formats than ZIP and tar, in
//! compressed archives, and in archives within archives are not seen.

mod name;

pub(crate) use name::detect as name;

use crate::bytes::{at, between, find, from, is_space, skip_space, starts};
use crate::finding::{Family, Finding, surer};
use crate::lexicon::Lexicon;

/// Bytes behind a script tag in which a dangerous call is looked for. Further away: not found.
const SCRIPT_BYTES: usize = 512;
/// Bytes of a drawing's tag that are looked at.
const TAG_BYTES: usize = 4096;
/// Bytes of a ZIP archive's header before a name, and of a name that are looked at.
const ZIP_HEADER: usize = 30;
const ZIP_NAME: usize = 1024;

fn finding(confidence: u8, why: &'static str, at: usize) -> Option<Finding> {
    Some(Finding::new(Family::Upload, confidence, why, at))
}

/// A file that is being looked at.
#[derive(Debug, Clone)]
pub(crate) struct File {
    image: bool,
    svg: bool,
    /// It is an image that markup stands in.
    markup: bool,
    zip: bool,
    /// Where the next header of a tar archive starts.
    tar: Option<u64>,
    /// Bytes before the next piece.
    place: u64,
}

impl File {
    /// `declared` is its media type, `name` its name; either may be empty.
    pub(crate) fn new(declared: &[u8], file: &[u8]) -> Self {
        let svg = starts(declared, b"image/svg") || name::ends(file, b".svg") || name::ends(file, b".svgz");
        let image = starts(declared, b"image/") || name::is_picture(file);
        Self { image, svg, markup: svg, zip: false, tar: None, place: 0 }
    }

    /// Looks at a piece of the content; the next one starts at `next` in this. Linear in the piece's length.
    pub(crate) fn look(&mut self, piece: &[u8], next: usize) -> Option<Finding> {
        let mut found = None;
        if self.place == 0 {
            self.markup |= self.image && looks_like_markup(piece);
            self.zip = piece.starts_with(b"PK\x03\x04");
            self.tar = (between(piece, 257, 262) == b"ustar").then_some(0);
            if self.image && !self.svg {
                found = disguised(piece);
            }
        }
        if self.markup {
            found = surer(found, drawing(piece));
        }
        found = surer(found, script(piece, self.image && !self.svg));
        if self.zip {
            found = surer(found, zip(piece));
        }
        if let Some(header) = self.tar {
            let climbing;
            (climbing, self.tar) = tar(piece, self.place, header);
            found = surer(found, climbing);
        }
        self.place = self.place.saturating_add(next as u64);
        found
    }
}

fn looks_like_markup(content: &[u8]) -> bool {
    let start = skip_space(between(content, 0, 64), 0);
    let head = between(content, start, start + 16);
    [&b"<svg"[..], b"<?xml", b"<!doctype", b"<html", b"<script"].iter().any(|tag| starts(head, tag))
}

/// Script in an SVG drawing: elements and attributes that run, and entities.
fn drawing(content: &[u8]) -> Option<Finding> {
    let mut index = 0;
    while let Some(offset) = from(content, index).iter().position(|b| *b == b'<') {
        let start = index + offset;
        let rest = between(content, start, start + TAG_BYTES);
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
        index = start + 1;
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
    // Code up to here held no such call.
    let mut harmless = 0;
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
        // Bytes of a picture that happen to be a tag are no text.
        if between(rest, 2, 18).iter().all(|b| (b' '..0x7f).contains(b) || is_space(*b)) {
            let end = start + 2 + SCRIPT_BYTES;
            if calls(between(content, 0, end), harmless.max(start + 2)) {
                return finding(86, "web-shell", start);
            }
            harmless = end.saturating_sub(CALL_BYTES);
        }
    }
    None
}

/// Bytes of the longest call that is known, and what may stand around its name.
const CALL_BYTES: usize = 40;

fn calls(code: &[u8], start: usize) -> bool {
    let mut index = start;
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

/// Names in a ZIP archive that climb out of the folder that it is unpacked to. Headers may overlap; bytes are read once all
/// the same.
fn zip(piece: &[u8]) -> Option<Finding> {
    let (mut index, mut read) = (0, 0);
    loop {
        let start = index + from(piece, index).iter().position(|b| *b == b'P')?;
        index = start + 1;
        if !from(piece, start).starts_with(b"PK\x03\x04") {
            continue;
        }
        let length = usize::from(at(piece, start + 26)) | usize::from(at(piece, start + 27)) << 8;
        let name = start + ZIP_HEADER;
        let end = name + length.min(ZIP_NAME);
        let fresh = name.max(read);
        // `/..` may lie across the border.
        let rest = between(piece, fresh.saturating_sub(3).max(name), end);
        let parts = rest.split(|b| matches!(b, b'/' | b'\\')).skip(usize::from(fresh > name));
        if is_rooted(between(piece, name, end)) || parts.into_iter().any(|part| part == b"..") {
            return finding(88, "archive-traversal", name);
        }
        read = read.max(end);
    }
}

/// Such names in a tar archive, of which a piece begins at `place` and the next header at `header`; where the next header
/// behind the piece begins.
fn tar(piece: &[u8], place: u64, mut header: u64) -> (Option<Finding>, Option<u64>) {
    loop {
        let Some(start) = header.checked_sub(place).and_then(|start| usize::try_from(start).ok()) else {
            return (None, Some(header));
        };
        let bytes = between(piece, start, start.saturating_add(512));
        if bytes.len() < 512 {
            return (None, Some(header));
        }
        if at(bytes, 0) == 0 {
            return (None, None);
        }
        let field = between(bytes, 0, 100);
        let name = between(field, 0, field.iter().position(|b| *b == 0).unwrap_or(100));
        if climbs(name) {
            return (finding(88, "archive-traversal", start), None);
        }
        let octal = between(bytes, 124, 136).iter().filter(|b| matches!(b, b'0'..=b'7'));
        let size =
            octal.fold(0_u64, |size, digit| size.saturating_mul(8).saturating_add(u64::from(digit - b'0')));
        header = header.saturating_add(512).saturating_add(size.saturating_add(511) & !511);
    }
}

fn climbs(name: &[u8]) -> bool {
    is_rooted(name) || name.split(|b| matches!(b, b'/' | b'\\')).any(|part| part == b"..")
}

fn is_rooted(name: &[u8]) -> bool {
    let drive = at(name, 1) == b':' && at(name, 0).is_ascii_alphabetic();
    (matches!(at(name, 0), b'/' | b'\\') || drive) && name.len() > 1
}

#[cfg(test)]
mod tests;
