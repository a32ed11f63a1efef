//! What all VMs of one proxy process share: clocks, shared data, queues, metrics, the log, and randomness.

use std::{
    cell::{Cell, Ref, RefCell},
    collections::BTreeMap,
    rc::Rc,
    time::Duration,
};

use super::{
    clock::Clock,
    metrics::Metrics,
    shared_data::{Queues, SharedData},
};

/// A line of the proxy's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Which VM, in order of their start from 1.
    pub vm: u32,
    /// 0 trace, 1 debug, 2 info, 3 warn, 4 error, 5 critical.
    pub level: u32,
    /// The text; bytes that are not UTF-8 are replaced.
    pub text: String,
}

/// A proxy process. Clones are the same process; VMs of different processes share nothing.
#[derive(Clone)]
pub struct Process(Rc<Inner>);

struct Inner {
    clock: Clock,
    shared: RefCell<SharedData>,
    queues: RefCell<Queues>,
    metrics: RefCell<Metrics>,
    log: RefCell<Vec<LogLine>>,
    log_level: Cell<u32>,
    random: Cell<u64>,
    vms: Cell<u32>,
    interleave: RefCell<Option<Box<dyn FnMut()>>>,
}

impl Process {
    /// A process of which everything random follows from the seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Rc::new(Inner {
            clock: Clock::new(),
            shared: RefCell::default(),
            queues: RefCell::default(),
            metrics: RefCell::default(),
            log: RefCell::default(),
            log_level: Cell::new(2),
            random: Cell::new(seed),
            vms: Cell::new(0),
            interleave: RefCell::default(),
        }))
    }

    /// Lets time pass on both clocks.
    pub fn advance(&self, by: Duration) {
        self.set_time(self.time().saturating_add(by));
    }

    /// Sets the time since the start of the process, on both clocks.
    pub fn set_time(&self, since_start: Duration) {
        self.0.clock.set(since_start);
    }

    /// The time since the start of the process.
    #[must_use]
    pub fn time(&self) -> Duration {
        self.0.clock.since_start()
    }

    /// Moves the wall clock alone, as an administrator or NTP does.
    pub fn step_wall_clock(&self, by_ns: i64) {
        self.0.clock.step_wall(by_ns);
    }

    /// Nanoseconds of the wall clock since 1970.
    #[must_use]
    pub fn wall_ns(&self) -> u64 {
        self.0.clock.wall_ns()
    }

    /// Nanoseconds of the monotonic clock.
    #[must_use]
    pub fn monotonic_ns(&self) -> u64 {
        self.0.clock.monotonic_ns()
    }

    /// The shared data as it is now.
    #[must_use]
    pub fn shared_data(&self) -> Ref<'_, SharedData> {
        self.0.shared.borrow()
    }

    /// All metrics and their values. Names are the module's own.
    #[must_use]
    pub fn metrics(&self) -> BTreeMap<String, u64> {
        self.0.metrics.borrow().all()
    }

    /// The value of a metric; 0 for one that is not defined.
    #[must_use]
    pub fn metric(&self, name: &str) -> u64 {
        self.metrics().get(name).copied().unwrap_or(0)
    }

    /// All lines so far.
    #[must_use]
    pub fn log(&self) -> Vec<LogLine> {
        self.0.log.borrow().clone()
    }

    /// All lines so far, which are then forgotten.
    #[must_use]
    pub fn take_log(&self) -> Vec<LogLine> {
        self.0.log.take()
    }

    /// Below which level lines are dropped; 2 (info) at first.
    pub fn set_log_level(&self, level: u32) {
        self.0.log_level.set(level);
    }

    /// Runs `other` right before each store of shared data, so after the loads that led to it: another thread that
    /// gets in between. `other` may call other VMs of this process; what these store does not run it again.
    pub fn interleave(&self, other: impl FnMut() + 'static) {
        *self.0.interleave.borrow_mut() = Some(Box::new(other));
    }

    /// Ends what [`Self::interleave`] began.
    pub fn stop_interleaving(&self) {
        self.0.interleave.take();
    }

    pub(crate) fn another_thread(&self) {
        // Taken out while it runs: it is not run again by what it does itself.
        let taken = self.0.interleave.take();
        if let Some(mut other) = taken {
            other();
            self.0.interleave.borrow_mut().get_or_insert(other);
        }
    }

    pub(crate) fn with_shared<T>(&self, work: impl FnOnce(&mut SharedData) -> T) -> T {
        work(&mut self.0.shared.borrow_mut())
    }

    pub(crate) fn with_queues<T>(&self, work: impl FnOnce(&mut Queues) -> T) -> T {
        work(&mut self.0.queues.borrow_mut())
    }

    pub(crate) fn with_metrics<T>(&self, work: impl FnOnce(&mut Metrics) -> T) -> T {
        work(&mut self.0.metrics.borrow_mut())
    }

    pub(crate) fn log_level(&self) -> u32 {
        self.0.log_level.get()
    }

    pub(crate) fn write_log(&self, vm: u32, level: u32, text: &[u8]) {
        if level >= self.log_level() {
            let text = String::from_utf8_lossy(text).into_owned();
            self.0.log.borrow_mut().push(LogLine { vm, level, text });
        }
    }

    pub(crate) fn next_vm(&self) -> u32 {
        let number = self.0.vms.get().saturating_add(1);
        self.0.vms.set(number);
        number
    }

    /// SplitMix64: good enough to be different, and the same on every run.
    pub(crate) fn random(&self) -> u64 {
        let state = self.0.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.random.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
