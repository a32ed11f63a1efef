//! Header maps as the ABI serializes them: the number of pairs, the sizes of each name and value, then the bytes, each
//! followed by NUL; integers are 32 bits, little endian.

use portcullis_policy::{Header, Headers};

/// Reads a serialized map. What does not fit its own sizes ends the list: a host that lies costs headers, not the VM.
pub fn parse(bytes: &[u8]) -> Headers<'_> {
    let Some((count, rest)) = bytes.split_first_chunk::<4>() else { return Headers::default() };
    let sizes = usize::try_from(u32::from_le_bytes(*count)).ok().and_then(|count| count.checked_mul(8));
    let Some((sizes, mut texts)) = sizes.and_then(|sizes| rest.split_at_checked(sizes)) else {
        return Headers::default();
    };
    let (sizes, _) = sizes.as_chunks::<8>();
    let mut pairs: Vec<Header<'_>> = Vec::with_capacity(sizes.len());
    for [a, b, c, d, e, f, g, h] in sizes {
        let Some((name, after)) = piece(texts, [*a, *b, *c, *d]) else { break };
        let Some((value, after)) = piece(after, [*e, *f, *g, *h]) else { break };
        pairs.push((name, value));
        texts = after;
    }
    Headers::new(pairs)
}

/// A text of that size, and what follows the NUL behind it.
fn piece(bytes: &[u8], size: [u8; 4]) -> Option<(&[u8], &[u8])> {
    let (text, after) = bytes.split_at_checked(usize::try_from(u32::from_le_bytes(size)).ok()?)?;
    Some((text, after.split_first()?.1))
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
