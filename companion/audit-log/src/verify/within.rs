//! One segment, frame by frame.

use super::{At, Fault, Stop, Walk};
use crate::frame::{Body, Erasure, FRAME_HEAD, Footer, Signed};
use crate::merkle::{Hash, Range};
use crate::note::Checkpoint;
use crate::segment::{self, Contents, Place, Scanner, Step};

/// A segment on its way through.
pub(super) struct Segment<'a> {
    place: Place,
    name: &'a str,
    pub scanner: Scanner,
    tree: Range,
    /// The tree after the last whole group.
    pub proven: Range,
    contents: Contents,
    /// Records since then.
    pub unproven: u64,
    erased: Vec<u64>,
    word: Option<Erasure>,
    pub last: Option<Signed>,
    pub closed: bool,
    pub unfinished: u64,
}

impl<'a> Segment<'a> {
    pub fn new(place: Place, name: &'a str, scanner: Scanner, tree: Range) -> Self {
        Self {
            place,
            name,
            scanner,
            proven: tree.clone(),
            tree,
            contents: Contents::starting_at(place.first),
            unproven: 0,
            erased: Vec::new(),
            word: None,
            last: None,
            closed: false,
            unfinished: 0,
        }
    }

    pub fn walk(&mut self, walk: &mut Walk<'_>) -> Result<(), Stop> {
        loop {
            let next = self.tree.end();
            let at = At { name: self.name, offset: self.scanner.offset() };
            let (leaf, signed, footer);
            match self.scanner.step()? {
                Step::Frame { .. } if self.closed => {
                    return Err(at.found(Fault::Changed, next, next, "something follows a segment's end"));
                }
                Step::Frame { raw, body: Body::Record(record), .. } => {
                    if record.index != next {
                        let index = record.index;
                        return self.misplaced(index, &at);
                    }
                    leaf = Some(Hash::leaf(raw));
                    let bytes = raw.len() + FRAME_HEAD;
                    let hash = Hash::leaf(raw);
                    self.contents.add(record.tenant, record.time, bytes, hash);
                    (signed, footer) = (None, None);
                }
                Step::Frame { body: Body::Erased { index, leaf: hash }, .. } => {
                    if index != next {
                        return self.misplaced(index, &at);
                    }
                    self.erased.push(index);
                    self.contents.range.push(hash);
                    leaf = Some(hash);
                    (signed, footer) = (None, None);
                }
                Step::Frame { body: Body::Checkpoint(found), .. } => {
                    (leaf, signed, footer) = (None, Some(found), None);
                }
                Step::Frame { body: Body::Footer(found), .. } => {
                    (leaf, signed, footer) = (None, None, Some(found));
                }
                Step::Frame { body: Body::Erasure(word), .. } => {
                    if self.word.replace(word).is_some() {
                        return Err(at.found(Fault::Changed, next, next, "a second word of erasure"));
                    }
                    continue;
                }
                Step::End if self.unproven == 0 => return self.end(walk, &at),
                Step::End | Step::Broken { .. } => return self.broken(walk, &at),
            }
            if let Some(leaf) = leaf {
                self.tree.push(leaf);
                self.unproven += 1;
                // An outside checkpoint may lie anywhere; the tree is compared where it ends.
                std::mem::swap(&mut walk.tree, &mut self.tree);
                let noted = walk.note_root(&at);
                std::mem::swap(&mut walk.tree, &mut self.tree);
                noted?;
            }
            if let Some(signed) = signed {
                self.checkpoint(signed, &at)?;
            }
            if let Some(footer) = footer {
                self.footer(&footer, &at)?;
            }
        }
    }

    /// Another record stands where `next` should.
    fn misplaced(&mut self, index: u64, at: &At<'_>) -> Result<(), Stop> {
        let next = self.tree.end();
        if index < next {
            return Err(at.found(Fault::Reordered, index, next, "a record stands behind later ones"));
        }
        loop {
            match self.scanner.step()? {
                Step::Frame { body: Body::Record(record), .. } if record.index == next => {
                    return Err(at.found(
                        Fault::Reordered,
                        next,
                        index,
                        "a record stands before earlier ones",
                    ));
                }
                Step::Frame { .. } => {}
                Step::End | Step::Broken { .. } => {
                    return Err(at.found(Fault::Removed, next, index - 1, "records are missing"));
                }
            }
        }
    }

    fn checkpoint(&mut self, signed: Signed, at: &At<'_>) -> Result<(), Stop> {
        let (begin, end) = (self.proven.end(), self.tree.end());
        if signed.from != begin {
            return Err(at.found(Fault::Removed, begin, signed.from.max(begin), "the end of a group"));
        }
        if signed.size > end {
            return Err(at.found(Fault::Removed, end, signed.size - 1, "records at the end of a group"));
        }
        if signed.size < end {
            return Err(at.found(Fault::Reordered, signed.size, end - 1, "records stand before their group"));
        }
        if signed.root != self.tree.root() {
            let what = "a record of this group was changed, or its root";
            return Err(at.found(Fault::Changed, begin, end.saturating_sub(1), what));
        }
        self.proven = self.tree.clone();
        self.unproven = 0;
        self.last = Some(signed);
        Ok(())
    }

    fn footer(&mut self, footer: &Footer, at: &At<'_>) -> Result<(), Stop> {
        let next = self.tree.end();
        if self.unproven > 0 {
            return Err(at.found(Fault::Removed, self.proven.end(), next, "the end of a group"));
        }
        let mut counted = self.contents.footer();
        if !self.erased.is_empty() {
            // Times of records that are gone are known only from before.
            counted.last_time = footer.last_time.max(counted.last_time);
        }
        if *footer != counted {
            return Err(at.found(Fault::Changed, self.place.first, next, "a segment's footer"));
        }
        self.closed = true;
        Ok(())
    }

    fn end(&self, walk: &mut Walk<'_>, at: &At<'_>) -> Result<(), Stop> {
        let (first, end) = (self.place.first, self.tree.end());
        if self.last.is_none() && end > first {
            return Err(at.found(Fault::Removed, first, end, "the end of a group"));
        }
        match &self.word {
            Some(word) => {
                walk.check_erasure(word, (first, end), self.erased.iter().copied(), at)?;
            }
            None => {
                if let Some(index) = self.erased.first() {
                    let what = "a record was erased without a signed word";
                    return Err(at.found(Fault::Removed, *index, *index, what));
                }
            }
        }
        walk.report.erased += self.erased.len() as u64;
        Ok(())
    }

    /// What follows is not whole: a tear at the end, or damage.
    fn broken(&mut self, walk: &mut Walk<'_>, at: &At<'_>) -> Result<(), Stop> {
        let next = self.tree.end();
        let length = walk.storage.read(self.name)?.length()?;
        let proven = self.proven.end();
        let verifier = walk.verifier;
        let later = self.scanner.later_group(proven, |signed| {
            let origin = verifier.name().to_owned();
            let checkpoint = Checkpoint { origin, size: signed.size, root: signed.root };
            verifier.verifies(&checkpoint.text(), &signed.signature)
        })?;
        let closed = segment::footer(walk.storage, self.place)?.is_some();
        if later || closed || self.closed || self.place.first == proven {
            return Err(at.found(Fault::Changed, next, next, "what stands here is not what was written"));
        }
        self.unfinished = length.saturating_sub(at.offset).max(1);
        self.end(walk, at)
    }
}
