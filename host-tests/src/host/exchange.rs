//! A whole exchange in one go: for tests that do not care about the single callbacks.

use super::{
    error::HostError,
    headers::HeaderMap,
    property::Properties,
    state::Message,
    stream::{Flow, Outcome, Stream},
    vm::Vm,
};

/// A request as a client sends it.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Pseudo headers included.
    pub headers: HeaderMap,
    /// The body, in pieces as they arrive; no pieces: no body.
    pub pieces: Vec<Vec<u8>>,
    /// The end of the body arrives by itself, as with chunked transfer.
    pub end_apart: bool,
    /// Trailers.
    pub trailers: Option<HeaderMap>,
    /// What the host knows of the stream.
    pub properties: Properties,
}

impl Request {
    /// A request without a body, for `app.test`.
    #[must_use]
    pub fn new(method: &str, path: impl AsRef<[u8]>) -> Self {
        let headers = HeaderMap::new()
            .with(":authority", "app.test")
            .with(":path", path)
            .with(":method", method)
            .with(":scheme", "http");
        Self { headers, ..Self::default() }
    }

    /// Adds a header.
    #[must_use]
    pub fn with(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.headers.add(name, value);
        self
    }

    /// Adds a body in one piece.
    #[must_use]
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.pieces = vec![body.as_ref().to_vec()];
        self
    }
}

impl Message {
    /// An answer of the application.
    #[must_use]
    pub fn answer(status: u16, body: impl AsRef<[u8]>) -> Self {
        let headers = HeaderMap::new().with(":status", status.to_string());
        Self { headers: Some(headers), body: body.as_ref().to_vec(), trailers: None, complete: true }
    }
}

impl Vm {
    /// Sends a request, answers it as the application if it arrives there whole, and ends the stream.
    ///
    /// # Errors
    /// When the module traps.
    pub fn exchange(&mut self, request: &Request, answer: &Message) -> Result<Outcome, HostError> {
        let stream = self.open(request.properties.clone());
        stream.send(self, request)?;
        stream.answer(self, answer)?;
        stream.end(self)
    }
}

impl Stream {
    /// Sends a whole request, until it is answered.
    ///
    /// # Errors
    /// When the module traps.
    pub fn send(self, vm: &mut Vm, request: &Request) -> Result<Flow, HostError> {
        let bare = request.pieces.is_empty() && request.trailers.is_none() && !request.end_apart;
        let mut flow = self.request_headers(vm, request.headers.clone(), bare)?;
        let ends_apart = request.end_apart || request.trailers.is_some();
        for (number, piece) in request.pieces.iter().enumerate() {
            let last = number.saturating_add(1) == request.pieces.len();
            flow = self.request_body(vm, piece, last && !ends_apart)?;
        }
        if let Some(trailers) = &request.trailers {
            flow = self.request_trailers(vm, trailers.clone())?;
        } else if request.end_apart {
            flow = self.request_body(vm, b"", true)?;
        }
        Ok(flow)
    }

    /// Answers as the application, if the whole request has arrived there and nobody has answered yet.
    ///
    /// # Errors
    /// When the module traps.
    pub fn answer(self, vm: &mut Vm, answer: &Message) -> Result<(), HostError> {
        if !self.has_arrived(vm)? {
            return Ok(());
        }
        let headers = answer.headers.clone().unwrap_or_default();
        self.response_headers(vm, headers, answer.body.is_empty() && answer.trailers.is_none())?;
        if !answer.body.is_empty() {
            self.response_body(vm, &answer.body, answer.trailers.is_none())?;
        }
        if let Some(trailers) = &answer.trailers {
            self.response_trailers(vm, trailers.clone())?;
        }
        Ok(())
    }
}
