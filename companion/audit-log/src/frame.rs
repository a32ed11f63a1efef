//! The bytes of a segment file: a header, then frames. `FORMAT.md` beside this crate specifies them; this is its code.
//!
//! A frame is `length | CRC-32 | body`. The CRC is for accidents: a tear, a bad sector. Against people there are the Merkle
//! tree and its signatures. Numbers are little-endian. Limits: a body of 16 MiB; a record's parts 1 MiB together; a
//! tenant's name 255 bytes.

use crate::merkle::{Hash, Node, Range};

/// The largest body.
pub const MAX_BODY: usize = 16 * 1024 * 1024;
/// The most bytes of a record's two parts together.
pub const MAX_RECORD: usize = 1024 * 1024;
/// Length and CRC.
pub const FRAME_HEAD: usize = 8;
/// The length of the body that ends a group.
pub const CHECKPOINT_BODY: usize = 2 + 3 * 8 + 32 + 64;
/// Where the footer starts: the last bytes of a segment that was closed.
pub const TRAILER: usize = 16;

const MAGIC: &[u8; 8] = b"PCAUDIT1";
const END_MAGIC: &[u8; 8] = b"PCAUDEND";
/// Magic, log, first record's number, time, number of hashes; hashes and CRC follow.
const HEADER_FIXED: usize = 8 + 8 + 8 + 8 + 1;
/// The longest header.
pub const MAX_HEADER: usize = HEADER_FIXED + 64 * 32 + 4;

const RECORD: u8 = 1;
const CHECKPOINT: u8 = 2;
const ERASED: u8 = 3;
const FOOTER: u8 = 4;
const ERASURE: u8 = 5;

/// What a segment begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Which log.
    pub log: u64,
    /// When the segment was begun, in milliseconds since the Unix epoch.
    pub time: u64,
    /// The tree of all records before this segment.
    pub before: Range,
}

/// One record, as it lies in a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its number in the log.
    pub index: u64,
    /// When it happened, in milliseconds since the Unix epoch.
    pub time: u64,
    /// Whose it is; empty for the log's own.
    pub tenant: &'a str,
    /// What everybody who reads the log may read.
    pub public: &'a [u8],
    /// What only a holder of the tenant's key can read: the ciphertext.
    pub sealed: &'a [u8],
}

/// The end of a group, and what vouches for everything before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// Whether it was given out as the log's head.
    pub published: bool,
    /// The size before the group.
    pub from: u64,
    /// The size after it.
    pub size: u64,
    /// When it was written.
    pub time: u64,
    /// The root of that many records.
    pub root: Hash,
    /// Over the checkpoint's text.
    pub signature: [u8; 64],
}

/// What a tenant has in a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Whose.
    pub tenant: String,
    /// How many records.
    pub records: u64,
    /// How many bytes of frames.
    pub bytes: u64,
}

/// What a closed segment tells of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footer {
    /// The number after its last record's.
    pub end: u64,
    /// The latest time of a record.
    pub last_time: u64,
    /// The subtrees of its records; of a deleted segment, with a border at each published checkpoint.
    pub nodes: Vec<Node>,
    /// Who has how much in it.
    pub shares: Vec<Share>,
}

/// The signed word that records were erased by us, and which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erasure {
    /// When.
    pub time: u64,
    /// How many records of the segment are erased.
    pub count: u64,
    /// SHA-256 over their numbers, 8 bytes each, big-endian, ascending.
    pub digest: Hash,
    /// Over [`Erasure::text`].
    pub signature: [u8; 64],
}

impl Erasure {
    /// What is signed.
    #[must_use]
    pub fn text(&self, origin: &str, first: u64, end: u64) -> String {
        let Self { time, count, digest, .. } = self;
        format!("{origin}/erasure\n{first} {end}\n{count} {digest:?}\n{time}\n")
    }
}

/// What a frame holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// A record.
    Record(Record<'a>),
    /// The end of a group.
    Checkpoint(Signed),
    /// What is left of a record that retention removed.
    Erased {
        /// Its number.
        index: u64,
        /// Its leaf.
        leaf: Hash,
    },
    /// The end of a segment.
    Footer(Footer),
    /// The word that records were erased.
    Erasure(Erasure),
}

/// Reads from the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(count)?;
        self.0 = tail;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn hash(&mut self) -> Option<Hash> {
        self.array().map(Hash)
    }

    fn sized(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u32()?).ok()?;
        self.take(length)
    }

    fn name(&mut self) -> Option<&'a str> {
        let length = usize::from(self.byte()?);
        std::str::from_utf8(self.take(length)?).ok()
    }

    /// `value`, if nothing is left over.
    fn end<T>(&self, value: T) -> Option<T> {
        self.0.is_empty().then_some(value)
    }
}

fn put_name(out: &mut Vec<u8>, name: &str) {
    // Longer names never get here: an append refuses them.
    let bytes = name.as_bytes().get(..name.len().min(255)).unwrap_or_default();
    out.push(u8::try_from(bytes.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(bytes);
}

fn put_sized(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(bytes);
}

impl Header {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(MAX_HEADER);
        out.extend_from_slice(MAGIC);
        for number in [self.log, self.before.end(), self.time] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.push(u8::try_from(self.before.nodes().len()).unwrap_or(u8::MAX));
        for node in self.before.nodes() {
            out.extend_from_slice(&node.hash.0);
        }
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a file's beginning; the header, and how many bytes it has.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<(Self, usize)> {
        let mut reader = Reader(bytes);
        if reader.take(MAGIC.len())? != MAGIC {
            return None;
        }
        let (log, first, time) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let hashes = (0..reader.byte()?).map(|_| reader.hash()).collect::<Option<Vec<_>>>()?;
        let length = bytes.len() - reader.0.len();
        if crc32fast::hash(bytes.get(..length)?) != reader.u32()? {
            return None;
        }
        Some((Self { log, time, before: Range::frontier(first, &hashes)? }, length + 4))
    }
}

/// Appends a frame around the body that `write` appends; the body's place in `out`.
fn framed(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) -> std::ops::Range<usize> {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_HEAD]);
    write(out);
    let body = start + FRAME_HEAD..out.len();
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes();
    let mut crc = crc32fast::Hasher::new();
    crc.update(&length);
    crc.update(out.get(body.clone()).unwrap_or_default());
    let head = [length, crc.finalize().to_le_bytes()].concat();
    if let Some(place) = out.get_mut(start..start + FRAME_HEAD) {
        place.copy_from_slice(&head);
    }
    body
}

impl Body<'_> {
    /// Appends the frame to `out`; the body's place in it, which is what a record's leaf hashes.
    pub fn encode(&self, out: &mut Vec<u8>) -> std::ops::Range<usize> {
        framed(out, |out| match self {
            Self::Record(record) => {
                out.push(RECORD);
                out.extend_from_slice(&record.index.to_le_bytes());
                out.extend_from_slice(&record.time.to_le_bytes());
                put_name(out, record.tenant);
                put_sized(out, record.public);
                put_sized(out, record.sealed);
            }
            Self::Checkpoint(signed) => {
                out.extend_from_slice(&[CHECKPOINT, u8::from(signed.published)]);
                for number in [signed.from, signed.size, signed.time] {
                    out.extend_from_slice(&number.to_le_bytes());
                }
                out.extend_from_slice(&signed.root.0);
                out.extend_from_slice(&signed.signature);
            }
            Self::Erased { index, leaf } => {
                out.push(ERASED);
                out.extend_from_slice(&index.to_le_bytes());
                out.extend_from_slice(&leaf.0);
            }
            Self::Footer(footer) => footer.encode(out),
            Self::Erasure(erasure) => {
                out.push(ERASURE);
                for number in [erasure.time, erasure.count] {
                    out.extend_from_slice(&number.to_le_bytes());
                }
                out.extend_from_slice(&erasure.digest.0);
                out.extend_from_slice(&erasure.signature);
            }
        })
    }
}

impl Footer {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(FOOTER);
        for number in [self.end, self.last_time] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&u32::try_from(self.nodes.len()).unwrap_or(u32::MAX).to_le_bytes());
        for node in &self.nodes {
            out.push(node.level);
            out.extend_from_slice(&node.index.to_le_bytes());
            out.extend_from_slice(&node.hash.0);
        }
        out.extend_from_slice(&u32::try_from(self.shares.len()).unwrap_or(u32::MAX).to_le_bytes());
        for share in &self.shares {
            put_name(out, &share.tenant);
            out.extend_from_slice(&share.records.to_le_bytes());
            out.extend_from_slice(&share.bytes.to_le_bytes());
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let (end, last_time) = (reader.u64()?, reader.u64()?);
        let nodes = (0..reader.u32()?)
            .map(|_| Some(Node { level: reader.byte()?, index: reader.u64()?, hash: reader.hash()? }))
            .collect::<Option<_>>()?;
        let shares = (0..reader.u32()?)
            .map(|_| {
                let tenant = reader.name()?.to_owned();
                Some(Share { tenant, records: reader.u64()?, bytes: reader.u64()? })
            })
            .collect::<Option<_>>()?;
        Some(Self { end, last_time, nodes, shares })
    }
}

/// The length of a frame's body and its CRC, from its head.
#[must_use]
pub fn head(bytes: &[u8]) -> Option<(usize, u32)> {
    let mut reader = Reader(bytes);
    let (length, crc) = (usize::try_from(reader.u32()?).ok()?, reader.u32()?);
    (1..=MAX_BODY).contains(&length).then_some((length, crc))
}

/// The body of the frame at the front of `bytes`, if its CRC holds.
#[must_use]
pub fn body(bytes: &[u8]) -> Option<&[u8]> {
    let (length, crc) = head(bytes)?;
    let body = bytes.get(FRAME_HEAD..)?.get(..length)?;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(bytes.get(..4)?);
    hasher.update(body);
    (hasher.finalize() == crc).then_some(body)
}

/// Reads a body.
#[must_use]
pub fn decode(body: &[u8]) -> Option<Body<'_>> {
    let mut reader = Reader(body);
    let decoded = match reader.byte()? {
        RECORD => Body::Record(Record {
            index: reader.u64()?,
            time: reader.u64()?,
            tenant: reader.name()?,
            public: reader.sized()?,
            sealed: reader.sized()?,
        }),
        CHECKPOINT => Body::Checkpoint(Signed {
            published: match reader.byte()? {
                0 => false,
                1 => true,
                _ => return None,
            },
            from: reader.u64()?,
            size: reader.u64()?,
            time: reader.u64()?,
            root: reader.hash()?,
            signature: reader.array()?,
        }),
        ERASED => Body::Erased { index: reader.u64()?, leaf: reader.hash()? },
        FOOTER => Body::Footer(Footer::decode(&mut reader)?),
        ERASURE => Body::Erasure(Erasure {
            time: reader.u64()?,
            count: reader.u64()?,
            digest: reader.hash()?,
            signature: reader.array()?,
        }),
        _ => return None,
    };
    reader.end(decoded)
}

/// The trailer after a footer's frame of `length` bytes.
#[must_use]
pub fn trailer(length: usize) -> [u8; TRAILER] {
    let length = u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
    let mut out = [0; TRAILER];
    let parts = END_MAGIC.iter().chain(&length).copied().chain(crc32fast::hash(&length).to_le_bytes());
    for (place, byte) in out.iter_mut().zip(parts) {
        *place = byte;
    }
    out
}

/// How many bytes before the trailer the footer's frame begins.
#[must_use]
pub fn footer_length(trailer: &[u8]) -> Option<usize> {
    let mut reader = Reader(trailer);
    let magic = reader.take(END_MAGIC.len())?;
    let length = reader.array::<4>()?;
    if magic != END_MAGIC || crc32fast::hash(&length) != reader.u32()? {
        return None;
    }
    let length = usize::try_from(u32::from_le_bytes(length)).ok()?;
    reader.end(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bodies() -> Vec<Body<'static>> {
        let record = Record { index: 7, time: 8, tenant: "acme", public: b"{}", sealed: b"\0\x01" };
        let signature = [9; 64];
        let root = Hash::leaf(b"x");
        vec![
            Body::Record(record),
            Body::Checkpoint(Signed { published: true, from: 1, size: 8, time: 3, root, signature }),
            Body::Erased { index: 4, leaf: root },
            Body::Footer(Footer {
                end: 8,
                last_time: 2,
                nodes: vec![Node { level: 3, index: 0, hash: root }],
                shares: vec![Share { tenant: "acme".into(), records: 8, bytes: 100 }],
            }),
            Body::Erasure(Erasure { time: 1, count: 2, digest: root, signature }),
        ]
    }

    #[test]
    fn frames_are_read_as_written_and_never_shorter() {
        for wanted in bodies() {
            let mut bytes = Vec::new();
            wanted.encode(&mut bytes);
            assert_eq!(decode(body(&bytes).unwrap()), Some(wanted));
            for end in 0..bytes.len() {
                assert!(body(&bytes[..end]).is_none());
            }
            let whole = &bytes[FRAME_HEAD..];
            for end in 0..whole.len() {
                assert_eq!(decode(&whole[..end]), None);
            }
            assert_eq!(decode(&[whole, &[0]].concat()), None);
            for place in 0..bytes.len() * 8 {
                let mut flipped = bytes.clone();
                flipped[place / 8] ^= 1 << (place % 8);
                assert!(body(&flipped).is_none(), "bit {place}");
            }
        }
    }

    #[test]
    fn a_header_holds_the_tree_before_it() {
        let mut before = Range::starting_at(0);
        for number in 0..13_u8 {
            before.push(Hash::leaf(&[number]));
        }
        let header = Header { log: 5, time: 6, before };
        let bytes = header.encode();
        assert_eq!(Header::decode(&[&bytes[..], b"rest"].concat()), Some((header, bytes.len())));
        for place in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[place / 8] ^= 1 << (place % 8);
            assert_eq!(Header::decode(&flipped), None, "bit {place}");
        }
        assert_eq!(footer_length(&trailer(300)), Some(300));
        assert_eq!(footer_length(&[0; TRAILER]), None);
    }
}
