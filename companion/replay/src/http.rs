//! Raw HTTP/1 requests, as a proxy's log, a tool or an editor saves them.
//!
//! Read leniently, because people edit such files: lines may end in LF alone, and a header line without a colon is kept
//! under its whole text. The head is kept byte by byte; the body is what the head announces, or else all that follows.

use crate::{Header, Request, Unreadable};

/// Reads one request.
///
/// # Errors
/// When there is no request line.
pub fn read(bytes: &[u8]) -> Result<Request, Unreadable> {
    let mut rest = bytes;
    let first = loop {
        let (line, behind) = line(rest).ok_or(Unreadable::Http("there is no request line"))?;
        rest = behind;
        // RFC 9112, section 2.2: empty lines before the request line are passed over.
        if !line.is_empty() {
            break line;
        }
    };
    let mut request = request_line(first)?;
    while let Some((line, behind)) = line(rest) {
        rest = behind;
        if line.is_empty() {
            break;
        }
        request.headers.push(header(line));
    }
    request.body = body(&request, rest);
    Ok(request)
}

/// The next line without its end; what follows the last line end is a line too, unless it is empty.
fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    if bytes.is_empty() {
        return None;
    }
    let (line, rest) = match bytes.iter().position(|byte| *byte == b'\n') {
        Some(end) => (bytes.get(..end)?, bytes.get(end.saturating_add(1)..)?),
        None => (bytes, &b""[..]),
    };
    Some((line.strip_suffix(b"\r").unwrap_or(line), rest))
}

fn request_line(line: &[u8]) -> Result<Request, Unreadable> {
    let space = |byte: &u8| *byte == b' ';
    let start = line.iter().position(space).ok_or(Unreadable::Http("the first line has no space"))?;
    let (method, rest) = line.split_at(start);
    let rest = rest.get(1..).unwrap_or_default();
    let end = rest.iter().rposition(space).filter(|end| {
        rest.get(end.saturating_add(1)..)
            .is_some_and(|version| version.to_ascii_uppercase().starts_with(b"HTTP"))
    });
    let (target, version) = match end {
        Some(end) => (rest.get(..end), rest.get(end.saturating_add(1)..)),
        None => (Some(rest), None),
    };
    let target = target.unwrap_or_default();
    if method.is_empty() || target.is_empty() {
        return Err(Unreadable::Http("the first line names no method or no target"));
    }
    let is_target =
        |text: &[u8]| text.starts_with(b"/") || text == b"*" || text.windows(3).any(|three| three == b"://");
    if version.is_none() && !is_target(target) {
        return Err(Unreadable::Http("the first line has neither a path nor an HTTP version"));
    }
    let mut request = Request::new(method, target);
    request.version = version.unwrap_or(b"HTTP/1.1").to_vec();
    Ok(request)
}

fn header(line: &[u8]) -> Header {
    let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
    let (name, value) = line.split_at(colon);
    (name.to_vec(), value.get(1..).unwrap_or_default().trim_ascii().to_vec())
}

fn body(request: &Request, rest: &[u8]) -> Vec<u8> {
    let chunked = request
        .header("transfer-encoding")
        .is_some_and(|coding| coding.to_ascii_lowercase().ends_with(b"chunked"));
    if chunked && let Some(body) = unchunk(rest) {
        return body;
    }
    let length =
        request.header("content-length").and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
    rest.get(..length.unwrap_or(rest.len())).unwrap_or(rest).to_vec()
}

/// A body out of its chunks; `None` when it is not cut into chunks.
pub fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let (size, behind) = line(rest)?;
        let digits = size.split(|byte| *byte == b';').next()?.trim_ascii();
        let size = usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(behind.get(..size)?);
        let (empty, next) = line(behind.get(size..)?)?;
        if !empty.is_empty() {
            return None;
        }
        rest = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_kept_and_bodies_are_what_they_announce() {
        let request =
            read(b"\r\nPOST /a b HTTP/1.0\r\nHost: x\r\nhost:y \r\nodd\r\nContent-Length: 2\r\n\r\nokrest")
                .unwrap();
        assert_eq!((&request.method[..], &request.target[..]), (&b"POST"[..], &b"/a b"[..]));
        assert_eq!(request.version, b"HTTP/1.0");
        let names: Vec<&[u8]> = request.headers.iter().map(|(name, _)| name.as_slice()).collect();
        assert_eq!(names, [&b"Host"[..], b"host", b"odd", b"Content-Length"]);
        assert_eq!((request.header("odd"), &request.body[..]), (Some(&b""[..]), &b"ok"[..]));
    }

    #[test]
    fn an_edited_file_is_read_as_meant() {
        let request = read(b"GET /x\nHost: app\n\nall of it\n").unwrap();
        assert_eq!((&request.target[..], &request.body[..]), (&b"/x"[..], &b"all of it\n"[..]));
        let chunked =
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n1\r\nd\r\n0\r\n\r\n";
        assert_eq!(read(chunked).unwrap().body, b"abcd");
        assert_eq!(read(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nnot").unwrap().body, b"not");
        assert_eq!(read(b"GET /a=1 HTTP/1.1").unwrap().target, b"/a=1");
    }

    #[test]
    fn what_is_no_request_is_told() {
        for wrong in [&b""[..], b"\n\n", b"GET", b" /x HTTP/1.1", b"some text"] {
            assert!(matches!(read(wrong), Err(Unreadable::Http(_))), "{wrong:?}");
        }
    }
}
