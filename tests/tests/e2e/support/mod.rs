//! What the tests share: both ends of Envoy, the place where records go, and the stack between.

pub mod api;
pub mod application;
pub mod capture;
pub mod client;
pub mod devtools;
pub mod http2;
pub mod link;
pub mod listeners;
pub mod message;
pub mod redis;
pub mod stage;
pub mod statistics;
pub mod tls;

use std::sync::atomic::{AtomicU64, Ordering};

/// A correlation ID that no other request of this run has.
pub fn fresh_id(what: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("{what}-{:06}", NEXT.fetch_add(1, Ordering::Relaxed))
}
