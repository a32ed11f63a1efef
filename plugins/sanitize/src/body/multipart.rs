//! Fields and files of a multipart form (RFC 7578), without copying them, as they stream by.
//!
//! The content of files is looked at as files only ([`upload`]); headers of parts that parsers read differently are told.
//!
//! Limits: a boundary of 200 bytes (RFC 2046 allows 70), longer: the body is one text; headers of a part that do not end
//! within half a window are an anomaly of the protocol.

use std::ops::ControlFlow;

use super::charset::{self, Charset};
use super::window::{Next, Window};
use crate::bytes::{at, between, find, from, is_space, starts};
use crate::decode::percent;
use crate::finding::{Family, Finding};
use crate::inspector::{Flow, Inspector, Part};
use crate::place::Place;
use crate::upload::{self, File};

/// Bytes of a boundary.
const BOUNDARY: usize = 200;

/// The boundary in a content type; empty when there is none.
pub(crate) fn boundary(content_type: &[u8]) -> &[u8] {
    let Some(start) = find(content_type, b"boundary=", 0) else { return b"" };
    quoted_or_token(from(content_type, start + 9))
}

/// A form that is being read.
#[derive(Debug, Clone)]
pub(crate) struct Multipart {
    delimiter: Vec<u8>,
    state: State,
}

/// Where the window begins.
#[derive(Debug, Clone)]
enum State {
    /// Before the first boundary.
    Start,
    /// Behind a boundary.
    Part,
    /// In the content of a part.
    Content(Content),
    /// Behind the last part.
    End,
    /// Not what it is said to be, or cut off: whoever reads it may read it otherwise.
    Text,
}

/// The content of a part.
#[derive(Debug, Clone)]
enum Content {
    Field { name: Vec<u8> },
    File { name: Vec<u8>, file: Box<File> },
}

impl Multipart {
    pub(crate) fn new(boundary: &[u8]) -> Self {
        let sound = (1..=BOUNDARY).contains(&boundary.len());
        let state = if sound { State::Start } else { State::Text };
        Self { delimiter: [b"--", boundary].concat(), state }
    }

    /// Inspects the parts between the boundaries.
    pub(crate) fn read(&mut self, window: Window<'_>, inspector: &mut Inspector<'_>) -> Next {
        let text = window.text;
        let mut index = 0;
        loop {
            let rest = from(text, index);
            let end = position(rest, &self.delimiter);
            match &mut self.state {
                State::Start => match end {
                    Some(end) => {
                        self.state = State::Part;
                        index += end + self.delimiter.len();
                    }
                    None => self.state = State::Text,
                },
                State::Text => {
                    inspector.look(Place::Text, Part::Value, b"", rest)?;
                    return ControlFlow::Continue(window.cut());
                }
                State::End => return ControlFlow::Continue(text.len()),
                State::Part => {
                    if (rest.len() < 2 || end.is_none()) && window.leaves(index) {
                        return ControlFlow::Continue(index);
                    }
                    if rest.is_empty() || starts(rest, b"--") {
                        self.state = State::End;
                        continue;
                    }
                    let part = between(rest, 0, end.unwrap_or(rest.len()));
                    let (head, start) = split(part);
                    let mut content = open(head, inspector)?;
                    let piece = from(part, start);
                    match end {
                        None if !window.last => {
                            let endless =
                                (start == part.len() && !window.early).then(|| odd((74, "part-header")));
                            inspector.report(Place::Multipart, Part::Name, b"", endless)?;
                            let next = window.cut().max(index + start);
                            content.read(piece, next - index - start, inspector)?;
                            self.state = State::Content(content);
                            return ControlFlow::Continue(next);
                        }
                        end => {
                            content.last(piece, inspector)?;
                            index += end.map_or(rest.len(), |end| end + self.delimiter.len());
                        }
                    }
                }
                State::Content(content) => match end {
                    None if !window.last => {
                        content.read(rest, window.cut(), inspector)?;
                        return ControlFlow::Continue(window.cut());
                    }
                    end => {
                        content.last(between(rest, 0, end.unwrap_or(rest.len())), inspector)?;
                        self.state = State::Part;
                        index += end.map_or(rest.len(), |end| end + self.delimiter.len());
                    }
                },
            }
        }
    }
}

/// Where a delimiter starts.
fn position(body: &[u8], delimiter: &[u8]) -> Option<usize> {
    let first = *delimiter.first()?;
    let mut index = 0;
    loop {
        index += from(body, index).iter().position(|b| *b == first)?;
        if from(body, index).starts_with(delimiter) {
            return Some(index);
        }
        // A run of dashes is read once: only its last two can begin the delimiter.
        let dashes = from(body, index).iter().take_while(|b| **b == first).count();
        let own = delimiter.iter().take_while(|b| **b == first).count();
        index += dashes.saturating_sub(own).max(1);
    }
}

/// The headers of a part, and where its content starts.
fn split(part: &[u8]) -> (&[u8], usize) {
    match (find(part, b"\r\n\r\n", 0), find(between(part, 0, 4096), b"\n\n", 0)) {
        (Some(crlf), None) => (between(part, 0, crlf), crlf + 4),
        (Some(crlf), Some(lf)) if crlf < lf => (between(part, 0, crlf), crlf + 4),
        (_, Some(lf)) => (between(part, 0, lf), lf + 2),
        (None, None) => (part, part.len()),
    }
}

fn odd((confidence, why): (u8, &'static str)) -> Finding {
    Finding::new(Family::Protocol, confidence, why, 0)
}

/// Inspects the headers of a part, and tells what it holds.
fn open(head: &[u8], inspector: &mut Inspector<'_>) -> ControlFlow<(), Content> {
    let name = parameter(head, b"name").unwrap_or_default();
    inspector.report(Place::Multipart, Part::Name, name, headers(head).map(odd))?;
    inspector.name(Place::Multipart, name)?;
    let plain = parameter(head, b"filename");
    let extended = parameter(head, b"filename*");
    let name = name.to_vec();
    if plain.is_none() && extended.is_none() {
        inspector.pair(Place::Multipart)?;
        return ControlFlow::Continue(Content::Field { name });
    }
    for file in [plain, extended].into_iter().flatten() {
        let file = percent(file, false);
        inspector.value(Place::Multipart, &name, &file)?;
        inspector.report(Place::Multipart, Part::Value, &name, upload::name(&file))?;
    }
    let declared = header(head, b"content-type").unwrap_or_default();
    let file = Box::new(File::new(declared, plain.or(extended).unwrap_or_default()));
    ControlFlow::Continue(Content::File { name, file })
}

impl Content {
    /// Inspects a piece of it; the next one starts at `next` in this.
    fn read(&mut self, piece: &[u8], next: usize, inspector: &mut Inspector<'_>) -> Flow {
        match self {
            Self::Field { name } => inspector.look(Place::Multipart, Part::Value, name, piece),
            Self::File { name, file } => {
                let finding = file.look(piece, next);
                inspector.report(Place::Multipart, Part::Value, name, finding)
            }
        }
    }

    /// Inspects what is left of it.
    fn last(&mut self, piece: &[u8], inspector: &mut Inspector<'_>) -> Flow {
        let piece = piece.strip_suffix(b"\n").unwrap_or(piece);
        let piece = piece.strip_suffix(b"\r").unwrap_or(piece);
        let Self::Field { name } = self else { return self.read(piece, piece.len(), inspector) };
        // The charset of all other fields (RFC 7578, 4.6).
        if name.eq_ignore_ascii_case(b"_charset_") && charset::named(piece) != Charset::Ascii {
            let finding = odd((80, "charset-field"));
            inspector.report(Place::Multipart, Part::Value, name, Some(finding))?;
        }
        inspector.value(Place::Multipart, name, piece)
    }
}

/// The value of a part's header, by its lower-case name.
fn header<'a>(head: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    let mut lines = head.split(|b| *b == b'\n').map(<[u8]>::trim_ascii);
    lines.find_map(|line| {
        let rest = starts(line, wanted).then(|| from(line, wanted.len()).trim_ascii_start())?;
        rest.strip_prefix(b":").map(<[u8]>::trim_ascii)
    })
}

/// What in a part's headers parsers read differently.
fn headers(head: &[u8]) -> Option<(u8, &'static str)> {
    let lines = head.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut dispositions = 0;
    for line in lines.filter(|line| !line.is_empty()) {
        if is_space(at(line, 0)) {
            return Some((74, "folded-header"));
        }
        let Some(colon) = line.iter().position(|b| *b == b':') else {
            return Some((65, "header-without-colon"));
        };
        let key = between(line, 0, colon);
        if !key.iter().all(|b| b.is_ascii_graphic()) {
            return Some((74, "header-name"));
        }
        let value = from(line, colon + 1).trim_ascii();
        if key.eq_ignore_ascii_case(b"content-transfer-encoding") {
            // Undone by some parsers, deprecated for forms (RFC 7578, 4.7).
            let plain =
                ["binary", "8bit", "7bit"].iter().any(|coding| value.eq_ignore_ascii_case(coding.as_bytes()));
            if !plain {
                return Some((74, "transfer-encoding"));
            }
        } else if key.eq_ignore_ascii_case(b"content-type") {
            if charset::declared(value) != Charset::Ascii {
                return Some((76, "charset"));
            }
        } else if key.eq_ignore_ascii_case(b"content-disposition") {
            dispositions += 1;
            if let Some(odd) = disposition(value) {
                return Some(odd);
            }
        }
    }
    (dispositions > 1).then_some((80, "disposition-twice"))
}

/// Quoted names with what ends a name for simpler parsers.
fn disposition(value: &[u8]) -> Option<(u8, &'static str)> {
    let mut rest = value;
    let (mut names, mut files) = (0, 0);
    while let Some(semicolon) = rest.iter().position(|b| *b == b';') {
        let parameter = from(rest, semicolon + 1).trim_ascii_start();
        names += u32::from(starts(parameter, b"name="));
        files += u32::from(starts(parameter, b"filename="));
        let quoted = parameter
            .iter()
            .take(24)
            .position(|b| *b == b'=')
            .and_then(|equals| from(parameter, equals + 1).strip_prefix(b"\""));
        let Some(inside) = quoted else {
            rest = parameter;
            continue;
        };
        let end = inside.iter().position(|b| *b == b'"').unwrap_or(inside.len());
        let text = between(inside, 0, end);
        if end == inside.len() || text.contains(&b'\\') && !is_drive(text) {
            return Some((72, "quoted-name"));
        }
        if has_separator(text) {
            return Some((74, "separator-in-name"));
        }
        if text.contains(&b'=') {
            return Some((60, "equals-in-name"));
        }
        rest = from(inside, end + 1);
    }
    (names > 1 || files > 1).then_some((84, "name-twice"))
}

/// `C:\..`, as old browsers send it.
fn is_drive(text: &[u8]) -> bool {
    at(text, 0).is_ascii_alphabetic() && at(text, 1) == b':' && at(text, 2) == b'\\'
        || text.starts_with(b"\\\\")
}

/// A semicolon that does not end a character reference, as browsers send them for what a page's charset has not.
fn has_separator(text: &[u8]) -> bool {
    let mut index = 0;
    while let Some(offset) = from(text, index).iter().position(|b| *b == b';') {
        let semicolon = index + offset;
        let start = between(text, 0, semicolon).iter().rposition(|b| *b == b'&');
        let reference = start.is_some_and(|start| {
            let name = between(text, start + 1, semicolon);
            let numbered =
                name.strip_prefix(b"#").is_some_and(|number| !number.is_empty() && number.len() <= 8);
            numbered || name.len() >= 3 && name.len() <= 8 && name.iter().all(u8::is_ascii_alphabetic)
        });
        if !reference {
            return true;
        }
        index = semicolon + 1;
    }
    false
}

/// A parameter of `content-disposition`, by its lower-case name.
fn parameter<'a>(head: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    let mut index = 0;
    while let Some(offset) = from(head, index).iter().position(|b| *b == b';') {
        index += offset + 1;
        while matches!(at(head, index), b' ' | b'\t' | b'\r' | b'\n') {
            index += 1;
        }
        let rest = from(head, index);
        if starts(rest, wanted) && at(rest, wanted.len()) == b'=' {
            return Some(quoted_or_token(from(rest, wanted.len() + 1)));
        }
    }
    None
}

fn quoted_or_token(text: &[u8]) -> &[u8] {
    if let [b'"', inside @ ..] = text {
        return between(inside, 0, inside.iter().position(|b| *b == b'"').unwrap_or(inside.len()));
    }
    let end = text.iter().position(|b| matches!(b, b';' | b' ' | b'\r' | b'\n')).unwrap_or(text.len());
    between(text, 0, end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_as_they_are_sent() {
        let head = b"Content-Disposition: form-data; name=\"a b\"; filename=x.png\r\nContent-Type: image/png";
        assert_eq!(parameter(head, b"name"), Some(&b"a b"[..]));
        assert_eq!(parameter(head, b"filename"), Some(&b"x.png"[..]));
        assert_eq!(parameter(head, b"filename*"), None);
        assert_eq!(boundary(b"multipart/form-data; boundary=\"x y\""), b"x y");
        assert_eq!(boundary(b"multipart/form-data; Boundary=abc; charset=utf-8"), b"abc");
        assert_eq!(boundary(b"multipart/form-data"), b"");
    }

    #[test]
    fn delimiters_are_found_behind_dashes() {
        assert_eq!(position(b"-----xy", b"--xy"), Some(3));
        assert_eq!(position(b"a-b--x--xy", b"--xy"), Some(6));
        assert_eq!(position(b"------", b"--xy"), None);
    }
}
