//! UTF-7 (RFC 2152), as far as it spells ASCII: old browsers guessed it, and filters did not.

use super::base64::digit;
use crate::bytes::at;

/// Letters of one run that are read.
const LETTERS: usize = 256;

/// Appends what a run that starts at the plus sign stands for, or the plus sign if it is none. How many bytes it took.
pub(super) fn run(bytes: &[u8], out: &mut Vec<u8>) -> usize {
    let start = out.len();
    let (mut bits, mut held) = (0_u32, 0_u32);
    let mut end = 1;
    while end <= LETTERS
        && let Some(value) = digit(at(bytes, end)).filter(|_| !matches!(at(bytes, end), b'-' | b' ' | b'_'))
    {
        bits = bits << 6 | value;
        held += 6;
        end += 1;
        if held < 16 {
            continue;
        }
        held -= 16;
        match u8::try_from(bits >> held) {
            Ok(byte @ (0x20..=0x7e | 9..=13)) => out.push(byte),
            _ => {
                out.truncate(start);
                break;
            }
        }
        bits &= (1 << held) - 1;
    }
    // What is left over is less than a letter, and nothing.
    if out.len() == start || bits != 0 || held >= 6 {
        out.truncate(start);
        out.push(b'+');
        return 1;
    }
    end + usize::from(at(bytes, end) == b'-')
}
