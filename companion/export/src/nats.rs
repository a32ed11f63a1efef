//! NATS JetStream: a record a message, on the subject `portcullis.audit.TENANT`, acknowledged by the stream.
//!
//! The client speaks the NATS protocol itself, as far as publishing needs it: INFO, CONNECT, PING and PONG, SUB, HPUB, MSG and
//! HMSG. All records of a delivery are sent at once and their acknowledgements awaited; `Nats-Msg-Id` is the record's uid, so
//! that the stream drops a repetition within its window. The stream is made when there is none.
//!
//! JetStream acknowledges before it syncs, and by default syncs every two minutes: a machine that loses power loses what it
//! has acknowledged. So records count as kept only when the server itself says, at its monitoring address, that it syncs
//! always (`sync_interval: always`), and is the server that this connection leads to. Of a cluster only that server is asked:
//! set it on all. Limits: the server's `max_payload`; a larger record is rejected.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use bytes::Bytes;
use hyper::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use crate::http::Client;
use crate::wire::{Address, Stream};
use crate::{AddressError, Collector, Delivered, Delivering, DeliveryError, Record, TIMEOUT};

const PORT: u16 = 4222;
const FORM: &str = "nats://[USER:PASSWORD@ or TOKEN@]HOST:PORT or tls://...";
/// The longest line of the protocol that is read.
const LINE_BYTES: u64 = 64 * 1024;
/// The largest message that is read: acknowledgements are short.
const MESSAGE_BYTES: usize = 256 * 1024;
/// How long a stream knows a message's ID, in nanoseconds.
const DUPLICATES_NS: u64 = 600_000_000_000;
/// What all subjects begin with.
const SUBJECT: &str = "portcullis.audit";

/// A stream.
pub struct JetStream {
    address: Address,
    stream: String,
    monitor: Option<Client>,
    open: Option<Connection>,
}

/// What a server tells of itself.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Info {
    server_id: String,
    max_payload: usize,
    tls_required: bool,
}

struct Connection {
    stream: BufReader<Stream>,
    info: Info,
    inbox: String,
    /// Whether what it acknowledges is synced.
    kept: bool,
}

impl JetStream {
    /// The stream of that name at a server; `monitor` is the server's monitoring address, `http://HOST:8222`.
    ///
    /// # Errors
    /// An address cannot be.
    pub fn new(url: &str, stream: &str, monitor: Option<&str>) -> Result<Self, AddressError> {
        let address = Address::parse(url, ["nats", "tls"], PORT, FORM)?;
        let fits = |char: char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_');
        if stream.is_empty() || stream.len() > 100 || !stream.chars().all(fits) {
            return Err(AddressError("a stream's name of letters, digits, - and _"));
        }
        let monitor = monitor.map(|url| Client::new(url, 8222, &[])).transpose()?;
        Ok(Self { address, stream: stream.to_owned(), monitor, open: None })
    }

    /// The same, with a file of certificates in PEM that the server's own must go back to, in place of the system's: for the
    /// monitoring address too.
    #[must_use]
    pub fn trusting(mut self, authorities: &Path) -> Self {
        self.address.authorities = Some(authorities.to_owned());
        self.monitor = self.monitor.map(|monitor| monitor.trusting(authorities));
        self
    }

    async fn publish(&mut self, records: &[Record]) -> Result<Delivered, DeliveryError> {
        let mut connection = match self.open.take() {
            Some(connection) => connection,
            None => self.connect().await.map_err(DeliveryError::unavailable)?,
        };
        let rejected = connection.publish(records).await?;
        let kept = connection.kept;
        // Only one that has answered everything is used again.
        self.open = Some(connection);
        Ok(Delivered { rejected, kept })
    }

    async fn connect(&mut self) -> io::Result<Connection> {
        let plain = self.address.connect_plain().await?;
        let mut first = BufReader::new(plain);
        let line = line(&mut first).await?;
        let info: Info = match line.strip_prefix("INFO ") {
            Some(json) => serde_json::from_str(json).map_err(io::Error::other)?,
            None => return Err(io::Error::other("this is no NATS server")),
        };
        if info.tls_required && !self.address.tls {
            return Err(io::Error::other("the server wants TLS: write tls:// in its address"));
        }
        let stream = match self.address.tls {
            true => self.address.secure(first.into_inner()).await?,
            false => Box::new(first) as Stream,
        };
        let mut connection =
            Connection { stream: BufReader::new(stream), info, inbox: inbox()?, kept: false };
        connection.greet(&self.address).await?;
        let in_files = connection.ensure(&self.stream).await?;
        connection.kept = match &mut self.monitor {
            Some(monitor) if in_files => syncs_always(monitor, &connection.info.server_id).await,
            _ => false,
        };
        Ok(connection)
    }
}

impl Collector for JetStream {
    fn deliver<'a>(&'a mut self, records: &'a [Record]) -> Delivering<'a> {
        Box::pin(async move {
            match tokio::time::timeout(TIMEOUT, self.publish(records)).await {
                Ok(done) => done,
                Err(_) => Err(DeliveryError::unavailable(format!("no acknowledgement within {TIMEOUT:?}"))),
            }
        })
    }
}

/// Whether the server of that name says that it syncs before it acknowledges.
async fn syncs_always(monitor: &mut Client, server_id: &str) -> bool {
    let Ok(answer) = monitor.send(Method::GET, "/varz", "", Bytes::new()).await else { return false };
    let Ok(told) = serde_json::from_slice::<Value>(&answer.body) else { return false };
    let same = told.get("server_id").and_then(Value::as_str) == Some(server_id);
    same && told.pointer("/jetstream/config/sync_always").and_then(Value::as_bool) == Some(true)
}

fn inbox() -> io::Result<String> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    let mut inbox = "_INBOX.".to_owned();
    for byte in bytes {
        // Writing into a String cannot fail.
        let _ = write!(inbox, "{byte:02x}");
    }
    Ok(inbox)
}

async fn line(reader: &mut (impl AsyncBufReadExt + Unpin)) -> io::Result<String> {
    let mut bytes = Vec::new();
    reader.take(LINE_BYTES).read_until(b'\n', &mut bytes).await?;
    match bytes.strip_suffix(b"\n") {
        Some(line) => Ok(String::from_utf8_lossy(line).trim_end().to_owned()),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// A message of the server's: the subject it came on, its status line's code, its content.
struct Reply {
    subject: String,
    status: Option<u16>,
    content: Vec<u8>,
}

impl Connection {
    async fn greet(&mut self, address: &Address) -> io::Result<()> {
        let (user, password, token) =
            match address.user_info.as_deref().map(|info| (info, info.split_once(':'))) {
                None => (None, None, None),
                Some((_, Some((user, password)))) => (Some(user), Some(password), None),
                Some((token, None)) => (None, None, Some(token)),
            };
        let hello = json!({
            "verbose": false, "pedantic": false, "headers": true, "no_responders": true, "echo": false,
            "name": "portcullis", "lang": "rust", "version": env!("CARGO_PKG_VERSION"), "protocol": 1,
            "user": user, "pass": password, "auth_token": token,
        });
        let text = format!("CONNECT {hello}\r\nSUB {}.* 1\r\nPING\r\n", self.inbox);
        self.stream.write_all(text.as_bytes()).await?;
        self.stream.flush().await?;
        loop {
            match line(&mut self.stream).await?.as_str() {
                "PONG" => return Ok(()),
                other => self.other(other).await?,
            }
        }
    }

    /// Lines that may come at any time.
    async fn other(&mut self, line: &str) -> io::Result<()> {
        match line {
            "PING" => {
                self.stream.write_all(b"PONG\r\n").await?;
                self.stream.flush().await
            }
            "PONG" | "+OK" => Ok(()),
            info if info.starts_with("INFO ") => Ok(()),
            error if error.starts_with("-ERR") => Err(io::Error::other(format!("the server says {error}"))),
            _ => Err(io::Error::other("the server says what is not understood")),
        }
    }

    /// The next message.
    async fn reply(&mut self) -> io::Result<Reply> {
        loop {
            let line = line(&mut self.stream).await?;
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let (head, total) = match words.as_slice() {
                ["MSG", .., total] => ("0", *total),
                ["HMSG", .., head, total] => (*head, *total),
                _ => {
                    self.other(&line).await?;
                    continue;
                }
            };
            let length = |digits: &str| digits.parse::<usize>().map_err(io::Error::other);
            let (head, total) = (length(head)?, length(total)?);
            if total > MESSAGE_BYTES || head > total {
                return Err(io::Error::other("the server sends more than an acknowledgement"));
            }
            let mut bytes = vec![0; total.saturating_add(2)];
            self.stream.read_exact(&mut bytes).await?;
            let content = bytes.get(head..total).unwrap_or_default().to_vec();
            let status = std::str::from_utf8(bytes.get(..head).unwrap_or_default())
                .ok()
                .and_then(|text| text.strip_prefix("NATS/1.0 ")?.get(..3)?.parse().ok());
            let subject = words.get(1).copied().unwrap_or_default().to_owned();
            return Ok(Reply { subject, status, content });
        }
    }

    async fn ask(&mut self, subject: &str, content: &Value) -> io::Result<Reply> {
        let content = content.to_string();
        let head = format!("PUB {subject} {}.api {}\r\n{content}\r\n", self.inbox, content.len());
        self.stream.write_all(head.as_bytes()).await?;
        self.stream.flush().await?;
        self.reply().await
    }

    /// Makes the stream, if there is none; whether it keeps in files what it takes.
    async fn ensure(&mut self, stream: &str) -> io::Result<bool> {
        let asked = self.ask(&format!("$JS.API.STREAM.INFO.{stream}"), &json!({})).await?;
        if asked.status == Some(503) {
            return Err(io::Error::other("the server has no JetStream: switch it on"));
        }
        let told: Value = serde_json::from_slice(&asked.content).map_err(io::Error::other)?;
        if let Some(config) = told.get("config") {
            return Ok(config.get("storage").and_then(Value::as_str) == Some("file"));
        }
        let config = json!({
            "name": stream, "subjects": [format!("{SUBJECT}.>")], "storage": "file", "retention": "limits",
            "discard": "new", "duplicate_window": DUPLICATES_NS, "num_replicas": 1,
        });
        let made = self.ask(&format!("$JS.API.STREAM.CREATE.{stream}"), &config).await?;
        let told: Value = serde_json::from_slice(&made.content).map_err(io::Error::other)?;
        match told.get("error") {
            None => Ok(true),
            Some(error) => Err(io::Error::other(format!("the stream {stream} cannot be made: {error}"))),
        }
    }

    /// Sends all records, and waits for their acknowledgements; how many the stream will never take.
    async fn publish(&mut self, records: &[Record]) -> Result<u64, DeliveryError> {
        let mut bytes = Vec::new();
        let (mut rejected, mut open) = (0_u64, std::collections::HashSet::new());
        for (number, record) in records.iter().enumerate() {
            let content = record.body.to_string();
            let head = format!("NATS/1.0\r\nNats-Msg-Id: {}\r\n\r\n", token(&record.uid));
            let total = head.len().saturating_add(content.len());
            if total > self.info.max_payload {
                rejected = rejected.saturating_add(1);
                continue;
            }
            let reply = format!("{}.{number}", self.inbox);
            let subject = token(&record.tenant);
            let line =
                format!("HPUB {SUBJECT}.{subject} {reply} {} {total}\r\n{head}{content}\r\n", head.len());
            bytes.extend_from_slice(line.as_bytes());
            open.insert(reply);
        }
        self.stream.write_all(&bytes).await.map_err(DeliveryError::unavailable)?;
        self.stream.flush().await.map_err(DeliveryError::unavailable)?;
        while !open.is_empty() {
            let reply = self.reply().await.map_err(DeliveryError::unavailable)?;
            if reply.status == Some(503) {
                return Err(DeliveryError::unavailable("no stream takes these subjects"));
            }
            let told: Value = serde_json::from_slice(&reply.content).map_err(DeliveryError::unavailable)?;
            if let Some(error) = told.get("error") {
                return Err(DeliveryError::unavailable(format!("the stream says {error}")));
            }
            if told.get("seq").is_none() {
                return Err(DeliveryError::unavailable("an acknowledgement without a number"));
            }
            open.remove(&reply.subject);
        }
        Ok(rejected)
    }
}

/// A text as one token of a subject or a header's value: what may not stand there becomes `=` and two digits.
fn token(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            out.push(char::from(byte));
        } else {
            // Writing into a String cannot fail.
            let _ = write!(out, "={byte:02x}");
        }
    }
    if out.is_empty() { "=".to_owned() } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenants_name_is_one_token_of_a_subject() {
        assert_eq!(token("acme-1_x"), "acme-1_x");
        assert_eq!(token("a.b*>"), "a=2eb=2a=3e");
        assert_eq!(token(""), "=");
        assert_ne!(token("a=2e"), token("a."));
    }
}
