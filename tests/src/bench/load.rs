//! Load over kept-alive connections, and an upstream that costs as little as can be.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

/// Answers every request with the same small response, on a thread per connection.
pub struct Upstream {
    port: u16,
}

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nserver: app\r\ncontent-length: 11\r\n\r\n{\"ok\":true}";

impl Upstream {
    /// Listens on a free port of the loopback; ends with the process.
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                thread::spawn(move || serve(connection));
            }
        });
        Ok(Self { port })
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }
}

fn serve(mut connection: TcpStream) {
    let _ = connection.set_nodelay(true);
    let mut pending: Vec<u8> = Vec::new();
    let mut piece = [0; 16 * 1024];
    while let Ok(read) = connection.read(&mut piece) {
        if read == 0 {
            return;
        }
        pending.extend_from_slice(piece.get(..read).unwrap_or_default());
        while let Some(size) = request_size(&pending) {
            pending.drain(..size);
            if connection.write_all(ANSWER).is_err() {
                return;
            }
        }
    }
}

/// The size of the first whole message in the buffer: its head, and the body that `content-length` tells.
fn request_size(buffer: &[u8]) -> Option<usize> {
    let head = buffer.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let size = head + content_length(buffer.get(..head)?);
    (buffer.len() >= size).then_some(size)
}

fn content_length(head: &[u8]) -> usize {
    head.split(|byte| *byte == b'\n')
        .find_map(|line| {
            let (name, value) = line.split_at_checked(15)?;
            name.eq_ignore_ascii_case(b"content-length:")
                .then(|| std::str::from_utf8(value).ok()?.trim().parse().ok())
                .flatten()
        })
        .unwrap_or(0)
}

/// The request of that number.
pub type Make = Box<dyn Fn(usize) -> Vec<u8>>;

/// Connections to one Envoy, and the requests that go over them.
pub struct Load {
    lanes: Vec<Lane>,
    request: Make,
    /// How many were sent.
    sent: usize,
}

impl Load {
    /// Opens the connections.
    pub fn connect(port: u16, connections: usize, request: Make) -> Result<Self> {
        let lanes = (0..connections.max(1)).map(|_| Lane::connect(port)).collect::<Result<_>>()?;
        Ok(Self { lanes, request, sent: 0 })
    }

    /// Sends that many requests, one in flight on each connection, and insists on 200. The connections take turns, each has its
    /// next request as soon as it has its answer: so the others keep Envoy busy meanwhile.
    pub fn run(&mut self, requests: usize) -> Result<()> {
        let mut left = requests;
        while left > 0 || self.lanes.iter().any(|lane| lane.waits) {
            for lane in &mut self.lanes {
                lane.receive()?;
                if left > 0 {
                    lane.stream.write_all(&(self.request)(self.sent)).context("sending")?;
                    lane.waits = true;
                    self.sent = self.sent.wrapping_add(1);
                    left -= 1;
                }
            }
        }
        Ok(())
    }
}

/// One connection.
struct Lane {
    stream: TcpStream,
    /// An answer is to come.
    waits: bool,
    /// What came and was not looked at yet.
    pending: Vec<u8>,
}

impl Lane {
    fn connect(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(Self { stream, waits: false, pending: Vec::new() })
    }

    /// Takes the answer that is to come.
    fn receive(&mut self) -> Result<()> {
        let mut piece = [0; 16 * 1024];
        while self.waits {
            let Some(size) = request_size(&self.pending) else {
                let read = self.stream.read(&mut piece).context("receiving")?;
                if read == 0 {
                    bail!("the connection was closed");
                }
                self.pending.extend_from_slice(piece.get(..read).unwrap_or_default());
                continue;
            };
            if !self.pending.starts_with(b"HTTP/1.1 200") {
                let shown = self.pending.get(..200).unwrap_or(&self.pending);
                bail!("answered {}", String::from_utf8_lossy(shown));
            }
            self.pending.drain(..size);
            self.waits = false;
        }
        Ok(())
    }
}
