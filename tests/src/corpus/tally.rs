//! Counts.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Outcome;

/// What came of one line.
#[derive(Debug)]
pub enum Counted {
    /// Its requests were judged.
    Judged {
        /// Its number.
        line: u64,
        /// What it is counted under, the first of which all lines of its kind share.
        labels: Vec<String>,
        /// The place of its value, and what became of the request.
        outcomes: Vec<(Option<String>, Outcome)>,
    },
    /// It could not be read.
    Unread {
        /// Its number; 0: the file as a whole.
        line: u64,
        /// Why.
        why: String,
    },
}

/// What was counted under one label of one file.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// The file.
    pub file: String,
    /// The label.
    pub label: String,
    /// Whether this is a part of what an earlier row of the file counts.
    pub part: bool,
    /// Where the values stood; `None`: all places together.
    pub place: Option<String>,
    /// Requests that were judged.
    pub total: u64,
    /// Of those, refused by us.
    pub blocked: u64,
    /// Of those, refused by the proxy itself.
    pub proxy: u64,
    /// Of those, without an answer.
    pub unanswered: u64,
    /// Values that cannot stand in their place; not judged.
    pub unplaceable: u64,
    /// Refusals by their reason, those of the proxy by `proxy` and status.
    pub reasons: BTreeMap<String, u64>,
}

impl Row {
    /// Refused by us, of those judged; `None` when there were none.
    pub fn share(&self) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "a share to two digits")]
        (self.total > 0).then(|| self.blocked as f64 / self.total as f64)
    }

    fn take_in(&mut self, other: &Self) {
        for (own, more) in [
            (&mut self.total, other.total),
            (&mut self.blocked, other.blocked),
            (&mut self.proxy, other.proxy),
            (&mut self.unanswered, other.unanswered),
            (&mut self.unplaceable, other.unplaceable),
        ] {
            *own = own.saturating_add(more);
        }
        for (reason, count) in &other.reasons {
            let own = self.reasons.entry(reason.clone()).or_default();
            *own = own.saturating_add(*count);
        }
    }

    fn count(&mut self, outcome: &Outcome) {
        let up = |counter: &mut u64| *counter = counter.saturating_add(1);
        if *outcome == Outcome::Unplaceable {
            return up(&mut self.unplaceable);
        }
        up(&mut self.total);
        match outcome {
            Outcome::Blocked(reason) => {
                up(&mut self.blocked);
                up(self.reasons.entry(reason.clone()).or_default());
            }
            Outcome::Proxy(status) => {
                up(&mut self.proxy);
                up(self.reasons.entry(format!("proxy {status}")).or_default());
            }
            Outcome::Unanswered => up(&mut self.unanswered),
            Outcome::Passed | Outcome::Unplaceable => {}
        }
    }
}

/// The label of the sum.
const ALL: &str = "(all)";

/// A line that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Unread {
    /// Its file.
    pub file: String,
    /// Its number; 0: the file as a whole.
    pub line: u64,
    /// Why.
    pub why: String,
}

/// Everything that was counted.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// By file, label and place, in that order.
    pub rows: Vec<Row>,
    /// In the order of files and lines.
    pub unread: Vec<Unread>,
}

/// Counts as results come in.
pub struct Tally {
    files: Vec<String>,
    /// By file, label and place.
    rows: BTreeMap<(usize, String, Option<String>), Row>,
    unread: Vec<(usize, u64, String)>,
}

impl Tally {
    /// Nothing, of files by their number.
    pub fn new(files: Vec<String>) -> Self {
        Self { files, rows: BTreeMap::new(), unread: Vec::new() }
    }

    fn name(&self, file: usize) -> String {
        self.files.get(file).cloned().unwrap_or_default()
    }

    /// Counts a line.
    pub fn add(&mut self, file: usize, counted: Counted) {
        let (labels, outcomes) = match counted {
            Counted::Unread { line, why } => return self.unread.push((file, line, why)),
            Counted::Judged { labels, outcomes, .. } => (labels, outcomes),
        };
        let name = self.name(file);
        for (number, label) in labels.iter().enumerate() {
            for (place, outcome) in &outcomes {
                let of_place = place.is_some().then(|| place.clone());
                for place in std::iter::once(None).chain(of_place) {
                    let key = (file, label.clone(), place);
                    let row = self.rows.entry(key).or_insert_with_key(|(_, label, place)| Row {
                        file: name.clone(),
                        label: label.clone(),
                        part: number > 0 || place.is_some(),
                        place: place.clone(),
                        total: 0,
                        blocked: 0,
                        proxy: 0,
                        unanswered: 0,
                        unplaceable: 0,
                        reasons: BTreeMap::new(),
                    });
                    row.count(outcome);
                }
            }
        }
    }

    /// All of it. A file with several labels has a row that sums them.
    pub fn report(mut self) -> Report {
        for file in 0..self.files.len() {
            let main: Vec<&Row> = self
                .rows
                .iter()
                .filter(|((of, ..), row)| *of == file && !row.part)
                .map(|(_, row)| row)
                .collect();
            if let [first, _, ..] = main.as_slice() {
                let mut sum = Row { label: ALL.to_owned(), reasons: BTreeMap::new(), ..(*first).clone() };
                (sum.total, sum.blocked, sum.proxy, sum.unanswered, sum.unplaceable) = (0, 0, 0, 0, 0);
                main.iter().for_each(|row| sum.take_in(row));
                self.rows.insert((file, String::new(), None), sum);
            }
        }
        let mut unread = self.unread.clone();
        unread.sort();
        let named = |(file, line, why): (usize, u64, String)| Unread { file: self.name(file), line, why };
        Report { unread: unread.into_iter().map(named).collect(), rows: self.rows.into_values().collect() }
    }
}
