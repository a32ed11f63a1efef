//! Rate limits across proxies: exact leases, bounded tables, a durable debit ceiling.
//!
//! Defends against: proxies that together admit more than a limit; messages lost, late, doubled or out of order; a
//! process, a companion or a machine that dies; a wall clock that steps (there is none here); tables that grow with
//! what strangers send; evictions that give burst back.
//!
//! The promise: all proxies together admit of a limit L per window W with burst B at most B + ⌈L·t/W⌉ in any span t. Where
//! something must give, fewer are admitted.
//!
//! It deliberately does not defend against a holder of the ingest token who lies about what he was granted, nor against
//! storage that loses what it has confirmed.
//!
//! - [`quota`], [`key`]: numbers and names. [`step`]: what happens to one key, pure.
//! - [`wire`]: how a process asks.
//! - [`table`], [`engine`]: many keys, bounded, for many threads; no I/O.
//! - [`journal`]: what outlives the process. [`mod@redis`]: the same in Redis, for several companions.
//!
//! Limits: see [`engine`] and [`table`]; 256 processes with a lease of one key at once ([`step::LEASES_PER_KEY`]).

pub mod engine;
pub mod journal;
pub mod key;
pub mod quota;
pub mod redis;
pub mod step;
mod sync;
pub mod table;
pub mod wire;
