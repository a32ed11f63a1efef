//! Header maps as the ABI serializes them: the number of pairs, the sizes of each name and value, then the bytes, each
//! followed by NUL; integers are 32 bits, little endian.

use portcullis_policy::{Header, Headers};

/// Reads a serialized map. What does not fit its own sizes ends the list: a host that lies costs headers, not the VM.
pub fn parse(bytes: &[u8]) -> Headers<'_> {
    let count = integer(bytes, 0).unwrap_or(0);
    // Each pair needs at least its two sizes and two NULs.
    let most = bytes.len() / 10;
    let count = count.min(most);
    let mut pairs: Vec<Header<'_>> = Vec::with_capacity(count);
    let mut at = count.saturating_mul(8).saturating_add(4);
    for number in 0..count {
        let sizes = number.saturating_mul(8).saturating_add(4);
        let Some((name, value)) = integer(bytes, sizes).zip(integer(bytes, sizes.saturating_add(4))) else {
            break;
        };
        let Some(pair) = piece(bytes, &mut at, name).zip(piece(bytes, &mut at, value)) else { break };
        pairs.push(pair);
    }
    Headers::new(pairs)
}

fn integer(bytes: &[u8], at: usize) -> Option<usize> {
    let four: [u8; 4] = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
    usize::try_from(u32::from_le_bytes(four)).ok()
}

fn piece<'a>(bytes: &'a [u8], at: &mut usize, size: usize) -> Option<&'a [u8]> {
    let end = at.checked_add(size)?;
    let piece = bytes.get(*at..end)?;
    *at = end.checked_add(1)?;
    Some(piece)
}

/// Writes a map.
pub fn serialize(pairs: &[(&[u8], &[u8])]) -> Vec<u8> {
    let size: usize = pairs.iter().map(|(name, value)| name.len() + value.len() + 10).sum();
    let mut bytes = Vec::with_capacity(size.saturating_add(4));
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes();
    bytes.extend_from_slice(&count(pairs.len()));
    for (name, value) in pairs {
        bytes.extend_from_slice(&count(name.len()));
        bytes.extend_from_slice(&count(value.len()));
    }
    for (name, value) in pairs {
        bytes.extend_from_slice(name);
        bytes.push(0);
        bytes.extend_from_slice(value);
        bytes.push(0);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let pairs: Vec<(&[u8], &[u8])> = vec![(b":path", b"/"), (b"x", b""), (b"y\xff", b"\x00\xff")];
        let bytes = serialize(&pairs);
        assert_eq!(parse(&bytes).iter().collect::<Vec<_>>(), pairs);
        assert!(parse(&serialize(&[])).is_empty());
    }

    #[test]
    fn lies_cost_headers_only() {
        let bytes = serialize(&[(b"a", b"1"), (b"b", b"2")]);
        for cut in 0..bytes.len() {
            let _ = parse(&bytes[..cut]);
        }
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut wrong = bytes.clone();
                wrong[at] = value;
                let _ = parse(&wrong);
            }
        }
        assert!(parse(&[0xff; 64]).len() <= 6);
    }
}
