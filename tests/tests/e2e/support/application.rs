//! The application behind Envoy: answers as the test says, and remembers what reached it.

use std::{
    collections::HashMap,
    io::{self, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard},
    thread,
};

use xtask::stack::HostPort;

use super::message::{Headers, Message, Unframed};

/// What is answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Headers; a `content-length` is added when there is none.
    pub headers: Headers,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// With a status and a body.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    /// With a further header.
    pub fn header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }
}

impl Default for Answer {
    fn default() -> Self {
        Self::new(200, "ok")
    }
}

#[derive(Default)]
struct State {
    by_path: HashMap<Vec<u8>, Answer>,
    otherwise: Answer,
    seen: Vec<Message>,
    /// What has come over each open connection since its last whole request.
    under_way: Vec<Arrived>,
}

type Arrived = Arc<Mutex<Vec<u8>>>;

/// Keeps a copy of what is read.
struct Copied {
    stream: TcpStream,
    arrived: Arrived,
}

impl Read for Copied {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.arrived.lock().unwrap().extend_from_slice(&buffer[..count]);
        Ok(count)
    }
}

/// A running application; ends with the process.
pub struct Application {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Application {
    /// Listens on a free port of the loopback.
    pub fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                // A connection that breaks is the proxy's affair.
                thread::spawn(move || drop(serve(stream, &state)));
            }
        });
        Self { address, state }
    }

    /// Where it listens, as a stack takes it.
    pub fn host_port(&self) -> HostPort {
        HostPort { host: self.address.ip().to_string(), port: self.address.port() }
    }

    /// What it answers on a path, whatever the query.
    pub fn on(&self, path: &str, answer: Answer) {
        self.state().by_path.insert(path.as_bytes().to_vec(), answer);
    }

    /// What it answers on every other path.
    pub fn otherwise(&self, answer: Answer) {
        self.state().otherwise = answer;
    }

    /// The request with that correlation ID, if it has come.
    pub fn seen(&self, id: &str) -> Option<Message> {
        let state = self.state();
        state.seen.iter().find(|seen| seen.header("x-request-id") == Some(id.as_bytes())).cloned()
    }

    /// As much as has come of a request with that correlation ID which has not come as a whole yet.
    pub fn arriving(&self, id: &str) -> Option<Vec<u8>> {
        let mut parts = self.state().under_way.clone().into_iter().map(|part| part.lock().unwrap().clone());
        parts.find(|part| part.windows(id.len()).any(|text| text == id.as_bytes()))
    }

    /// All requests since this was last asked.
    pub fn take_seen(&self) -> Vec<Message> {
        std::mem::take(&mut self.state().seen)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

fn serve(stream: TcpStream, state: &Mutex<State>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let arrived = Arrived::default();
    state.lock().unwrap().under_way.push(Arc::clone(&arrived));
    let reader = BufReader::new(Copied { stream: stream.try_clone()?, arrived: Arc::clone(&arrived) });
    let served = converse(reader, stream, &arrived, state);
    state.lock().unwrap().under_way.retain(|other| !Arc::ptr_eq(other, &arrived));
    served
}

fn converse(
    mut reader: BufReader<Copied>,
    mut stream: TcpStream,
    arrived: &Mutex<Vec<u8>>,
    state: &Mutex<State>,
) -> io::Result<()> {
    while let Some(request) = Message::read(&mut reader, Unframed::Empty)? {
        arrived.lock().unwrap().clear();
        if request.header("upgrade").is_some() {
            state.lock().unwrap().seen.push(request);
            return echo(reader, stream);
        }
        let target = request.first_line.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
        let path = target.split(|byte| *byte == b'?').next().unwrap_or_default().to_vec();
        let only_head = request.first_line.starts_with(b"HEAD ");
        let answer = {
            let mut state = state.lock().unwrap();
            state.seen.push(request);
            state.by_path.get(&path).unwrap_or(&state.otherwise).clone()
        };
        let mut out = format!("HTTP/1.1 {} Answer\r\n", answer.status).into_bytes();
        for (name, value) in &answer.headers {
            out.extend_from_slice(&[name, &b": "[..], value, b"\r\n"].concat());
        }
        if matches!(answer.status, 204 | 304) {
            out.extend_from_slice(b"\r\n");
        } else {
            if !answer.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(b"content-length")) {
                out.extend_from_slice(format!("content-length: {}\r\n", answer.body.len()).as_bytes());
            }
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(if only_head { b"" } else { &answer.body });
        }
        stream.write_all(&out)?;
    }
    Ok(())
}

/// Takes the upgrade, and sends back whatever comes.
fn echo(mut from: BufReader<Copied>, mut to: TcpStream) -> io::Result<()> {
    to.write_all(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n")?;
    let mut piece = [0; 4096];
    loop {
        let count = from.read(&mut piece)?;
        if count == 0 {
            return Ok(());
        }
        to.write_all(&piece[..count])?;
    }
}
