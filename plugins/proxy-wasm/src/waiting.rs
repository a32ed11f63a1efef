//! Requests that cannot be decided yet, because the companion has to be asked first: for tokens of limits that all proxies
//! share, or to store an intent.
//!
//! Such a request is paused. Its stream's context could not hear the answer to a call of its own once it is gone, so the root
//! context calls, on a tick that is brought forward; one call serves all that wait. After each answer, and every few
//! milliseconds, those that wait are decided again, [`RESUMED`] at a time so that others are not kept: the policy knows for
//! how long one may wait, and how many may.

use std::{
    cell::RefCell,
    rc::{Rc, Weak},
};

use proxy_wasm::types::Action;

use crate::{
    abi::{self, Map},
    http::Exchange,
    map,
    worker::Worker,
};

/// Requests that are decided again in one callback; the next follow on the next tick.
const RESUMED: usize = 8;

/// The streams that wait: the host's number of each, and its state.
#[derive(Default)]
pub struct Waiting(RefCell<Vec<(u32, Weak<RefCell<Exchange>>)>>);

impl Waiting {
    /// Whether there are any.
    pub fn is_waited(&self) -> bool {
        self.0.try_borrow().is_ok_and(|waiting| !waiting.is_empty())
    }

    /// Whether there are more than one callback decides on.
    pub fn is_crowded(&self) -> bool {
        self.0.try_borrow().is_ok_and(|waiting| waiting.len() > RESUMED)
    }
}

impl Worker {
    /// Decides again on those that wait longest.
    pub fn resume_waiting(&self) {
        let Ok(mut list) = self.waiting.0.try_borrow_mut() else { return };
        if list.is_empty() {
            return;
        }
        let now = list.len().min(RESUMED);
        let later = list.split_off(now);
        let waiting = std::mem::replace(&mut *list, later);
        drop(list);
        let mut rest = Vec::new();
        for (id, exchange) in waiting {
            // One that is gone waits no more.
            let Some(found) = exchange.upgrade() else { continue };
            if let Err(status) = abi::set_effective_context(id) {
                self.host_refused(status);
                continue;
            }
            if found.try_borrow_mut().map_or(true, |mut exchange| exchange.resume()) {
                rest.push((id, exchange));
            }
        }
        if let Err(status) = abi::set_effective_context(self.root) {
            self.host_refused(status);
        }
        self.wait(rest);
    }

    fn wait(&self, more: Vec<(u32, Weak<RefCell<Exchange>>)>) {
        let Ok(mut waiting) = self.waiting.0.try_borrow_mut() else { return };
        waiting.extend(more);
        #[cfg(feature = "rate-limit")]
        if let Ok(mut shared) = self.shared.try_borrow_mut() {
            shared.desk.set_waiters(waiting.len());
        }
    }
}

impl Exchange {
    /// Remembers a stream that waits.
    pub fn enlist(exchange: &Rc<RefCell<Self>>) {
        let Ok(this) = exchange.try_borrow() else { return };
        if this.waits() {
            let id = this.id();
            this.worker().wait(vec![(id, Rc::downgrade(exchange))]);
        }
    }

    /// Decides again on what waits; true when it still does. The host's calls are about this stream.
    fn resume(&mut self) -> bool {
        if !self.waits() {
            return false;
        }
        let bytes = self.worker().header_map(Map::Request);
        let mut action = self.decide(&map::parse(&bytes));
        if self.waits() {
            return true;
        }
        if let Some((size, end_of_stream)) = self.take_kept()
            && !self.is_refused()
        {
            action = self.request_body(size, end_of_stream);
        }
        if action == Action::Continue
            && let Err(status) = abi::continue_request()
        {
            self.worker().host_refused(status);
        }
        false
    }
}
