//! What the streams of a VM share: the chain, the clock, counters, shared slots, and the queue of records.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use portcullis_chain::Chain;
use portcullis_policy::{Effects, Headers, LogLevel, Metric, Moment, SharedState};

#[cfg(feature = "audit")]
use crate::delivery::{Delivery, Word};
#[cfg(feature = "audit")]
use crate::intents::Intents;
#[cfg(feature = "rate-limit")]
use crate::limits::Limits;
#[cfg(any(feature = "audit", feature = "rate-limit"))]
use crate::waiting::Waiting;
use crate::{
    abi::{self, Buffer, Map, Status},
    clock::Clock,
    facts::Dialect,
    http,
    metrics::Counters,
    shared::{Shared, Slots},
};

/// How often counters are handed over, records shipped and the wall clock measured.
const TICK_MS: u32 = 500;
/// The same when something should be sent soon: a stream cannot send it, because the answer would find it gone.
const SOON_MS: u32 = 1;
/// The same while requests wait for the companion.
#[cfg(any(feature = "audit", feature = "rate-limit"))]
const WAITING_MS: u32 = 5;
/// How long a worker that ends waits for its records to be stored.
#[cfg(feature = "audit")]
const FAREWELL: std::time::Duration = std::time::Duration::from_secs(10);

const HOST_REFUSED: Metric = Metric {
    name: "portcullis_host_calls_refused_total",
    help: "Host calls that the host refused; what they were for did not happen.",
};
#[cfg(feature = "audit")]
const UNDELIVERED: Metric = Metric {
    name: "portcullis_audit_undeliverable_total",
    help: "Audit records that went nowhere, because the host has no ticks or no calls.",
};
const UNSAFE_VALUES: Metric = Metric {
    name: "portcullis_unsafe_header_values_total",
    help: "Header values that were not set because they hold CR, LF or NUL.",
};

/// A VM's state for one instance of the module. Everything is behind cells: callbacks are never nested, but a
/// borrow that is refused must not be a panic either.
pub struct Worker {
    chain: RefCell<Option<Rc<Chain>>>,
    pub(crate) shared: RefCell<Shared>,
    /// The host's number for the root context.
    #[cfg_attr(
        not(any(feature = "audit", feature = "rate-limit")),
        allow(dead_code, reason = "no stream waits")
    )]
    pub(crate) root: u32,
    #[cfg(any(feature = "audit", feature = "rate-limit"))]
    pub(crate) waiting: Waiting,
    #[cfg(feature = "rate-limit")]
    pub(crate) limits: Limits,
    #[cfg(feature = "audit")]
    pub(crate) intents: Intents,
    /// Time and randomness.
    pub clock: Clock,
    /// Counters.
    pub counters: Counters,
    /// What the host calls its properties.
    pub dialect: Cell<Dialect>,
    /// Empty, with room for the next event's effects.
    pub effects: Cell<Effects>,
    holds_headers: bool,
    log_level: Cell<u32>,
    /// Set when the host wants the worker to end: until then it may wait.
    #[cfg(feature = "audit")]
    ends: Cell<Option<std::time::Duration>>,
    /// The next tick was brought forward.
    hurries: Cell<bool>,
    #[cfg(feature = "audit")]
    delivery: RefCell<Option<Delivery>>,
}

impl Worker {
    /// Probes the host.
    pub fn start(root: u32) -> Self {
        let (clock, random) = Clock::new();
        let (slots, is_shared) = Slots::open(&instance(), &clock);
        let shared = Shared::new(
            slots,
            #[cfg(feature = "audit")]
            clock.random(),
        );
        let holds = std::env::var("PORTCULLIS_HOLD_HEADERS").is_ok_and(|value| value == "true");
        let worker = Self {
            chain: RefCell::default(),
            shared: RefCell::new(shared),
            root,
            #[cfg(any(feature = "audit", feature = "rate-limit"))]
            waiting: Waiting::default(),
            #[cfg(feature = "rate-limit")]
            limits: Limits::default(),
            #[cfg(feature = "audit")]
            intents: Intents::default(),
            clock,
            counters: Counters::default(),
            dialect: Cell::default(),
            effects: Cell::default(),
            holds_headers: holds,
            log_level: Cell::new(abi::log_level()),
            #[cfg(feature = "audit")]
            ends: Cell::default(),
            hurries: Cell::new(false),
            #[cfg(feature = "audit")]
            delivery: RefCell::default(),
        };
        if !random {
            worker.log(LogLevel::Warn, "the host gives no randomness: names are drawn from the time");
        }
        if !is_shared {
            worker.log(LogLevel::Warn, "the host has no shared data: each worker limits rates for itself");
        }
        worker
    }

    /// Reads the configuration of so many bytes; false when it cannot be used.
    pub fn configure(&self, size: usize) -> bool {
        let bytes = match abi::buffer(Buffer::Configuration, 0, size) {
            Ok(bytes) => bytes,
            Err(_) if size == 0 => Vec::new(),
            Err(status) => {
                self.log(
                    LogLevel::Error,
                    &format!("configuration: the host refuses it with status {}", status.0),
                );
                return false;
            }
        };
        let (chain, warnings) = match Chain::from_json(&bytes) {
            Ok(compiled) => compiled,
            Err(errors) => {
                for error in errors.iter() {
                    self.log(LogLevel::Error, &format!("configuration: {error}"));
                }
                return false;
            }
        };
        for warning in warnings.iter() {
            self.log(LogLevel::Warn, &format!("configuration: {warning}"));
        }
        let ticks = abi::set_tick_period(TICK_MS).is_ok();
        let mut metrics = portcullis_chain::metrics();
        metrics.extend([&HOST_REFUSED, &UNSAFE_VALUES]);
        #[cfg(feature = "audit")]
        metrics.push(&UNDELIVERED);
        if !self.counters.define(&metrics, ticks) {
            self.log(LogLevel::Warn, "the host has no metrics: nothing is counted");
        }
        #[cfg(any(feature = "audit", feature = "rate-limit"))]
        let calls = ticks && abi::offers_http_calls();
        #[cfg(feature = "audit")]
        self.open_delivery(&chain, calls);
        #[cfg(feature = "audit")]
        self.configure_intents(&chain, calls);
        #[cfg(feature = "rate-limit")]
        self.configure_limits(&chain, calls);
        *self.chain.borrow_mut() = Some(Rc::new(chain));
        true
    }

    #[cfg(feature = "audit")]
    fn open_delivery(&self, chain: &Chain, calls: bool) {
        let Some(limits) = chain.audit().map(|audit| audit.limits()) else { return };
        if !calls {
            self.log(LogLevel::Warn, "the host has no ticks or no calls: audit records are not delivered");
            return;
        }
        let variable = &chain.companion().token_env;
        if std::env::var(variable).is_ok_and(|token| token.trim().is_empty())
            || std::env::var(variable).is_err()
        {
            let text = format!(
                "the variable {variable} is not set: the companion will refuse audit records unless it listens on a socket"
            );
            self.log(LogLevel::Warn, &text);
        }
        let Ok(mut delivery) = self.delivery.try_borrow_mut() else { return };
        match delivery.as_mut() {
            // A new configuration keeps the records that wait.
            Some(delivery) => delivery.configure(chain, limits),
            None => *delivery = Some(Delivery::new(chain, limits, &instance(), self.clock.random())),
        }
    }

    /// Lends the chain and the shared slots. A worker without configuration has no chain, and does nothing.
    pub fn with_chain(&self, work: impl FnOnce(&Chain, &mut dyn SharedState)) {
        let chain = self.chain.borrow().clone();
        if let (Some(chain), Ok(mut shared)) = (chain, self.shared.try_borrow_mut()) {
            work(&chain, &mut *shared);
        }
    }

    /// A header map, empty when the host refuses.
    pub fn header_map(&self, map: Map) -> Vec<u8> {
        abi::header_map(map).unwrap_or_else(|status| {
            self.host_refused(status);
            Vec::new()
        })
    }

    /// Whether the host goes on with body callbacks while headers are held back.
    pub fn holds_headers(&self) -> bool {
        self.holds_headers
    }

    /// Counts a host call that was refused.
    pub fn host_refused(&self, status: Status) {
        self.counters.add(&HOST_REFUSED, 1);
        self.log(LogLevel::Debug, &format!("a host call was refused with status {}", status.0));
    }

    /// Counts a value that was not set.
    pub fn unsafe_value(&self, name: &[u8]) {
        self.counters.add(&UNSAFE_VALUES, 1);
        let name = String::from_utf8_lossy(name);
        self.log(LogLevel::Warn, &format!("a value for `{name}` holds CR, LF or NUL and was not set"));
    }

    /// Logs, if the host would keep it.
    pub fn log(&self, severity: LogLevel, text: &str) {
        let number = http::level(severity);
        if number >= self.log_level.get() {
            abi::log(number, text);
        }
    }

    /// In a test-only build, a request header provokes the trap that must never happen.
    #[cfg(feature = "panic-on-request")]
    #[expect(clippy::panic, reason = "the purpose of this build")]
    pub fn provoke(&self, headers: &Headers<'_>) {
        if headers.first("x-portcullis-panic").is_some() {
            panic!("provoked by a test");
        }
    }

    /// Nothing, in every other build.
    #[cfg(not(feature = "panic-on-request"))]
    pub fn provoke(&self, _: &Headers<'_>) {}

    /// Brings the next tick forward, if there is something to send that cannot wait.
    pub fn hurry(&self) {
        if !self.hurries.get() && self.is_pressing() {
            self.hurries.set(abi::set_tick_period(SOON_MS).is_ok());
        }
    }

    fn is_pressing(&self) -> bool {
        #[cfg(feature = "rate-limit")]
        if self.limits_press() {
            return true;
        }
        #[cfg(feature = "audit")]
        if self.intents_press() {
            return true;
        }
        false
    }

    /// The period until the next tick.
    fn pace(&self) {
        #[cfg(any(feature = "audit", feature = "rate-limit"))]
        if self.waiting.is_waited() {
            let period = if self.waiting.is_crowded() { SOON_MS } else { WAITING_MS };
            self.hurries.set(abi::set_tick_period(period).is_ok());
            return;
        }
        if self.hurries.replace(false) && abi::set_tick_period(TICK_MS).is_err() {
            self.log(LogLevel::Warn, "the host does not take the usual tick period back");
        }
    }

    /// Regular work.
    pub fn tick(&self) {
        self.clock.adjust();
        self.log_level.set(abi::log_level());
        #[cfg(feature = "rate-limit")]
        self.tend_limits();
        #[cfg(any(feature = "audit", feature = "rate-limit"))]
        self.resume_waiting();
        #[cfg(feature = "rate-limit")]
        self.ask_companion();
        #[cfg(feature = "audit")]
        self.tend_intents();
        self.pace();
        #[cfg(feature = "audit")]
        {
            let moment = self.clock.moment();
            self.deliver(|delivery| delivery.tick(moment));
            let late = self.ends.get().is_some_and(|end| moment.now >= end);
            if self.ends.get().is_some() && (late || self.waiting() == 0) {
                self.ends.set(None);
                self.leave();
                let _ = abi::done();
            }
        }
        self.counters.flush();
    }

    /// The host wants the worker to end; false when it asks for time to deliver what waits.
    pub fn finish(&self) -> bool {
        #[cfg(feature = "audit")]
        if self.waiting() > 0 {
            let moment = self.clock.moment();
            self.ends.set(Some(moment.now.saturating_add(FAREWELL)));
            self.deliver(|delivery| delivery.send(moment));
            self.counters.flush();
            return false;
        }
        self.counters.flush();
        true
    }

    /// An answer of the companion.
    #[cfg(any(feature = "audit", feature = "rate-limit"))]
    pub fn answered(&self, token: u32, has_headers: bool, body: usize) {
        #[cfg(feature = "rate-limit")]
        if self.answered_limits(token, has_headers, body) {
            self.pace();
            return;
        }
        #[cfg(feature = "audit")]
        if self.answered_intents(token, has_headers, body) {
            self.pace();
            return;
        }
        #[cfg(feature = "audit")]
        self.delivered(token, has_headers, body);
    }

    /// The worker ends now.
    pub fn leave(&self) {
        #[cfg(feature = "audit")]
        {
            let waiting = self.waiting();
            if waiting > 0 {
                let text = format!(
                    "{waiting} audit records were not delivered; other workers will report them missing"
                );
                self.log(LogLevel::Error, &text);
            }
            self.deliver(|delivery| {
                delivery.leave();
                None
            });
        }
        self.counters.flush();
    }
}

/// Audit records.
#[cfg(feature = "audit")]
impl Worker {
    /// A request begins that will leave a record; false when nothing is recorded.
    pub fn begin(&self) -> bool {
        self.with_delivery(Delivery::begin).is_some()
    }

    /// It will not after all.
    pub fn withdraw(&self) {
        self.with_delivery(Delivery::withdraw);
    }

    /// Its record. A full batch brings the next tick forward.
    pub fn record(&self, text: &[u8], moment: Moment) {
        match self.with_delivery(|delivery| delivery.record(text, moment)) {
            Some(true) if !self.hurries.get() => self.hurries.set(abi::set_tick_period(SOON_MS).is_ok()),
            Some(_) => {}
            None => self.counters.add(&UNDELIVERED, 1),
        }
    }

    /// An answer of the companion to a delivery.
    fn delivered(&self, token: u32, has_headers: bool, body: usize) {
        let moment = self.clock.moment();
        self.deliver(|delivery| delivery.answered(token, has_headers, body, moment));
    }

    fn waiting(&self) -> u64 {
        self.with_delivery(|delivery| delivery.waiting()).unwrap_or(0)
    }

    fn deliver(&self, work: impl FnOnce(&mut Delivery) -> Word) {
        let word = self.with_delivery(|delivery| {
            let word = work(delivery);
            delivery.count(&self.counters);
            word
        });
        if let Some(Some((level, text))) = word {
            self.log(level, &text);
        }
    }

    fn with_delivery<T>(&self, work: impl FnOnce(&mut Delivery) -> T) -> Option<T> {
        self.delivery.try_borrow_mut().ok()?.as_mut().map(work)
    }
}

/// Without the audit policy there are no records.
#[cfg(not(feature = "audit"))]
impl Worker {
    /// Nothing is recorded.
    pub fn begin(&self) -> bool {
        false
    }

    /// Nothing to withdraw.
    pub fn withdraw(&self) {}

    /// Nothing to record.
    pub fn record(&self, _: &[u8], _: Moment) {}
}

/// The instance's name, which tells apart modules that share the host's data.
fn instance() -> Vec<u8> {
    abi::property(b"plugin_root_id").unwrap_or_default()
}
