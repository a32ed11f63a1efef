//! HTTP/1.1 messages in bytes, read as they came: for a client and an application that must see exactly what went over
//! the wire.

use std::io::{self, BufRead};

/// Header names and values in the order of the wire.
pub type Headers = Vec<(Vec<u8>, Vec<u8>)>;

/// A request or a response.
#[derive(Debug, Clone, Default)]
pub struct Message {
    /// The request line or status line.
    pub first_line: Vec<u8>,
    /// Its headers.
    pub headers: Headers,
    /// Its body, without the chunks' sizes.
    pub body: Vec<u8>,
}

/// How long a body is when no header tells.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Unframed {
    /// There is none: a request, or the answer to a HEAD.
    Empty,
    /// To the connection's end: a response.
    UntilClose,
}

impl Message {
    /// The first value under a name in lower case.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value.as_slice())
    }

    /// All values under a name in lower case.
    pub fn all<'m>(&'m self, name: &'m str) -> impl Iterator<Item = &'m [u8]> {
        self.headers
            .iter()
            .filter(move |(key, _)| key.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value.as_slice())
    }

    /// Reads one; `None` when the connection ends before its first byte.
    pub fn read(reader: &mut impl BufRead, unframed: Unframed) -> io::Result<Option<Self>> {
        let Some(mut message) = Self::read_head(reader)? else { return Ok(None) };
        message.read_body(reader, unframed)?;
        Ok(Some(message))
    }

    /// Reads the first line and the headers.
    pub fn read_head(reader: &mut impl BufRead) -> io::Result<Option<Self>> {
        let Some(first_line) = line(reader)? else { return Ok(None) };
        let mut headers = Vec::new();
        loop {
            let line = line(reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            if line.is_empty() {
                return Ok(Some(Self { first_line, headers, body: Vec::new() }));
            }
            let colon = line.iter().position(|byte| *byte == b':').ok_or(io::ErrorKind::InvalidData)?;
            let (name, value) = line.split_at(colon);
            headers.push((name.to_ascii_lowercase(), value[1..].trim_ascii().to_vec()));
        }
    }

    /// Reads the body that the headers announce.
    pub fn read_body(&mut self, reader: &mut impl BufRead, unframed: Unframed) -> io::Result<()> {
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        if self.header("transfer-encoding").is_some_and(|coding| text(coding).contains("chunked")) {
            self.body = chunks(reader)?;
        } else if let Some(length) = self.header("content-length") {
            let length = text(length).parse().map_err(|_| io::ErrorKind::InvalidData)?;
            let mut body = vec![0; length];
            reader.read_exact(&mut body)?;
            self.body = body;
        } else if unframed == Unframed::UntilClose {
            reader.read_to_end(&mut self.body)?;
        }
        Ok(())
    }
}

fn line(reader: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    let end = line.strip_suffix(b"\r\n").or_else(|| line.strip_suffix(b"\n"));
    Ok(Some(end.ok_or(io::ErrorKind::UnexpectedEof)?.to_vec()))
}

fn chunks(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let size = line(reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let digits =
            String::from_utf8_lossy(size.split(|byte| *byte == b';').next().unwrap_or_default()).into_owned();
        let size = usize::from_str_radix(digits.trim(), 16).map_err(|_| io::ErrorKind::InvalidData)?;
        if size == 0 {
            // Trailers, which nothing here looks at.
            while line(reader)?.ok_or(io::ErrorKind::UnexpectedEof)? != b"" {}
            return Ok(body);
        }
        let mut chunk = vec![0; size];
        reader.read_exact(&mut chunk)?;
        body.extend_from_slice(&chunk);
        line(reader)?;
    }
}

#[test]
fn bodies_are_read_as_they_are_framed() {
    let read = |text: &str, unframed| Message::read(&mut text.as_bytes(), unframed);
    let sized = read("POST / HTTP/1.1\r\nA: 1\r\na:2\r\nContent-Length: 2\r\n\r\nokrest", Unframed::Empty)
        .unwrap()
        .unwrap();
    assert_eq!(
        (sized.body.as_slice(), sized.all("a").collect::<Vec<_>>()),
        (&b"ok"[..], vec![&b"1"[..], b"2"])
    );
    let chunked =
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;x\r\no\r\n1\r\nk\r\n0\r\nt: 1\r\n\r\n";
    assert_eq!(read(chunked, Unframed::UntilClose).unwrap().unwrap().body, b"ok");
    assert_eq!(read("HTTP/1.1 200 OK\r\n\r\nall", Unframed::UntilClose).unwrap().unwrap().body, b"all");
    assert!(read("", Unframed::Empty).unwrap().is_none());
    assert!(read("GET / HTTP/1.1\r\nA: 1\r\n", Unframed::Empty).is_err());
}
