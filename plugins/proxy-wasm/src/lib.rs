//! The proxy-wasm adapter: brings a host's callbacks to the chain as events, and carries out its effects.
//!
//! This is the only crate that names host calls. It decides nothing. It defends itself against its host: header bytes
//! of any kind, sizes that lie, calls that are refused or not offered; none of them may trap, because a trap stops the
//! VM for every tenant. What a host does not offer is probed once at start, done without, and said in its log.
//!
//! Costs, in host calls per plain GET: see `host-tests`, which prints and bounds them.

mod abi;
mod clock;
#[cfg(feature = "audit")]
mod delivery;
mod facts;
mod http;
mod map;
mod metrics;
mod shared;
mod worker;

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(worker::Root::default()));
}}
