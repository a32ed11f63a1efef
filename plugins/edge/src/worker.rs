//! What one isolate keeps: the chain, its slots, its counters and its records.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};

use portcullis_chain::Chain;
use portcullis_policy::{LocalSlots, Metric, Moment, SharedState, limits};

#[cfg(feature = "audit")]
use crate::records::Records;
use crate::{entropy::Entropy, recurring::Recurring, wire};

/// What the adapter counts by itself.
pub const UNSAFE_VALUES: Metric = Metric {
    name: "portcullis_unsafe_header_values_total",
    help: "Header values with CR, LF or NUL that were not set.",
};
/// Records for which there is no sink.
pub const UNDELIVERED: Metric = Metric {
    name: "portcullis_audit_undelivered_total",
    help: "Audit records that nobody takes: no sink is configured.",
};
/// What a response counts and another isolate outran.
pub const STORE_CONFLICTS: Metric = Metric {
    name: "portcullis_store_conflicts_total",
    help: "Events after the request whose counts were lost, because the store was away or another isolate stored first.",
};

/// A compiled configuration, before anything is served under it.
pub struct Plan {
    chain: Chain,
    warnings: String,
}

impl Plan {
    /// Compiles; the problems, a line each.
    pub fn new(configuration: &[u8]) -> Result<Self, String> {
        let (chain, warnings) = Chain::from_json(configuration).map_err(|errors| errors.to_string())?;
        let warnings = warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        Ok(Self { chain, warnings })
    }
}

/// An isolate's worker.
pub struct Worker {
    plan: Rc<Plan>,
    /// Slots lie in a store outside.
    pub stored: bool,
    environment: Rc<wire::Form>,
    #[cfg_attr(not(feature = "audit"), allow(dead_code, reason = "there are no records"))]
    audited: bool,
    slots: RefCell<Option<LocalSlots>>,
    entropy: Entropy,
    /// Edits of responses that have a number.
    pub recurring: Recurring,
    counters: RefCell<BTreeMap<&'static str, u64>>,
    named: RefCell<BTreeMap<Rc<str>, u64>>,
    #[cfg(feature = "audit")]
    records: RefCell<Option<Records>>,
}

impl Worker {
    /// One that has served nothing yet.
    pub fn new(plan: Rc<Plan>, environment: &str, stored: bool, audited: bool) -> Self {
        let mut counters: BTreeMap<&'static str, u64> =
            portcullis_chain::metrics().into_iter().map(|metric| (metric.name, 0)).collect();
        for metric in [UNSAFE_VALUES, UNDELIVERED, STORE_CONFLICTS] {
            counters.insert(metric.name, 0);
        }
        Self {
            plan,
            stored,
            environment: Rc::new(wire::form(environment)),
            audited,
            slots: RefCell::default(),
            entropy: Entropy::default(),
            recurring: Recurring::default(),
            counters: RefCell::new(counters),
            named: RefCell::default(),
            #[cfg(feature = "audit")]
            records: RefCell::default(),
        }
    }

    /// The compiled configuration.
    pub fn chain(&self) -> &Chain {
        &self.plan.chain
    }

    /// What is odd about the configuration, a line each.
    pub fn warnings(&self) -> &str {
        &self.plan.warnings
    }

    /// Where secrets stand.
    pub const fn environment(&self) -> &Rc<wire::Form> {
        &self.environment
    }

    /// All counters: lines of names and numbers in turn.
    pub fn metrics(&self) -> String {
        #[cfg(feature = "audit")]
        self.tally();
        let mut out = String::new();
        let mut line = |name: &str, value: u64| {
            for part in [name, "\n", &value.to_string(), "\n"] {
                out.push_str(part);
            }
        };
        self.counters.borrow().iter().for_each(|(name, value)| line(name, *value));
        self.named.borrow().iter().for_each(|(name, value)| line(name, *value));
        out
    }

    /// The edit of a response that has that number; nothing for one that nobody was told.
    pub fn known(&self, number: u32) -> String {
        let mut out = String::new();
        let number = usize::try_from(number).unwrap_or(usize::MAX);
        self.recurring.read(number, |operation, name, value| wire::edit(&mut out, operation, name, value));
        out
    }

    /// Counts.
    pub fn count(&self, metric: &Metric, by: u64) {
        let mut counters = self.counters.borrow_mut();
        let counter = counters.entry(metric.name).or_default();
        *counter = counter.saturating_add(by);
    }

    /// Counts under a name of the configuration's; no more names than [`limits::NAMED_COUNTERS`].
    pub fn count_named(&self, name: Rc<str>, by: u64) {
        let mut named = self.named.borrow_mut();
        if named.len() < limits::NAMED_COUNTERS || named.contains_key(&name) {
            let counter = named.entry(name).or_default();
            *counter = counter.saturating_add(by);
        }
    }

    /// The moment of an event, from JavaScript's milliseconds.
    pub fn moment(&self, now: f64, wall: f64) -> Moment {
        Moment {
            now: Duration::from_nanos((now * 1e6) as u64),
            wall_ns: (wall * 1e6) as u64,
            random: [self.entropy.draw(), self.entropy.draw()],
        }
    }

    /// Lends the isolate's own slots.
    pub fn with_slots(&self, work: impl FnOnce(&mut dyn SharedState)) {
        let mut slots = self.slots.borrow_mut();
        work(slots.get_or_insert_with(|| LocalSlots::new(self.entropy.draw())));
    }
}

/// Audit records.
#[cfg(feature = "audit")]
impl Worker {
    /// A finished record.
    pub fn record(&self, text: &[u8], moment: Moment) {
        let Some(audit) = self.chain().audit().filter(|_| self.audited) else {
            self.count(&UNDELIVERED, 1);
            return;
        };
        let mut records = self.records.borrow_mut();
        records.get_or_insert_with(|| Records::new(audit.limits(), self.entropy.draw())).push(text, moment);
    }

    /// The records that are to leave now.
    pub fn batch(&self, moment: Moment) -> Option<Vec<u8>> {
        self.records.borrow_mut().as_mut()?.batch(moment)
    }

    /// What became of them.
    pub fn delivered(&self, status: u16, body: &[u8], moment: Moment) {
        if let Some(records) = self.records.borrow_mut().as_mut() {
            records.delivered(status, body, moment);
        }
    }

    /// Records that wait.
    pub fn waiting(&self) -> u64 {
        self.records.borrow().as_ref().map_or(0, Records::waiting)
    }

    fn tally(&self) {
        let mut records = self.records.borrow_mut();
        for (metric, by) in records.as_mut().into_iter().flat_map(Records::tally) {
            self.count(metric, by);
        }
    }
}
