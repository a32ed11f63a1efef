//! The strict lane: a request waits until the companion has stored what it is about to do.
//!
//! For routes whose requests must never reach the application unrecorded. Before such a request goes on, a record of what it
//! asks for, its *intent*, is handed to this lane; one call carries those of all requests that wait, and a request goes on
//! only when the companion says that its line is stored durably. Its record proper, with the outcome, follows through the
//! [queue](crate::queue) like every other. A call that fails is repeated as long as requests wait for it; lines keep their
//! numbers, so that one which was stored although the answer was lost is stored once.
//!
//! It deliberately keeps nothing for requests that wait no more: what was never acknowledged may be lost, because its
//! request was refused. Limits: [`MOST_LINES`] and [`MOST_BYTES`] that wait or are on their way in a worker, [`PROBES`] while
//! the companion does not answer; a request beyond is refused at once. One call at a time, of at most [`CALL_LINES`] and
//! [`CALL_BYTES`].

use std::{collections::VecDeque, time::Duration};

use portcullis_policy::{Fate, Journal, Metric, Ticket};

use crate::{
    queue::Answer,
    trail::{BRACES, LINE_END, numbered},
};

/// Lines of one call: as many as the companion names when it rejects them.
pub const CALL_LINES: usize = 100;
/// Bytes of one call.
pub const CALL_BYTES: usize = 256 * 1024;
/// Lines of a worker that wait or are on their way.
pub const MOST_LINES: usize = 256;
/// Their bytes.
pub const MOST_BYTES: usize = 1024 * 1024;
/// The same while the last call has failed: those find out whether the companion is there again, the others need not wait.
pub const PROBES: usize = 8;
/// How long after a failed call the next leaves.
const RETRY: Duration = Duration::from_millis(100);

/// What is counted here, in the order of [`Lane::take_tally`].
pub const METRICS: [Metric; 2] = [
    Metric {
        name: "portcullis_audit_intent_calls_total",
        help: "Calls to the companion with intents of requests that wait.",
    },
    Metric {
        name: "portcullis_audit_intent_failures_total",
        help: "Those that were not answered as they should be.",
    },
];

#[derive(Debug)]
struct Line {
    ticket: Ticket,
    text: Vec<u8>,
    withdrawn: bool,
}

/// A worker's strict lane. Pure: the host brings time and answers, and carries the calls.
#[derive(Debug)]
pub struct Lane {
    epoch: u64,
    handed: u64,
    /// The host can call the companion.
    calls: bool,
    /// The last call failed.
    away: bool,
    /// No call before.
    due: Duration,
    waiting: VecDeque<Line>,
    sent: Option<(Duration, Vec<Line>)>,
    bytes: usize,
    /// What the last answer settled; whoever is not among them has failed.
    settled: Vec<Ticket>,
    tally: [u64; METRICS.len()],
}

impl Lane {
    /// An empty lane; `epoch` is random, and tells its lines from all others.
    pub fn new(epoch: u64) -> Self {
        Self {
            epoch,
            handed: 0,
            calls: false,
            away: false,
            due: Duration::ZERO,
            waiting: VecDeque::new(),
            sent: None,
            bytes: 0,
            settled: Vec::new(),
            tally: [0; METRICS.len()],
        }
    }

    /// The host turned out to be able to call, or not.
    pub fn set_calls(&mut self, calls: bool) {
        self.calls = calls;
    }

    /// Whether a call should leave before the next usual tick.
    pub fn is_pressing(&self) -> bool {
        !self.away && self.sent.is_none() && !self.waiting.is_empty()
    }

    /// The body of the next call, JSON lines, if one is due. Whoever takes it must bring its answer, or say that none came.
    pub fn call(&mut self, now: Duration) -> Option<Vec<u8>> {
        if self.sent.is_some() || now < self.due || self.waiting.is_empty() {
            return None;
        }
        let (mut lines, mut body) = (Vec::new(), Vec::new());
        while let Some(next) = self.waiting.front() {
            let full = lines.len() >= CALL_LINES || body.len().saturating_add(next.text.len()) > CALL_BYTES;
            if full && !lines.is_empty() {
                break;
            }
            let Some(line) = self.waiting.pop_front() else { break };
            body.extend_from_slice(&line.text);
            lines.push(line);
        }
        self.sent = Some((now, lines));
        self.count(0);
        Some(body)
    }

    /// Whether the call on its way left longer ago than that: a host that forgot to call back.
    pub fn is_overdue(&self, now: Duration, most: Duration) -> bool {
        self.sent.as_ref().is_some_and(|(since, _)| now.saturating_sub(*since) > most)
    }

    /// What became of the call on its way: the answer's status, if there was one, and its body.
    pub fn answered(&mut self, status: Option<u16>, body: &[u8], now: Duration) {
        let Some((_, lines)) = self.sent.take() else { return };
        self.settled.clear();
        let answer = Answer::read(status, body);
        self.away = !matches!(answer, Answer::Stored { .. });
        if self.away {
            self.count(1);
            self.due = now.saturating_add(RETRY);
        }
        match answer {
            Answer::Stored { rejected } => {
                let refused = rejected_lines(body, rejected);
                for (index, line) in lines.iter().enumerate() {
                    // Nobody knows which: then none is taken for stored.
                    let is_stored = refused.as_ref().is_some_and(|lines| !lines.contains(&index));
                    if is_stored {
                        self.settled.push(line.ticket);
                    }
                    self.bytes = self.bytes.saturating_sub(line.text.len());
                }
            }
            Answer::Unavailable => {
                for line in lines.into_iter().rev() {
                    if line.withdrawn {
                        self.bytes = self.bytes.saturating_sub(line.text.len());
                    } else {
                        self.waiting.push_front(line);
                    }
                }
            }
            // It would be refused again.
            Answer::TooLarge | Answer::Refused => {
                let bytes: usize = lines.iter().map(|line| line.text.len()).sum();
                self.bytes = self.bytes.saturating_sub(bytes);
            }
        }
    }

    /// Counts since the last time.
    pub fn take_tally(&mut self) -> [u64; METRICS.len()] {
        std::mem::take(&mut self.tally)
    }

    fn lines(&self) -> usize {
        self.waiting.len().saturating_add(self.sent.as_ref().map_or(0, |(_, lines)| lines.len()))
    }

    fn count(&mut self, which: usize) {
        if let Some(count) = self.tally.get_mut(which) {
            *count = count.saturating_add(1);
        }
    }
}

impl Journal for Lane {
    fn write(&mut self, line: &[u8]) -> Option<Ticket> {
        let most = if self.away { PROBES } else { MOST_LINES };
        if !self.calls || self.lines() >= most || self.bytes.saturating_add(line.len()) > MOST_BYTES {
            return None;
        }
        self.handed = self.handed.saturating_add(1);
        let body = line.strip_suffix(BRACES).unwrap_or(line);
        let text = [body, &numbered(self.epoch, self.handed), LINE_END].concat();
        self.bytes = self.bytes.saturating_add(text.len());
        let ticket = Ticket(self.handed);
        self.waiting.push_back(Line { ticket, text, withdrawn: false });
        Some(ticket)
    }

    fn fate(&mut self, ticket: Ticket) -> Fate {
        let is = |line: &Line| line.ticket == ticket;
        if self.settled.contains(&ticket) {
            Fate::Durable
        } else if self.waiting.iter().any(is) || self.sent.iter().any(|(_, lines)| lines.iter().any(is)) {
            Fate::Pending
        } else {
            Fate::Failed
        }
    }

    fn withdraw(&mut self, ticket: Ticket) {
        if let Some(at) = self.waiting.iter().position(|line| line.ticket == ticket) {
            if let Some(line) = self.waiting.remove(at) {
                self.bytes = self.bytes.saturating_sub(line.text.len());
            }
        } else if let Some((_, lines)) = &mut self.sent {
            lines.iter_mut().filter(|line| line.ticket == ticket).for_each(|line| line.withdrawn = true);
        }
    }
}

/// Which lines of a call, from 0, the companion rejected; `None` when its answer does not name as many as it counts. A
/// text within the answer cannot pass for such a name: its quotes are escaped.
fn rejected_lines(body: &[u8], count: u64) -> Option<Vec<usize>> {
    const KEY: &[u8] = b"\"line\":";
    let mut lines = Vec::new();
    let mut rest = if count == 0 { &[][..] } else { body };
    while let Some(at) = rest.windows(KEY.len()).position(|window| window == KEY) {
        rest = rest.get(at.saturating_add(KEY.len())..).unwrap_or_default().trim_ascii_start();
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit());
        let number = digits.fold(0_usize, |number, byte| {
            number.saturating_mul(10).saturating_add(usize::from(byte.saturating_sub(b'0')))
        });
        lines.push(number.checked_sub(1)?);
    }
    (u64::try_from(lines.len()) == Ok(count)).then_some(lines)
}

#[cfg(test)]
#[path = "strict_tests.rs"]
mod tests;
