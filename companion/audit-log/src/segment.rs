//! Segment files: their names, their order, and reading them front to back.

use std::io;

use crate::frame::{self, Body, FRAME_HEAD, Footer, Header, MAX_HEADER, Share, Signed, TRAILER};
use crate::merkle::{Hash, Range};
use crate::storage::{File, Storage};

/// How much is read at once.
const CHUNK: usize = 256 * 1024;

/// A file of the log: the segment that begins with record `first`, or what is left of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Its first record's number.
    pub first: u64,
    /// Whether retention has deleted its records.
    pub gone: bool,
}

impl Place {
    /// The file's name.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{:020}.{}", self.first, if self.gone { "gone" } else { "seg" })
    }

    fn parse(name: &str) -> Option<Self> {
        let (number, suffix) = name.split_once('.')?;
        if number.len() != 20 || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let gone = match suffix {
            "seg" => false,
            "gone" => true,
            _ => return None,
        };
        Some(Self { first: number.parse().ok()?, gone })
    }
}

/// All files of the log, in order. Where a segment and what is left of it are both there, the latter counts: a deletion
/// was interrupted after it was decided.
///
/// # Errors
/// When the folder cannot be read.
pub fn places(storage: &dyn Storage) -> io::Result<Vec<Place>> {
    let mut places: Vec<Place> = storage.list()?.iter().filter_map(|name| Place::parse(name)).collect();
    // Gone sorts after its segment, and is kept.
    places.sort_unstable_by(|a, b| b.cmp(a));
    places.dedup_by_key(|place| place.first);
    places.reverse();
    Ok(places)
}

/// Reads a file's frames in turn.
pub struct Scanner {
    file: Box<dyn File>,
    buffer: Vec<u8>,
    /// Where in the buffer the next frame begins, and where in the file the buffer does.
    at: usize,
    base: u64,
}

impl std::fmt::Debug for Scanner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Scanner at {}", self.offset())
    }
}

/// What comes next.
#[derive(Debug)]
pub enum Step<'a> {
    /// A sound frame.
    Frame {
        /// Where it begins.
        offset: u64,
        /// The bytes that a leaf hashes.
        raw: &'a [u8],
        /// What they say.
        body: Body<'a>,
    },
    /// The file ends here, between two frames.
    End,
    /// What follows is no frame, or only a part of one.
    Broken {
        /// Where it begins.
        offset: u64,
    },
}

impl Scanner {
    /// Opens a file; the header, unless it is broken.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn open(storage: &dyn Storage, place: Place) -> io::Result<(Option<Header>, Self)> {
        let file = storage.read(&place.name())?;
        let mut scanner = Self { file, buffer: Vec::new(), at: 0, base: 0 };
        scanner.fill(MAX_HEADER)?;
        let header = Header::decode(&scanner.buffer).map(|(header, length)| {
            scanner.at = length;
            header
        });
        Ok((header, scanner))
    }

    /// Where the next frame begins.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.base + self.at as u64
    }

    /// Forgets what was read ahead: another may be about to change it.
    pub fn forget(&mut self) {
        self.base = self.offset();
        self.at = 0;
        self.buffer.clear();
    }

    /// Whether at least `need` bytes stand at the next frame, reading more of them if need be.
    fn fill(&mut self, need: usize) -> io::Result<bool> {
        let left = self.buffer.len() - self.at;
        if left >= need {
            return Ok(true);
        }
        self.base = self.offset();
        self.buffer.drain(..self.at);
        self.at = 0;
        self.buffer.resize(need.max(CHUNK), 0);
        let room = self.buffer.get_mut(left..).unwrap_or_default();
        let read = self.file.read_at(room, self.base + left as u64)?;
        self.buffer.truncate(left + read);
        Ok(self.buffer.len() >= need)
    }

    fn rest(&self) -> &[u8] {
        self.buffer.get(self.at..).unwrap_or_default()
    }

    /// The next frame. After a broken one, the same again.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn step(&mut self) -> io::Result<Step<'_>> {
        let offset = self.offset();
        if !self.fill(FRAME_HEAD)? {
            return Ok(if self.rest().is_empty() { Step::End } else { Step::Broken { offset } });
        }
        let Some((length, _)) = frame::head(self.rest()) else { return Ok(Step::Broken { offset }) };
        let mut total = FRAME_HEAD + length;
        // A footer's trailer is read with it.
        let closes = self.fill(total + TRAILER)?
            && self.rest().get(total..).and_then(|rest| rest.get(..TRAILER)).and_then(frame::footer_length)
                == Some(total);
        if !closes && !self.fill(total)? {
            return Ok(Step::Broken { offset });
        }
        if closes {
            total += TRAILER;
        }
        let start = self.at;
        self.at += total;
        let Some(raw) = self.buffer.get(start..).and_then(frame::body) else {
            self.at = start;
            return Ok(Step::Broken { offset });
        };
        match frame::decode(raw) {
            Some(Body::Footer(_)) if !closes => {
                self.at = start;
                Ok(Step::Broken { offset })
            }
            Some(body) => Ok(Step::Frame { offset, raw, body }),
            None => {
                self.at = start;
                Ok(Step::Broken { offset })
            }
        }
    }

    /// Whether behind the next frame, which is broken, there is the end of a group that began after record `size`: what
    /// could only be written when everything before it was durable.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn later_group(&mut self, size: u64, holds: impl Fn(&Signed) -> bool) -> io::Result<bool> {
        loop {
            if !self.fill(FRAME_HEAD + 1)? {
                return Ok(false);
            }
            // Looked for byte by byte: lengths cannot be trusted here.
            if let Some((length, _)) = frame::head(self.rest())
                && length == frame::CHECKPOINT_BODY
                && self.fill(FRAME_HEAD + length)?
                && let Some(Body::Checkpoint(signed)) = frame::body(self.rest()).and_then(frame::decode)
                && signed.from > size
                && holds(&signed)
            {
                return Ok(true);
            }
            self.at += 1;
        }
    }
}

/// What a file's end says of it, without reading the rest; `None` when it was not closed.
///
/// # Errors
/// When the file cannot be read.
pub fn footer(storage: &dyn Storage, place: Place) -> io::Result<Option<Footer>> {
    let file = storage.read(&place.name())?;
    let length = file.length()?;
    let mut trailer = [0; TRAILER];
    let Some(end) = length.checked_sub(TRAILER as u64) else { return Ok(None) };
    file.read_at(&mut trailer, end)?;
    let Some((size, start)) = frame::footer_length(&trailer)
        .and_then(|size| Some((size, end.checked_sub(size as u64)?)))
        .filter(|(size, _)| *size <= frame::MAX_BODY + FRAME_HEAD)
    else {
        return Ok(None);
    };
    let mut bytes = vec![0; size];
    file.read_at(&mut bytes, start)?;
    Ok(match frame::body(&bytes).and_then(frame::decode) {
        Some(Body::Footer(footer)) => Some(footer),
        _ => None,
    })
}

/// What a segment holds, added up as it is written or read.
#[derive(Clone, Debug)]
pub struct Contents {
    /// Its records' subtrees.
    pub range: Range,
    /// The latest time of a record.
    pub last_time: u64,
    /// Who has how much in it, by name.
    pub shares: std::collections::BTreeMap<String, Share>,
}

impl Contents {
    /// Nothing yet; the first record will be `first`.
    #[must_use]
    pub fn starting_at(first: u64) -> Self {
        Self { range: Range::starting_at(first), last_time: 0, shares: Default::default() }
    }

    /// Takes a record whose frame has `bytes` bytes.
    pub fn add(&mut self, tenant: &str, time: u64, bytes: usize, leaf: Hash) {
        self.range.push(leaf);
        self.last_time = self.last_time.max(time);
        let bytes = bytes as u64;
        if let Some(share) = self.shares.get_mut(tenant) {
            share.records += 1;
            share.bytes += bytes;
        } else {
            let share = Share { tenant: tenant.to_owned(), records: 1, bytes };
            self.shares.insert(tenant.to_owned(), share);
        }
    }

    /// As the footer tells it.
    #[must_use]
    pub fn footer(&self) -> Footer {
        Footer {
            end: self.range.end(),
            last_time: self.last_time,
            nodes: self.range.nodes().to_vec(),
            shares: self.shares.values().cloned().collect(),
        }
    }
}

/// A segment as far as its groups are whole.
#[derive(Debug)]
pub struct Groups {
    /// What they hold.
    pub contents: Contents,
    /// The whole tree after the last of them; `None` when the header is broken.
    pub tree: Option<Range>,
    /// Which log it is of.
    pub log: u64,
    /// When it was begun, in milliseconds since the Unix epoch.
    pub begun: u64,
    /// The last one's end.
    pub last: Option<Signed>,
    /// Where in the file it ends.
    pub offset: u64,
    /// Whether every root on the way was the tree's.
    pub sound: bool,
    /// The file, at what follows the last whole group's frames.
    pub rest: Scanner,
}

/// Reads a segment up to the end of its last whole group.
///
/// # Errors
/// When the file cannot be read.
pub fn read_groups(storage: &dyn Storage, place: Place) -> io::Result<Groups> {
    let (header, mut scanner) = Scanner::open(storage, place)?;
    let mut contents = Contents::starting_at(place.first);
    let (log, begun) = header.as_ref().map_or((0, 0), |header| (header.log, header.time));
    let mut tree = header.map(|header| header.before).filter(|before| before.end() == place.first);
    let (mut last, mut offset, mut sound) = (None, scanner.offset(), true);
    // Records of the group that is being read: its end says whether they count.
    let mut waiting: Vec<(String, u64, usize, Hash)> = Vec::new();
    while let (Some(tree), Step::Frame { raw, body, offset: start }) = (&mut tree, scanner.step()?) {
        match body {
            Body::Record(record) => {
                let bytes = raw.len() + FRAME_HEAD;
                waiting.push((record.tenant.to_owned(), record.time, bytes, Hash::leaf(raw)));
            }
            Body::Checkpoint(signed) => {
                for (tenant, time, bytes, leaf) in waiting.drain(..) {
                    contents.add(&tenant, time, bytes, leaf);
                    tree.push(leaf);
                }
                sound &= signed.size == tree.end() && signed.root == tree.root();
                offset = start + (raw.len() + FRAME_HEAD) as u64;
                last = Some(signed);
            }
            Body::Erased { .. } | Body::Footer(_) | Body::Erasure(_) => {}
        }
    }
    Ok(Groups { contents, tree, log, begun, last, offset, sound, rest: scanner })
}
