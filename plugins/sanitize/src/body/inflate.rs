//! gzip (RFC 1952) and deflate (RFC 1950 or bare RFC 1951, as clients send both), as they stream by.
//!
//! Memory is constant: the 32 KiB that the format looks back, and the decoder's tables. Checksums are not verified: who
//! decodes the body later does that.

use std::ops::ControlFlow;

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, TINFL_LZ_DICT_SIZE, decompress, inflate_flags};

use crate::bytes::{at, between, from};

/// A body that is being inflated.
pub(crate) struct Inflate {
    decoder: Box<DecompressorOxide>,
    /// What was inflated last, as far back as the format refers to, and where the next byte goes.
    past: Box<[u8]>,
    place: usize,
    /// Bytes that are still to be looked at. They are taken in blocks, so that how a body was cut makes no difference to
    /// what is known at any time.
    block: Vec<u8>,
    state: State,
    wrapping: Wrapping,
    count: Count,
}

/// What is around the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrapping {
    Gzip,
    Zlib,
    Bare,
}

/// Bytes taken and bytes inflated so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Count {
    pub taken: u64,
    pub inflated: u64,
}

/// Where in a member it is; with the flags of fields that are still to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In the ten bytes that a gzip member begins with.
    Fixed(u8, usize),
    /// In the name of the file that was packed, which a zero ends.
    Name(u8),
    Checksum(u8),
    /// Before a deflate body, whose first bytes tell whether it has zlib's header.
    Start,
    Data,
    /// Bytes behind a gzip member's data that are left.
    Trailer(u8),
    /// All was inflated, and what follows is another member or nothing.
    Done,
    /// All was inflated, and nothing may follow.
    Closed,
    Broken,
}

/// How the decoding of a body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// All of it was decoded.
    Whole,
    /// The input ends too early.
    Short,
    /// It is not what it is said to be.
    Broken,
}

/// Takes what was inflated.
pub(crate) type Each<'e, B> = dyn FnMut(Count, &[u8]) -> ControlFlow<B> + 'e;

/// Bytes that are looked at in one step.
const BLOCK: usize = 1024;
const MAGIC: [u8; 3] = [0x1f, 0x8b, 8];
/// Flags of a gzip member: fields that its header has.
const CHECKSUM: u8 = 2;
const NAME: u8 = 8;

impl Inflate {
    pub(crate) fn gzip() -> Self {
        Self::new(State::Fixed(0, 0))
    }

    /// With or without zlib's header.
    pub(crate) fn deflate() -> Self {
        Self::new(State::Start)
    }

    fn new(state: State) -> Self {
        Self {
            decoder: Box::default(),
            past: vec![0; TINFL_LZ_DICT_SIZE].into_boxed_slice(),
            place: 0,
            block: Vec::with_capacity(BLOCK),
            state,
            wrapping: Wrapping::Gzip,
            count: Count::default(),
        }
    }

    /// Inflates further bytes. What is broken yields nothing more.
    pub(crate) fn push<B>(&mut self, mut input: &[u8], each: &mut Each<'_, B>) -> ControlFlow<B> {
        while !input.is_empty() && !self.is_broken() {
            let room = BLOCK - self.block.len();
            self.block.extend_from_slice(between(input, 0, room));
            input = from(input, room);
            if self.block.len() == BLOCK {
                self.step(true, each)?;
            }
        }
        ControlFlow::Continue(())
    }

    /// Inflates what is left.
    pub(crate) fn finish<B>(&mut self, each: &mut Each<'_, B>) -> ControlFlow<B, End> {
        self.step(false, each)?;
        ControlFlow::Continue(match self.state {
            State::Done | State::Closed | State::Trailer(_) => End::Whole,
            State::Broken => End::Broken,
            _ => End::Short,
        })
    }

    /// Whether there was nothing to inflate.
    pub(crate) fn is_empty(&self) -> bool {
        self.count.taken == 0
    }

    /// Whether it is known not to be what it is said to be.
    pub(crate) fn is_broken(&self) -> bool {
        self.state == State::Broken
    }

    fn step<B>(&mut self, more: bool, each: &mut Each<'_, B>) -> ControlFlow<B> {
        let block = std::mem::take(&mut self.block);
        self.count.taken = self.count.taken.saturating_add(block.len() as u64);
        let mut rest = &block[..];
        while let Some((first, behind)) = rest.split_first() {
            match self.state {
                State::Data => {
                    let taken = self.data(rest, more, each)?;
                    rest = from(rest, taken);
                }
                State::Start => {
                    let header = (u16::from(*first) << 8) | u16::from(at(rest, 1));
                    let zlib = first & 0x0f == 8 && header % 31 == 0;
                    self.wrapping = if zlib { Wrapping::Zlib } else { Wrapping::Bare };
                    self.state = State::Data;
                }
                State::Broken => break,
                state => {
                    self.state = frame(state, *first);
                    rest = behind;
                    if self.state == State::Data {
                        self.decoder.init();
                    }
                }
            }
        }
        self.block = block;
        self.block.clear();
        ControlFlow::Continue(())
    }

    /// Inflates what it can; how many bytes it has taken.
    fn data<B>(&mut self, input: &[u8], more: bool, each: &mut Each<'_, B>) -> ControlFlow<B, usize> {
        let mut flags = if more { inflate_flags::TINFL_FLAG_HAS_MORE_INPUT } else { 0 };
        if self.wrapping == Wrapping::Zlib {
            flags |= inflate_flags::TINFL_FLAG_PARSE_ZLIB_HEADER;
        }
        let mut taken = 0;
        loop {
            let (status, consumed, written) =
                decompress(&mut self.decoder, from(input, taken), &mut self.past, self.place, flags);
            taken += consumed;
            self.count.inflated = self.count.inflated.saturating_add(written as u64);
            each(self.count, between(&self.past, self.place, self.place + written))?;
            self.place = (self.place + written) % TINFL_LZ_DICT_SIZE;
            match status {
                TINFLStatus::HasMoreOutput => {}
                TINFLStatus::NeedsMoreInput | TINFLStatus::FailedCannotMakeProgress => {
                    return ControlFlow::Continue(input.len());
                }
                // A checksum that does not match is for others to judge.
                TINFLStatus::Done | TINFLStatus::Adler32Mismatch => {
                    let gzip = self.wrapping == Wrapping::Gzip;
                    self.state = if gzip { State::Trailer(8) } else { State::Closed };
                    return ControlFlow::Continue(taken);
                }
                _ => {
                    self.state = State::Broken;
                    return ControlFlow::Continue(taken);
                }
            }
        }
    }
}

/// One byte before or behind a gzip member's data.
fn frame(state: State, byte: u8) -> State {
    match state {
        State::Done if byte == at(&MAGIC, 0) => State::Fixed(0, 1),
        State::Fixed(_, index @ 0..=2) if byte == at(&MAGIC, index) => State::Fixed(0, index + 1),
        State::Fixed(_, 3) => State::Fixed(byte, 4),
        State::Fixed(flags, index @ 4..=8) => State::Fixed(flags, index + 1),
        State::Fixed(flags, 9) => field(flags),
        State::Name(flags) if byte == 0 => field(flags & !NAME),
        State::Name(_) if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b' ') => state,
        State::Checksum(2) => State::Checksum(1),
        State::Checksum(_) => State::Data,
        State::Trailer(0 | 1) => State::Done,
        State::Trailer(left) => State::Trailer(left - 1),
        _ => State::Broken,
    }
}

/// The next field of a header that has these. Extra fields and comments are refused: no client sends them, and who ignores
/// the encoding would read what nobody has looked at; a name may hold what file names are made of.
fn field(flags: u8) -> State {
    match flags {
        flags if flags & !(NAME | CHECKSUM) > 1 => State::Broken,
        flags if flags & NAME != 0 => State::Name(flags),
        flags if flags & CHECKSUM != 0 => State::Checksum(2),
        _ => State::Data,
    }
}

#[cfg(test)]
mod tests {
    use miniz_oxide::deflate::{compress_to_vec, compress_to_vec_zlib};

    use super::*;

    fn member(text: &[u8]) -> Vec<u8> {
        let mut body = vec![0x1f, 0x8b, 8, 0x0a, 0, 0, 0, 0, 0, 3, b'n', b'.', b't', 0, 1, 2];
        body.extend(compress_to_vec(text, 6));
        body.extend([0; 8]);
        body
    }

    fn read(mut inflate: Inflate, body: &[u8], size: usize) -> (Vec<u8>, End) {
        let mut out = Vec::new();
        let mut each = |_, piece: &[u8]| {
            out.extend_from_slice(piece);
            ControlFlow::<()>::Continue(())
        };
        for piece in body.chunks(size) {
            assert!(inflate.push(piece, &mut each).is_continue());
        }
        let ControlFlow::Continue(end) = inflate.finish(&mut each) else { panic!("nobody broke off") };
        (out, end)
    }

    #[test]
    fn all_members_are_read_however_they_are_cut() {
        let body = [member(b"one "), member(b"two")].concat();
        for size in [1, 2, 7, 1000] {
            assert_eq!(read(Inflate::gzip(), &body, size), (b"one two".to_vec(), End::Whole));
        }
    }

    #[test]
    fn both_kinds_of_deflate_are_read() {
        let text = b"text ".repeat(100_000);
        for body in [compress_to_vec(&text, 6), compress_to_vec_zlib(&text, 6)] {
            assert_eq!(read(Inflate::deflate(), &body, 100), (text.clone(), End::Whole));
        }
    }

    #[test]
    fn what_is_inflated_is_counted_and_may_be_broken_off() {
        let body = member(&vec![b'a'; 1_000_000]);
        let mut most = 0;
        let stopped = Inflate::gzip().push(&body, &mut |count, piece| {
            assert!(piece.len() <= TINFL_LZ_DICT_SIZE && count.taken <= body.len() as u64);
            most = count.inflated;
            if count.inflated > 100_000 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        let stopped = stopped.is_break() || body.len() < BLOCK;
        assert!(stopped && most < 200_000, "{most}");
    }

    #[test]
    fn what_is_cut_is_short_and_what_is_neither_is_broken() {
        let body = member(b"some text that is long enough to be cut");
        let (text, end) = read(Inflate::gzip(), &body[..40], 3);
        assert!(end == End::Short && text.len() < 39);
        assert_eq!(read(Inflate::gzip(), b"", 1).1, End::Short);
        for broken in [&b"plain text"[..], &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xff, 0xff]] {
            assert_eq!(read(Inflate::gzip(), broken, 1).1, End::Broken);
        }
        assert_eq!(read(Inflate::gzip(), &[&body[..], b"more"].concat(), 9).1, End::Broken);
        assert_eq!(read(Inflate::deflate(), b"\xff\xff\xff\xff", 1).1, End::Broken);
    }

    #[test]
    fn nothing_stands_beside_what_is_packed() {
        for packed in [compress_to_vec(b"text", 6), compress_to_vec_zlib(b"text", 6)] {
            assert_eq!(read(Inflate::deflate(), &packed, 9).1, End::Whole);
            assert_eq!(read(Inflate::deflate(), &[&packed[..], b"q"].concat(), 9).1, End::Broken);
        }
        for (flags, field) in [(4, &b"\x03\0q=1"[..]), (16, b"q=1\0"), (8, b"q=1\0"), (32, b"")] {
            let head = [0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, 3];
            let body = [&head[..], field, &compress_to_vec(b"text", 6), &[0; 8]].concat();
            assert_eq!(read(Inflate::gzip(), &body, 9).1, End::Broken, "{flags}");
        }
    }
}
