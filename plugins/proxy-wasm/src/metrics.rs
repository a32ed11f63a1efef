//! Counters, gathered in the VM and handed to the host on ticks: a count costs no host call on the request's path.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use portcullis_policy::{Metric, limits};

use crate::abi;

struct Counter {
    name: Rc<str>,
    id: u32,
    pending: Cell<u64>,
}

/// The counters of an instance.
#[derive(Default)]
pub struct Counters {
    list: RefCell<Vec<Counter>>,
    /// Those that the configuration names; defined when they first count, kept across configurations.
    named: RefCell<Vec<Counter>>,
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
            list.push(Counter { name: metric.name.into(), id, pending: Cell::new(0) });
        }
        *self.list.borrow_mut() = list;
        true
    }

    /// Counts.
    pub fn add(&self, metric: &Metric, by: u64) {
        let list = self.list.borrow();
        let found = list.iter().find(|counter| *counter.name == *metric.name);
        if let Some(counter) = found {
            counter.add(by, self.direct.get());
        }
    }

    /// Counts under a name of the configuration's. Beyond [`limits::NAMED_COUNTERS`] of them nothing is counted.
    pub fn add_named(&self, name: &Rc<str>, by: u64) {
        let Ok(mut list) = self.named.try_borrow_mut() else { return };
        if let Some(counter) = list.iter().find(|counter| counter.name == *name) {
            return counter.add(by, self.direct.get());
        }
        if list.len() < limits::NAMED_COUNTERS
            && let Ok(id) = abi::define_counter(name)
        {
            let counter = Counter { name: Rc::clone(name), id, pending: Cell::new(0) };
            counter.add(by, self.direct.get());
            list.push(counter);
        }
    }

    /// Hands everything to the host.
    pub fn flush(&self) {
        for counter in self.list.borrow().iter().chain(self.named.borrow().iter()) {
            counter.flush();
        }
    }
}

impl Counter {
    fn add(&self, by: u64, direct: bool) {
        self.pending.set(self.pending.get().saturating_add(by));
        if direct {
            self.flush();
        }
    }

    fn flush(&self) {
        let pending = self.pending.replace(0);
        if pending > 0 && abi::increment(self.id, pending).is_err() {
            // Kept for the next flush.
            self.pending.set(pending);
        }
    }
}
