//! A stream through a module, as Envoy drives it.

use super::{
    error::HostError,
    flow::reply_headers,
    headers::HeaderMap,
    property::Properties,
    state::{self, Direction, Message, Reply},
    vm::{ROOT, Vm},
};

/// A stream of a VM; [`Vm::open`] makes one. Streams of one VM may be interleaved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stream(u32);

/// What became of what was handed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// It flowed on.
    On,
    /// It is held back.
    Held,
    /// The stream was answered; nothing more reaches the module in this direction.
    Answered,
    /// The module closed the stream.
    Reset,
}

/// How a stream ended.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// What the application has seen.
    pub upstream: Message,
    /// What the client has seen.
    pub downstream: Message,
    /// Whether the answer was the proxy's or the module's own.
    pub local: bool,
    /// The proxy's word on why.
    pub details: String,
}

impl Vm {
    /// Opens a stream. The module learns of it with its first callback.
    pub fn open(&mut self, properties: Properties) -> Stream {
        self.next_stream = self.next_stream.saturating_add(1);
        let stream = state::Stream { properties, ..state::Stream::default() };
        self.store.data_mut().streams.insert(self.next_stream, stream);
        Stream(self.next_stream)
    }
}

impl Stream {
    /// The request's headers arrive.
    ///
    /// # Errors
    /// This and all that follow: when the module traps, or the stream is over.
    pub fn request_headers(self, vm: &mut Vm, headers: HeaderMap, end: bool) -> Result<Flow, HostError> {
        vm.headers(self.0, Direction::Request, headers, end)
    }

    /// A piece of the request's body arrives.
    ///
    /// # Errors
    /// As above.
    pub fn request_body(self, vm: &mut Vm, piece: &[u8], end: bool) -> Result<Flow, HostError> {
        vm.body(self.0, Direction::Request, piece, end)
    }

    /// The request's trailers arrive, and end it.
    ///
    /// # Errors
    /// As above.
    pub fn request_trailers(self, vm: &mut Vm, trailers: HeaderMap) -> Result<Flow, HostError> {
        vm.trailers(self.0, Direction::Request, trailers)
    }

    /// The application's response headers arrive.
    ///
    /// # Errors
    /// As above.
    pub fn response_headers(self, vm: &mut Vm, headers: HeaderMap, end: bool) -> Result<Flow, HostError> {
        vm.headers(self.0, Direction::Response, headers, end)
    }

    /// A piece of the response's body arrives.
    ///
    /// # Errors
    /// As above.
    pub fn response_body(self, vm: &mut Vm, piece: &[u8], end: bool) -> Result<Flow, HostError> {
        vm.body(self.0, Direction::Response, piece, end)
    }

    /// The response's trailers arrive, and end it.
    ///
    /// # Errors
    /// As above.
    pub fn response_trailers(self, vm: &mut Vm, trailers: HeaderMap) -> Result<Flow, HostError> {
        vm.trailers(self.0, Direction::Response, trailers)
    }

    /// The proxy answers by itself; the answer passes the module's response callbacks if the module has seen the
    /// request, as with a route that is not found.
    ///
    /// # Errors
    /// As above.
    pub fn proxy_reply(self, vm: &mut Vm, status: u16, details: &str) -> Result<(), HostError> {
        let reply = Reply {
            status: u32::from(status),
            details: details.to_owned(),
            headers: HeaderMap::new(),
            body: Vec::new(),
        };
        if vm.stream(self.0)?.created {
            return vm.local_reply(self.0, reply);
        }
        // Before its filters ran: the module sees the end alone.
        let stream = vm.stream(self.0)?;
        stream.local = true;
        stream.details = reply.details.clone();
        let headers = reply_headers(&reply);
        stream.response.headers = Some(headers.clone());
        stream.response.sent = Message { headers: Some(headers), complete: true, ..Message::default() };
        Ok(())
    }

    /// What the proxy knows of the request although the module was never shown it.
    ///
    /// # Errors
    /// When the stream is over.
    pub fn unseen_request(self, vm: &mut Vm, headers: HeaderMap) -> Result<(), HostError> {
        vm.stream(self.0)?.request.headers = Some(headers);
        Ok(())
    }

    /// Whether the application has the whole request, and nobody has answered in its place.
    ///
    /// # Errors
    /// When the stream is over.
    pub fn has_arrived(self, vm: &mut Vm) -> Result<bool, HostError> {
        let stream = vm.stream(self.0)?;
        Ok(!stream.local && !stream.reset && stream.request.sent.complete)
    }

    /// Whether the proxy or the module has answered in the application's place.
    ///
    /// # Errors
    /// When the stream is over.
    pub fn is_answered(self, vm: &mut Vm) -> Result<bool, HostError> {
        vm.stream(self.0).map(|stream| stream.local)
    }

    /// The stream ends: `on_log`, `on_done`, `on_delete`.
    ///
    /// # Errors
    /// As above.
    pub fn end(self, vm: &mut Vm) -> Result<Outcome, HostError> {
        let id = self.0;
        if !std::mem::replace(&mut vm.stream(id)?.created, true) {
            vm.call::<(u32, u32), ()>("proxy_on_context_create", (id, ROOT))?;
        }
        vm.stream(id)?.over = true;
        vm.store.data_mut().current = id;
        vm.call::<u32, ()>("proxy_on_log", id)?;
        vm.call::<u32, u32>("proxy_on_done", id)?;
        vm.call::<u32, ()>("proxy_on_delete", id)?;
        let Some(stream) = vm.store.data_mut().streams.remove(&id) else {
            return Err(HostError::Unknown(format!("stream {id}")));
        };
        Ok(Outcome {
            upstream: stream.request.sent,
            downstream: stream.response.sent,
            local: stream.local,
            details: stream.details,
        })
    }
}
