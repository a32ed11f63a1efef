//! What a host tells the chain.

use std::time::Duration;

/// When something happened. Policies have no clock: this is it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moment {
    /// Monotonic time, common to all workers of a process. What is granted or counted depends on this alone, so that
    /// a step of the wall clock never grants or costs anything.
    pub now: Duration,
    /// Wall clock, nanoseconds since 1970: for records only.
    pub wall_ns: u64,
    /// Fresh random bits for this event.
    pub random: [u64; 2],
}

/// A header: name (lower case as HTTP/2 has it, but not relied upon) and value, in bytes.
pub type Header<'a> = (&'a [u8], &'a [u8]);

/// Whether a value would split the message that it is put into: it holds CR, LF or NUL (RFC 9110, 5.5). Hosts look at each value
/// that they are asked to set, on every response; so this looks at eight bytes at a time.
pub fn splits_message(value: &[u8]) -> bool {
    const LOW: u64 = 0x0101_0101_0101_0101;
    // The highest bit of a byte is set if the byte is 0; of bytes above a 0 perhaps too, which does not matter to "is there one".
    let has_zero = |word: u64| word.wrapping_sub(LOW) & !word & (LOW << 7);
    let (eights, rest) = value.as_chunks::<8>();
    let marked = |eight: &[u8; 8]| {
        let word = u64::from_le_bytes(*eight);
        let (cr, lf) = (word ^ (LOW * 0x0d), word ^ (LOW * 0x0a));
        has_zero(word) | has_zero(cr) | has_zero(lf) != 0
    };
    eights.iter().any(marked) || rest.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0))
}

/// The headers of a message, pseudo headers included, in order, duplicates kept.
#[derive(Debug, Clone, Default)]
pub struct Headers<'a> {
    pairs: Vec<Header<'a>>,
    bytes: usize,
    /// Lengths of names that occur, each as a bit (modulo 64): most names that are asked for are not there.
    lengths: u64,
}

impl<'a> Headers<'a> {
    /// Takes the headers in the order of the wire.
    pub fn new(pairs: Vec<Header<'a>>) -> Self {
        let (mut bytes, mut lengths) = (0_usize, 0);
        for (name, value) in &pairs {
            bytes = bytes.saturating_add(name.len()).saturating_add(value.len());
            lengths |= bit(name);
        }
        Self { pairs, bytes, lengths }
    }

    /// The first value under that name (ASCII case ignored; `name` in lower case).
    pub fn first(&self, name: &str) -> Option<&'a [u8]> {
        let name = name.as_bytes();
        if self.lengths & bit(name) == 0 {
            return None;
        }
        self.pairs.iter().find(|(key, _)| is(key, name)).map(|(_, value)| *value)
    }

    /// All values under that name, in order.
    pub fn all<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'a [u8]> + 's {
        let name = name.as_bytes();
        let pairs: &[Header<'a>] = if self.lengths & bit(name) == 0 { &[] } else { &self.pairs };
        pairs.iter().filter(move |(key, _)| is(key, name)).map(|(_, value)| *value)
    }

    /// All headers.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Header<'a>> + '_ {
        self.pairs.iter().copied()
    }

    /// Whether bytes after these belong to another protocol: after CONNECT (RFC 9110, 9.3.6; WebSocket over HTTP/2 is one of
    /// these, RFC 8441), or after a GET that asks to upgrade and has no body of its own. Any other request keeps its body,
    /// whatever it asks for: an application that ignores `upgrade` would read it as one.
    pub fn is_tunnel(&self) -> bool {
        match self.first(":method") {
            Some(b"CONNECT") => true,
            Some(b"GET") => {
                self.first("upgrade").is_some()
                    && self.first("transfer-encoding").is_none()
                    && self.first("content-length").is_none_or(|length| length == b"0")
            }
            _ => false,
        }
    }

    /// How many headers there are.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Bytes of all names and values.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// The bit of a name's length.
const fn bit(name: &[u8]) -> u64 {
    1 << (name.len() % 64)
}

/// Whether two names are the same; the first byte tells most of the same length apart.
fn is(key: &[u8], name: &[u8]) -> bool {
    let first = |text: &[u8]| text.first().map(|byte| byte | 0x20);
    key.len() == name.len() && first(key) == first(name) && key.eq_ignore_ascii_case(name)
}

/// How a stream ended, as far as the host knows. What it does not know is `None` or empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The status that the client got.
    pub status: Option<u16>,
    /// The host's own word on why, like Envoy's `response_code_details`.
    pub details: Vec<u8>,
    /// Bytes of the request's body.
    pub request_bytes: Option<u64>,
    /// Bytes of the response's body.
    pub response_bytes: Option<u64>,
    /// From the first byte of the request to the last byte of the response.
    pub total: Option<Duration>,
}

/// What happened on a stream. Events of one stream come in this order; some may be missing: a reply that the host
/// made before its filters ran arrives as `Done` alone.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// The request's headers are complete.
    RequestHeaders {
        /// All of them, pseudo headers included.
        headers: &'a Headers<'a>,
        /// No body follows.
        end_of_stream: bool,
    },
    /// A piece of the request's body that was not seen before.
    RequestBody {
        /// The piece: any length, zero included, cut anywhere.
        chunk: &'a [u8],
        /// It is the last.
        end_of_stream: bool,
    },
    /// The response's headers, the upstream's or a local reply's.
    ResponseHeaders {
        /// All of them, `:status` included.
        headers: &'a Headers<'a>,
    },
    /// The stream is over; nothing can be changed any more.
    Done {
        /// How it ended.
        outcome: &'a Outcome,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_splits_is_found_wherever_it_stands() {
        let plain: Vec<u8> = (0..=255).filter(|byte| !matches!(byte, b'\r' | b'\n' | 0)).collect();
        for length in 0..=plain.len() {
            assert!(!splits_message(&plain[..length]) && !splits_message(&plain[plain.len() - length..]));
        }
        for at in 0..plain.len() {
            for byte in [b'\r', b'\n', 0] {
                let mut value = plain.clone();
                value[at] = byte;
                assert!(
                    splits_message(&value) && splits_message(&value[at..]) && splits_message(&value[..=at])
                );
            }
        }
    }
}
