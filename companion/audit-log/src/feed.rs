//! Reading the log in order, from any record on: for projections, exports and people.
//!
//! A feed never shows more than it is told is durable. Records that retention removed are passed over and counted. It
//! holds no lock: segments may be closed, rewritten and deleted while it reads.

use std::io;
use std::sync::Arc;

use crate::frame::{Body, FRAME_HEAD};
use crate::segment::{self, Place, Scanner, Step};
use crate::storage::Storage;

/// A record as it is read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its number.
    pub index: u64,
    /// When it happened, in milliseconds since the Unix epoch.
    pub time: u64,
    /// Whose it is; empty for the log's own.
    pub tenant: String,
    /// What everybody may read.
    pub public: Vec<u8>,
    /// Ciphertext.
    pub sealed: Vec<u8>,
}

/// Some records in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The records.
    pub records: Vec<Stored>,
    /// Where the next page begins.
    pub next: u64,
    /// How many were passed over, because retention had removed them.
    pub erased: u64,
}

/// Why reading stopped.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// A file cannot be read.
    #[error("the audit log cannot be read: {0}")]
    Io(#[from] io::Error),
    /// What stands at this record is damaged.
    #[error("the audit log is damaged at record {0}; `portcullis audit verify` tells more")]
    Damaged(u64),
}

/// Reads on from where it is.
pub struct Feed {
    storage: Arc<dyn Storage>,
    next: u64,
    open: Option<(Place, Scanner)>,
}

impl Feed {
    /// Begins at a record.
    #[must_use]
    pub fn new(storage: Arc<dyn Storage>, from: u64) -> Self {
        Self { storage, next: from, open: None }
    }

    /// The number of the next record.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.next
    }

    /// The next records before `until`, about `bytes` of them or fewer; none when there are none.
    ///
    /// # Errors
    /// [`FeedError`]. The same page may be asked for again.
    pub fn page(&mut self, until: u64, bytes: usize) -> Result<Page, FeedError> {
        let mut page = Page::default();
        let mut size = 0;
        while self.next < until && size < bytes {
            if self.open.is_none() && !self.seek(&mut page)? {
                break;
            }
            if self.open.is_some() {
                self.read(until, bytes, &mut size, &mut page)?;
            }
        }
        // What was read ahead may be cut and written anew.
        if let Some((_, scanner)) = &mut self.open {
            scanner.forget();
        }
        page.next = self.next;
        Ok(page)
    }

    /// Opens the file with the next record, or steps over what is left of it; `false` when there is none yet.
    fn seek(&mut self, page: &mut Page) -> Result<bool, FeedError> {
        let places = segment::places(&*self.storage)?;
        let Some(place) = places.iter().rfind(|place| place.first <= self.next).copied() else {
            // Older files were taken away altogether.
            let Some(first) = places.first().map(|place| place.first) else { return Ok(false) };
            page.erased += first - self.next;
            self.next = first;
            return Ok(true);
        };
        if place.gone {
            let end = segment::footer(&*self.storage, place)?.ok_or(FeedError::Damaged(place.first))?.end;
            if end <= self.next {
                return Ok(false);
            }
            page.erased += end - self.next;
            self.next = end;
            return Ok(true);
        }
        let (header, scanner) = match Scanner::open(&*self.storage, place) {
            Ok(opened) => opened,
            // It went in this moment; what is left of it stands under another name.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            Err(error) => return Err(error.into()),
        };
        if header.is_none() {
            return Err(FeedError::Damaged(place.first));
        }
        self.open = Some((place, scanner));
        Ok(true)
    }

    fn read(&mut self, until: u64, bytes: usize, size: &mut usize, page: &mut Page) -> Result<(), FeedError> {
        let Some((place, scanner)) = &mut self.open else { return Ok(()) };
        while self.next < until && *size < bytes {
            match scanner.step()? {
                Step::Frame { body: Body::Record(record), raw, .. } if record.index == self.next => {
                    *size += raw.len() + FRAME_HEAD;
                    page.records.push(Stored {
                        index: record.index,
                        time: record.time,
                        tenant: record.tenant.to_owned(),
                        public: record.public.to_vec(),
                        sealed: record.sealed.to_vec(),
                    });
                    self.next += 1;
                }
                Step::Frame { body: Body::Erased { index, .. }, .. } if index == self.next => {
                    page.erased += 1;
                    self.next += 1;
                }
                Step::Frame { body: Body::Record(record), .. } if record.index > self.next => {
                    return Err(FeedError::Damaged(self.next));
                }
                Step::Frame { .. } => {}
                Step::End | Step::Broken { .. } => {
                    // The record is durable, so it is in another file, or this one is damaged.
                    let follows = segment::places(&*self.storage)?
                        .iter()
                        .any(|other| other.first > place.first && other.first <= self.next);
                    if !follows {
                        return Err(FeedError::Damaged(self.next));
                    }
                    self.open = None;
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
