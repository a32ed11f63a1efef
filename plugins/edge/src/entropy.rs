//! Random bits, from the platform's generator, a pool at a time: a call costs more than the bits.
//!
//! Nothing is drawn before the first request: at Cloudflare a module may not draw while it is loaded.

use std::cell::RefCell;

use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = crypto, js_name = getRandomValues, catch)]
    fn fill(bytes: &mut [u8]) -> Result<JsValue, JsValue>;
}

/// Bytes that are fit for a key, each time from the platform.
pub fn fresh() -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    fill(&mut bytes).is_ok().then_some(bytes)
}

/// Bytes of a pool.
const POOL: usize = 1024;

/// A pool.
#[derive(Default)]
pub struct Entropy(RefCell<Vec<u8>>);

impl Entropy {
    /// Fresh bits. A platform that refuses them gives zeros: names are then not unique, and no key is made of them.
    pub fn draw(&self) -> u64 {
        let mut pool = self.0.borrow_mut();
        if pool.len() < 8 {
            let mut fresh = vec![0; POOL];
            drop(fill(&mut fresh));
            *pool = fresh;
        }
        let eight = pool.last_chunk().copied().map(u64::from_le_bytes).unwrap_or_default();
        let rest = pool.len().saturating_sub(8);
        pool.truncate(rest);
        eight
    }
}
