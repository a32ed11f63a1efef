//! What the streams of a VM share: the chain, the clock, counters, shared slots, and the queue of records.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use portcullis_chain::Chain;
use portcullis_policy::{Headers, LogLevel, Metric, SharedState};
use proxy_wasm::{
    traits::{Context, HttpContext, RootContext},
    types::ContextType,
};

use crate::{
    abi::{self, Buffer, Map, Status},
    clock::Clock,
    http::{self, Exchange},
    metrics::Counters,
    shared::Slots,
};

/// How often counters are handed over, records shipped and the wall clock measured.
const TICK_MS: u32 = 500;

const HOST_REFUSED: Metric = Metric {
    name: "portcullis_host_calls_refused_total",
    help: "Host calls that the host refused; what they were for did not happen.",
};
const UNSAFE_VALUES: Metric = Metric {
    name: "portcullis_unsafe_header_values_total",
    help: "Header values that were not set because they hold CR, LF or NUL.",
};

/// A VM's state for one instance of the module. Everything is behind cells: callbacks are never nested, but a
/// borrow that is refused must not be a panic either.
pub struct Worker {
    chain: RefCell<Option<Rc<Chain>>>,
    shared: RefCell<Slots>,
    /// Time and randomness.
    pub clock: Clock,
    /// Counters.
    pub counters: Counters,
    holds_headers: bool,
    log_level: Cell<u32>,
    #[cfg(feature = "audit")]
    delivery: RefCell<Option<crate::delivery::Delivery>>,
}

impl Worker {
    fn start() -> Self {
        let (clock, random) = Clock::new();
        let instance = abi::property(b"plugin_root_id").unwrap_or_default();
        let (slots, is_shared) = Slots::open(&instance, &clock);
        let holds = std::env::var("PORTCULLIS_HOLD_HEADERS").is_ok_and(|value| value == "true");
        let worker = Self {
            chain: RefCell::default(),
            shared: RefCell::new(slots),
            clock,
            counters: Counters::default(),
            holds_headers: holds,
            log_level: Cell::new(abi::log_level()),
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

    fn configure(&self, bytes: &[u8]) -> bool {
        let (chain, warnings) = match Chain::from_json(bytes) {
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
        if !self.counters.define(&metrics, ticks) {
            self.log(LogLevel::Warn, "the host has no metrics: nothing is counted");
        }
        #[cfg(feature = "audit")]
        self.open_delivery(&chain, ticks);
        *self.chain.borrow_mut() = Some(Rc::new(chain));
        true
    }

    #[cfg(feature = "audit")]
    fn open_delivery(&self, chain: &Chain, ticks: bool) {
        if !ticks || !abi::offers_http_calls() {
            self.log(LogLevel::Warn, "the host has no ticks or no calls: audit records are not delivered");
            return;
        }
        let mut delivery = self.delivery.borrow_mut();
        match delivery.as_mut() {
            // A new configuration keeps the records that wait.
            Some(delivery) => delivery.configure(chain),
            None => *delivery = Some(crate::delivery::Delivery::new(chain, &self.clock)),
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

    /// Queues an audit record.
    #[cfg(feature = "audit")]
    pub fn record(&self, record: portcullis_chain::audit::Record) {
        if let Ok(mut delivery) = self.delivery.try_borrow_mut()
            && let Some(delivery) = delivery.as_mut()
        {
            delivery.push(record, &self.clock, &self.counters);
        }
    }

    /// Without the audit policy there are no records.
    #[cfg(not(feature = "audit"))]
    pub fn record<T>(&self, _: T) {}

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

    fn tick(&self) {
        self.clock.adjust();
        self.log_level.set(abi::log_level());
        #[cfg(feature = "audit")]
        if let Ok(mut delivery) = self.delivery.try_borrow_mut()
            && let Some(delivery) = delivery.as_mut()
        {
            delivery.tick(&self.clock, &self.counters);
        }
        self.counters.flush();
    }
}

/// The root context of an instance in one VM.
#[derive(Default)]
pub struct Root {
    worker: Option<Rc<Worker>>,
}

impl Root {
    fn worker(&mut self) -> &Rc<Worker> {
        self.worker.get_or_insert_with(|| Rc::new(Worker::start()))
    }
}

impl Context for Root {
    #[cfg(feature = "audit")]
    fn on_http_call_response(&mut self, token: u32, headers: usize, body: usize, _: usize) {
        let worker = self.worker();
        if let Ok(mut delivery) = worker.delivery.try_borrow_mut()
            && let Some(delivery) = delivery.as_mut()
        {
            delivery.answered(token, headers > 0, body, &worker.clock, &worker.counters);
        }
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, size: usize) -> bool {
        let bytes = abi::buffer(Buffer::Configuration, 0, size).unwrap_or_default();
        self.worker().configure(&bytes)
    }

    fn on_tick(&mut self) {
        self.worker().tick();
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        let worker = self.worker.clone().unwrap_or_else(|| Rc::new(Worker::start()));
        Some(Box::new(Exchange::new(worker)))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}
