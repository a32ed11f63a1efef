//! Header maps as a host serializes them: none is read beyond its end, and what was read is written and read the same.

#[allow(dead_code, reason = "the adapter's own file, of which this is a part")]
#[path = "../../plugins/proxy-wasm/src/map.rs"]
mod map;

/// The serialized map.
pub fn hold(data: &[u8]) {
    let read = map::parse(data);
    let pairs: Vec<(&[u8], &[u8])> = read.iter().collect();
    assert_eq!(read.bytes(), pairs.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>());
    let written = map::serialize(&pairs);
    assert_eq!(map::parse(&written).iter().collect::<Vec<_>>(), pairs);
}
