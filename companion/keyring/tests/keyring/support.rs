//! A keyring over a store in memory.

use std::sync::Arc;

use portcullis_keyring::{Keyring, MemoryStore, RootKey, RootKeys, Tenant};
use rand::SeedableRng;
use rand::rngs::StdRng;

/// A root key of its own for each `number`.
pub fn root(number: u8) -> RootKey {
    let secret: Vec<u8> = (0..48).map(|place| number.wrapping_mul(31).wrapping_add(place)).collect();
    RootKey::new(&secret).unwrap()
}

/// Keys of a single root.
pub fn roots() -> Arc<RootKeys> {
    Arc::new(RootKeys::new(root(1), Vec::new()))
}

pub fn keyring() -> Keyring {
    Keyring::new(roots(), Arc::new(MemoryStore::default()), 1000)
}

pub fn tenant(name: &str) -> Tenant {
    Tenant::new(name.as_bytes()).unwrap()
}

/// The same bytes on every run: a failure can be looked into.
pub fn rng() -> StdRng {
    StdRng::seed_from_u64(2026)
}
