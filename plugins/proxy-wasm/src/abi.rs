//! The host calls of proxy-wasm ABI 0.2.1, raw and in bytes.
//!
//! The SDK's wrappers turn header values into `String` and panic on a status that they do not expect; either lets one
//! request stop the VM for every tenant. Here each call answers with what the host said, and nothing panics.

#[cfg(any(feature = "audit", feature = "rate-limit"))]
use std::time::Duration;

/// Why a host call did not succeed: the host's status number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status(pub u32);

impl Status {
    /// There is no such thing.
    pub const NOT_FOUND: Self = Self(1);
    /// Somebody else stored first.
    pub const CAS_MISMATCH: Self = Self(8);
    /// The host does not offer the call.
    #[cfg(any(feature = "audit", feature = "rate-limit", not(target_arch = "wasm32")))]
    pub const UNIMPLEMENTED: Self = Self(12);
}

/// Which header map.
#[derive(Debug, Clone, Copy)]
#[repr(u32)]
pub enum Map {
    /// The request's.
    Request = 0,
    /// The response's.
    Response = 2,
    /// Those of the answer to a call of ours.
    #[cfg(any(feature = "audit", feature = "rate-limit"))]
    Call = 6,
}

/// Which buffer.
#[derive(Debug, Clone, Copy)]
#[repr(u32)]
pub enum Buffer {
    /// The request's body.
    RequestBody = 0,
    /// The response's body.
    ResponseBody = 1,
    /// The body of the answer to a call of ours.
    #[cfg(any(feature = "audit", feature = "rate-limit"))]
    Call = 4,
    /// The plugin's configuration.
    Configuration = 7,
}

/// Whether a host keeps what follows a `Pause`: 1, as proxy-wasm has it. The module for hosts that ignore a `Pause` is this one
/// with a 0 here (`plugins/link`); to such a host each callback shows a piece that was not there before.
#[unsafe(no_mangle)]
pub static PORTCULLIS_HOST_KEEPS: u8 = 1;

/// Whether the host keeps what it is asked to keep.
pub fn host_keeps() -> bool {
    // SAFETY: the static is a byte, aligned and initialized. Read as it stands in memory, not as the compiler knows it.
    unsafe { std::ptr::read_volatile(&raw const PORTCULLIS_HOST_KEEPS) != 0 }
}

/// Declares imports of the host. Off wasm there is no host: every call is answered as not offered, so that the crate's
/// own tests link.
macro_rules! host {
    ($module:literal $(fn $name:ident($($argument:ident: $kind:ty),* $(,)?);)*) => {
        #[cfg(target_arch = "wasm32")]
        #[link(wasm_import_module = $module)]
        unsafe extern "C" {
            $(fn $name($($argument: $kind),*) -> u32;)*
        }
        $(
            #[cfg(not(target_arch = "wasm32"))]
            #[allow(clippy::too_many_arguments, reason = "the ABI has them")]
            unsafe fn $name($(_: $kind),*) -> u32 {
                Status::UNIMPLEMENTED.0
            }
        )*
    };
}

host! { "env"
    fn proxy_log(level: u32, data: *const u8, size: usize);
    fn proxy_get_log_level(level: *mut u32);
    fn proxy_get_current_time_nanoseconds(time: *mut u64);
    fn proxy_set_tick_period_milliseconds(period: u32);
    fn proxy_get_buffer_bytes(kind: u32, start: usize, max: usize, data: *mut *mut u8, size: *mut usize);
    fn proxy_set_buffer_bytes(kind: u32, start: usize, max: usize, data: *const u8, size: usize);
    fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, size: *mut usize);
    fn proxy_replace_header_map_value(map: u32, k: *const u8, kn: usize, v: *const u8, vn: usize);
    fn proxy_add_header_map_value(map: u32, k: *const u8, kn: usize, v: *const u8, vn: usize);
    fn proxy_remove_header_map_value(map: u32, k: *const u8, kn: usize);
    fn proxy_get_property(path: *const u8, path_size: usize, data: *mut *mut u8, size: *mut usize);
    fn proxy_get_shared_data(k: *const u8, kn: usize, data: *mut *mut u8, size: *mut usize, cas: *mut u32);
    fn proxy_set_shared_data(k: *const u8, kn: usize, v: *const u8, vn: usize, cas: u32);
    fn proxy_define_metric(kind: u32, name: *const u8, size: usize, id: *mut u32);
    fn proxy_increment_metric(id: u32, by: i64);
    fn proxy_send_local_response(
        status: u32,
        details: *const u8,
        details_size: usize,
        body: *const u8,
        body_size: usize,
        headers: *const u8,
        headers_size: usize,
        grpc_status: i32,
    );
}

#[cfg(feature = "audit")]
host! { "env"
    fn proxy_done();
}

#[cfg(any(feature = "audit", feature = "rate-limit"))]
host! { "env"
    fn proxy_set_effective_context(context: u32);
    fn proxy_continue_stream(direction: u32);
}

#[cfg(any(feature = "audit", feature = "rate-limit"))]
host! { "env"
    fn proxy_http_call(
        upstream: *const u8,
        upstream_size: usize,
        headers: *const u8,
        headers_size: usize,
        body: *const u8,
        body_size: usize,
        trailers: *const u8,
        trailers_size: usize,
        timeout_ms: u32,
        token: *mut u32,
    );
}

host! { "wasi_snapshot_preview1"
    fn clock_time_get(clock: u32, precision: u64, time: *mut u64);
}

fn check(status: u32) -> Result<(), Status> {
    if status == 0 { Ok(()) } else { Err(Status(status)) }
}

/// Takes over what the host allocated with `proxy_on_memory_allocate`.
fn taken(data: *mut u8, size: usize) -> Vec<u8> {
    if data.is_null() || size == 0 {
        return Vec::new();
    }
    // SAFETY: the host filled `size` bytes that our allocator gave it as a boxed slice of just that size.
    unsafe { Vec::from_raw_parts(data, size, size) }
}

/// A call that fills a buffer.
fn filled(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> Result<Vec<u8>, Status> {
    let mut data: *mut u8 = std::ptr::null_mut();
    let mut size = 0;
    let status = call(&raw mut data, &raw mut size);
    let bytes = taken(data, size);
    check(status).map(|()| bytes)
}

/// Writes to the host's log; 0 trace to 5 critical. A line that cannot be written has nowhere else to go.
pub fn log(level: u32, text: &str) {
    // SAFETY: pointer and size are of one string, which the host only reads.
    let _ = unsafe { proxy_log(level, text.as_ptr(), text.len()) };
}

/// The level below which the host drops lines.
pub fn log_level() -> u32 {
    let mut level = 0;
    // SAFETY: the host writes one integer.
    let status = unsafe { proxy_get_log_level(&raw mut level) };
    if status == 0 { level } else { 2 }
}

/// The wall clock, nanoseconds since 1970.
pub fn wall_ns() -> Result<u64, Status> {
    let mut time = 0;
    // SAFETY: the host writes one integer.
    check(unsafe { proxy_get_current_time_nanoseconds(&raw mut time) }).map(|()| time)
}

/// The monotonic clock in nanoseconds, common to all VMs of a process.
pub fn monotonic_ns() -> Result<u64, Status> {
    let mut time = 0;
    // SAFETY: the host writes one integer.
    check(unsafe { clock_time_get(1, 1, &raw mut time) }).map(|()| time)
}

/// Asks for a tick every so many milliseconds.
pub fn set_tick_period(milliseconds: u32) -> Result<(), Status> {
    // SAFETY: no memory is passed.
    check(unsafe { proxy_set_tick_period_milliseconds(milliseconds) })
}

/// A part of a buffer.
pub fn buffer(kind: Buffer, start: usize, max: usize) -> Result<Vec<u8>, Status> {
    // SAFETY: the host writes one pointer and one size.
    filled(|data, size| unsafe { proxy_get_buffer_bytes(kind as u32, start, max, data, size) })
}

/// Replaces the first `length` bytes of a buffer.
pub fn replace_buffer(kind: Buffer, length: usize, bytes: &[u8]) -> Result<(), Status> {
    // SAFETY: pointer and size belong together; the host only reads.
    check(unsafe { proxy_set_buffer_bytes(kind as u32, 0, length, bytes.as_ptr(), bytes.len()) })
}

/// All pairs of a header map, serialized; see [`crate::map`].
pub fn header_map(map: Map) -> Result<Vec<u8>, Status> {
    // SAFETY: the host writes one pointer and one size.
    filled(|data, size| unsafe { proxy_get_header_map_pairs(map as u32, data, size) })
}

/// Sets a header, replacing all values under that name.
pub fn replace_header(map: Map, name: &[u8], value: &[u8]) -> Result<(), Status> {
    // SAFETY: pointers and sizes belong together; the host only reads.
    check(unsafe {
        proxy_replace_header_map_value(map as u32, name.as_ptr(), name.len(), value.as_ptr(), value.len())
    })
}

/// Adds a value beside those that are there.
pub fn add_header(map: Map, name: &[u8], value: &[u8]) -> Result<(), Status> {
    // SAFETY: as above.
    check(unsafe {
        proxy_add_header_map_value(map as u32, name.as_ptr(), name.len(), value.as_ptr(), value.len())
    })
}

/// Removes a header.
pub fn remove_header(map: Map, name: &[u8]) -> Result<(), Status> {
    // SAFETY: as above.
    check(unsafe { proxy_remove_header_map_value(map as u32, name.as_ptr(), name.len()) })
}

/// A property; `path` is its segments joined by NUL.
pub fn property(path: &[u8]) -> Result<Vec<u8>, Status> {
    // SAFETY: pointers and sizes belong together; the host writes one pointer and one size.
    filled(|data, size| unsafe { proxy_get_property(path.as_ptr(), path.len(), data, size) })
}

/// Shared data and its version. [`Status::NOT_FOUND`] when nothing was stored yet.
pub fn shared_data(key: &[u8]) -> Result<(Vec<u8>, u32), Status> {
    let mut cas = 0;
    let version = &raw mut cas;
    // SAFETY: pointers and sizes belong together; the host writes one pointer and two integers.
    let bytes =
        filled(|data, size| unsafe { proxy_get_shared_data(key.as_ptr(), key.len(), data, size, version) })?;
    Ok((bytes, cas))
}

/// Stores shared data if it still has the version `cas`; 0 stores in any case.
pub fn set_shared_data(key: &[u8], value: &[u8], cas: u32) -> Result<(), Status> {
    // SAFETY: pointers and sizes belong together; the host only reads.
    check(unsafe { proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), cas) })
}

/// Defines a counter.
pub fn define_counter(name: &str) -> Result<u32, Status> {
    let mut id = 0;
    // SAFETY: pointer and size belong together; the host writes one integer.
    check(unsafe { proxy_define_metric(0, name.as_ptr(), name.len(), &raw mut id) }).map(|()| id)
}

/// Adds to a counter.
pub fn increment(id: u32, by: u64) -> Result<(), Status> {
    // SAFETY: no memory is passed.
    check(unsafe { proxy_increment_metric(id, i64::try_from(by).unwrap_or(i64::MAX)) })
}

/// Answers the request ourselves. `details` shows as the host's response code details.
pub fn send_local_response(status: u16, details: &str, headers: &[u8], body: &[u8]) -> Result<(), Status> {
    // SAFETY: pointers and sizes belong together; the host only reads.
    check(unsafe {
        proxy_send_local_response(
            u32::from(status),
            details.as_ptr(),
            details.len(),
            body.as_ptr(),
            body.len(),
            headers.as_ptr(),
            headers.len(),
            -1,
        )
    })
}

/// Calls another service; the number under which the answer will come. Through the SDK, because it routes the answer to
/// the context whose callback runs: a root context's, since a stream's is gone before the answer comes.
#[cfg(any(feature = "audit", feature = "rate-limit"))]
pub fn http_call(
    upstream: &str,
    headers: &[(&str, &str)],
    body: &[u8],
    timeout: Duration,
) -> Result<u32, Status> {
    proxy_wasm::hostcalls::dispatch_http_call(upstream, headers.to_vec(), Some(body), Vec::new(), timeout)
        .map_err(|status| Status(status as u32))
}

/// Whether the host offers calls to other services at all: one that cannot be carried out tells by its status. The SDK
/// would panic on the answer of a host that does not.
#[cfg(any(feature = "audit", feature = "rate-limit"))]
pub fn offers_http_calls() -> bool {
    let (mut token, none) = (0, crate::map::serialize(&[]));
    // SAFETY: pointers and sizes belong together; the host only reads, and writes one integer.
    let status = unsafe {
        proxy_http_call(
            none.as_ptr(),
            0,
            none.as_ptr(),
            none.len(),
            none.as_ptr(),
            0,
            none.as_ptr(),
            none.len(),
            1,
            &raw mut token,
        )
    };
    Status(status) != Status::UNIMPLEMENTED
}

/// Whose stream the following calls are about.
#[cfg(any(feature = "audit", feature = "rate-limit"))]
pub fn set_effective_context(context: u32) -> Result<(), Status> {
    // SAFETY: no memory is passed.
    check(unsafe { proxy_set_effective_context(context) })
}

/// Lets a request go on that was paused.
#[cfg(any(feature = "audit", feature = "rate-limit"))]
pub fn continue_request() -> Result<(), Status> {
    // SAFETY: no memory is passed.
    check(unsafe { proxy_continue_stream(0) })
}

/// Says that a context that asked for time to finish has finished.
#[cfg(feature = "audit")]
pub fn done() -> Result<(), Status> {
    // SAFETY: no memory is passed.
    check(unsafe { proxy_done() })
}
