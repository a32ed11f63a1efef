//! What the host calls: the callbacks of proxy-wasm ABI 0.2.1 that we want, and no others, because each that is
//! exported costs a call per request or per piece of a body.
//!
//! A context is looked up, lent to its callback, and nothing is borrowed meanwhile but that one context. A callback
//! for a context that nobody announced, or within a callback of the same context (a host that answers a call before it
//! returns), does nothing and lets the stream go on.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
};

use crate::{
    http::{Action, Exchange},
    worker::Worker,
};

/// Contexts by number. An ordered map: a hashed one would draw randomness, which a host may refuse.
struct Contexts {
    roots: RefCell<BTreeMap<u32, Rc<Worker>>>,
    streams: RefCell<BTreeMap<u32, Rc<RefCell<Exchange>>>>,
    started: Cell<bool>,
}

thread_local! {
    static CONTEXTS: Contexts = const {
        Contexts { roots: RefCell::new(BTreeMap::new()), streams: RefCell::new(BTreeMap::new()), started: Cell::new(false) }
    };
}

fn root(id: u32) -> Option<Rc<Worker>> {
    CONTEXTS.with(|contexts| contexts.roots.try_borrow().ok()?.get(&id).cloned())
}

fn with_stream<T>(id: u32, otherwise: T, work: impl FnOnce(&mut Exchange) -> T) -> T {
    let stream = CONTEXTS.with(|contexts| contexts.streams.try_borrow().ok()?.get(&id).cloned());
    match stream.as_ref().map(|stream| stream.try_borrow_mut()) {
        Some(Ok(mut stream)) => work(&mut stream),
        _ => otherwise,
    }
}

#[cfg(target_arch = "wasm32")]
unsafe extern "C" {
    fn __wasm_call_ctors();
}

/// The host calls this first, once.
#[unsafe(no_mangle)]
extern "C" fn _initialize() {
    let first = CONTEXTS.with(|contexts| !contexts.started.replace(true));
    if first {
        // SAFETY: the linker's list of constructors, which must run once before anything else.
        #[cfg(target_arch = "wasm32")]
        unsafe {
            __wasm_call_ctors();
        }
    }
}

/// Tells the host which ABI this is.
#[unsafe(no_mangle)]
extern "C" fn proxy_abi_version_0_2_1() {}

/// Memory that the host fills for us; null when there is none, which the host takes for a failed call.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
    let mut bytes: Vec<u8> = Vec::new();
    if bytes.try_reserve_exact(size).is_err() {
        return std::ptr::null_mut();
    }
    bytes.resize(size, 0);
    Box::into_raw(bytes.into_boxed_slice()).cast()
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_vm_start(_: u32, _: usize) -> u32 {
    1
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_context_create(id: u32, parent: u32) {
    CONTEXTS.with(|contexts| {
        if parent == 0 {
            if let Ok(mut roots) = contexts.roots.try_borrow_mut() {
                roots.insert(id, Rc::new(Worker::start(id)));
            }
        } else if let (Some(worker), Ok(mut streams)) = (root(parent), contexts.streams.try_borrow_mut()) {
            streams.insert(id, Rc::new(RefCell::new(Exchange::new(id, worker))));
        }
    });
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_configure(id: u32, size: usize) -> u32 {
    u32::from(root(id).is_some_and(|worker| worker.configure(size)))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_tick(id: u32) {
    if let Some(worker) = root(id) {
        worker.tick();
    }
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_headers(id: u32, _: u32, end_of_stream: u32) -> u32 {
    with_stream(id, Action::Continue, |stream| stream.request_headers(end_of_stream != 0)) as u32
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_body(id: u32, size: usize, end_of_stream: u32) -> u32 {
    with_stream(id, Action::Continue, |stream| stream.request_body(size, end_of_stream != 0)) as u32
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_trailers(id: u32, _: u32) -> u32 {
    with_stream(id, Action::Continue, Exchange::request_trailers) as u32
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_headers(id: u32, _: u32, _: u32) -> u32 {
    with_stream(id, Action::Continue, Exchange::response_headers) as u32
}

#[cfg(feature = "audit")]
#[unsafe(no_mangle)]
extern "C" fn proxy_on_http_call_response(id: u32, token: u32, headers: u32, body: usize, _: u32) {
    if let Some(worker) = root(id) {
        worker.answered(token, headers > 0, body);
    }
}

/// A root context may ask for time; a stream never does.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_done(id: u32) -> u32 {
    u32::from(root(id).is_none_or(|worker| worker.finish()))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_log(id: u32) {
    with_stream(id, (), Exchange::log);
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_delete(id: u32) {
    CONTEXTS.with(|contexts| {
        let stream = contexts.streams.try_borrow_mut().ok().and_then(|mut streams| streams.remove(&id));
        if let Some(Ok(mut stream)) = stream.as_ref().map(|stream| stream.try_borrow_mut()) {
            stream.forget();
            return;
        }
        let worker = contexts.roots.try_borrow_mut().ok().and_then(|mut roots| roots.remove(&id));
        if let Some(worker) = worker {
            worker.leave();
        }
    });
}
