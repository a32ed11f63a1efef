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
use crate::parameters::parameter;
use crate::place::Place;
use crate::upload::{self, File};

/// Bytes of a boundary.
const BOUNDARY: usize = 200;

/// The boundary in a content type; empty when there is none.
pub(crate) fn boundary(content_type: &[u8]) -> &[u8] {
    parameter(content_type, b"boundary").unwrap_or_default()
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

/// The content of a part: a field, a file, or what some parsers take for the one and some for the other.
#[derive(Debug, Clone)]
struct Content {
    name: Vec<u8>,
    file: Option<Box<File>>,
    is_field: bool,
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
            let begins = matches!(self.state, State::Start);
            let (end, ambiguous) = position(window, index, &self.delimiter, begins);
            if ambiguous && !matches!(self.state, State::Text | State::End) {
                let finding = odd((74, "delimiter-in-line"));
                inspector.report(Place::Multipart, Part::Name, b"", Some(finding))?;
            }
            match &mut self.state {
                State::Start => match end {
                    Some(end) => {
                        self.state = State::Part;
                        index += end + self.delimiter.len();
                    }
                    None => self.state = State::Text,
                },
                // What stands behind the last part is nobody's, but for those who read the body otherwise.
                State::End | State::Text => {
                    inspector.look(Place::Text, Part::Value, b"", rest)?;
                    return ControlFlow::Continue(window.cut().max(index));
                }
                State::Part => {
                    if (rest.len() < 2 || end.is_none()) && window.leaves(index) {
                        return ControlFlow::Continue(index);
                    }
                    if rest.is_empty() || starts(rest, b"--") {
                        self.state = State::End;
                        index += rest.len().min(2);
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

/// Where the next delimiter starts, behind `start`, and whether there is one before it that is none: a delimiter begins a
/// line and is all of it (RFC 2046, 5.1.1), but some parsers ask for less. `begins`: the body does where the window does.
fn position(window: Window<'_>, start: usize, delimiter: &[u8], begins: bool) -> (Option<usize>, bool) {
    let rest = from(window.text, start);
    let (mut index, mut ambiguous) = (0, false);
    while let Some(found) = occurrence(rest, index, delimiter) {
        let before = (start + found).checked_sub(1).map(|place| at(window.text, place));
        let starts_line = before.map_or(begins, |byte| byte == b'\n');
        let ends_line = match from(rest, found + delimiter.len()) {
            // What follows tells, in the next window.
            [] | [b'-'] if !window.last => return (None, ambiguous),
            [b'-', second, ..] => *second == b'-',
            behind => behind.first().is_none_or(|byte| is_space(*byte)),
        };
        if starts_line && ends_line {
            return (Some(found), ambiguous);
        }
        ambiguous = true;
        index = found + 1;
    }
    (None, ambiguous)
}

/// Where the delimiter's bytes stand, at or behind `index`.
fn occurrence(body: &[u8], mut index: usize, delimiter: &[u8]) -> Option<usize> {
    let first = *delimiter.first()?;
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

/// Inspects the headers of a part, and tells what it holds. A file is what has a name of one (RFC 7578, 4.2); an empty name, or
/// one in the form that RFC 7578 forbids, is one for some parsers only.
fn open(head: &[u8], inspector: &mut Inspector<'_>) -> ControlFlow<(), Content> {
    let disposition = header(head, b"content-disposition").unwrap_or_default();
    let name = parameter(disposition, b"name").unwrap_or_default();
    inspector.report(Place::Multipart, Part::Name, name, headers(head).map(odd))?;
    inspector.name(Place::Multipart, name)?;
    let plain = parameter(disposition, b"filename");
    // `UTF-8'en'name` (RFC 8187).
    let extended = parameter(disposition, b"filename*")
        .map(|text| text.splitn(3, |b| *b == b'\'').last().unwrap_or(text));
    for file in [plain, extended].into_iter().flatten() {
        let file = percent(file, false);
        inspector.value(Place::Multipart, name, &file)?;
        inspector.report(Place::Multipart, Part::Value, name, upload::name(&file))?;
    }
    let is_field = plain.is_none_or(<[u8]>::is_empty);
    if is_field {
        inspector.pair(Place::Multipart)?;
    }
    let file = plain
        .or(extended)
        .map(|file| Box::new(File::new(header(head, b"content-type").unwrap_or_default(), file)));
    ControlFlow::Continue(Content { name: name.to_vec(), file, is_field })
}

impl Content {
    /// Inspects a piece of it; the next one starts at `next` in this.
    fn read(&mut self, piece: &[u8], next: usize, inspector: &mut Inspector<'_>) -> Flow {
        self.as_file(piece, next, inspector)?;
        if self.is_field {
            inspector.look(Place::Multipart, Part::Value, &self.name, piece)?;
        }
        Flow::Continue(())
    }

    fn as_file(&mut self, piece: &[u8], next: usize, inspector: &mut Inspector<'_>) -> Flow {
        let Some(file) = &mut self.file else { return Flow::Continue(()) };
        let finding = file.look(piece, next);
        inspector.report(Place::Multipart, Part::Value, &self.name, finding)
    }

    /// Inspects what is left of it.
    fn last(&mut self, piece: &[u8], inspector: &mut Inspector<'_>) -> Flow {
        let piece = piece.strip_suffix(b"\n").unwrap_or(piece);
        let piece = piece.strip_suffix(b"\r").unwrap_or(piece);
        self.as_file(piece, piece.len(), inspector)?;
        if !self.is_field {
            return Flow::Continue(());
        }
        // The charset of all other fields (RFC 7578, 4.6).
        if self.name.eq_ignore_ascii_case(b"_charset_") && charset::named(piece) != Charset::Ascii {
            let finding = odd((80, "charset-field"));
            inspector.report(Place::Multipart, Part::Value, &self.name, Some(finding))?;
        }
        inspector.value(Place::Multipart, &self.name, piece)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boundary_is_a_parameter_of_that_name() {
        assert_eq!(boundary(b"multipart/form-data; boundary=\"x y\""), b"x y");
        assert_eq!(boundary(b"multipart/form-data; Boundary=abc; charset=utf-8"), b"abc");
        assert_eq!(boundary(b"multipart/form-data; xboundary=abc; boundary=b"), b"b");
        assert_eq!(boundary(b"multipart/form-data"), b"");
    }

    #[test]
    fn a_delimiter_is_a_line_and_stands_behind_dashes_too() {
        let find = |text: &'static [u8]| position(Window::whole(text), 0, b"--xy", true);
        assert_eq!(find(b"--xy\r\n"), (Some(0), false));
        assert_eq!(find(b"a\r\n--xy--"), (Some(3), false));
        assert_eq!(find(b"a\n--xy \n"), (Some(2), false));
        assert_eq!(find(b"-----xy\n--xy"), (Some(8), true));
        assert_eq!(find(b"a-b--x--xy"), (None, true));
        assert_eq!(find(b"\n--xyz"), (None, true));
        assert_eq!(find(b"------"), (None, false));
        let cut = |text| position(Window { text, last: false, early: false }, 1, b"--xy", false);
        assert_eq!(cut(b"\n--xy\n"), (Some(0), false));
        assert_eq!(cut(b"\n--xy"), (None, false));
    }
}
