//! An HTTP/1.1 client that can send any bytes.

use std::{
    io::{self, BufReader, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use serde_json::Value;

use super::message::{Headers, Message, Unframed};

/// The longest that an answer may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between the pieces of a body, so that they arrive as pieces. Only the first so many wait: a body in a thousand
/// pieces must not take a second.
const GAP: Duration = Duration::from_millis(1);
const GAPS: usize = 64;

/// A request, put together byte by byte.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method.
    pub method: Vec<u8>,
    /// Path and query.
    pub target: Vec<u8>,
    /// Headers; a `host` is added when there is none.
    pub headers: Headers,
    /// The body.
    pub body: Vec<u8>,
    /// Sizes of the pieces that the body goes out in, as chunks; the last takes the rest. `None`: as a whole, with a
    /// `content-length`.
    pub pieces: Option<Vec<usize>>,
}

impl Request {
    /// Without a body.
    pub fn new(method: &str, target: impl AsRef<[u8]>) -> Self {
        let (method, target) = (method.as_bytes().to_vec(), target.as_ref().to_vec());
        Self { method, target, headers: Vec::new(), body: Vec::new(), pieces: None }
    }

    /// A GET.
    pub fn get(target: impl AsRef<[u8]>) -> Self {
        Self::new("GET", target)
    }

    /// A POST with a body of a type.
    pub fn post(target: impl AsRef<[u8]>, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::new("POST", target).header("content-type", content_type) }
    }

    /// With a further header.
    pub fn header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }

    /// With tenant and correlation ID, in a demonstration.
    pub fn of(self, tenant: &str, id: &str) -> Self {
        self.header("x-tenant-id", tenant).header("x-request-id", id)
    }

    /// In pieces of these sizes.
    pub fn in_pieces(mut self, sizes: impl Into<Vec<usize>>) -> Self {
        self.pieces = Some(sizes.into());
        self
    }

    /// The head as it goes out.
    pub fn head(&self) -> Vec<u8> {
        let mut out = [&self.method[..], b" ", &self.target, b" HTTP/1.1\r\n"].concat();
        let mut put =
            |name: &[u8], value: &[u8]| out.extend_from_slice(&[name, b": ", value, b"\r\n"].concat());
        let has = |name: &str| self.headers.iter().any(|(key, _)| key.eq_ignore_ascii_case(name.as_bytes()));
        if !has("host") {
            put(b"host", b"app.test");
        }
        for (name, value) in &self.headers {
            put(name, value);
        }
        if self.pieces.is_some() {
            put(b"transfer-encoding", b"chunked");
        } else if !has("content-length")
            && (!self.body.is_empty() || self.method == b"POST" || self.method == b"PUT")
        {
            put(b"content-length", self.body.len().to_string().as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        out
    }

    /// Sends it over a connection of its own.
    pub fn send(&self, to: SocketAddr) -> Response {
        let mut connection = Connection::open(to);
        connection.exchange(self).unwrap_or_else(|error| panic!("no answer to {}: {error}", self.shown()))
    }

    fn shown(&self) -> String {
        let target = String::from_utf8_lossy(&self.target);
        format!("{} {}", String::from_utf8_lossy(&self.method), target.chars().take(200).collect::<String>())
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The message.
    pub message: Message,
}

impl Response {
    /// A header as text; what is not UTF-8 is replaced.
    pub fn header(&self, name: &str) -> Option<String> {
        self.message.header(name).map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// The correlation ID.
    pub fn id(&self) -> String {
        self.header("x-request-id").unwrap_or_else(|| panic!("no x-request-id: {self:?}"))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.message.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.message.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The `reason` of our own refusals.
    pub fn reason(&self) -> Option<String> {
        let body: Value = serde_json::from_slice(&self.message.body).ok()?;
        Some(body.get("reason")?.as_str()?.to_owned())
    }
}

/// A connection that is kept open.
pub struct Connection {
    to: SocketAddr,
    stream: TcpStream,
    reader: BufReader<TcpStream>,
    /// The last answer said that there will be no other.
    closing: bool,
}

impl Connection {
    /// Opens one.
    pub fn open(to: SocketAddr) -> Self {
        Self::try_open(to).unwrap_or_else(|error| panic!("{to}: {error}"))
    }

    /// Opens one to somebody who may be gone.
    pub fn try_open(to: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(to)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let reader = BufReader::new(stream.try_clone()?);
        Ok(Self { to, stream, reader, closing: false })
    }

    /// Sends a request and reads its answer; over a new connection if Envoy has said that it closes this one.
    pub fn exchange(&mut self, request: &Request) -> io::Result<Response> {
        if self.closing {
            *self = Self::try_open(self.to)?;
        }
        // Whoever refuses early may close before everything is sent; its answer is there all the same.
        let sent = self.send(request);
        let unframed = if request.method == b"HEAD" { Unframed::Empty } else { Unframed::UntilClose };
        match self.receive(unframed, request.method == b"HEAD") {
            Ok(Some(response)) => Ok(response),
            Ok(None) => Err(sent.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into())),
            Err(error) => Err(error),
        }
    }

    fn send(&mut self, request: &Request) -> io::Result<()> {
        let Some(sizes) = &request.pieces else {
            return self.stream.write_all(&[request.head(), request.body.clone()].concat());
        };
        self.stream.write_all(&request.head())?;
        let mut rest = &request.body[..];
        let mut sizes = sizes.iter().copied();
        let mut sent = 0;
        while !rest.is_empty() {
            let size = sizes.next().unwrap_or(rest.len()).clamp(1, rest.len());
            let (piece, after) = rest.split_at(size);
            if sent < GAPS {
                thread::sleep(GAP);
            }
            let framed = [format!("{size:x}\r\n").as_bytes(), piece, b"\r\n"].concat();
            self.stream.write_all(&framed)?;
            (rest, sent) = (after, sent + 1);
        }
        self.stream.write_all(b"0\r\n\r\n")
    }

    /// Sends bytes as they are.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Says that nothing more will be sent.
    pub fn finish(&mut self) {
        // The other end may have closed already.
        drop(self.stream.shutdown(std::net::Shutdown::Write));
    }

    /// Reads an answer; `None` when the connection is closed instead.
    pub fn receive(&mut self, unframed: Unframed, only_head: bool) -> io::Result<Option<Response>> {
        loop {
            let Some(mut message) = Message::read_head(&mut self.reader)? else { return Ok(None) };
            let first = String::from_utf8_lossy(&message.first_line).into_owned();
            let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
            let status: u16 = status.ok_or(io::ErrorKind::InvalidData)?;
            // Interim answers; 101 is the last one of its connection.
            if (100..200).contains(&status) && status != 101 {
                continue;
            }
            if !only_head && status >= 200 && !matches!(status, 204 | 304) {
                message.read_body(&mut self.reader, unframed)?;
            }
            self.closing =
                message.header("connection").is_some_and(|value| value.eq_ignore_ascii_case(b"close"));
            return Ok(Some(Response { status, message }));
        }
    }

    /// Reads so many bytes as they are.
    pub fn receive_bytes(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        io::Read::read_exact(&mut self.reader, &mut bytes)?;
        Ok(bytes)
    }
}
