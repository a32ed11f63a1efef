//! As much of an HTTP/2 client (RFC 9113, with prior knowledge) as sends requests, as fast as the other end's windows allow,
//! and sees them end. What was answered stands in the audit record: reading it here would need HPACK's decoder.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// The setting of how much a stream may send before it is told to go on.
const INITIAL_WINDOW_SIZE: u16 = 4;
/// The same before the other end has set it, and for the connection as a whole (RFC 9113, 6.9.2).
const WINDOW: i64 = 65_535;
/// Bytes of the longest frame that needs no agreement.
const FRAME: usize = 16_384;

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With a whole answer.
    Answered,
    /// The stream, or the whole connection, was broken off.
    Reset,
}

/// A connection.
pub struct Http2 {
    stream: TcpStream,
    next: u32,
    /// What may be sent: on the connection, on the stream, and on a new one.
    windows: [i64; 3],
}

impl Http2 {
    /// Opens one.
    pub fn open(to: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(to).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        let mut this = Self { stream, next: 1, windows: [WINDOW; 3] };
        this.frame(SETTINGS, 0, 0, b"").unwrap();
        this
    }

    /// Sends a request, pseudo headers and all, with its body in pieces, and waits for its end.
    pub fn exchange(&mut self, headers: &[(&[u8], &[u8])], body: &[&[u8]]) -> End {
        let id = self.next;
        self.next += 2;
        let mut block = Vec::new();
        for (name, value) in headers {
            // A literal without indexing, with a new name.
            block.push(0);
            string(&mut block, name);
            string(&mut block, value);
        }
        self.windows[1] = self.windows[2];
        let last = if body.is_empty() { END_STREAM } else { 0 };
        // Whoever refuses early may break off while the body is on its way.
        let mut sent = self.frame(HEADERS, END_HEADERS | last, id, &block);
        for (number, piece) in body.iter().enumerate() {
            let last = if number + 1 == body.len() { END_STREAM } else { 0 };
            assert!(piece.len() <= FRAME, "a piece is a frame");
            let size = i64::try_from(piece.len()).unwrap();
            while sent.is_ok() && size > self.windows[0].min(self.windows[1]) {
                match self.receive(id) {
                    Ok(None) => {}
                    Ok(Some(end)) => return end,
                    Err(error) => sent = Err(error),
                }
            }
            sent = sent.and_then(|()| self.frame(DATA, last, id, piece));
            self.windows[0] -= size;
            self.windows[1] -= size;
        }
        loop {
            match self.receive(id) {
                Ok(None) => {}
                Ok(Some(end)) => return end,
                Err(_) => return End::Reset,
            }
        }
    }

    /// Takes a frame; how the stream has ended, if it has.
    fn receive(&mut self, id: u32) -> io::Result<Option<End>> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (kind, flags) = (head[3], head[4]);
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload)?;
        match kind {
            HEADERS | DATA if stream == id && flags & END_STREAM != 0 => return Ok(Some(End::Answered)),
            RST_STREAM if stream == id => return Ok(Some(End::Reset)),
            GOAWAY => return Ok(Some(End::Reset)),
            SETTINGS if flags == 0 => {
                for setting in payload.chunks_exact(6) {
                    if u16::from_be_bytes([setting[0], setting[1]]) == INITIAL_WINDOW_SIZE {
                        let size = i64::from(u32::from_be_bytes(setting[2..].try_into().unwrap()));
                        self.windows[1] += size - self.windows[2];
                        self.windows[2] = size;
                    }
                }
                self.frame(SETTINGS, 1, 0, b"")?;
            }
            WINDOW_UPDATE if stream == 0 || stream == id => {
                let more = u32::from_be_bytes(payload[..4].try_into().unwrap());
                self.windows[usize::from(stream != 0)] += i64::from(more);
            }
            _ => {}
        }
        Ok(None)
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        self.stream.write_all(&frame)
    }
}

/// A string without Huffman's code (RFC 7541, 5.1 and 5.2).
fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut length = bytes.len();
    if length < 127 {
        out.push(u8::try_from(length).unwrap());
    } else {
        out.push(127);
        length -= 127;
        while length >= 128 {
            out.push(0x80 | u8::try_from(length % 128).unwrap());
            length /= 128;
        }
        out.push(u8::try_from(length).unwrap());
    }
    out.extend_from_slice(bytes);
}
