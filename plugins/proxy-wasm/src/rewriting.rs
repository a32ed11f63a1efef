//! A substitution in the response's body while it streams by.
//!
//! Nothing is held back but the few bytes at a piece's end that may be the beginning of an occurrence: they leave with the
//! next piece. A body that ends with such bytes *and* trailers loses them, because hosts take no body any more when trailers
//! have come; it is logged. No HTML page ends so.

use portcullis_policy::Substitution;

use crate::abi::{self, Buffer, Status};

/// What is replaced, and what of the body waits for the next piece.
pub struct Rewriting {
    substitution: Substitution,
    carried: Vec<u8>,
}

impl Rewriting {
    /// Nothing was seen yet.
    pub const fn new(substitution: Substitution) -> Self {
        Self { substitution, carried: Vec::new() }
    }

    /// The host's buffer holds the next `size` bytes of the body.
    ///
    /// # Errors
    /// When the host does not let it be read or changed: then it flows as it is.
    pub fn piece(&mut self, size: usize, end_of_stream: bool) -> Result<(), Status> {
        let fresh = if size == 0 { Vec::new() } else { abi::buffer(Buffer::ResponseBody, 0, size)? };
        let carried = !self.carried.is_empty();
        let mut bytes = std::mem::take(&mut self.carried);
        bytes.extend_from_slice(&fresh);
        let done = self.substitution.apply(&mut bytes);
        if !end_of_stream {
            self.carried = bytes.split_off(bytes.len().saturating_sub(done.open));
        }
        if carried || done.replaced > 0 || !self.carried.is_empty() {
            abi::replace_buffer(Buffer::ResponseBody, size, &bytes)?;
        }
        Ok(())
    }

    /// Bytes that never left.
    pub fn lost(&self) -> usize {
        self.carried.len()
    }
}
