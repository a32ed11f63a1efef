//! Counters, gathered in the VM and handed to the host on ticks: a count costs no host call on the request's path.

use std::cell::{Cell, RefCell};

use portcullis_policy::Metric;

use crate::abi;

struct Counter {
    metric: &'static Metric,
    id: u32,
    pending: Cell<u64>,
}

/// The counters of an instance.
#[derive(Default)]
pub struct Counters {
    list: RefCell<Vec<Counter>>,
    /// Without ticks each count goes to the host at once.
    direct: Cell<bool>,
}

impl Counters {
    /// Defines all metrics; false when the host has none.
    pub fn define(&self, metrics: &[&'static Metric], ticks: bool) -> bool {
        // A second configuration must not lose what the first one counted.
        self.flush();
        self.direct.set(!ticks);
        let mut list = Vec::with_capacity(metrics.len());
        for metric in metrics {
            let Ok(id) = abi::define_counter(metric.name) else { return false };
            list.push(Counter { metric, id, pending: Cell::new(0) });
        }
        *self.list.borrow_mut() = list;
        true
    }

    /// Counts.
    pub fn add(&self, metric: &Metric, by: u64) {
        let list = self.list.borrow();
        let found = list.iter().find(|counter| counter.metric.name == metric.name);
        let Some(counter) = found else { return };
        counter.pending.set(counter.pending.get().saturating_add(by));
        if self.direct.get() {
            counter.flush();
        }
    }

    /// Hands everything to the host.
    pub fn flush(&self) {
        for counter in self.list.borrow().iter() {
            counter.flush();
        }
    }
}

impl Counter {
    fn flush(&self) {
        let pending = self.pending.replace(0);
        if pending > 0 && abi::increment(self.id, pending).is_err() {
            // Kept for the next flush.
            self.pending.set(pending);
        }
    }
}
