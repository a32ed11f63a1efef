//! The SDK's traits, onto what the callbacks mean: the SDK keeps the contexts and exports the callbacks, this module
//! passes them on.
//!
//! The SDK's own wrappers of host calls are left alone, but for calls to other services, whose answers it must route: they
//! take texts where a request has bytes, and panic on a status that they do not know; see [`crate::abi`].

use std::{cell::RefCell, rc::Rc};

use proxy_wasm::{
    traits::{Context, HttpContext, RootContext},
    types::{Action, ContextType},
};

use crate::{http::Exchange, worker::Worker};

/// The root context of an instance in one VM. When it is dropped, the worker ends.
pub struct Root(Rc<Worker>);

impl Root {
    /// Probes the host.
    pub fn start(id: u32) -> Self {
        Self(Rc::new(Worker::start(id)))
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl Context for Root {
    #[cfg(any(feature = "audit", feature = "rate-limit"))]
    fn on_http_call_response(&mut self, token: u32, headers: usize, body: usize, _: usize) {
        self.0.answered(token, headers > 0, body);
    }

    fn on_done(&mut self) -> bool {
        self.0.finish()
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, size: usize) -> bool {
        self.0.configure(size)
    }

    fn on_tick(&mut self) {
        self.0.tick();
    }

    fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Handle(Rc::new(RefCell::new(Exchange::new(Rc::clone(&self.0), id))))))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

/// A stream's context, as the SDK keeps it. A stream that waits is also in the worker's list.
struct Handle(Rc<RefCell<Exchange>>);

impl Handle {
    /// Callbacks are never nested; a borrow that is refused all the same must not be a panic.
    fn with<T>(&self, otherwise: T, work: impl FnOnce(&mut Exchange) -> T) -> T {
        self.0.try_borrow_mut().map_or(otherwise, |mut exchange| work(&mut exchange))
    }
}

impl Context for Handle {}

impl HttpContext for Handle {
    fn on_http_request_headers(&mut self, _: usize, end_of_stream: bool) -> Action {
        let action = self.with(Action::Continue, |exchange| exchange.request_headers(end_of_stream));
        #[cfg(any(feature = "audit", feature = "rate-limit"))]
        Exchange::enlist(&self.0);
        action
    }

    fn on_http_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        self.with(Action::Continue, |exchange| exchange.request_body(size, end_of_stream))
    }

    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        self.with(Action::Continue, Exchange::request_trailers)
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        self.with(Action::Continue, Exchange::response_headers)
    }

    fn on_http_response_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        self.with(Action::Continue, |exchange| exchange.response_body(size, end_of_stream))
    }

    fn on_log(&mut self) {
        self.with((), Exchange::log);
    }
}
