//! The chain on JavaScript's `Request` and `Response`: the module inside the npm package. `js/` holds the other half.
//!
//! The seam is narrow because crossing it is what costs: headers come as one text, what is to be changed goes back as one
//! text, and an event that changes nothing gives back a number and nothing else ([`flag`]). JavaScript owns streams,
//! promises and time; everything that is decided is decided here, by the chain that proxies run.
//!
//! It defends against what the policies defend against, and no more: a worker that is reached past its own route, or an
//! application that does not take its request from this module, is not guarded.
//!
//! Limits: those of [`portcullis_policy::limits`]. The bytes of a body that are held for inspection are bounded in
//! JavaScript (`maxHeldBytes`, else 413). JavaScript has no header that is not a byte string: what comes here is bytes
//! again, each character one of them.

mod entropy;
mod exchange;
mod facts;
#[cfg(feature = "audit")]
mod records;
mod recurring;
mod slots;
mod wire;
mod worker;

use std::{cell::RefCell, rc::Rc, time::Duration};

use portcullis_policy::Outcome;
use wasm_bindgen::prelude::*;

use crate::worker::{Plan, Worker};

pub use exchange::flag;

thread_local! {
    /// What [`compile`] has made last. A module whose memory was written down after a compilation begins with it
    /// (`js/compile.js`); such a module has [`compile`] no more, and nothing of what only that needs.
    static PLAN: RefCell<Option<Rc<Plan>>> = const { RefCell::new(None) };
}

/// Compiles a configuration, a JSON text, for the guards that are made next. Nothing is drawn at random here and no clock is
/// read: what is made is the same for the same text.
///
/// # Errors
/// Every problem, a line each: path, problem and remedy.
#[wasm_bindgen]
pub fn compile(configuration: &str) -> Result<(), JsError> {
    let plan = Plan::new(configuration.as_bytes()).map_err(|problems| JsError::new(&problems))?;
    PLAN.set(Some(Rc::new(plan)));
    Ok(())
}

/// What is counted and kept under a compiled configuration.
#[wasm_bindgen]
pub struct Guard(Rc<Worker>);

#[wasm_bindgen]
impl Guard {
    /// A guard under the configuration that was compiled last. `environment` holds the texts where secrets stand, as
    /// `URLSearchParams` writes them, or is empty. `stored`: the slots of rate limits lie outside, in a store that isolates
    /// share; `audited`: somebody takes the records.
    ///
    /// # Errors
    /// Nothing was compiled.
    #[wasm_bindgen(constructor)]
    pub fn new(environment: &str, stored: bool, audited: bool) -> Result<Guard, JsError> {
        let plan =
            PLAN.with_borrow(Clone::clone).ok_or_else(|| JsError::new("no configuration was compiled"))?;
        Ok(Self(Rc::new(Worker::new(plan, environment, stored, audited))))
    }

    /// What is odd about the configuration, a line each.
    pub fn warnings(&self) -> String {
        self.0.warnings().to_owned()
    }

    /// All counters: lines of names and numbers in turn.
    pub fn metrics(&self) -> String {
        self.0.metrics()
    }

    /// The edit of a response that has that number: two lines, as `response_edits` has them.
    pub fn known(&self, number: u32) -> String {
        self.0.known(number)
    }

    /// A new request.
    pub fn open(&self) -> Exchange {
        Exchange(exchange::Exchange::new(Rc::clone(&self.0)))
    }

    /// The audit records that are to be delivered now, JSON lines; they are on their way until `delivered`.
    pub fn batch(&self, now: f64, wall: f64) -> Option<Vec<u8>> {
        #[cfg(feature = "audit")]
        return self.0.batch(self.0.moment(now, wall));
        #[cfg(not(feature = "audit"))]
        return None;
    }

    /// What the sink said of them: an HTTP status, 0 for no answer, and the start of a body.
    pub fn delivered(&self, status: u16, body: &[u8], now: f64, wall: f64) {
        #[cfg(feature = "audit")]
        self.0.delivered(status, body, self.0.moment(now, wall));
    }

    /// Records that wait.
    pub fn waiting(&self) -> f64 {
        #[cfg(feature = "audit")]
        return self.0.waiting() as f64;
        #[cfg(not(feature = "audit"))]
        return 0.0;
    }
}

/// One request. Times are milliseconds: `now` monotonic, `wall` since 1970. What a call answers is a sum of [`flag`]s.
#[wasm_bindgen]
pub struct Exchange(exchange::Exchange);

#[wasm_bindgen]
impl Exchange {
    /// The request's headers have arrived: lines of names and values in turn, pseudo headers first. `source` is the
    /// client's `address:port`, or empty; `facts` is what the platform has verified, as `URLSearchParams` writes it, or empty.
    pub fn request(&mut self, head: &str, source: &str, facts: &str, end: bool, now: f64, wall: f64) -> u32 {
        self.0.request(&wire::bytes(head), source, facts, end, now, wall)
    }

    /// A piece of the body.
    pub fn body(&mut self, chunk: &[u8], end: bool, now: f64, wall: f64) -> u32 {
        self.0.body(chunk, end, now, wall)
    }

    /// The response's headers are about to leave.
    pub fn response(&mut self, head: &str, now: f64, wall: f64) -> u32 {
        self.0.response(&wire::bytes(head), now, wall)
    }

    /// It is over. A negative number is one that nobody knows; `why` is a place in [`WHY`], `total` is in milliseconds.
    pub fn done(&mut self, status: i32, why: u32, total: f64, now: f64, wall: f64) -> u32 {
        self.0.done(outcome(status, why, total), now, wall)
    }

    /// `response` and `done` at once, where no slots lie in a store.
    pub fn conclude(&mut self, head: &str, status: i32, why: u32, total: f64, now: f64, wall: f64) -> u32 {
        self.0.conclude(&wire::bytes(head), outcome(status, why, total), now, wall)
    }

    /// What the last call wants changed of the request: lines of an operation (`s`et, `a`dd, `d`elete) with a name, and a
    /// value, in turn.
    pub fn request_edits(&mut self) -> String {
        self.0.take_request_edits()
    }

    /// The same of the response, and numbers behind `#` for edits that come again and again: see [`Guard::known`].
    pub fn response_edits(&mut self) -> String {
        self.0.take_response_edits()
    }

    /// The body that takes the place of the one that came.
    pub fn replaced(&mut self) -> Vec<u8> {
        self.0.take_body()
    }

    /// Replaces what is to be replaced in a piece of the response's body, and answers how many bytes at its end are to be
    /// shown again together with what follows.
    pub fn substitute(&self, piece: &mut [u8]) -> u32 {
        self.0.substitute(piece)
    }

    /// The refusal's status and headers: lines, the status first, then names and values in turn.
    pub fn reply(&self) -> String {
        self.0.reply()
    }

    /// The refusal's body.
    pub fn reply_body(&self) -> Vec<u8> {
        self.0.reply_body()
    }

    /// What the log is told: levels and texts in turn, each ended by the character U+001E.
    pub fn log(&mut self) -> String {
        self.0.take_log()
    }

    /// The correlation ID.
    pub fn id(&self) -> String {
        self.0.id()
    }

    /// Slots that the last call could not do without; with [`Self::provide`] it can be repeated.
    pub fn missing(&mut self) -> Vec<u32> {
        self.0.slots().take_missing()
    }

    /// All slots that were seen.
    pub fn seen(&mut self) -> Vec<u32> {
        self.0.slots().seen()
    }

    /// A slot's content and version, as the store has them.
    pub fn provide(&mut self, slot: u32, bytes: &[u8], version: u32) {
        self.0.slots().provide(slot, bytes, version);
    }

    /// Slots that are to be stored, all or none.
    pub fn written(&mut self) -> Vec<u32> {
        self.0.slots().written()
    }

    /// What is to be stored there.
    pub fn written_bytes(&mut self, slot: u32) -> Vec<u8> {
        self.0.slots().content(slot)
    }

    /// Which version it replaces.
    pub fn written_version(&mut self, slot: u32) -> u32 {
        self.0.slots().version(slot)
    }

    /// The store cannot be reached: what asks for slots is refused, and the configuration says what that means.
    pub fn away(&mut self) {
        self.0.slots().away = true;
    }

    /// They are stored: now what was decided counts.
    pub fn settle(&mut self) -> u32 {
        self.0.settle()
    }

    /// The store did not take them, or cannot be reached. Before the request is decided it must be asked again, so this is
    /// for what comes after, and for a store that is away.
    pub fn unsettled(&mut self) -> u32 {
        self.0.unsettled()
    }
}

/// Why a stream ended as it did, in Envoy's words: by our own doing, by the application's answer, by its failure.
const WHY: [&str; 3] = ["", "via_upstream", "handler_failed"];

fn outcome(status: i32, why: u32, total: f64) -> Outcome {
    let details = usize::try_from(why).ok().and_then(|why| WHY.get(why));
    Outcome {
        status: u16::try_from(status).ok(),
        details: details.copied().unwrap_or_default().into(),
        total: (total >= 0.0).then(|| Duration::from_nanos((total * 1e6) as u64)),
        ..Outcome::default()
    }
}
