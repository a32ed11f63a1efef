//! Envoy's rules of what flows, what is held and shown again, and what a reply passes.

use super::{
    error::HostError,
    headers::HeaderMap,
    state::{self, Direction, Message, Reply},
    stream::Flow,
    vm::{ROOT, Vm},
};

impl Vm {
    pub(crate) fn stream(&mut self, id: u32) -> Result<&mut state::Stream, HostError> {
        self.store.data_mut().streams.get_mut(&id).ok_or_else(|| HostError::Unknown(format!("stream {id}")))
    }

    /// One callback of a stream; whether it says to go on.
    fn stream_call(
        &mut self,
        id: u32,
        name: &'static str,
        size: usize,
        end: bool,
    ) -> Result<bool, HostError> {
        if !std::mem::replace(&mut self.stream(id)?.created, true) {
            self.call::<(u32, u32), ()>("proxy_on_context_create", (id, ROOT))?;
        }
        self.store.data_mut().current = id;
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        let action = if name.ends_with("_trailers") {
            self.call::<(u32, u32), u32>(name, (id, size))?
        } else {
            self.call::<(u32, u32, u32), u32>(name, (id, size, u32::from(end)))?
        };
        let ignored = self.store.data().options.profile.ignores_pause();
        Ok(ignored || action.unwrap_or(0) == 0)
    }

    /// Carries out what callbacks asked for on streams other than by their answer.
    pub(crate) fn settle(&mut self) -> Result<(), HostError> {
        let waiting: Vec<u32> = self.store.data().streams.keys().copied().collect();
        for id in waiting {
            if let Some(reply) = self.stream(id)?.asked_reply.take() {
                self.local_reply(id, reply)?;
            }
            if let Some(direction) = self.stream(id)?.go_on.take() {
                self.resume(id, direction)?;
            }
        }
        Ok(())
    }

    /// The module's or our own reply, which passes the module's response callbacks.
    pub(crate) fn local_reply(&mut self, id: u32, reply: Reply) -> Result<(), HostError> {
        let stream = self.stream(id)?;
        if stream.local {
            return Ok(());
        }
        let headers = reply_headers(&reply);
        let (size, empty) = (headers.len(), reply.body.is_empty());
        stream.local = true;
        stream.details = reply.details;
        stream.response = state::Side { headers: Some(headers), ..state::Side::default() };
        self.stream_call(id, "proxy_on_response_headers", size, empty)?;
        let size = reply.body.len();
        self.stream(id)?.response.body = reply.body;
        if !empty {
            self.stream_call(id, "proxy_on_response_body", size, true)?;
        }
        let side = &mut self.stream(id)?.response;
        let body = std::mem::take(&mut side.body);
        side.sent = Message { headers: side.headers.clone(), body, trailers: None, complete: true };
        Ok(())
    }

    /// Lets held things of a direction flow.
    fn resume(&mut self, id: u32, direction: Direction) -> Result<(), HostError> {
        let side = self.stream(id)?.side(direction);
        side.flow_headers();
        if std::mem::take(&mut side.stopped) && !side.sent.complete && (!side.body.is_empty() || side.ended) {
            let (body, end) = (std::mem::take(&mut side.body), side.ended);
            return self.body(id, direction, &body, end).map(drop);
        }
        side.flow_body();
        Ok(())
    }

    /// What a callback has led to besides its answer, which is whether to go on.
    fn after(&mut self, id: u32, direction: Direction, goes_on: bool) -> Result<Option<Flow>, HostError> {
        if goes_on {
            self.stream(id)?.go_on = None;
        }
        if let Some(reply) = self.stream(id)?.asked_reply.take() {
            if direction == Direction::Response {
                // It replaces the response, and passes no callback again.
                let stream = self.stream(id)?;
                stream.local = true;
                stream.details.clone_from(&reply.details);
                let headers = reply_headers(&reply);
                stream.response.sent =
                    Message { headers: Some(headers), body: reply.body, trailers: None, complete: true };
            } else {
                self.local_reply(id, reply)?;
            }
            return Ok(Some(Flow::Answered));
        }
        let stream = self.stream(id)?;
        if stream.reset {
            return Ok(Some(Flow::Reset));
        }
        Ok(None)
    }

    /// A message's headers arrive.
    pub(crate) fn headers(
        &mut self,
        id: u32,
        direction: Direction,
        map: HeaderMap,
        end: bool,
    ) -> Result<Flow, HostError> {
        let holds = self.store.data().options.holds_headers || direction == Direction::Response;
        if let Some(flow) = self.ended(id, direction)? {
            return Ok(flow);
        }
        let size = map.len();
        let stream = self.stream(id)?;
        if direction == Direction::Response {
            stream.details = "via_upstream".to_owned();
        }
        let side = stream.side(direction);
        side.headers = Some(map);
        side.ended = end;
        let goes_on = self.stream_call(id, callbacks(direction).headers, size, end)?;
        if let Some(flow) = self.after(id, direction, goes_on)? {
            return Ok(flow);
        }
        let side = self.stream(id)?.side(direction);
        side.headers_held = true;
        if goes_on {
            side.flow_headers();
            return Ok(Flow::On);
        }
        side.stopped = !holds;
        self.settle()?;
        Ok(Flow::Held)
    }

    /// Whether this direction takes nothing more.
    fn ended(&mut self, id: u32, direction: Direction) -> Result<Option<Flow>, HostError> {
        let stream = self.stream(id)?;
        if stream.reset {
            return Ok(Some(Flow::Reset));
        }
        let answered = stream.local || (direction == Direction::Response && stream.response.sent.complete);
        Ok(answered.then_some(Flow::Answered))
    }

    pub(crate) fn body(
        &mut self,
        id: u32,
        direction: Direction,
        piece: &[u8],
        end: bool,
    ) -> Result<Flow, HostError> {
        if let Some(flow) = self.ended(id, direction)? {
            return Ok(flow);
        }
        let most = self.store.data().options.body_bytes;
        let side = self.stream(id)?.side(direction);
        side.ended = end;
        if side.buffering || side.stopped {
            side.body.extend_from_slice(piece);
            if side.body.len() > most {
                return self.too_large(id, direction);
            }
            if side.stopped {
                return Ok(Flow::Held);
            }
        } else {
            side.body = piece.to_vec();
        }
        let size = side.body.len();
        let goes_on = self.stream_call(id, callbacks(direction).body, size, end)?;
        if let Some(flow) = self.after(id, direction, goes_on)? {
            return Ok(flow);
        }
        let side = self.stream(id)?.side(direction);
        if goes_on {
            side.flow_headers();
            side.flow_body();
            return Ok(Flow::On);
        }
        side.buffering = true;
        if side.body.len() > most {
            return self.too_large(id, direction);
        }
        self.settle()?;
        Ok(Flow::Held)
    }

    /// A held body that is too large: a request is answered, a response is cut.
    fn too_large(&mut self, id: u32, direction: Direction) -> Result<Flow, HostError> {
        if direction == Direction::Response {
            let side = &mut self.stream(id)?.response;
            side.ended = true;
            side.flow_headers();
            side.flow_body();
            return Ok(Flow::Answered);
        }
        let reply = Reply {
            status: 413,
            details: "request_payload_too_large".to_owned(),
            headers: HeaderMap::new(),
            body: b"Payload Too Large".to_vec(),
        };
        self.local_reply(id, reply)?;
        Ok(Flow::Answered)
    }

    pub(crate) fn trailers(
        &mut self,
        id: u32,
        direction: Direction,
        map: HeaderMap,
    ) -> Result<Flow, HostError> {
        if let Some(flow) = self.ended(id, direction)? {
            return Ok(flow);
        }
        let size = map.len();
        let side = self.stream(id)?.side(direction);
        side.trailers = Some(map);
        if side.stopped {
            return Ok(Flow::Held);
        }
        let goes_on = self.stream_call(id, callbacks(direction).trailers, size, true)?;
        if let Some(flow) = self.after(id, direction, goes_on)? {
            return Ok(flow);
        }
        if goes_on {
            let side = self.stream(id)?.side(direction);
            side.flow_headers();
            side.ended = true;
            side.flow_body();
            side.sent.trailers.clone_from(&side.trailers);
            return Ok(Flow::On);
        }
        self.settle()?;
        Ok(Flow::Held)
    }
}

impl state::Side {
    fn flow_headers(&mut self) {
        if std::mem::take(&mut self.headers_held) {
            self.sent.headers.clone_from(&self.headers);
            self.sent.complete = self.ended && self.body.is_empty();
        }
    }

    fn flow_body(&mut self) {
        self.buffering = false;
        self.sent.body.append(&mut self.body);
        self.sent.complete = self.ended;
    }
}

struct Callbacks {
    headers: &'static str,
    body: &'static str,
    trailers: &'static str,
}

fn callbacks(direction: Direction) -> Callbacks {
    match direction {
        Direction::Request => Callbacks {
            headers: "proxy_on_request_headers",
            body: "proxy_on_request_body",
            trailers: "proxy_on_request_trailers",
        },
        Direction::Response => Callbacks {
            headers: "proxy_on_response_headers",
            body: "proxy_on_response_body",
            trailers: "proxy_on_response_trailers",
        },
    }
}

pub(crate) fn reply_headers(reply: &Reply) -> HeaderMap {
    local_reply(reply.status, &reply.headers, &reply.body)
}

/// The headers that Envoy makes of a local reply.
pub(crate) fn local_reply(status: u32, further: &HeaderMap, body: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new().with(":status", status.to_string());
    for (name, value) in further.iter() {
        headers.add(name, value);
    }
    if !body.is_empty() {
        headers.replace("content-length", body.len().to_string());
        if headers.first("content-type").is_none() {
            headers.add("content-type", "text/plain");
        }
    }
    headers
}
