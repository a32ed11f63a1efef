//! As much of an HTTP/1.1 client as waiting for readiness needs: one request, one answer, bounded.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// The most that is read of an answer. What is beyond it is cut off.
const ANSWER_BYTES: u64 = 4 * 1024 * 1024;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Status line and headers as they came.
    pub head: String,
    /// The body as it came; a chunked one still has its chunk sizes.
    pub body: String,
}

/// Whether something accepts connections there.
pub fn accepts(address: SocketAddr, timeout: Duration) -> bool {
    TcpStream::connect_timeout(&address, timeout).is_ok()
}

/// Asks for a path.
///
/// # Errors
/// When there is no answer in time, or it is not HTTP.
pub fn get(address: SocketAddr, path: &str, timeout: Duration) -> io::Result<Answer> {
    request(address, "GET", path, timeout)
}

/// Sends a request without a body.
///
/// # Errors
/// When there is no answer in time, or it is not HTTP.
pub fn request(address: SocketAddr, method: &str, path: &str, timeout: Duration) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    )?;
    let mut bytes = Vec::new();
    stream.take(ANSWER_BYTES).read_to_end(&mut bytes)?;
    parse(&bytes).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP"))
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, head: head.to_owned(), body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_an_answer_and_nothing_else() {
        let answer = parse(b"HTTP/1.1 503 Away\r\na: b\r\n\r\nbody").unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (503, "body"));
        assert!(parse(b"SSH-2.0-x\r\n\r\n").is_none() && parse(b"HTTP/1.1 200 OK").is_none());
    }
}
