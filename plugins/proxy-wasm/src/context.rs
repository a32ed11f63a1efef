//! The SDK's traits, onto what the callbacks mean: the SDK keeps the contexts and exports the callbacks, this module
//! passes them on.
//!
//! The SDK's own wrappers of host calls are left alone, but for calls to other services, whose answers it must route: they
//! take texts where a request has bytes, and panic on a status that they do not know; see [`crate::abi`].

use std::rc::Rc;

use proxy_wasm::{
    traits::{Context, HttpContext, RootContext},
    types::{Action, ContextType},
};

use crate::{http::Exchange, worker::Worker};

/// The root context of an instance in one VM. When it is dropped, the worker ends.
pub struct Root(Rc<Worker>);

impl Root {
    /// Probes the host.
    pub fn start() -> Self {
        Self(Rc::new(Worker::start()))
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl Context for Root {
    #[cfg(feature = "audit")]
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

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Exchange::new(Rc::clone(&self.0))))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

impl Context for Exchange {}

impl HttpContext for Exchange {
    fn on_http_request_headers(&mut self, _: usize, end_of_stream: bool) -> Action {
        self.request_headers(end_of_stream)
    }

    fn on_http_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        self.request_body(size, end_of_stream)
    }

    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        self.request_trailers()
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        self.response_headers()
    }

    fn on_log(&mut self) {
        self.log();
    }
}
