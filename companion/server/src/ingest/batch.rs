//! A batch: lines, each read by itself, each accounted for.

use serde::Serialize;

use super::record::{self, RecordError};
use crate::clock::Timestamp;
use crate::event::Event;
use crate::units::bounded;

/// The largest body, in bytes.
pub const MAX_BYTES: usize = 1024 * 1024;
/// The most rejected lines that are described; all of them are counted.
const MAX_ERRORS: usize = 100;
const MAX_ERROR_CHARS: usize = 200;

/// What a batch holds.
#[derive(Debug, Default)]
pub struct Batch {
    /// The lines that can be stored.
    pub events: Vec<Event>,
    /// How many cannot.
    pub rejected: u64,
    /// Why, for the first hundred.
    pub errors: Vec<LineError>,
}

/// Why a line was rejected.
#[derive(Debug, Serialize)]
pub struct LineError {
    /// Which one, from 1.
    pub line: usize,
    /// Its field and remedy.
    pub error: String,
}

impl Batch {
    /// Reads a body. Blank lines are none.
    #[must_use]
    pub fn read(body: &[u8], received: Timestamp) -> Self {
        let mut batch = Self::default();
        for (index, line) in body.split(|byte| *byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() {
                continue;
            }
            match record::read(line, received) {
                Ok(event) => batch.events.push(event),
                Err(error) => batch.reject(index.saturating_add(1), &error),
            }
        }
        batch
    }

    fn reject(&mut self, line: usize, error: &RecordError) {
        self.rejected = self.rejected.saturating_add(1);
        if self.errors.len() < MAX_ERRORS {
            // The text may quote the line.
            self.errors.push(LineError { line, error: bounded(&error.to_string(), MAX_ERROR_CHARS) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_accounted_for() {
        let good = r#"{"class_uid":4002,"time":1,"metadata":{},"unmapped":{"portcullis":{"event_type":"REQUEST","severity":"INFO","epoch":"0000000000000001","sequence":1}}}"#;
        let body = format!("{good}\r\n\n  \nnot json\n{{}}\n\u{0}\n{good}");
        let batch = Batch::read(body.as_bytes(), Timestamp::UNIX_EPOCH);
        assert_eq!((batch.events.len(), batch.rejected), (2, 3));
        assert_eq!(batch.errors.iter().map(|error| error.line).collect::<Vec<_>>(), [4, 5, 6]);
    }

    #[test]
    fn descriptions_are_bounded() {
        let batch = Batch::read("x\n".repeat(5000).as_bytes(), Timestamp::UNIX_EPOCH);
        assert_eq!((batch.rejected, batch.errors.len()), (5000, 100));
        let name = "\u{1b}[31m".repeat(1000);
        let line = format!(
            r#"{{"class_uid":4002,"time":1,"metadata":{{}},"unmapped":{{"portcullis":{{"event_type":"REQUEST","severity":"INFO","epoch":"0000000000000001","sequence":1,"decision":{}}}}}}}"#,
            serde_json::to_string(&name).unwrap()
        );
        let batch = Batch::read(line.as_bytes(), Timestamp::UNIX_EPOCH);
        assert!(batch.errors[0].error.chars().count() <= 200);
        assert!(!batch.errors[0].error.chars().any(char::is_control));
    }
}
