//! Calls that carry the intents of requests which wait for them to be stored; see `portcullis_chain::audit::strict`.
//!
//! They go where audit records go, `POST /v1/ingest`, which answers when what it was given is durable. One at a time.

use std::{
    cell::{Cell, RefCell},
    time::Duration,
};

use portcullis_chain::{Chain, audit::strict::METRICS};
use portcullis_policy::LogLevel;

use crate::{
    companion::{self, Companion},
    worker::Worker,
};

/// As much of an answer as is read: a receipt that describes every line of a call has fewer.
const ANSWER_BYTES: usize = 64 * 1024;
/// How long after its own timeout a call may stay unanswered before it counts as failed.
const GRACE: Duration = Duration::from_secs(1);

/// The call under way, and where it goes.
#[derive(Default)]
pub struct Intents {
    companion: RefCell<Companion>,
    call: Cell<Option<u32>>,
}

impl Worker {
    /// Takes a new configuration; `calls` when the host can call the companion on ticks.
    pub fn configure_intents(&self, chain: &Chain, calls: bool) {
        if let Ok(mut companion) = self.intents.companion.try_borrow_mut() {
            *companion = Companion::new(chain);
        }
        if let Ok(mut shared) = self.shared.try_borrow_mut() {
            shared.lane.set_calls(calls);
        }
        if !calls && chain.is_strict() {
            self.log(
                LogLevel::Error,
                "the host has no ticks or no calls: intents cannot be stored, requests of strict routes are answered 503",
            );
        }
    }

    /// Regular work: gives up a call that nobody answers, and sends what waits. Must run for the root context.
    pub fn tend_intents(&self) {
        let now = self.clock.moment().now;
        let patience = self.intents.companion.try_borrow().map_or(GRACE, |c| c.timeout.saturating_add(GRACE));
        let Ok(mut shared) = self.shared.try_borrow_mut() else { return };
        if shared.lane.is_overdue(now, patience) {
            self.intents.call.set(None);
            shared.lane.answered(None, &[], now);
        }
        if let Some(body) = shared.lane.call(now) {
            let sent = self
                .intents
                .companion
                .try_borrow()
                .map(|companion| companion.post("/v1/ingest", "application/x-ndjson", &body));
            match sent {
                Ok(Ok(token)) => self.intents.call.set(Some(token)),
                _ => shared.lane.answered(None, &[], now),
            }
        }
        for (metric, by) in METRICS.iter().zip(shared.lane.take_tally()) {
            if by > 0 {
                self.counters.add(metric, by);
            }
        }
    }

    /// An answer of the companion; false when it is not to a call of ours.
    pub fn answered_intents(&self, token: u32, has_headers: bool, body: usize) -> bool {
        if self.intents.call.get() != Some(token) {
            return false;
        }
        self.intents.call.set(None);
        let (status, body) = companion::answer(has_headers, body, ANSWER_BYTES);
        let now = self.clock.moment().now;
        if let Ok(mut shared) = self.shared.try_borrow_mut() {
            shared.lane.answered(status, &body, now);
        }
        self.resume_waiting();
        self.tend_intents();
        true
    }

    /// Whether a call should leave before the next usual tick.
    pub fn intents_press(&self) -> bool {
        self.shared.try_borrow().is_ok_and(|shared| shared.lane.is_pressing())
    }
}
