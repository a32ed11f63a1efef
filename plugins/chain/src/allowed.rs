//! Names that an operator's pattern accepts.

use std::{cell::RefCell, collections::BTreeSet};

/// Names that a pattern has accepted and that are remembered; when full, they are forgotten.
const ACCEPTED: usize = 1024;
/// A longer name is accepted by no pattern.
const NAME_BYTES: usize = 256;

/// A pattern that names must match, and some that did: a pattern costs microseconds, to remember does not.
#[derive(Debug)]
pub(crate) struct Allowed {
    pattern: regex_lite::Regex,
    known: RefCell<BTreeSet<Box<[u8]>>>,
}

impl Allowed {
    /// Nothing is remembered yet.
    pub fn new(pattern: regex_lite::Regex) -> Self {
        Self { pattern, known: RefCell::default() }
    }

    /// Whether the pattern accepts the name.
    pub fn holds(&self, name: &[u8]) -> bool {
        if name.len() > NAME_BYTES {
            return false;
        }
        let mut known = self.known.borrow_mut();
        if known.contains(name) {
            return true;
        }
        let fine = std::str::from_utf8(name).is_ok_and(|text| self.pattern.is_match(text));
        if fine {
            if known.len() >= ACCEPTED {
                known.clear();
            }
            known.insert(name.into());
        }
        fine
    }
}
