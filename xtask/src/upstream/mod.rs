//! The demonstration application behind Envoy: small, quick, and as talkative about itself as real ones often are, so
//! that it can be seen what Portcullis takes away.
//!
//! HTTP/1.1 with keep-alive, a thread per connection. It listens on loopback alone and trusts nobody all the same:
//! heads, bodies, connections and time are bounded, and a request whose length is said twice is refused.

mod pages;
mod request;

use std::{
    io::{self, BufReader, BufWriter, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result};

use request::{Reading, Request};

/// Connections at a time. More: closed at once.
const CONNECTIONS: usize = 1024;
/// How long a connection may say nothing. Longer: closed. Envoy keeps its own for reuse up to an hour; closing one that
/// it is about to reuse would show clients a 503 now and then.
const IDLE: Duration = Duration::from_secs(2 * 60 * 60);

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// Serves until the process ends.
///
/// # Errors
/// When the port cannot be had.
pub fn serve(port: u16) -> Result<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    println!("listening on {}", listener.local_addr()?);
    accept(&listener);
    Ok(())
}

fn accept(listener: &TcpListener) {
    let open = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        let Ok(stream) = stream else {
            // No descriptors left: some will be free again soon.
            thread::sleep(Duration::from_millis(10));
            continue;
        };
        let seat = Seat::take(&open);
        if seat.others >= CONNECTIONS {
            continue;
        }
        let started = thread::Builder::new().stack_size(256 * 1024).spawn(move || {
            // A client that goes away is its own affair.
            drop(converse(&stream));
            drop(seat);
        });
        // Without a thread the connection is closed, and the seat is free again.
        drop(started);
    }
}

/// One of the connections that may be open; free again when dropped.
struct Seat {
    open: Arc<AtomicUsize>,
    others: usize,
}

impl Seat {
    fn take(open: &Arc<AtomicUsize>) -> Self {
        Self { open: Arc::clone(open), others: open.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Answers one request after the other until the client is done or makes a mistake.
fn converse(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_write_timeout(Some(Duration::from_secs(60)))?;
    let mut reader = BufReader::with_capacity(16 * 1024, stream);
    let mut writer = BufWriter::with_capacity(16 * 1024, stream);
    loop {
        let request = match request::read(&mut reader, &mut writer)? {
            Reading::Request(request) => request,
            Reading::End => return Ok(()),
            Reading::Refused(status) => {
                let body = b"{\"error\": \"the request cannot be understood\"}".to_vec();
                let response =
                    Response { status, content_type: "application/json", headers: Vec::new(), body };
                return write_response(&mut writer, &response, &Request::default());
            }
        };
        write_response(&mut writer, &pages::answer(&request), &request)?;
        if !request.keep_alive {
            return Ok(());
        }
    }
}

fn write_response(writer: &mut impl Write, response: &Response, request: &Request) -> io::Result<()> {
    let Response { status, content_type, headers, body } = response;
    let bodiless = matches!(status, 204 | 304);
    write!(writer, "HTTP/1.1 {status} {}\r\nServer: demo\r\nX-Powered-By: Demo/1.0\r\n", reason(*status))?;
    for (name, value) in headers {
        write!(writer, "{name}: {value}\r\n")?;
    }
    if !bodiless {
        write!(writer, "Content-Type: {content_type}\r\nContent-Length: {}\r\n", body.len())?;
    }
    if !request.keep_alive {
        writer.write_all(b"Connection: close\r\n")?;
    }
    writer.write_all(b"\r\n")?;
    if !bodiless && request.method != "HEAD" {
        writer.write_all(body)?;
    }
    writer.flush()
}

const fn reason(status: u16) -> &'static str {
    match status {
        200..=299 => "OK",
        300..=399 => "Redirect",
        400..=499 => "Client Error",
        _ => "Server Error",
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// Sends bytes, and returns all that comes back until the server closes.
    fn talk(bytes: &[u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || accept(&listener));
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        // The server may refuse before it has read everything.
        drop(stream.write_all(bytes));
        let mut out = Vec::new();
        drop(stream.read_to_end(&mut out));
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn serves_one_request_after_the_other() {
        let out = talk(
            b"POST /echo?x=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc\
              POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nde\r\n1\r\nf\r\n0\r\nt: r\r\n\r\n\
              HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        );
        assert_eq!(out.matches("HTTP/1.1 200 OK").count(), 3, "{out}");
        assert!(out.contains("\"body\":\"abc\"") && out.contains("\"body\":\"def\""), "{out}");
        assert!(out.contains("Server: demo") && out.contains("X-Powered-By: Demo/1.0"));
        assert!(out.ends_with("Connection: close\r\n\r\n"), "no body after HEAD: {out}");
    }

    #[test]
    fn what_is_ambiguous_or_too_large_is_refused() {
        let long = format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "x".repeat(request::HEAD_BYTES));
        for (bytes, status) in [
            (&b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"[..], 400),
            (b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", 400),
            (b"POST / HTTP/1.1\r\nContent-Length: -3\r\n\r\n", 400),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
            (b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", 413),
            (b"nonsense\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
            (long.as_bytes(), 431),
        ] {
            let out = talk(bytes);
            assert!(
                out.starts_with(&format!("HTTP/1.1 {status} ")),
                "{}: {out}",
                String::from_utf8_lossy(bytes)
            );
        }
    }
}
