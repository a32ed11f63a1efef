//! Audit records on their way: the audit policy's own queue, emptied whenever JavaScript has a moment.
//!
//! An isolate has no neighbours whose ledger it could read: that one died with records is noticed by the hole in their
//! numbers, not by another isolate's report.

use portcullis_chain::audit::{
    Trail,
    ledger::Board,
    queue::{Answer, Limits},
    trail::METRICS,
};
use portcullis_policy::{Metric, Moment, StateError, StoreResult};

/// No ledger.
struct NoBoard;

impl Board for NoBoard {
    fn read(&mut self, _: u16) -> Result<Option<(Vec<u8>, u32)>, StateError> {
        Err(StateError::Refused)
    }

    fn replace(&mut self, _: u16, _: &[u8], _: Option<u32>) -> Result<StoreResult, StateError> {
        Err(StateError::Refused)
    }

    fn write(&mut self, _: u16, _: &[u8]) -> Result<(), StateError> {
        Err(StateError::Refused)
    }
}

/// Records of one isolate.
pub struct Records(Trail);

impl Records {
    /// None yet; `epoch` is random.
    pub fn new(limits: Limits, epoch: u64) -> Self {
        Self(Trail::new(limits, epoch))
    }

    /// A finished record.
    pub fn push(&mut self, text: &[u8], moment: Moment) {
        self.0.begin(&mut NoBoard);
        self.0.record(text, moment);
    }

    /// What is to leave now.
    pub fn batch(&mut self, moment: Moment) -> Option<Vec<u8>> {
        self.0.tick(&mut NoBoard, moment);
        self.0.send(moment.now).map(<[u8]>::to_vec)
    }

    /// What became of it.
    pub fn delivered(&mut self, status: u16, body: &[u8], moment: Moment) {
        let answer = Answer::read((status > 0).then_some(status), body);
        self.0.answered(&mut NoBoard, answer, moment);
    }

    /// What waits.
    pub fn waiting(&self) -> u64 {
        self.0.waiting()
    }

    /// What was counted since the last time.
    pub fn tally(&mut self) -> impl Iterator<Item = (&'static Metric, u64)> + use<> {
        METRICS.iter().zip(self.0.take_tally()).filter(|(_, by)| *by > 0)
    }
}
