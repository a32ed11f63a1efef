//! Brings audit records to the companion, and the audit ledger to the host's shared data.
//!
//! Batches go by HTTP call to the cluster `companion.cluster`: `POST /v1/ingest`, JSON lines, authenticated by the token
//! in the variable `companion.token_env` of the host's environment, which is never logged. A call belongs to the root
//! context, because a stream's context is gone before the answer comes. The answer decides; see
//! `portcullis_chain::audit::queue`.

use std::time::Duration;

use portcullis_chain::{
    Chain,
    audit::{
        Trail,
        ledger::Board,
        queue::{Answer, Limits},
        trail::METRICS,
    },
};
use portcullis_policy::{LogLevel, Moment, StateError, StoreResult};

use crate::{
    abi::{self, Status},
    companion::{self, Companion},
    metrics::Counters,
    shared,
};

/// How long after its own timeout a call may stay unanswered before it counts as failed.
const GRACE: Duration = Duration::from_secs(10);
/// As much of an answer's body as is read: the counts stand at its start.
const ANSWER_BYTES: usize = 4096;

/// A line for the host's log, if there is one.
pub type Word = Option<(LogLevel, String)>;

/// The records of one worker on their way.
pub struct Delivery {
    trail: Trail,
    board: Entries,
    companion: Companion,
    /// The call on its way.
    token: Option<u32>,
    /// What was last said about the companion: its status, 0 for none, 200 for well.
    told: u16,
    /// Whether it was said that nobody would notice this VM's death.
    unwatched: bool,
}

impl Delivery {
    /// Nothing on its way yet; `instance` tells apart the modules that share the host's data.
    pub fn new(chain: &Chain, limits: Limits, instance: &[u8], epoch: u64) -> Self {
        let mut delivery = Self {
            trail: Trail::new(limits, epoch),
            board: Entries::new(instance),
            companion: Companion::default(),
            token: None,
            told: 200,
            unwatched: false,
        };
        delivery.configure(chain, limits);
        delivery
    }

    /// Takes a new configuration; what waits is kept.
    pub fn configure(&mut self, chain: &Chain, limits: Limits) {
        self.trail.limit(limits);
        self.companion = Companion::new(chain);
    }

    /// A request begins that will leave a record.
    pub fn begin(&mut self) {
        self.trail.begin(&mut self.board);
    }

    /// It will not after all.
    pub fn withdraw(&mut self) {
        self.trail.withdraw();
    }

    /// Its record. True when a batch is full: it should leave before the next tick.
    pub fn record(&mut self, text: &[u8], moment: Moment) -> bool {
        self.trail.record(text, moment);
        self.trail.is_pressing(moment.now)
    }

    /// Keeps the ledger and sends what waits.
    pub fn tick(&mut self, moment: Moment) -> Word {
        self.trail.tick(&mut self.board, moment);
        if self.trail.is_overdue(moment.now, self.companion.timeout.saturating_add(GRACE)) {
            self.token = None;
            self.trail.answered(&mut self.board, Answer::Unavailable, moment);
        }
        let failed = self.send(moment);
        if self.trail.is_watched() || self.unwatched {
            return failed;
        }
        self.unwatched = true;
        Some((
            LogLevel::Warn,
            "no shared slot is free: records lost with this VM would not be reported".to_owned(),
        ))
    }

    /// Sends the next batch, if one is due. Must run for the root context.
    pub fn send(&mut self, moment: Moment) -> Word {
        let batch = self.trail.send(moment.now)?;
        match self.companion.post("/v1/ingest", "application/x-ndjson", batch) {
            Ok(token) => {
                self.token = Some(token);
                None
            }
            Err(status) => {
                self.trail.answered(&mut self.board, Answer::Unavailable, moment);
                let cluster = self.companion.cluster().to_owned();
                self.tell(0, || {
                    format!("no cluster `{cluster}` to call (host status {}): audit records wait", status.0)
                })
            }
        }
    }

    /// An answer came, or failed to come; the next batch leaves if it is full.
    pub fn answered(&mut self, token: u32, has_headers: bool, body: usize, moment: Moment) -> Word {
        if self.token != Some(token) {
            // Of a call that was given up.
            return None;
        }
        self.token = None;
        let (status, start) = companion::answer(has_headers, body, ANSWER_BYTES);
        self.trail.answered(&mut self.board, Answer::read(status, &start), moment);
        let word = match status {
            Some(code @ 200..=299) if self.told != 200 => {
                self.told = 200;
                Some((LogLevel::Info, format!("the companion stores audit records again ({code})")))
            }
            Some(200..=299) => None,
            Some(code) => self.tell(code, || {
                format!("the companion answers {code} to audit records: they wait; check `companion` and its token")
            }),
            None => self.tell(0, || "the companion does not answer: audit records wait".to_owned()),
        };
        if self.trail.is_pressing(moment.now) { self.send(moment).or(word) } else { word }
    }

    /// Says once what is the matter, until it changes.
    fn tell(&mut self, status: u16, text: impl FnOnce() -> String) -> Word {
        (self.told != status).then(|| {
            self.told = status;
            (LogLevel::Warn, text())
        })
    }

    /// Records that wait.
    pub fn waiting(&self) -> u64 {
        self.trail.waiting()
    }

    /// The worker ends.
    pub fn leave(&mut self) {
        self.trail.leave(&mut self.board);
    }

    /// Hands the counts over.
    pub fn count(&mut self, counters: &Counters) {
        for (metric, by) in METRICS.iter().zip(self.trail.take_tally()) {
            if by > 0 {
                counters.add(metric, by);
            }
        }
    }
}

/// The ledger's slots in the host's shared data.
struct Entries {
    /// The instance's name and the slot's number.
    key: Vec<u8>,
}

impl Entries {
    fn new(instance: &[u8]) -> Self {
        let mut key = shared::prefix(instance);
        key.extend_from_slice(b"audit\0\0");
        Self { key }
    }

    fn key(&mut self, slot: u16) -> &[u8] {
        let end = self.key.len().saturating_sub(2);
        self.key.truncate(end);
        self.key.extend_from_slice(&slot.to_le_bytes());
        &self.key
    }
}

impl Board for Entries {
    fn read(&mut self, slot: u16) -> Result<Option<(Vec<u8>, u32)>, StateError> {
        match abi::shared_data(self.key(slot)) {
            Ok(found) => Ok(Some(found)),
            Err(Status::NOT_FOUND) => Ok(None),
            Err(_) => Err(StateError::Refused),
        }
    }

    fn replace(&mut self, slot: u16, bytes: &[u8], version: Option<u32>) -> Result<StoreResult, StateError> {
        // 0 would store in any case; no host gives it to a stored value.
        let version = version.map_or(shared::CREATE, |version| version.max(1));
        match abi::set_shared_data(self.key(slot), bytes, version) {
            Ok(()) => Ok(StoreResult::Stored),
            Err(Status::CAS_MISMATCH) => Ok(StoreResult::Conflict),
            Err(_) => Err(StateError::Refused),
        }
    }

    fn write(&mut self, slot: u16, bytes: &[u8]) -> Result<(), StateError> {
        abi::set_shared_data(self.key(slot), bytes, 0).map_err(|_| StateError::Refused)
    }
}
