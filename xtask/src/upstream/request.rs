//! Reading a request: as much of RFC 9112 as a server behind a proxy needs, strictly.

use std::io::{self, BufRead, Read, Write};

/// Request line and headers together, in bytes. More: 431.
pub(super) const HEAD_BYTES: usize = 1024 * 1024;
/// A body, in bytes. More: 413.
const BODY_BYTES: u64 = 64 * 1024 * 1024;
/// How much of a body is kept to be echoed; the rest is counted.
pub(super) const ECHO_BYTES: usize = 64 * 1024;
/// A line with a chunk's size, in bytes. More: 400.
const CHUNK_LINE_BYTES: u64 = 256;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Request {
    pub method: String,
    /// Path and query as they came.
    pub target: String,
    /// In order, with their duplicates.
    pub headers: Vec<(String, String)>,
    /// Its first [`ECHO_BYTES`].
    pub body: Vec<u8>,
    pub body_bytes: u64,
    pub keep_alive: bool,
}

impl Request {
    /// The path without its query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    fn all<'r>(&'r self, name: &'r str) -> impl Iterator<Item = &'r str> {
        self.headers
            .iter()
            .filter(move |(have, _)| have.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

/// What came.
pub(super) enum Reading {
    Request(Request),
    /// The client is done.
    End,
    /// It cannot be understood, or is too large: answer with this status, and close.
    Refused(u16),
}

/// How long a body is.
enum Length {
    Known(u64),
    Chunked,
}

/// Reads a request; `writer` is only used to ask for a body that waits to be asked for (`Expect: 100-continue`).
pub(super) fn read(reader: &mut impl BufRead, writer: &mut impl Write) -> io::Result<Reading> {
    let head = match head(reader)? {
        Ok(head) if head.is_empty() => return Ok(Reading::End),
        Ok(head) => head,
        Err(status) => return Ok(Reading::Refused(status)),
    };
    let Some(mut request) = parse(&head) else { return Ok(Reading::Refused(400)) };
    let length = match length(&request) {
        Ok(length) => length,
        Err(status) => return Ok(Reading::Refused(status)),
    };
    if request.all("expect").any(|value| value.eq_ignore_ascii_case("100-continue")) {
        writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        writer.flush()?;
    }
    let taken = match length {
        Length::Known(length) => take(reader, length, &mut request).map(|()| true)?,
        Length::Chunked => chunks(reader, &mut request)?,
    };
    Ok(if taken { Reading::Request(request) } else { Reading::Refused(400) })
}

/// The bytes up to the empty line; empty when the client is done.
fn head(reader: &mut impl BufRead) -> io::Result<Result<Vec<u8>, u16>> {
    let mut head = Vec::new();
    loop {
        let room = u64::try_from(HEAD_BYTES.saturating_sub(head.len())).unwrap_or(0);
        let before = head.len();
        let read = reader.by_ref().take(room).read_until(b'\n', &mut head)?;
        let ended = head.last() == Some(&b'\n');
        if !ended {
            return Ok(match (read, head.len()) {
                (_, HEAD_BYTES) => Err(431),
                (0, 0) => Ok(head),
                _ => Err(400),
            });
        }
        match head.get(before..) {
            // Empty lines before a request are allowed (RFC 9112, 2.2).
            Some(b"\r\n" | b"\n") if before == 0 => head.clear(),
            Some(b"\r\n" | b"\n") => return Ok(Ok(head)),
            _ => {}
        }
    }
}

fn parse(head: &[u8]) -> Option<Request> {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.lines();
    let mut first = lines.next()?.split(' ');
    let (method, target, version) = (first.next()?, first.next()?, first.next()?);
    if first.next().is_some() || method.is_empty() || target.is_empty() || !version.starts_with("HTTP/1.") {
        return None;
    }
    let mut headers = Vec::new();
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':')?;
        if name.is_empty() || name.ends_with([' ', '\t']) || name.starts_with([' ', '\t']) {
            return None;
        }
        headers.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
    }
    let mut request =
        Request { method: method.to_owned(), target: target.to_owned(), headers, ..Request::default() };
    let says = |word: &str| request.all("connection").any(|value| value.to_ascii_lowercase().contains(word));
    request.keep_alive = if version == "HTTP/1.0" { says("keep-alive") } else { !says("close") };
    Some(request)
}

/// How long the body is. A length that is said twice, or in two ways, is how requests are smuggled.
fn length(request: &Request) -> Result<Length, u16> {
    let mut encodings = request.all("transfer-encoding");
    let mut lengths = request.all("content-length");
    match (encodings.next(), encodings.next(), lengths.next(), lengths.next()) {
        (None, None, None, None) => Ok(Length::Known(0)),
        (Some(encoding), None, None, None) if encoding.eq_ignore_ascii_case("chunked") => Ok(Length::Chunked),
        (None, None, Some(length), None) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
            match length.parse() {
                Ok(length) if length <= BODY_BYTES => Ok(Length::Known(length)),
                Err(_) if length.is_empty() => Err(400),
                _ => Err(413),
            }
        }
        _ => Err(400),
    }
}

/// Takes so many bytes of a body.
fn take(reader: &mut impl BufRead, length: u64, request: &mut Request) -> io::Result<()> {
    let mut left = length;
    while left > 0 {
        let available = reader.fill_buf()?;
        let used = available.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if used == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let room = ECHO_BYTES.saturating_sub(request.body.len());
        request.body.extend(available.iter().take(used.min(room)));
        reader.consume(used);
        let used = u64::try_from(used).unwrap_or(left);
        left = left.saturating_sub(used);
        request.body_bytes = request.body_bytes.saturating_add(used);
    }
    Ok(())
}

/// Takes a chunked body with its trailers; false when it is malformed or too large.
fn chunks(reader: &mut impl BufRead, request: &mut Request) -> io::Result<bool> {
    loop {
        let Some(line) = short_line(reader)? else { return Ok(false) };
        let digits = line.split(';').next().unwrap_or_default().trim();
        let hexadecimal = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let Some(size) = hexadecimal.then(|| u64::from_str_radix(digits, 16).ok()).flatten() else {
            return Ok(false);
        };
        if request.body_bytes.saturating_add(size) > BODY_BYTES {
            return Ok(false);
        }
        if size == 0 {
            break;
        }
        take(reader, size, request)?;
        if short_line(reader)?.as_deref() != Some("") {
            return Ok(false);
        }
    }
    // Trailers, few and unread.
    for _ in 0..64 {
        match short_line(reader)?.as_deref() {
            Some("") => return Ok(true),
            Some(_) => {}
            None => return Ok(false),
        }
    }
    Ok(false)
}

/// A line without its end; `None` when it is too long or not text.
fn short_line(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    reader.by_ref().take(CHUNK_LINE_BYTES).read_until(b'\n', &mut line)?;
    let Some(line) = line.strip_suffix(b"\r\n").or_else(|| line.strip_suffix(b"\n")) else { return Ok(None) };
    Ok(String::from_utf8(line.to_vec()).ok())
}
