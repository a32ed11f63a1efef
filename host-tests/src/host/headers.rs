//! Header maps: bytes, in the order of the wire, duplicates kept.

/// A header map. Names are kept in lower case, as Envoy keeps them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeaderMap {
    pairs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl HeaderMap {
    /// An empty map.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a value beside those that are there.
    pub fn add(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.pairs.push((name.as_ref().to_ascii_lowercase(), value.as_ref().to_vec()));
    }

    /// The same, for chaining.
    #[must_use]
    pub fn with(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.add(name, value);
        self
    }

    /// Sets a value, replacing all under that name.
    pub fn replace(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.remove(name.as_ref());
        self.add(name, value);
    }

    /// Removes all values under that name.
    pub fn remove(&mut self, name: impl AsRef<[u8]>) {
        let name = name.as_ref();
        self.pairs.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
    }

    /// The first value under that name.
    #[must_use]
    pub fn first(&self, name: impl AsRef<[u8]>) -> Option<&[u8]> {
        let name = name.as_ref();
        self.pairs
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_slice())
    }

    /// All values under that name, in order.
    #[must_use]
    pub fn all(&self, name: impl AsRef<[u8]>) -> Vec<&[u8]> {
        let name = name.as_ref();
        let found = self.pairs.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_slice()).collect()
    }

    /// All pairs.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> {
        self.pairs.iter().map(|(name, value)| (name.as_slice(), value.as_slice()))
    }

    /// How many pairs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Bytes of all names and values.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.pairs.iter().map(|(name, value)| name.len() + value.len()).sum()
    }

    /// The number in `:status`.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        std::str::from_utf8(self.first(":status")?).ok()?.parse().ok()
    }

    /// As the ABI serializes it: count, sizes, then names and values, each followed by NUL.
    #[must_use]
    pub fn serialize(&self) -> Vec<u8> {
        let number = |size: usize| u32::try_from(size).unwrap_or(u32::MAX).to_le_bytes();
        let mut bytes = Vec::with_capacity(self.bytes() + self.len() * 10 + 4);
        bytes.extend_from_slice(&number(self.len()));
        for (name, value) in self.iter() {
            bytes.extend_from_slice(&number(name.len()));
            bytes.extend_from_slice(&number(value.len()));
        }
        for (name, value) in self.iter() {
            for piece in [name, value] {
                bytes.extend_from_slice(piece);
                bytes.push(0);
            }
        }
        bytes
    }

    /// Reads what the ABI serializes; `None` when sizes and bytes do not fit each other exactly.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self::new());
        }
        let (count, mut rest) = integer(bytes)?;
        let mut sizes = Vec::new();
        for _ in 0..count {
            let (name, after) = integer(rest)?;
            let (value, after) = integer(after)?;
            sizes.push((name, value));
            rest = after;
        }
        let mut map = Self::new();
        for (name, value) in sizes {
            let (name, after) = piece(rest, name)?;
            let (value, after) = piece(after, value)?;
            map.add(name, value);
            rest = after;
        }
        rest.is_empty().then_some(map)
    }
}

fn integer(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (four, rest) = bytes.split_first_chunk::<4>()?;
    Some((usize::try_from(u32::from_le_bytes(*four)).ok()?, rest))
}

fn piece(bytes: &[u8], size: usize) -> Option<(&[u8], &[u8])> {
    let (piece, rest) = bytes.split_at_checked(size)?;
    let rest = rest.strip_prefix(b"\0")?;
    Some((piece, rest))
}

impl<N: AsRef<[u8]>, V: AsRef<[u8]>> FromIterator<(N, V)> for HeaderMap {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut map = Self::new();
        for (name, value) in pairs {
            map.add(name, value);
        }
        map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let map = HeaderMap::new().with("A", "1").with(b"a", b"\xff\0").with("", "");
        assert_eq!(HeaderMap::parse(&map.serialize()), Some(map.clone()));
        assert_eq!(map.all("a"), [&b"1"[..], b"\xff\0"]);
        let bytes = map.serialize();
        for cut in 1..bytes.len() {
            assert_eq!(HeaderMap::parse(&bytes[..cut]), None, "{cut}");
        }
    }

    #[test]
    fn replacing_takes_all_values() {
        let mut map = HeaderMap::new().with("a", "1").with("b", "2").with("A", "3");
        map.replace("A", "4");
        assert_eq!(map, HeaderMap::new().with("b", "2").with("a", "4"));
    }
}
