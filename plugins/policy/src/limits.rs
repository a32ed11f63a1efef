//! Every maximum that more than one crate relies on, and what happens when it is hit.

/// A tenant's name, in bytes. Longer: the tenant is unknown.
pub const TENANT_BYTES: usize = 50;
/// A user's name, in bytes. Longer: replaced by the first 33 bytes at a character border and a 16-digit hash, so that
/// two long names never share a limit by accident.
pub const USER_BYTES: usize = 50;
/// A correlation ID that a client may choose, in bytes. Longer: a new one is made.
pub const CORRELATION_ID_BYTES: usize = 64;
/// Headers that policies look at. More: the request is answered 431.
pub const HEADERS: usize = 500;
/// Bytes of all header names and values together. More: the request is answered 431.
pub const HEADER_BYTES: usize = 256 * 1024;
/// Actions in a configuration. More: a configuration error.
pub const ACTIONS: usize = 32;
/// Routes in a configuration. More: a configuration error.
pub const ROUTES: usize = 1000;
/// A configuration document, in bytes. More: a configuration error.
pub const CONFIG_BYTES: usize = 1024 * 1024;
/// Problems that one validation reports. More: the rest is counted.
pub const CONFIG_ERRORS: usize = 100;
/// Distinct overrides from route metadata that are kept compiled. More: the oldest is forgotten and compiled again
/// when it is met again.
pub const ROUTE_METADATA_CACHE: usize = 64;
/// Slots of the state that workers share. A host keeps a slot from its first use on, at 400 bytes or so: all of them take
/// 52 MiB in a process.
pub const SHARED_SLOTS: u32 = 135_168;
/// Bytes of one such slot.
pub const SHARED_SLOT_BYTES: usize = 256;
/// Counters that are named by the configuration, in one worker. More: what they would count is in the others' sums alone.
pub const NAMED_COUNTERS: usize = 256;
