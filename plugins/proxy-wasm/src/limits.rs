//! What a worker does for rate limits between requests: the calls for tokens and for tenants' policies.
//!
//! Limits: one call for tokens and one for policies at a time; see `portcullis_chain::rate_limit::desk` for the rest.

use std::{
    cell::{Cell, RefCell},
    time::Duration,
};

use portcullis_chain::{Chain, rate_limit::desk::Question};
use portcullis_policy::{Effect, Effects, LogLevel};

use crate::{
    companion::{self, Companion},
    shared::Shared,
    worker::Worker,
};

/// As much of an answer as is read. A longer one is cut, cannot be read, and counts as none.
const ANSWER_BYTES: usize = 256 * 1024;
/// How long after its own timeout a call may stay unanswered before it counts as failed.
const GRACE: Duration = Duration::from_secs(1);

/// Calls for limits.
#[derive(Default)]
pub struct Limits {
    companion: RefCell<Companion>,
    calls: [Cell<Option<(u32, Duration)>>; 2],
}

const QUESTIONS: [Question; 2] = [Question::Leases, Question::Policies];

impl Worker {
    /// Takes a new configuration; `calls` when the host can call the companion on ticks.
    pub fn configure_limits(&self, chain: &Chain, calls: bool) {
        if let Ok(mut companion) = self.limits.companion.try_borrow_mut() {
            *companion = Companion::new(chain);
        }
        if let Ok(mut shared) = self.shared.try_borrow_mut() {
            shared.desk.set_calls(calls);
        }
        if !calls && chain.has_global_limits() {
            self.log(
                LogLevel::Warn,
                "the host has no ticks or no calls: limits of scope global hold for each process by itself",
            );
        }
    }

    /// Regular work.
    pub fn tend_limits(&self) {
        let now = self.clock.moment().now;
        self.at_desk(|shared, effects| {
            let Shared { slots, desk, .. } = shared;
            desk.tick(slots, now, effects);
        });
        for (question, call) in QUESTIONS.into_iter().zip(&self.limits.calls) {
            let patience =
                self.limits.companion.try_borrow().map_or(GRACE, |c| c.timeout.saturating_add(GRACE));
            if call.get().is_some_and(|(_, sent)| now.saturating_sub(sent) > patience) {
                call.set(None);
                self.answer_limits(question, None);
            }
        }
    }

    /// Asks what there is to ask. Must run for the root context.
    pub fn ask_companion(&self) {
        let now = self.clock.moment().now;
        for (question, call) in QUESTIONS.into_iter().zip(&self.limits.calls) {
            if call.get().is_some() {
                continue;
            }
            let Some(Some(body)) = self.at_desk(|shared, effects| {
                let Shared { slots, desk, .. } = shared;
                desk.call(question, slots, now, effects)
            }) else {
                continue;
            };
            let Ok(companion) = self.limits.companion.try_borrow() else { continue };
            match companion.post(question.path(), "application/json", &body) {
                Ok(token) => call.set(Some((token, now))),
                Err(_) => self.answer_limits(question, None),
            }
        }
    }

    /// An answer of the companion; false when it is not to a call of ours.
    pub fn answered_limits(&self, token: u32, has_headers: bool, body: usize) -> bool {
        let known = QUESTIONS
            .into_iter()
            .zip(&self.limits.calls)
            .find(|(_, call)| call.get().is_some_and(|(own, _)| own == token));
        let Some((question, call)) = known else { return false };
        call.set(None);
        let (status, body) = companion::answer(has_headers, body, ANSWER_BYTES);
        self.answer_limits(question, (status == Some(200)).then_some(&body[..]));
        self.resume_waiting();
        self.ask_companion();
        true
    }

    fn answer_limits(&self, question: Question, body: Option<&[u8]>) {
        let now = self.clock.moment().now;
        self.at_desk(|shared, effects| {
            let Shared { slots, desk, .. } = shared;
            desk.answered(question, body, slots, now, effects);
        });
    }

    fn at_desk<T>(&self, work: impl FnOnce(&mut Shared, &mut Effects) -> T) -> Option<T> {
        let mut effects = Effects::new();
        let done = self.shared.try_borrow_mut().ok().map(|mut shared| work(&mut shared, &mut effects));
        for effect in effects {
            if let Effect::Count(metric, by) = effect {
                self.counters.add(metric, by);
            }
        }
        done
    }

    /// Whether the companion should be asked before the next usual tick.
    pub fn limits_press(&self) -> bool {
        self.shared.try_borrow().is_ok_and(|shared| shared.desk.is_pressing())
    }
}
