//! Queue and ledger of one worker, as a host drives them.
//!
//! A host says when a request [begins](Trail::begin), brings its [record](Trail::record), [ticks](Trail::tick), sends
//! what [`Trail::send`] gives and says what [came of it](Trail::answered). Numbers are handed out when a record is
//! queued, so they are in order and without holes; what is dropped gets none, and is counted and reported as soon as
//! there is room. `promised` in the ledger is always: numbers handed out, requests that have begun, and losses whose
//! report is not stored yet. So whenever the VM dies, what is missing is what was promised and not settled.

use std::time::Duration;

use portcullis_policy::{Metric, Moment};

use crate::{
    ledger::{Board, Entry, Ledger},
    queue::{Answer, Limits, Mark, Queue},
    text::Text,
};

/// What is counted here, in the order of [`Tally`].
pub const METRICS: [Metric; 5] = [
    Metric {
        name: "portcullis_audit_delivered_total",
        help: "Audit records and gap reports that the companion stored.",
    },
    Metric {
        name: "portcullis_audit_dropped_total",
        help: "Audit records dropped because the queue was full.",
    },
    Metric {
        name: "portcullis_audit_rejected_total",
        help: "Audit records that the companion refused for good.",
    },
    Metric {
        name: "portcullis_audit_gaps_total",
        help: "Reports of missing audit records that were queued.",
    },
    Metric { name: "portcullis_audit_retries_total", help: "Deliveries that failed and will be repeated." },
];

/// Counts since they were last taken, in the order of [`METRICS`].
pub type Tally = [u64; METRICS.len()];

const DELIVERED: usize = 0;
const DROPPED: usize = 1;
const REJECTED: usize = 2;
const GAPS: usize = 3;
const RETRIES: usize = 4;

/// Every record ends with these.
pub(crate) const BRACES: &[u8] = b"}}}";
pub(crate) const LINE_END: &[u8] = b"}}}\n";
/// More than a report and a record's number take.
const REPORT_BYTES: usize = 1024;
/// Numbers of reports on another life begin here: it will not have handed out so many.
const REPORTS_FROM: u64 = 1 << 62;

/// Losses that are not reported yet.
#[derive(Debug, Clone, Copy, Default)]
struct Lost {
    overflow: u64,
    refused: u64,
}

impl Lost {
    fn total(self) -> u64 {
        self.overflow.saturating_add(self.refused)
    }
}

/// Queue and ledger of one worker.
#[derive(Debug)]
pub struct Trail {
    queue: Queue,
    ledger: Ledger,
    epoch: u64,
    /// Numbers handed out in this life.
    handed: u64,
    /// Of these, the first so many are settled.
    settled: u64,
    /// Requests that have begun.
    open: u64,
    lost: Lost,
    /// Losses whose report is queued.
    told: u64,
    tally: Tally,
}

impl Trail {
    /// An empty trail; `epoch` is random.
    pub fn new(limits: Limits, epoch: u64) -> Self {
        Self {
            queue: Queue::new(limits),
            ledger: Ledger::default(),
            epoch,
            handed: 0,
            settled: 0,
            open: 0,
            lost: Lost::default(),
            told: 0,
            tally: Tally::default(),
        }
    }

    /// Takes new limits; what waits is kept.
    pub fn limit(&mut self, limits: Limits) {
        self.queue.limit(limits);
    }

    /// A request begins: it will leave a record. Costs one write to the board.
    pub fn begin(&mut self, board: &mut dyn Board) {
        self.open = self.open.saturating_add(1);
        self.note(board);
    }

    /// A request that has begun leaves no record after all: its route has none.
    pub fn withdraw(&mut self) {
        self.open = self.open.saturating_sub(1);
    }

    /// Queues the record of a request that has begun.
    pub fn record(&mut self, text: &[u8], moment: Moment) {
        self.withdraw();
        self.report_losses(text.len(), moment);
        let body = text.strip_suffix(BRACES).unwrap_or(text);
        if !self.push(body, false, 0) {
            self.lost.overflow = self.lost.overflow.saturating_add(1);
            self.count(DROPPED, 1);
        }
    }

    /// Regularly: keeps the ledger, reports what was lost and who died.
    pub fn tick(&mut self, board: &mut dyn Board, moment: Moment) {
        self.report_losses(0, moment);
        let found = self.ledger.tick(board, self.entry());
        if found.evicted {
            // What was promised in the life that ended is reported by whoever ended it.
            let [fresh, _] = moment.random;
            (self.epoch, self.handed, self.settled) = (fresh, 0, 0);
        }
        for dead in found.dead {
            let text = gap(moment, |out| died(out, &dead.entry));
            let line = numbered(dead.entry.epoch, REPORTS_FROM.saturating_add(dead.entry.promised));
            let bytes = text.len().saturating_add(line.len()).saturating_add(LINE_END.len());
            // The report goes after the next line that is pushed, which is this one if it has room.
            let position = self.queue.pushed().saturating_add(1);
            if !self.queue.has_room(bytes, true) || !self.ledger.adopt(board, dead, position) {
                continue;
            }
            let mark = Mark { epoch: self.epoch, gap: true, ..Mark::default() };
            self.queue.push(&[&text, &line, LINE_END], mark);
            self.count(GAPS, 1);
        }
    }

    /// Whether a full batch waits and may leave at once.
    pub fn is_pressing(&self, now: Duration) -> bool {
        self.queue.is_pressing(now)
    }

    /// The batch that is to be sent now; it is on its way until [`Trail::answered`].
    pub fn send(&mut self, now: Duration) -> Option<&[u8]> {
        self.queue.send(now)
    }

    /// Whether the batch on its way left longer ago than that: a host that forgot to call back.
    pub fn is_overdue(&self, now: Duration, most: Duration) -> bool {
        self.queue.is_overdue(now, most)
    }

    /// What became of the batch on its way.
    pub fn answered(&mut self, board: &mut dyn Board, answer: Answer, moment: Moment) {
        let [_, random] = moment.random;
        let done = self.queue.answered(answer, moment.now, random);
        if done.epoch == self.epoch {
            self.settled = self.settled.max(done.sequence);
        }
        self.lost.refused = self.lost.refused.saturating_add(done.refused).saturating_add(done.untold);
        self.told = self.told.saturating_sub(done.told.saturating_add(done.untold));
        self.count(DELIVERED, done.delivered);
        self.count(REJECTED, done.refused);
        self.count(RETRIES, u64::from(done.again));
        if !done.again {
            let queue = &self.queue;
            self.ledger.release(board, |position| queue.is_settled(position), done.reports_lost);
            self.note(board);
        }
    }

    /// Records and reports that wait, and losses that are not reported yet.
    pub fn waiting(&self) -> u64 {
        self.queue.lines().saturating_add(self.lost.total())
    }

    /// Whether another VM would notice if this one died.
    pub fn is_watched(&self) -> bool {
        self.ledger.is_watched()
    }

    /// The VM ends in good order: gives its slot back if nothing waits, else others will report what is missing.
    pub fn leave(&mut self, board: &mut dyn Board) {
        if self.entry().owed() == 0 {
            self.ledger.leave(board);
        }
    }

    /// Counts since the last time.
    pub fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    fn entry(&self) -> Entry {
        let promised =
            [self.handed, self.open, self.lost.total(), self.told].into_iter().fold(0, u64::saturating_add);
        Entry { epoch: self.epoch, promised, settled: self.settled, beat: 0 }
    }

    fn note(&mut self, board: &mut dyn Board) {
        let entry = self.entry();
        self.ledger.note(board, entry);
    }

    fn push(&mut self, body: &[u8], gap: bool, tells: u64) -> bool {
        let sequence = self.handed.saturating_add(1);
        let mark = Mark { epoch: self.epoch, sequence, gap, tells };
        let queued = self.queue.push(&[body, &numbered(self.epoch, sequence), LINE_END], mark).is_some();
        if queued {
            self.handed = sequence;
        }
        queued
    }

    /// Reports what was lost, once there is room again for more than the report: one for each time that the queue was
    /// full, not one for each record that was dropped.
    fn report_losses(&mut self, next_bytes: usize, moment: Moment) {
        let total = self.lost.total();
        if total == 0 || !self.queue.has_room(next_bytes.saturating_add(REPORT_BYTES), false) {
            return;
        }
        let refused = self.lost.refused;
        let text = gap(moment, |out| {
            out.raw("\"cause\":\"overflow\",\"count\":");
            out.number(total);
            if refused > 0 {
                out.raw(",\"refused\":");
                out.number(refused);
            }
        });
        if self.push(&text, true, total) {
            self.told = self.told.saturating_add(total);
            self.lost = Lost::default();
            self.count(GAPS, 1);
        }
    }

    fn count(&mut self, what: usize, by: u64) {
        if let Some(count) = self.tally.get_mut(what) {
            *count = count.saturating_add(by);
        }
    }
}

/// The members that make a record the same record when it is delivered twice.
pub(crate) fn numbered(epoch: u64, sequence: u64) -> Vec<u8> {
    let mut out = Text::with_capacity(64);
    out.raw(",\"epoch\":\"");
    out.hexadecimal(epoch);
    out.raw("\",\"sequence\":");
    out.number(sequence);
    out.into_bytes()
}

/// The report of a gap, without its end.
fn gap(moment: Moment, details: impl FnOnce(&mut Text)) -> Vec<u8> {
    let mut out = Text::with_capacity(512);
    out.raw(crate::record::START);
    out.raw("},\"activity_id\":99,\"type_uid\":400299,\"severity_id\":4,\"status_id\":2,\"time\":");
    out.number(moment.wall_ns / 1_000_000);
    out.raw(
        ",\"unmapped\":{\"portcullis\":{\"event_type\":\"AUDIT_GAP\",\"severity\":\"ERROR\",\"details\":{",
    );
    details(&mut out);
    out.raw("}");
    out.into_bytes()
}

fn died(out: &mut Text, entry: &Entry) {
    out.raw("\"cause\":\"vm-died\",\"lost_epoch\":\"");
    out.hexadecimal(entry.epoch);
    out.raw("\"");
    out.raw(",\"from\":");
    out.number(entry.settled.saturating_add(1));
    out.raw(",\"to\":");
    out.number(entry.promised);
    out.raw(",\"count\":");
    out.number(entry.owed());
}

#[cfg(test)]
#[path = "trail_tests.rs"]
mod tests;
