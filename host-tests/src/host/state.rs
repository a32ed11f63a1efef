//! What the host knows while a module runs.

use std::{collections::BTreeMap, time::Duration};

use wasmtime::{Memory, StoreLimits, TypedFunc};

use super::{
    headers::HeaderMap, process::Process, profile::Profile, property::Properties, status::Status,
    trace::Trace,
};

/// How a VM is set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// The instance's name, `plugin_root_id`.
    pub root_id: String,
    /// The module's environment.
    pub environment: Vec<(String, String)>,
    /// What the host offers.
    pub profile: Profile,
    /// Envoy's `allow_on_headers_stop_iteration`: a pause in request headers does not stop the body callbacks.
    pub holds_headers: bool,
    /// A held body that grows beyond this is answered 413.
    pub body_bytes: usize,
    /// The most memory the VM may have.
    pub memory_bytes: usize,
    /// The most fuel one callback may burn.
    pub fuel: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            root_id: "portcullis".to_owned(),
            environment: Vec::new(),
            profile: Profile::envoy(),
            holds_headers: false,
            body_bytes: 1024 * 1024,
            memory_bytes: 256 * 1024 * 1024,
            fuel: 10_000_000_000,
        }
    }
}

/// A message, or what has flowed of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// Headers, pseudo headers included; `None`: nothing has flowed yet.
    pub headers: Option<HeaderMap>,
    /// The body so far.
    pub body: Vec<u8>,
    /// Trailers.
    pub trailers: Option<HeaderMap>,
    /// Whether its end has flowed.
    pub complete: bool,
}

/// A call to another service that the module has asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// What the answer must be given for.
    pub token: u32,
    /// The cluster.
    pub upstream: String,
    /// Headers, pseudo headers included.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
    /// Trailers.
    pub trailers: HeaderMap,
    /// After which the host gives up.
    pub timeout: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Request,
    Response,
}

/// One direction of a stream.
#[derive(Debug, Default)]
pub(crate) struct Side {
    pub headers: Option<HeaderMap>,
    pub trailers: Option<HeaderMap>,
    /// What the body callbacks see: the held body and the piece that just arrived.
    pub body: Vec<u8>,
    /// Held headers wait for a body callback that goes on.
    pub headers_held: bool,
    /// Until the module says so, nothing of this direction reaches it.
    pub stopped: bool,
    /// Pieces are kept, and shown again together with the next.
    pub buffering: bool,
    /// Whether the end of the body is among what is held.
    pub ended: bool,
    /// What has flowed on.
    pub sent: Message,
}

/// A reply that the module asked for.
#[derive(Debug)]
pub(crate) struct Reply {
    pub status: u32,
    pub details: String,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

/// One stream.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    pub properties: Properties,
    pub request: Side,
    pub response: Side,
    /// Whether the module knows of it.
    pub created: bool,
    pub asked_reply: Option<Reply>,
    /// The response is the host's own or the module's.
    pub local: bool,
    pub details: String,
    pub go_on: Option<Direction>,
    pub reset: bool,
    /// `on_log` and later: nothing can be changed.
    pub over: bool,
}

impl Stream {
    pub fn side(&mut self, direction: Direction) -> &mut Side {
        match direction {
            Direction::Request => &mut self.request,
            Direction::Response => &mut self.response,
        }
    }
}

/// A VM's state, which host calls work on.
pub(crate) struct State {
    pub process: Process,
    pub number: u32,
    pub options: Options,
    pub trace: Trace,
    pub limits: StoreLimits,
    pub memory: Option<Memory>,
    pub allocate: Option<TypedFunc<u32, u32>>,
    pub streams: BTreeMap<u32, Stream>,
    /// Whose callback runs.
    pub current: u32,
    pub configuration: Vec<u8>,
    pub tick: Option<Duration>,
    /// The root context has asked for time, and now says that it needs no more.
    pub done: bool,
    pub calls: Vec<Call>,
    pub in_flight: Vec<u32>,
    pub next_token: u32,
    /// The answer that the running callback is about.
    pub answer: Message,
}

impl State {
    pub fn stream(&mut self) -> Option<&mut Stream> {
        self.streams.get_mut(&self.current)
    }

    /// A header map by its number; `None` when there is none at this time.
    pub fn map(&mut self, number: u32) -> Result<Option<&mut HeaderMap>, Status> {
        if let 6 | 7 = number {
            let answer = &mut self.answer;
            return Ok(if number == 6 { answer.headers.as_mut() } else { answer.trailers.as_mut() });
        }
        let stream = self.stream();
        match (number, stream) {
            (0..=5, None) | (4 | 5, _) => Ok(None),
            (0, Some(stream)) => Ok(stream.request.headers.as_mut()),
            (1, Some(stream)) => Ok(stream.request.trailers.as_mut()),
            (2, Some(stream)) => Ok(stream.response.headers.as_mut()),
            (3, Some(stream)) => Ok(stream.response.trailers.as_mut()),
            _ => Err(Status::BadArgument),
        }
    }

    /// A header map that may be changed now.
    pub fn open_map(&mut self, number: u32) -> Result<&mut HeaderMap, Status> {
        if self.stream().is_some_and(|stream| stream.over) || number > 3 {
            return Err(Status::BadArgument);
        }
        self.map(number)?.ok_or(Status::BadArgument)
    }

    /// A buffer by its number.
    pub fn buffer(&mut self, number: u32) -> Result<&mut Vec<u8>, Status> {
        match number {
            4 => Ok(&mut self.answer.body),
            // The VM has no configuration of its own.
            6 => Err(Status::NotFound),
            7 => Ok(&mut self.configuration),
            0 => self.stream().map(|stream| &mut stream.request.body).ok_or(Status::NotFound),
            1 => self.stream().map(|stream| &mut stream.response.body).ok_or(Status::NotFound),
            2 | 3 | 5 | 8 => Err(Status::NotFound),
            _ => Err(Status::BadArgument),
        }
    }

    /// A property by its joined path.
    pub fn property(&mut self, path: &[u8]) -> Result<Vec<u8>, Status> {
        let as_strings = self.options.profile.string_properties();
        match path {
            b"plugin_root_id" | b"plugin_name" => return Ok(self.options.root_id.clone().into_bytes()),
            b"plugin_vm_id" => return Ok(Vec::new()),
            _ => {}
        }
        let stream = self.stream().ok_or(Status::NotFound)?;
        let found = match stream.properties.find(path) {
            Some(property) => Some(property.serialize(as_strings)),
            None => derived(stream, path).map(|property| property.serialize(as_strings)),
        };
        found.ok_or(Status::NotFound)
    }
}

/// Properties that follow from the stream itself.
fn derived(stream: &Stream, path: &[u8]) -> Option<super::property::Property> {
    use super::property::Property;
    let request = |name: &str| stream.request.headers.as_ref()?.first(name).map(Property::from);
    match path {
        b"request\0path" => request(":path"),
        b"request\0method" => request(":method"),
        b"request\0host" => request(":authority"),
        b"request\0scheme" => request(":scheme"),
        b"response\0code" => {
            let status = stream.response.headers.as_ref()?.status()?;
            Some(Property::Integer(u64::from(status)))
        }
        b"response\0code_details" if !stream.details.is_empty() => Some(Property::from(&stream.details)),
        _ => {
            let named = |prefix: &[u8]| path.strip_prefix(prefix).map(<[u8]>::to_vec);
            if let Some(name) = named(b"request\0headers\0") {
                return stream.request.headers.as_ref()?.first(name).map(Property::from);
            }
            let name = named(b"response\0headers\0")?;
            stream.response.headers.as_ref()?.first(name).map(Property::from)
        }
    }
}
