//! A piece of a body, as readers see it.
//!
//! A body that fits is one window. A longer one is read window by window: a reader says where the next one begins, so that
//! what begins in the last half of a window and goes on behind it is seen as a whole in the next. A value longer than half
//! a window is seen in pieces that have [`OVERLAP`] bytes in common. Where windows begin depends on the body's bytes alone,
//! never on how it was cut on its way.

use std::ops::ControlFlow;

/// Bytes that two pieces of one long value have in common; an attack that is longer than these, and lies across a border,
/// may be missed.
pub(crate) const OVERLAP: usize = 4096;

/// Some bytes of a body, in which a reader goes on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window<'t> {
    pub text: &'t [u8],
    /// Nothing follows.
    pub last: bool,
    /// It is not full: it is read again when it is, so that nothing in it is left for later.
    pub early: bool,
}

/// Where the next window begins, in bytes of this one: behind its first half. `Break`: something was found that is refused.
pub(crate) type Next = ControlFlow<(), usize>;

impl<'t> Window<'t> {
    /// All there is.
    pub(crate) const fn whole(text: &'t [u8]) -> Self {
        Self { text, last: true, early: false }
    }

    /// Whether what begins there, and does not end in this window, is left for the next.
    pub(crate) const fn leaves(&self, start: usize) -> bool {
        !self.last && !self.early && start > self.text.len() / 2
    }

    /// Where the next window begins in a value that is too long to be left.
    pub(crate) const fn cut(&self) -> usize {
        if self.last {
            return self.text.len();
        }
        let half = self.text.len() / 2;
        self.text.len() - if half < OVERLAP { half } else { OVERLAP }
    }
}
