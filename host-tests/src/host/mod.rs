//! A proxy-wasm host on wasmtime (ABI 0.2.1): what Envoy does with an HTTP filter, without Envoy.
//!
//! A [`Module`] is compiled once. A [`Process`] is what the VMs of one proxy share: virtual clocks, shared data, metrics,
//! the log. A [`Vm`] is one worker's instance of a module; a [`Stream`] is one request through it, callback by callback,
//! with Envoy's rules of what is held, replayed and replaced. [`Vm::exchange`] does it all in one go.
//!
//! Everything is deterministic: time passes when a test says so, and randomness follows a seed. A trap is an error that
//! names the callback; fuel and memory are limited, and host calls are counted. What would take a real proxy down, like a
//! local reply from `on_log`, is a trap here.
//!
//! It is no proxy: there are no sockets, no gRPC, no TCP filters, no foreign functions; header maps do not join the values
//! of headers that Envoy keeps as one.

mod clock;
mod error;
mod exchange;
mod flow;
mod guest;
mod headers;
mod imports;
mod metrics;
mod module;
mod process;
mod profile;
mod property;
mod shared_data;
mod state;
mod status;
mod stream;
mod trace;
mod vm;

pub use error::{HostError, Trap};
pub use exchange::Request;
pub(crate) use flow::local_reply;
pub use headers::HeaderMap;
pub use module::Module;
pub use process::{LogLine, Process};
pub use profile::Profile;
pub use property::{Properties, Property};
pub use shared_data::SharedData;
pub use state::{Call, Message, Options};
pub use status::Status;
pub use stream::{Flow, Outcome, Stream};
pub use trace::Trace;
pub use vm::{CallAnswer, Vm};
