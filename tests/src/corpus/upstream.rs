//! The application behind Envoy: marks what reached it, and answers `POST /reflect` with what its body says, because
//! tests of what an application gives away bring the answer along.

use std::{
    io::{self, BufRead, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    thread,
};

use anyhow::Result;
use serde_json::Value;

/// Stands in every answer of the application.
pub const MARK: &str = "x-corpus-application";

/// The longest body that is kept. More is read and forgotten.
const BODY_BYTES: u64 = 1024 * 1024;

/// Listens on a free port of the loopback, until the process ends; answers which.
///
/// # Errors
/// When there is no port.
pub fn start() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            // Envoy opens another one when a connection is over.
            thread::spawn(move || drop(serve(&connection)));
        }
    });
    Ok(port)
}

fn serve(connection: &TcpStream) -> io::Result<()> {
    connection.set_nodelay(true)?;
    let mut reader = BufReader::new(connection);
    let mut writer = connection;
    while let Some((first, body)) = request(&mut reader)? {
        let reflected = first.starts_with("POST /reflect").then(|| reflected(&body)).flatten();
        let (status, headers, body) = reflected.unwrap_or_else(|| (200, String::new(), b"ok".to_vec()));
        let mut out =
            format!("HTTP/1.1 {status} x\r\n{MARK}: 1\r\ncontent-length: {}\r\n{headers}\r\n", body.len())
                .into_bytes();
        if !first.starts_with("HEAD ") {
            out.extend_from_slice(&body);
        }
        writer.write_all(&out)?;
    }
    Ok(())
}

/// The request's first line and its body; `None` at the end of the connection. Envoy frames what it sends.
fn request(reader: &mut impl BufRead) -> io::Result<Option<(String, Vec<u8>)>> {
    let Some(first) = line(reader)? else { return Ok(None) };
    let (mut length, mut chunked) = (0, false);
    loop {
        let header = line(reader)?.ok_or(io::ErrorKind::UnexpectedEof)?.to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        match header.split_once(':') {
            Some(("content-length", value)) => length = value.trim().parse().unwrap_or(0),
            Some(("transfer-encoding", value)) => chunked = value.contains("chunked"),
            _ => {}
        }
    }
    let mut body = Vec::new();
    if !chunked {
        bounded(reader, length, &mut body)?;
        return Ok(Some((first, body)));
    }
    loop {
        let size = line(reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let digits = size.split(';').next().unwrap_or_default();
        let size = u64::from_str_radix(digits.trim(), 16).map_err(|_| io::ErrorKind::InvalidData)?;
        bounded(reader, size, &mut body)?;
        line(reader)?;
        if size == 0 {
            return Ok(Some((first, body)));
        }
    }
}

fn bounded(reader: &mut impl BufRead, length: u64, body: &mut Vec<u8>) -> io::Result<()> {
    let room = BODY_BYTES.saturating_sub(u64::try_from(body.len()).unwrap_or(u64::MAX)).min(length);
    reader.take(room).read_to_end(body)?;
    io::copy(&mut reader.take(length.saturating_sub(room)), &mut io::sink())?;
    Ok(())
}

fn line(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    if reader.read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(String::from_utf8_lossy(line.trim_ascii_end()).into_owned()))
}

/// `{"status": .., "headers": {..}, "body": "..", "encodedBody": base64}`: status, headers as text, body.
fn reflected(body: &[u8]) -> Option<(u64, String, Vec<u8>)> {
    let wanted: Value = serde_json::from_slice(body).ok()?;
    let status = wanted
        .get("status")
        .and_then(Value::as_u64)
        .filter(|status| (200..=599).contains(status))
        .unwrap_or(200);
    let mut headers = String::new();
    for (name, value) in wanted.get("headers").and_then(Value::as_object).into_iter().flatten() {
        let framing = ["content-length", "transfer-encoding", "connection"];
        let value = value.as_str().unwrap_or_default();
        let plain = !framing.iter().any(|framing| name.eq_ignore_ascii_case(framing));
        if plain && !name.contains(char::is_control) && !value.contains(char::is_control) {
            headers.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    let encoded = wanted.get("encodedBody").and_then(Value::as_str).and_then(portcullis_replay::base64);
    let text = wanted.get("body").and_then(Value::as_str).unwrap_or_default();
    Some((status, headers, encoded.unwrap_or_else(|| text.as_bytes().to_vec())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(text: &str) -> String {
        let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, start().unwrap())).unwrap();
        connection.write_all(text.as_bytes()).unwrap();
        connection.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn it_marks_its_answers_and_reflects() {
        let plain = "HTTP/1.1 200 x\r\nx-corpus-application: 1\r\ncontent-length: 2\r\n\r\n";
        assert_eq!(
            ask("GET / HTTP/1.1\r\nhost: x\r\n\r\nHEAD / HTTP/1.1\r\n\r\n"),
            format!("{plain}ok{plain}")
        );
        let body = r#"{"status": 500, "headers": {"a": "b", "Content-Length": "9"}, "encodedBody": "aGk="}"#;
        let framed = format!(
            "POST /reflect HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
            body.len()
        );
        assert_eq!(
            ask(&framed),
            "HTTP/1.1 500 x\r\nx-corpus-application: 1\r\ncontent-length: 2\r\na: b\r\n\r\nhi"
        );
    }
}
