//! Lines that wait for the companion: bounded in bytes, sent in batches, kept until an answer says what became of them.
//!
//! One batch is on its way at a time, always the oldest, so lines arrive in order. When there is no room, the *newest*
//! line is dropped: whoever floods us then cannot push out what was recorded before, and what is numbered stays
//! without holes. A batch that fails is sent again after a wait that doubles up to a maximum, half of it at random, so
//! that workers do not come in step. A batch that the companion will not have as it is (400, 415) is dropped after
//! [`REFUSALS`] tries, because those behind it wait; one that is too large (413) is split.
//!
//! Limits: [`Limits::queue_bytes`] of text, in buffers that may have twice that; the last [`RESERVE`] bytes are kept
//! for reports of gaps.

use std::{collections::VecDeque, time::Duration};

/// Room that only reports of gaps may use.
pub const RESERVE: usize = 4096;
/// How often a batch is offered that the companion refuses.
pub const REFUSALS: u32 = 3;

/// Bounds of the queue and of its repetitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most that waits, in bytes.
    pub queue_bytes: usize,
    /// The most that one batch carries, in bytes.
    pub batch_bytes: usize,
    /// The wait before the first repetition.
    pub retry_min: Duration,
    /// The longest wait.
    pub retry_max: Duration,
}

/// What a line is, for accounting.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mark {
    /// Which life numbered it.
    pub epoch: u64,
    /// Its number in that life, from 1; 0 when it has none of that life's.
    pub sequence: u64,
    /// It is the report of a gap.
    pub gap: bool,
    /// How many lost records it reports, of those that this queue lost.
    pub tells: u64,
}

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// All lines are stored, but for those that are no records to the companion.
    Stored {
        /// How many are not.
        rejected: u64,
    },
    /// The batch is larger than the companion takes.
    TooLarge,
    /// The companion will not have this batch.
    Refused,
    /// Nobody answered, or not with a decision on the batch: it is kept.
    Unavailable,
}

impl Answer {
    /// Reads an answer: its status, if there was any, and the start of its body.
    pub fn read(status: Option<u16>, body: &[u8]) -> Self {
        match status {
            Some(200..=299) => Self::Stored { rejected: rejected(body) },
            Some(413) => Self::TooLarge,
            Some(400 | 415 | 422) => Self::Refused,
            // A wrong token or path is an operator's to mend; the rest mends itself.
            _ => Self::Unavailable,
        }
    }
}

/// The number after `"rejected":`, 0 when there is none.
fn rejected(body: &[u8]) -> u64 {
    const KEY: &[u8] = b"\"rejected\":";
    let Some(at) = body.windows(KEY.len()).position(|window| window == KEY) else { return 0 };
    let digits = body.get(at.saturating_add(KEY.len())..).unwrap_or_default().trim_ascii_start();
    digits
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .fold(0, |number: u64, byte| number.saturating_mul(10).saturating_add(u64::from(byte - b'0')))
}

/// What an answer settled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settled {
    /// Lines that are stored.
    pub delivered: u64,
    /// Records that are lost, because they or their batch were refused.
    pub refused: u64,
    /// Reported losses whose report is stored.
    pub told: u64,
    /// Reported losses whose report is lost.
    pub untold: u64,
    /// Reports of gaps were among what is lost.
    pub reports_lost: bool,
    /// The batch is kept and will be sent again.
    pub again: bool,
    /// The life whose records up to `sequence` are accounted for.
    pub epoch: u64,
    /// 0 when none of them are.
    pub sequence: u64,
}

#[derive(Debug, Default)]
struct Batch {
    text: Vec<u8>,
    epoch: u64,
    sequence: u64,
    lines: u64,
    reports: Vec<Report>,
}

/// A line that reports a gap.
#[derive(Debug)]
struct Report {
    /// Where it begins.
    at: usize,
    tells: u64,
    /// It has a number of the batch's life.
    numbered: bool,
}

impl Batch {
    fn records(&self) -> u64 {
        self.lines.saturating_sub(u64::try_from(self.reports.len()).unwrap_or(u64::MAX))
    }

    fn tells(&self) -> u64 {
        self.reports.iter().map(|report| report.tells).fold(0, u64::saturating_add)
    }

    /// Cuts it in two at a line's border; the second half.
    fn split_off(&mut self, at: usize) -> Self {
        let text = self.text.split_off(at);
        let first = self.reports.partition_point(|report| report.at < at);
        let mut reports = self.reports.split_off(first);
        for report in &mut reports {
            report.at = report.at.saturating_sub(at);
        }
        let lines = u64::try_from(text.iter().filter(|byte| **byte == b'\n').count()).unwrap_or(u64::MAX);
        self.lines = self.lines.saturating_sub(lines);
        let strange =
            u64::try_from(reports.iter().filter(|report| !report.numbered).count()).unwrap_or(u64::MAX);
        let second = Self { text, epoch: self.epoch, sequence: self.sequence, lines, reports };
        // Numbers are in order and without holes.
        self.sequence = self.sequence.saturating_sub(lines.saturating_sub(strange));
        second
    }
}

/// The queue.
#[derive(Debug)]
pub struct Queue {
    limits: Limits,
    batches: VecDeque<Batch>,
    bytes: usize,
    /// Since when the first batch is on its way.
    sent: Option<Duration>,
    /// Not before.
    due: Duration,
    failures: u32,
    refusals: u32,
    /// Lines that ever came in, and those that are settled.
    pushed: u64,
    settled: u64,
}

impl Queue {
    /// An empty queue.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            batches: VecDeque::new(),
            bytes: 0,
            sent: None,
            due: Duration::ZERO,
            failures: 0,
            refusals: 0,
            pushed: 0,
            settled: 0,
        }
    }

    /// Takes new limits; what waits is kept, even beyond them.
    pub fn limit(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Lines that wait.
    pub fn lines(&self) -> u64 {
        self.pushed.saturating_sub(self.settled)
    }

    /// Lines that ever came in.
    pub fn pushed(&self) -> u64 {
        self.pushed
    }

    /// Whether a batch is on its way.
    pub fn in_flight(&self) -> bool {
        self.sent.is_some()
    }

    /// Whether all lines up to that position ([`Queue::push`]) are settled.
    pub fn is_settled(&self, position: u64) -> bool {
        position <= self.settled
    }

    /// Whether a line of so many bytes has room.
    pub fn has_room(&self, bytes: usize, gap: bool) -> bool {
        let reserve = if gap { 0 } else { RESERVE };
        self.bytes.saturating_add(bytes) <= self.limits.queue_bytes.saturating_sub(reserve)
    }

    /// Appends a line, given in pieces that end with the line's end; its position, or `None` when there is no room.
    pub fn push(&mut self, pieces: &[&[u8]], mark: Mark) -> Option<u64> {
        let bytes: usize = pieces.iter().map(|piece| piece.len()).sum();
        if !self.has_room(bytes, mark.gap) {
            return None;
        }
        let only_in_flight = self.batches.len() == 1 && self.sent.is_some();
        let fits = self.batches.back().is_some_and(|last| {
            last.epoch == mark.epoch && last.text.len().saturating_add(bytes) <= self.limits.batch_bytes
        });
        if only_in_flight || !fits {
            self.batches.push_back(Batch { epoch: mark.epoch, ..Batch::default() });
        }
        let batch = self.batches.back_mut()?;
        if mark.gap {
            let at = batch.text.len();
            batch.reports.push(Report { at, tells: mark.tells, numbered: mark.sequence > 0 });
        }
        for piece in pieces {
            batch.text.extend_from_slice(piece);
        }
        batch.lines = batch.lines.saturating_add(1);
        batch.sequence = batch.sequence.max(mark.sequence);
        self.bytes = self.bytes.saturating_add(bytes);
        self.pushed = self.pushed.saturating_add(1);
        Some(self.pushed)
    }

    /// Whether a full batch waits and may leave at once.
    pub fn is_pressing(&self, now: Duration) -> bool {
        self.batches.len() > 1 && self.sent.is_none() && now >= self.due
    }

    /// The batch that is to be sent now; it is on its way until [`Queue::answered`].
    pub fn send(&mut self, now: Duration) -> Option<&[u8]> {
        if self.sent.is_some() || now < self.due {
            return None;
        }
        let first = self.batches.front()?;
        self.sent = Some(now);
        Some(&first.text)
    }

    /// Whether the batch on its way left longer ago than that.
    pub fn is_overdue(&self, now: Duration, most: Duration) -> bool {
        self.sent.is_some_and(|since| now.saturating_sub(since) > most)
    }

    /// What became of the batch on its way.
    pub fn answered(&mut self, answer: Answer, now: Duration, random: u64) -> Settled {
        if self.sent.take().is_none() {
            return Settled::default();
        }
        match answer {
            Answer::Stored { rejected } => self.stored(rejected, now, random),
            Answer::TooLarge if self.split() => {
                self.due = now;
                Settled { again: true, ..Settled::default() }
            }
            Answer::TooLarge => self.drop_first(),
            Answer::Refused => {
                self.refusals = self.refusals.saturating_add(1);
                if self.refusals >= REFUSALS { self.drop_first() } else { self.wait(now, random) }
            }
            Answer::Unavailable => self.wait(now, random),
        }
    }

    fn stored(&mut self, rejected: u64, now: Duration, random: u64) -> Settled {
        let Some(batch) = self.take_first() else { return Settled::default() };
        let rejected = rejected.min(batch.lines);
        let records = batch.records();
        // Which lines were rejected is not known: records first, then reports.
        let told = rejected <= records;
        if rejected == batch.lines {
            // Nothing of it was taken: slow down, lest the report of this loss goes the same way at once.
            self.wait(now, random);
        }
        Settled {
            delivered: batch.lines.saturating_sub(rejected),
            refused: rejected.min(records),
            told: if told { batch.tells() } else { 0 },
            untold: if told { 0 } else { batch.tells() },
            reports_lost: !told,
            again: false,
            epoch: batch.epoch,
            sequence: batch.sequence,
        }
    }

    fn drop_first(&mut self) -> Settled {
        let Some(batch) = self.take_first() else { return Settled::default() };
        Settled {
            refused: batch.records(),
            untold: batch.tells(),
            reports_lost: !batch.reports.is_empty(),
            epoch: batch.epoch,
            sequence: batch.sequence,
            ..Settled::default()
        }
    }

    fn take_first(&mut self) -> Option<Batch> {
        let batch = self.batches.pop_front()?;
        self.bytes = self.bytes.saturating_sub(batch.text.len());
        self.settled = self.settled.saturating_add(batch.lines);
        (self.failures, self.refusals, self.due) = (0, 0, Duration::ZERO);
        Some(batch)
    }

    fn wait(&mut self, now: Duration, random: u64) -> Settled {
        let factor = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        let longest = self.limits.retry_min.saturating_mul(factor).min(self.limits.retry_max);
        let half = longest / 2;
        let jitter = random.checked_rem(u64::try_from(half.as_millis()).unwrap_or(u64::MAX)).unwrap_or(0);
        self.due = now.saturating_add(half).saturating_add(Duration::from_millis(jitter));
        self.failures = self.failures.saturating_add(1);
        Settled { again: true, ..Settled::default() }
    }

    /// Halves the first batch; false when it has a single line.
    fn split(&mut self) -> bool {
        let Some(first) = self.batches.front_mut() else { return false };
        if first.lines < 2 {
            return false;
        }
        let border = |at: &usize| first.text.get(*at) == Some(&b'\n');
        let half = first.text.len() / 2;
        // The last line's end is no border within.
        let end = first.text.len().saturating_sub(1);
        let Some(at) = (half..end).find(border).or_else(|| (0..half).rev().find(border)) else {
            return false;
        };
        let second = first.split_off(at.saturating_add(1));
        self.batches.insert(1, second);
        true
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
