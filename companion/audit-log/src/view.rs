//! The log's tree as it lies in the files: for proofs.
//!
//! Nothing is kept in memory but each segment's few subtrees; a proof reads the one segment that it is about. Proofs about
//! records of a deleted segment cannot be had, and consistency from within one only from its published checkpoints.

use std::io;
use std::sync::Arc;

use crate::frame::Body;
use crate::merkle::{self, Hash, Node, Nodes, Range};
use crate::segment::{self, Place, Scanner, Step};
use crate::storage::Storage;

/// Why a proof cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// A file cannot be read.
    #[error("the audit log cannot be read: {0}")]
    Io(#[from] io::Error),
    /// Retention deleted what it is about.
    #[error("records {0} to {1} were deleted by retention; of them only their published roots are left")]
    Gone(u64, u64),
    /// The files do not hold what they should.
    #[error("the audit log is damaged near record {0}; `portcullis audit verify` tells more")]
    Damaged(u64),
    /// There is no such record or size.
    #[error("the audit log has {0} records")]
    Beyond(u64),
}

struct Part {
    place: Place,
    end: u64,
    nodes: Vec<Node>,
}

/// A view of the files as they are now.
pub struct View {
    storage: Arc<dyn Storage>,
    parts: Vec<Part>,
    size: u64,
    /// The leaves of the segment that was read last.
    leaves: Option<(u64, Vec<Hash>)>,
}

impl View {
    /// Looks at the files.
    ///
    /// # Errors
    /// [`ViewError`].
    pub fn open(storage: Arc<dyn Storage>) -> Result<Self, ViewError> {
        let mut parts = Vec::new();
        for place in segment::places(&*storage)? {
            let part = match segment::footer(&*storage, place)? {
                Some(footer) => Part { place, end: footer.end, nodes: footer.nodes },
                None => {
                    let range = segment::read_groups(&*storage, place)?.contents.range;
                    Part { place, end: range.end(), nodes: range.nodes().to_vec() }
                }
            };
            parts.push(part);
        }
        let size = parts.last().map_or(0, |part| part.end);
        Ok(Self { storage, parts, size, leaves: None })
    }

    /// How many records the log has.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root of the first `size` records.
    ///
    /// # Errors
    /// [`ViewError`].
    pub fn root(&mut self, size: u64) -> Result<Hash, ViewError> {
        self.within(size)?;
        merkle::root(self, size)
    }

    /// The leaf of record `index` and its path to the root of `size` records.
    ///
    /// # Errors
    /// [`ViewError`].
    pub fn inclusion(&mut self, index: u64, size: u64) -> Result<(Hash, Vec<Hash>), ViewError> {
        self.within(size)?;
        if index >= size {
            return Err(ViewError::Beyond(size));
        }
        let leaf = self.node(0, index)?;
        Ok((leaf, merkle::inclusion(self, index, size)?))
    }

    /// The proof that the first `old` records begin the first `size`.
    ///
    /// # Errors
    /// [`ViewError`].
    pub fn consistency(&mut self, old: u64, size: u64) -> Result<Vec<Hash>, ViewError> {
        self.within(size)?;
        if old > size {
            return Err(ViewError::Beyond(size));
        }
        merkle::consistency(self, old, size)
    }

    fn within(&self, size: u64) -> Result<(), ViewError> {
        if size > self.size { Err(ViewError::Beyond(self.size)) } else { Ok(()) }
    }

    fn load(&mut self, place: Place) -> Result<&[Hash], ViewError> {
        let cached = self.leaves.take().filter(|(first, _)| *first == place.first);
        let leaves = match cached {
            Some(cached) => cached,
            None => (place.first, read_leaves(&*self.storage, place)?),
        };
        Ok(&self.leaves.insert(leaves).1)
    }
}

fn read_leaves(storage: &dyn Storage, place: Place) -> Result<Vec<Hash>, ViewError> {
    let (_, mut scanner) = Scanner::open(storage, place)?;
    let mut leaves = Vec::new();
    while let Step::Frame { raw, body, .. } = scanner.step()? {
        match body {
            Body::Record(_) => leaves.push(Hash::leaf(raw)),
            Body::Erased { leaf, .. } => leaves.push(leaf),
            Body::Checkpoint(_) | Body::Footer(_) | Body::Erasure(_) => {}
        }
    }
    Ok(leaves)
}

impl Nodes for View {
    type Error = ViewError;

    fn node(&mut self, level: u8, index: u64) -> Result<Hash, ViewError> {
        let (start, size) = (index << level, 1_u64 << level);
        let number = self.parts.partition_point(|part| part.place.first <= start);
        let part = number.checked_sub(1).and_then(|number| self.parts.get(number));
        let part = part.filter(|part| start < part.end).ok_or(ViewError::Damaged(start))?;
        let known = part.nodes.iter().find(|node| node.level == level && node.index == index);
        if let Some(node) = known {
            return Ok(node.hash);
        }
        if start + size <= part.end && !part.place.gone {
            let place = part.place;
            let leaves = self.load(place)?;
            let mut range = Range::starting_at(start);
            let offset = usize::try_from(start - place.first).unwrap_or(usize::MAX);
            let count = usize::try_from(size).unwrap_or(usize::MAX);
            let wanted = leaves.get(offset..).and_then(|leaves| leaves.get(..count));
            for leaf in wanted.ok_or(ViewError::Damaged(start))? {
                range.push(*leaf);
            }
            return Ok(range.root());
        }
        // Over a border between files, or of a deleted one: of its halves.
        let Some(below) = level.checked_sub(1) else {
            return Err(ViewError::Gone(part.place.first, part.end.saturating_sub(1)));
        };
        let left = self.node(below, index * 2)?;
        Ok(Hash::node(&left, &self.node(below, index * 2 + 1)?))
    }
}
