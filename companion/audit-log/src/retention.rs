//! What goes, and what stays in its place.
//!
//! Whole segments are the unit. In a segment whose newest record is older than a tenant's age, or beyond the bytes that
//! the tenant may have, the tenant's records give way to their leaves (32 bytes each); a segment without any record left
//! is deleted, and a small file stays: its subtrees, its published checkpoints, and a signed word of what was erased. So
//! every proof about what is left stays valid, and whoever removes records without the key is found out.
//!
//! The active segment is never touched, nor one that holds records which must be exported first. Rewriting is crash-safe:
//! the new file is written beside, synced, and takes the old one's place by its name.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::PoisonError;

use sha2::{Digest, Sha256};

use crate::frame::{self, Body, Erasure, Footer, Header, Share, Signed};
use crate::log::Log;
use crate::merkle::{Hash, Node, Range};
use crate::segment::{self, Place, Scanner, Step};
use crate::storage::{File, Storage};

/// How much of a tenant is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Not older than this, in milliseconds.
    pub max_age_ms: Option<u64>,
    /// The newest so many bytes.
    pub max_bytes: Option<u64>,
}

/// How much is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Of who has no rule of its own.
    pub default: Rule,
    /// By tenant.
    pub tenants: BTreeMap<String, Rule>,
    /// Of all together, oldest first to go.
    pub max_total_bytes: Option<u64>,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retained {
    /// Records that gave way to their leaves.
    pub erased: u64,
    /// Segments rewritten.
    pub rewritten: u64,
    /// Segments deleted.
    pub deleted: u64,
    /// Segments that a rule would touch and an export holds.
    pub held: u64,
}

impl Retention {
    fn rule(&self, tenant: &str) -> Rule {
        self.tenants.get(tenant).copied().unwrap_or(self.default)
    }
}

/// Bytes from the newest segment down to the one that is looked at.
#[derive(Default)]
struct Sums {
    tenants: BTreeMap<String, u64>,
    total: u64,
}

impl Sums {
    /// Who of this segment's tenants has to go from it.
    fn leaving(&mut self, footer: &Footer, rules: &Retention, now: u64) -> BTreeSet<String> {
        self.total += footer.shares.iter().map(|share| share.bytes).sum::<u64>();
        let too_much = rules.max_total_bytes.is_some_and(|most| self.total > most);
        let leaves = |share: &&Share| {
            let rule = rules.rule(&share.tenant);
            let sum = self.tenants.entry(share.tenant.clone()).or_default();
            *sum += share.bytes;
            let old = rule.max_age_ms.is_some_and(|most| footer.last_time.saturating_add(most) < now);
            too_much || old || rule.max_bytes.is_some_and(|most| *sum > most)
        };
        footer.shares.iter().filter(leaves).map(|share| share.tenant.clone()).collect()
    }
}

impl Log {
    /// Removes what the rules say, except from segments that end after record `hold`. Tells what it did.
    ///
    /// # Errors
    /// When a file cannot be read or written; what was done before stays done, and the rest is done next time.
    pub fn retain(&self, rules: &Retention, hold: u64, now: u64) -> io::Result<Retained> {
        let _one = self.retaining.lock().unwrap_or_else(PoisonError::into_inner);
        let storage = &**self.storage();
        let active = self.durable().active;
        let mut sums = Sums::default();
        let mut done = Retained::default();
        for place in segment::places(storage)?.into_iter().rev() {
            if place.gone || place.first >= active {
                continue;
            }
            let footer = match segment::footer(storage, place)? {
                Some(footer) => footer,
                None => segment::read_groups(storage, place)?.contents.footer(),
            };
            let leaving = sums.leaving(&footer, rules, now);
            if leaving.is_empty() {
                continue;
            }
            if footer.end > hold {
                done.held += 1;
                continue;
            }
            let all = footer.shares.iter().all(|share| leaving.contains(&share.tenant));
            let old = Old { log: self, place, footer, now };
            if all {
                old.delete()?;
                done.deleted += 1;
            } else {
                old.rewrite(&leaving)?;
                done.rewritten += 1;
            }
            let gone = old.footer.shares.iter().filter(|share| leaving.contains(&share.tenant));
            done.erased += gone.map(|share| share.records).sum::<u64>();
        }
        Ok(done)
    }
}

/// A closed segment whose turn has come.
struct Old<'a> {
    log: &'a Log,
    place: Place,
    footer: Footer,
    now: u64,
}

/// A file that is written beside and takes a name when it is whole.
struct Draft {
    name: String,
    file: Box<dyn File>,
    length: u64,
    buffer: Vec<u8>,
}

impl Draft {
    const CHUNK: usize = 1 << 20;

    fn new(storage: &dyn Storage, name: String) -> io::Result<Self> {
        let draft = format!("{name}.new");
        match storage.remove(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        Ok(Self { name, file: storage.create(&draft)?, length: 0, buffer: Vec::new() })
    }

    fn put(&mut self, body: &Body<'_>) -> io::Result<()> {
        body.encode(&mut self.buffer);
        if self.buffer.len() >= Self::CHUNK { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_at(&self.buffer, self.length)?;
        self.length += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn finish(mut self, storage: &dyn Storage, footer: Footer) -> io::Result<()> {
        self.flush()?;
        Body::Footer(footer).encode(&mut self.buffer);
        let trailer = frame::trailer(self.buffer.len());
        self.buffer.extend_from_slice(&trailer);
        self.flush()?;
        self.file.sync()?;
        storage.rename(&format!("{}.new", self.name), &self.name)?;
        storage.sync_names()
    }
}

fn damaged(place: Place) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{}: damaged; `portcullis audit verify` tells more", place.name()),
    )
}

impl Old<'_> {
    fn open(&self) -> io::Result<(Header, Scanner)> {
        let (header, scanner) = Scanner::open(&**self.log.storage(), self.place)?;
        Ok((header.ok_or_else(|| damaged(self.place))?, scanner))
    }

    /// The signed word for the records with these numbers.
    fn erasure(&self, numbers: impl Iterator<Item = u64>) -> Erasure {
        let mut digest = Sha256::new();
        let mut count = 0;
        for number in numbers {
            digest.update(number.to_be_bytes());
            count += 1;
        }
        let digest = Hash(digest.finalize().into());
        let mut erasure = Erasure { time: self.now, count, digest, signature: [0; 64] };
        let text = erasure.text(self.log.verifier().name(), self.place.first, self.footer.end);
        erasure.signature = self.log.signer().sign(&text);
        erasure
    }

    fn rewrite(&self, leaving: &BTreeSet<String>) -> io::Result<()> {
        let storage = &**self.log.storage();
        let erased = self.numbers_of(leaving)?;
        let (header, mut scanner) = self.open()?;
        let mut draft = Draft::new(storage, self.place.name())?;
        draft.buffer = header.encode();
        draft.put(&Body::Erasure(self.erasure(erased.into_iter())))?;
        while let Step::Frame { raw, body, .. } = scanner.step()? {
            match body {
                Body::Record(record) if leaving.contains(record.tenant) => {
                    draft.put(&Body::Erased { index: record.index, leaf: Hash::leaf(raw) })?;
                }
                Body::Footer(_) | Body::Erasure(_) => {}
                other => draft.put(&other)?,
            }
        }
        let mut footer = self.footer.clone();
        footer.shares.retain(|share| !leaving.contains(&share.tenant));
        draft.finish(storage, footer)
    }

    /// The records of the tenants that leave, and those that left before. Reads the whole segment first: half of one must
    /// never take its place.
    fn numbers_of(&self, leaving: &BTreeSet<String>) -> io::Result<Vec<u64>> {
        let (_, mut scanner) = self.open()?;
        let mut numbers = Vec::new();
        let mut next = self.place.first;
        while let Step::Frame { body, .. } = scanner.step()? {
            match body {
                Body::Record(record) if record.index == next => {
                    if leaving.contains(record.tenant) {
                        numbers.push(next);
                    }
                    next += 1;
                }
                Body::Erased { index, .. } if index == next => {
                    numbers.push(next);
                    next += 1;
                }
                Body::Record(_) | Body::Erased { .. } => return Err(damaged(self.place)),
                Body::Checkpoint(_) | Body::Footer(_) | Body::Erasure(_) => {}
            }
        }
        if next == self.footer.end { Ok(numbers) } else { Err(damaged(self.place)) }
    }

    /// Leaves the subtrees between the published checkpoints, and the last checkpoint of all.
    fn delete(&self) -> io::Result<()> {
        let storage = &**self.log.storage();
        let (header, mut scanner) = self.open()?;
        let mut kept: Vec<Signed> = Vec::new();
        let mut nodes: Vec<Node> = Vec::new();
        let mut range = Range::starting_at(self.place.first);
        let mut last = None;
        while let Step::Frame { raw, body, .. } = scanner.step()? {
            match body {
                Body::Record(_) => range.push(Hash::leaf(raw)),
                Body::Erased { leaf, .. } => range.push(leaf),
                Body::Checkpoint(signed) => {
                    if signed.published {
                        nodes.extend_from_slice(range.nodes());
                        range = Range::starting_at(range.end());
                        kept.push(signed.clone());
                    }
                    last = Some(signed);
                }
                Body::Footer(_) | Body::Erasure(_) => {}
            }
        }
        nodes.extend_from_slice(range.nodes());
        let last = last.filter(|last| last.size == range.end() && range.end() == self.footer.end);
        let last = last.ok_or_else(|| damaged(self.place))?;
        if kept.last() != Some(&last) {
            kept.push(last);
        }
        let gone = Place { gone: true, ..self.place };
        let mut draft = Draft::new(storage, gone.name())?;
        draft.buffer = header.encode();
        draft.put(&Body::Erasure(self.erasure(self.place.first..self.footer.end)))?;
        for signed in kept {
            draft.put(&Body::Checkpoint(signed))?;
        }
        draft.finish(storage, Footer { nodes, shares: Vec::new(), ..self.footer.clone() })?;
        storage.remove(&self.place.name())?;
        storage.sync_names()
    }
}
