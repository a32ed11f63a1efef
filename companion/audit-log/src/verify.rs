//! Verification: reads everything, believes nothing but the key, and names the first record that is not as it was.
//!
//! What is looked at: that each file follows the one before it, each frame is whole, each record has its number, each
//! group's root is the tree's, the signatures hold, and nothing is missing that the published head knows of. A record that
//! was changed by somebody who also mended its CRC is named by its group; when every root behind it was mended too, by
//! the stretch between two signatures that hold.
//!
//! It does not tell that the footer of a file that another follows is gone, cut off exactly where it begins: there is no record in it, and a
//! file that was given up because its disk failed has none either. What it cannot see without help: a roll-back of the whole folder to an earlier state. A checkpoint kept elsewhere shows
//! that as well; [`Report::rollback_excluded`] says whether one was given.

mod within;

use std::io;

use sha2::{Digest, Sha256};

use crate::frame::{Body, Erasure, Header, Signed};
use crate::merkle::{Hash, Range};
use crate::note::{Checkpoint, MAX_NOTE_BYTES, Verifier};
use crate::recovery::{HEAD, origin};
use crate::segment::{self, Place, Scanner, Step};
use crate::storage::{self, Storage};
use within::Segment;

/// What was found to be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// It is not what was written.
    Changed,
    /// It is missing.
    Removed,
    /// It stands at another's place.
    Reordered,
    /// It and everything after it are missing.
    CutOff,
    /// The signature on it is not this key's.
    Forged,
}

/// The first place that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// What is wrong.
    pub fault: Fault,
    /// The first record of which it may be true.
    pub record: u64,
    /// The last one of which it may be, where it cannot be said closer.
    pub last: u64,
    /// In which file; empty when it is about no file.
    pub file: String,
    /// Where in the file.
    pub offset: u64,
    /// In words.
    pub what: &'static str,
}

/// What verification says.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// The log.
    pub origin: String,
    /// Records that are proven to be as they were written.
    pub size: u64,
    /// Their root, in hexadecimal.
    pub root: String,
    /// Files read.
    pub files: usize,
    /// Records that retention removed, by a signed word.
    pub erased: u64,
    /// Bytes at the end that belong to no whole group: never acknowledged.
    pub unfinished_bytes: u64,
    /// The size that the published head vouches for; `None` when there is no head.
    pub head: Option<u64>,
    /// Whether a checkpoint kept elsewhere was given and holds.
    pub rollback_excluded: bool,
    /// The first place that is wrong; `None` when all is well.
    pub finding: Option<Finding>,
}

/// A root that is known from elsewhere.
struct Known {
    checkpoint: Checkpoint,
    seen: bool,
    external: bool,
}

struct Walk<'a> {
    storage: &'a dyn Storage,
    verifier: &'a Verifier,
    tree: Range,
    known: Vec<Known>,
    report: Report,
}

/// Why the walk stops: something is wrong, or a file cannot be read.
enum Stop {
    Found(Box<Finding>),
    Io(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Verifies a log. `external` is a checkpoint that was kept elsewhere, already opened with the same key.
///
/// # Errors
/// When a file cannot be read. What is wrong with the log is in the report.
pub fn verify(
    storage: &dyn Storage,
    verifier: &Verifier,
    external: Option<&Checkpoint>,
) -> io::Result<Report> {
    let mut known = Vec::new();
    let mut finding = None;
    let mut head_size = None;
    match storage::whole(storage, HEAD, MAX_NOTE_BYTES as u64)? {
        None => {}
        Some(note) => match Checkpoint::open(&String::from_utf8_lossy(&note), verifier) {
            Ok(checkpoint) => {
                head_size = Some(checkpoint.size);
                known.push(Known { checkpoint, seen: false, external: false });
            }
            Err(_) => finding = Some(forged(0, 0, HEAD, 0, "the published head is not signed by this key")),
        },
    }
    if let Some(checkpoint) = external {
        known.push(Known { checkpoint: checkpoint.clone(), seen: false, external: true });
    }
    let report = Report {
        origin: verifier.name().to_owned(),
        size: 0,
        root: String::new(),
        files: 0,
        erased: 0,
        unfinished_bytes: 0,
        head: head_size,
        rollback_excluded: false,
        finding: None,
    };
    let mut walk = Walk { storage, verifier, tree: Range::starting_at(0), known, report };
    match walk.all() {
        Ok(()) => {}
        Err(Stop::Found(found)) => finding = Some(*found),
        Err(Stop::Io(error)) => return Err(error),
    }
    let mut report = walk.report;
    report.rollback_excluded =
        finding.is_none() && walk.known.iter().any(|known| known.external && known.seen);
    report.finding = finding;
    report.root = format!("{:?}", walk.tree.root());
    Ok(report)
}

fn forged(record: u64, last: u64, file: &str, offset: u64, what: &'static str) -> Finding {
    Finding { fault: Fault::Forged, record, last, file: file.to_owned(), offset, what }
}

/// Where in a file the walk is.
struct At<'a> {
    name: &'a str,
    offset: u64,
}

impl At<'_> {
    fn found(&self, fault: Fault, record: u64, last: u64, what: &'static str) -> Stop {
        let last = last.max(record);
        let file = self.name.to_owned();
        Stop::Found(Box::new(Finding { fault, record, last, file, offset: self.offset, what }))
    }
}

impl Walk<'_> {
    fn all(&mut self) -> Result<(), Stop> {
        let places = segment::places(self.storage)?;
        self.note_root(&At { name: "", offset: 0 })?;
        for (number, place) in places.iter().enumerate() {
            self.report.files += 1;
            let name = place.name();
            let at = At { name: &name, offset: 0 };
            let next = self.tree.end();
            if place.first > next {
                return Err(at.found(Fault::Removed, next, place.first - 1, "a segment is missing"));
            }
            if place.first < next {
                return Err(at.found(Fault::Reordered, place.first, next - 1, "two segments overlap"));
            }
            if place.gone {
                self.deleted(*place, &name)?;
            } else {
                let follows = places.get(number + 1).map(|next| next.first);
                self.segment(*place, &name, follows)?;
            }
            self.report.size = self.tree.end();
        }
        self.report.size = self.tree.end();
        let size = self.tree.end();
        if let Some(missed) = self.known.iter().find(|known| known.checkpoint.size > size) {
            let what = if missed.external {
                "the checkpoint kept elsewhere knows of more records: the log was cut or rolled back"
            } else {
                "the published head knows of more records"
            };
            let at = At { name: "", offset: 0 };
            return Err(at.found(Fault::CutOff, size, missed.checkpoint.size - 1, what));
        }
        if let Some(missed) = self.known.iter().find(|known| known.external && !known.seen) {
            let record = missed.checkpoint.size;
            let what = "the checkpoint kept elsewhere lies within a deleted segment and was never published";
            return Err(At { name: "", offset: 0 }.found(Fault::Removed, record, record, what));
        }
        Ok(())
    }

    /// Compares the tree with what is known of this size.
    fn note_root(&mut self, at: &At<'_>) -> Result<(), Stop> {
        let size = self.tree.end();
        for known in self.known.iter_mut().filter(|known| known.checkpoint.size == size && !known.seen) {
            if known.checkpoint.root != self.tree.root() {
                let what = if known.external {
                    "the root is not that of the checkpoint kept elsewhere"
                } else {
                    "the root is not that of the published head"
                };
                return Err(at.found(Fault::Changed, 0, size.saturating_sub(1), what));
            }
            known.seen = true;
        }
        Ok(())
    }

    fn holds(&self, signed: &Signed) -> bool {
        let origin = self.verifier.name().to_owned();
        let checkpoint = Checkpoint { origin, size: signed.size, root: signed.root };
        self.verifier.verifies(&checkpoint.text(), &signed.signature)
    }

    fn check_header(&self, header: Option<Header>, place: Place, at: &At<'_>) -> Result<Header, Stop> {
        let first = place.first;
        let header = header.ok_or_else(|| at.found(Fault::Changed, first, first, "a segment's header"))?;
        if origin(header.log) != self.verifier.name() {
            return Err(at.found(Fault::Changed, first, first, "a segment of another log"));
        }
        if header.before != self.tree {
            return Err(at.found(
                Fault::Changed,
                first,
                first,
                "a segment does not follow the one before it",
            ));
        }
        Ok(header)
    }

    fn check_erasure(
        &self,
        erasure: &Erasure,
        (first, end): (u64, u64),
        numbers: impl Iterator<Item = u64>,
        at: &At<'_>,
    ) -> Result<(), Stop> {
        let mut digest = Sha256::new();
        let (mut count, mut least) = (0, None);
        for number in numbers {
            digest.update(number.to_be_bytes());
            count += 1;
            least.get_or_insert(number);
        }
        let text = erasure.text(self.verifier.name(), first, end);
        let digest = Hash(digest.finalize().into());
        if erasure.count != count
            || erasure.digest != digest
            || !self.verifier.verifies(&text, &erasure.signature)
        {
            let what = "records are erased of which the signed word does not speak";
            return Err(at.found(Fault::Removed, least.unwrap_or(first), end.saturating_sub(1), what));
        }
        Ok(())
    }

    /// What is left of a deleted segment.
    fn deleted(&mut self, place: Place, name: &str) -> Result<(), Stop> {
        let (header, mut scanner) = Scanner::open(self.storage, place)?;
        let mut at = At { name, offset: 0 };
        self.check_header(header, place, &at)?;
        let first = place.first;
        let footer = segment::footer(self.storage, place)?
            .ok_or_else(|| at.found(Fault::Changed, first, first, "what is left of a deleted segment"))?;
        let last = footer.end.saturating_sub(1);
        let broken = |at: &At<'_>| at.found(Fault::Changed, first, last, "what is left of a deleted segment");
        let mut kept = Vec::new();
        let (mut word, mut closed) = (None, false);
        loop {
            at.offset = scanner.offset();
            match scanner.step()? {
                Step::Frame { body: Body::Checkpoint(signed), .. } if !closed => kept.push(signed),
                Step::Frame { body: Body::Erasure(erasure), .. } if !closed && word.is_none() => {
                    word = Some(erasure);
                }
                Step::Frame { body: Body::Footer(_), .. } if !closed => closed = true,
                Step::End if closed => break,
                _ => return Err(broken(&at)),
            }
        }
        let word = word.ok_or_else(|| broken(&at))?;
        self.check_erasure(&word, (first, footer.end), first..footer.end, &at)?;
        let mut borders = kept.iter().peekable();
        for node in std::iter::once(None).chain(footer.nodes.iter().map(Some)) {
            if node.is_some_and(|node| !self.tree.append(*node)) {
                return Err(broken(&at));
            }
            self.note_root(&at)?;
            let size = self.tree.end();
            while let Some(signed) = borders.next_if(|signed| signed.size <= size) {
                if signed.size != size || signed.root != self.tree.root() || !self.holds(signed) {
                    return Err(broken(&at));
                }
            }
        }
        // The last checkpoint vouches for the whole; without it nothing here is signed.
        let vouched = kept.last().is_some_and(|signed| signed.size == self.tree.end());
        if !vouched || self.tree.end() != footer.end || !footer.shares.is_empty() {
            return Err(broken(&at));
        }
        self.report.erased += footer.end - first;
        Ok(())
    }

    fn segment(&mut self, place: Place, name: &str, follows: Option<u64>) -> Result<(), Stop> {
        let (header, scanner) = Scanner::open(self.storage, place)?;
        self.check_header(header, place, &At { name, offset: 0 })?;
        let mut read = Segment::new(place, name, scanner, self.tree.clone());
        match read.walk(self) {
            Ok(()) => {}
            Err(stop) => {
                self.tree = read.proven.clone();
                self.report.size = self.tree.end();
                return Err(stop);
            }
        }
        self.tree = read.proven.clone();
        let end = self.tree.end();
        let at = At { name, offset: read.scanner.offset() };
        if let Some(last) = read.last.filter(|last| !self.holds(last)) {
            return Err(self.first_forged(place, name, last.size));
        }
        if !read.closed {
            self.report.unfinished_bytes += read.unfinished;
            // A file whose disk failed was given up; whatever stands behind its last group counts for nothing.
            if let Some(next) = follows.filter(|next| *next != end) {
                return Err(at.found(Fault::Removed, end, next.saturating_sub(1), "the end of a segment"));
            }
            let expected = self.known.iter().map(|known| known.checkpoint.size).max().unwrap_or(0);
            if read.unfinished > 0 && expected > end {
                let what = "it is not whole, and a checkpoint vouches for it";
                let record = (end + read.unproven).min(expected - 1);
                return Err(at.found(Fault::Changed, record, expected - 1, what));
            }
        }
        Ok(())
    }

    /// The last signature of a segment does not hold: looks for the first that does not.
    fn first_forged(&self, place: Place, name: &str, end: u64) -> Stop {
        let mut good = place.first;
        let what = "signed roots do not hold: a record here, or a signature, was changed";
        let opened = Scanner::open(self.storage, place);
        let (_, mut scanner) = match opened {
            Ok(opened) => opened,
            Err(error) => return Stop::Io(error),
        };
        loop {
            match scanner.step() {
                Ok(Step::Frame { body: Body::Checkpoint(signed), offset, .. }) => {
                    if !self.holds(&signed) {
                        let last = signed.size.saturating_sub(1).max(good);
                        return Stop::Found(Box::new(forged(good, last, name, offset, what)));
                    }
                    good = signed.size;
                }
                Ok(Step::Frame { .. }) => {}
                Ok(_) => return Stop::Found(Box::new(forged(good, end, name, 0, what))),
                Err(error) => return Stop::Io(error),
            }
        }
    }
}
