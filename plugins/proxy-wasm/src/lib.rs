//! The proxy-wasm adapter: brings a host's callbacks to the chain as events, and carries out its effects.
//!
//! This is the only crate that names host calls. It decides nothing. It defends itself against its host: header bytes
//! of any kind, sizes that lie, calls that are refused or not offered; none of them may trap, because a trap stops the
//! VM for every tenant. What a host does not offer is probed once at start, done without, and said in its log. The SDK
//! keeps the contexts; it relies on a host that announces a context before it calls it, as the ABI demands.
//!
//! Host calls for a plain GET with the default configuration:
//!
//! | callback | calls |
//! |---|---|
//! | request headers | all headers; the monotonic clock; audit: one write of shared data; the client's address and the route's metadata, a property each; limits: a read and a write of shared data for the tenant's and one for the user's, none where they are busy; `x-request-id`, if the proxy made none |
//! | response headers | all headers; the clock; one per header that is set or removed |
//! | log | the clock; for a stream of which nothing else was seen, also its headers, status, details and duration |
//!
//! Where no policy hears of responses (sanitize does not, nor limits that neither wait for a status nor hold a place), the rest is
//! one per header that is set.
//! The client's address is asked for where a policy reads it, or where nothing else names the user.
//! Each further fact that the configuration asks for (a claim, a filter's mark, a route's name) is one more property.
//! Counters and records go out on ticks, every 500 ms, or when a batch is full.

mod abi;
#[cfg(any(target_arch = "wasm32", test))]
mod allocator;
mod clock;
#[cfg(any(feature = "audit", feature = "rate-limit"))]
mod companion;
mod context;
#[cfg(feature = "audit")]
mod delivery;
mod facts;
mod http;
#[cfg(feature = "audit")]
mod intents;
#[cfg(feature = "rate-limit")]
mod limits;
mod map;
mod metrics;
mod rewriting;
mod shared;
#[cfg(any(feature = "audit", feature = "rate-limit"))]
mod waiting;
mod worker;

#[cfg(target_arch = "wasm32")]
#[global_allocator]
static ALLOCATOR: allocator::FreeLists = allocator::FreeLists::new();

#[allow(missing_docs, reason = "the macro's function is the host's business")]
mod start {
    proxy_wasm::main! {{
        proxy_wasm::set_root_context(|id| Box::new(crate::context::Root::start(id)));
    }}
}
