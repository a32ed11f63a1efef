//! gzip (RFC 1952) and deflate (RFC 1950 or bare RFC 1951, as clients send both), within a bound.

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};

use crate::bytes::{at, between, from};

/// How the decoding of a body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// All of it was decoded.
    Whole,
    /// There is more than the bound.
    Full,
    /// The input ends too early.
    Short,
    /// It is not what it is said to be.
    Broken,
}

/// Members of a gzip body that are read. More: the body counts as longer than the bound.
const MEMBERS: usize = 16;

/// Inflates a gzip body, up to `most` bytes. Checksums are not verified: who decodes the body later does that.
pub(crate) fn gzip(input: &[u8], most: usize) -> (Vec<u8>, End) {
    let mut out = vec![0; most];
    let mut filled = 0;
    let mut rest = input;
    let mut end = End::Full;
    for _ in 0..MEMBERS {
        let Some(header) = gzip_header(rest) else {
            end = if input.starts_with(&MAGIC) && rest.len() < 10 { End::Short } else { End::Broken };
            break;
        };
        let (status, consumed, written) = run(from(rest, header), &mut out, filled, 0);
        filled += written;
        if status != TINFLStatus::Done {
            end = ended(status);
            break;
        }
        // Checksum and length.
        rest = from(rest, header + consumed + 8);
        if rest.is_empty() {
            end = End::Whole;
            break;
        }
    }
    out.truncate(filled);
    (out, end)
}

/// Inflates a deflate body, with or without zlib's header, up to `most` bytes.
pub(crate) fn deflate(input: &[u8], most: usize) -> (Vec<u8>, End) {
    let header = (u16::from(at(input, 0)) << 8) | u16::from(at(input, 1));
    let zlib = at(input, 0) & 0x0f == 8 && header % 31 == 0;
    let mut out = vec![0; most];
    let flags = if zlib { inflate_flags::TINFL_FLAG_PARSE_ZLIB_HEADER } else { 0 };
    let (status, _, written) = run(input, &mut out, 0, flags);
    out.truncate(written);
    (out, ended(status))
}

fn run(input: &[u8], out: &mut [u8], start: usize, flags: u32) -> (TINFLStatus, usize, usize) {
    let mut state = Box::<DecompressorOxide>::default();
    let flags = flags | inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    decompress(&mut state, input, out, start, flags)
}

fn ended(status: TINFLStatus) -> End {
    match status {
        // A checksum that does not match is for others to judge.
        TINFLStatus::Done | TINFLStatus::Adler32Mismatch => End::Whole,
        TINFLStatus::HasMoreOutput => End::Full,
        TINFLStatus::NeedsMoreInput | TINFLStatus::FailedCannotMakeProgress => End::Short,
        _ => End::Broken,
    }
}

const MAGIC: [u8; 3] = [0x1f, 0x8b, 8];

/// The length of a member's header.
fn gzip_header(input: &[u8]) -> Option<usize> {
    if !input.starts_with(&MAGIC) || input.len() < 10 {
        return None;
    }
    let flags = at(input, 3);
    let mut index = 10;
    if flags & 4 != 0 {
        index += 2 + usize::from(at(input, 10)) + (usize::from(at(input, 11)) << 8);
    }
    // Name and comment, each ended by a zero.
    for flag in [8, 16] {
        if flags & flag != 0 {
            index += from(input, index).iter().position(|b| *b == 0)? + 1;
        }
    }
    index += if flags & 2 != 0 { 2 } else { 0 };
    (!between(input, index, index + 1).is_empty()).then_some(index)
}

#[cfg(test)]
mod tests {
    use miniz_oxide::deflate::{compress_to_vec, compress_to_vec_zlib};

    use super::*;

    fn member(text: &[u8]) -> Vec<u8> {
        let mut body = vec![0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 3, b'n', 0];
        body.extend(compress_to_vec(text, 6));
        body.extend([0; 8]);
        body
    }

    #[test]
    fn all_members_are_read() {
        let body = [member(b"one "), member(b"two")].concat();
        assert_eq!(gzip(&body, 100), (b"one two".to_vec(), End::Whole));
    }

    #[test]
    fn both_kinds_of_deflate_are_read() {
        assert_eq!(deflate(&compress_to_vec(b"text", 6), 100), (b"text".to_vec(), End::Whole));
        assert_eq!(deflate(&compress_to_vec_zlib(b"text", 6), 100), (b"text".to_vec(), End::Whole));
    }

    #[test]
    fn a_bomb_stops_at_the_bound_and_a_cut_body_at_its_end() {
        let many = vec![b'a'; 1_000_000];
        let whole = member(&many);
        assert_eq!(gzip(&whole, 1000), (vec![b'a'; 1000], End::Full));
        let (text, end) = gzip(&whole[..whole.len() / 2], 2_000_000);
        assert!(!text.is_empty() && end == End::Short);
    }

    #[test]
    fn what_is_neither_is_broken() {
        assert_eq!(gzip(b"plain text", 100).1, End::Broken);
        assert_eq!(gzip(b"", 100).1, End::Broken);
        assert_eq!(gzip(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xff, 0xff], 100).1, End::Broken);
        assert_eq!(deflate(b"\xff\xff\xff\xff", 100).1, End::Broken);
    }
}
