//! A small HTTP/1.1 client: posts and gets, one request at a time over a connection that is kept.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;

use crate::TIMEOUT;
use crate::wire::{Address, AddressError};

/// As much of an answer as is read.
const ANSWER_BYTES: usize = 64 * 1024;
/// The longest wait that a server may ask for.
const MOST_WAIT: u64 = 300;

/// A server's answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: Bytes,
    /// When it wants to be asked again.
    pub retry_after: Option<Duration>,
}

/// A server, and the connection to it.
pub struct Client {
    address: Address,
    headers: Vec<(HeaderName, HeaderValue)>,
    open: Option<SendRequest<Full<Bytes>>>,
}

impl Client {
    /// Of a server, with headers for every request: what they hold is never shown.
    ///
    /// # Errors
    /// The address or a header cannot be.
    pub fn new(url: &str, port: u16, headers: &[(String, String)]) -> Result<Self, AddressError> {
        let address = Address::parse(url, ["http", "https"], port, "http://HOST:PORT or https://HOST:PORT")?;
        let read = |(name, value): &(String, String)| {
            let mut value = HeaderValue::from_str(value).ok()?;
            value.set_sensitive(true);
            Some((HeaderName::from_bytes(name.as_bytes()).ok()?, value))
        };
        let headers: Option<Vec<_>> = headers.iter().map(read).collect();
        let headers = headers.ok_or(AddressError("headers as name=value, with commas between them"))?;
        Ok(Self { address, headers, open: None })
    }

    /// The same, with a file of certificates in PEM that the server's own must go back to, in place of the system's. It is
    /// read with each connection.
    #[must_use]
    pub fn trusting(mut self, authorities: &Path) -> Self {
        self.address.authorities = Some(authorities.to_owned());
        self
    }

    /// The same, connected to this address whatever the name leads to: for who has looked at the address. The name stays what
    /// a certificate is held against.
    #[must_use]
    pub fn pinned(mut self, address: SocketAddr) -> Self {
        self.address.pinned = Some(address);
        self
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Asks, and waits for the whole answer.
    ///
    /// # Errors
    /// In words: nobody answered in time, or not as HTTP has it.
    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        media_type: &str,
        body: Bytes,
    ) -> Result<Answer, String> {
        let asked = tokio::time::timeout(TIMEOUT, self.ask(method, path, media_type, body)).await;
        let answer = asked.unwrap_or_else(|_| Err(format!("no answer within {TIMEOUT:?}")));
        if answer.is_err() {
            self.open = None;
        }
        answer
    }

    async fn ask(
        &mut self,
        method: Method,
        path: &str,
        media_type: &str,
        body: Bytes,
    ) -> Result<Answer, String> {
        let said = |error: &dyn std::fmt::Display| error.to_string();
        let mut request = Request::builder().method(method).uri(path).header(HOST, self.address.to_string());
        if !media_type.is_empty() {
            request = request.header(CONTENT_TYPE, media_type);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(body)).map_err(|error| said(&error))?;
        if self.open.as_ref().is_none_or(SendRequest::is_closed) {
            let stream = self.address.connect().await.map_err(|error| said(&error))?;
            let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| said(&error))?;
            // It ends when the sender is dropped; what goes wrong is told to the request.
            tokio::spawn(async move { drop(connection.await) });
            self.open = Some(sender);
        }
        let Some(sender) = self.open.as_mut() else { return Err("not connected".to_owned()) };
        sender.ready().await.map_err(|error| said(&error))?;
        let response = sender.send_request(request).await.map_err(|error| said(&error))?;
        let status = response.status().as_u16();
        let wait = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let retry_after = wait.map(|seconds: u64| Duration::from_secs(seconds.min(MOST_WAIT)));
        let body =
            Limited::new(response.into_body(), ANSWER_BYTES).collect().await.map_err(|error| said(&error))?;
        Ok(Answer { status, body: body.to_bytes(), retry_after })
    }
}
