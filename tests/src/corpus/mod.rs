//! How much of recorded traffic is refused: attacks that should be, and ordinary requests that should not.
//!
//! Every line of every `*.jsonl` and `*.jsonl.gz` of a folder becomes one or more requests (see
//! [`portcullis_replay::line`]); each is judged, by the chain in this process ([`native`]) or through a real Envoy
//! ([`envoy`]), and counted under its file, its label and the place of its value. What cannot be read is told with file
//! and line, never passed over.

pub mod envoy;
mod files;
pub mod native;
mod table;
mod tally;
mod upstream;

use std::{
    io::IsTerminal as _,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use portcullis_replay::{Request, line};

pub use table::{Details, table};
pub use tally::{Report, Row, Unread};

use files::{File, Lines};
use tally::{Counted, Tally};

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It reached the application.
    Passed,
    /// We refused it, with this reason.
    Blocked(String),
    /// The proxy refused it by itself, with this status, before or instead of us.
    Proxy(u16),
    /// There was no answer.
    Unanswered,
    /// It cannot be sent: its value cannot stand in its place.
    Unplaceable,
}

/// Something that judges requests one after the other.
pub trait Judge {
    /// What becomes of the request.
    fn judge(&mut self, request: &Request) -> Outcome;
}

/// Makes a judge; called once in each worker, because a chain stays in its thread.
pub type MakeJudge<'a> = &'a (dyn Fn() -> Result<Box<dyn Judge>> + Sync);

/// Lines that a worker takes at once.
const BATCH: usize = 32;

struct Batch {
    file: usize,
    lines: Vec<(u64, Vec<u8>)>,
}

/// Judges everything in a folder with so many workers. `note` is told of every request: file, line, labels, place and
/// outcome.
///
/// # Errors
/// When the folder has no such file, a file cannot be opened, or no judge can be made.
pub fn run(
    folder: &Path,
    workers: usize,
    make: MakeJudge<'_>,
    note: &mut dyn FnMut(Noted<'_>),
) -> Result<Report> {
    let files = files::of(folder)?;
    let judged = AtomicU64::new(0);
    let (jobs, taken) = mpsc::sync_channel::<Batch>(workers.saturating_mul(2));
    // Owned by the workers alone: when the last has given up, the reader is told.
    let taken = Arc::new(Mutex::new(taken));
    let (found, results) = mpsc::channel::<(usize, Counted)>();
    thread::scope(|scope| {
        let hands: Vec<_> = (0..workers)
            .map(|_| {
                let (taken, found, judged) = (Arc::clone(&taken), found.clone(), &judged);
                scope.spawn(move || work(&taken, &found, judged, make))
            })
            .collect();
        drop((found, taken));
        let names = &files;
        let reader = scope.spawn(move || read(names, &jobs));
        let progress = std::io::stderr().is_terminal().then(|| Progress::start(scope, &judged));
        let mut tally = Tally::new(files.iter().map(|file| file.name.clone()).collect());
        for (file, counted) in results {
            if let Some(known) = files.get(file) {
                notes(&known.name, &counted, note);
            }
            tally.add(file, counted);
        }
        drop(progress);
        for hand in hands {
            hand.join().map_err(|_| anyhow::anyhow!("a worker has panicked"))??;
        }
        for (file, line, why) in reader.join().map_err(|_| anyhow::anyhow!("the reader has panicked"))? {
            tally.add(file, Counted::Unread { line, why });
        }
        Ok(tally.report())
    })
}

/// One judged request.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct Noted<'a> {
    /// Its file.
    pub file: &'a str,
    /// Its line.
    pub line: u64,
    /// What it is counted under.
    pub labels: &'a [String],
    /// Where its value was put.
    pub place: Option<&'a str>,
    /// `passed`, `blocked`, `proxy`, `unanswered` or `unplaceable`.
    pub outcome: &'static str,
    /// Why it was blocked.
    pub reason: Option<&'a str>,
}

fn notes(file: &str, counted: &Counted, note: &mut dyn FnMut(Noted<'_>)) {
    let Counted::Judged { line, labels, outcomes } = counted else { return };
    for (place, outcome) in outcomes {
        let reason = if let Outcome::Blocked(reason) = outcome { Some(reason.as_str()) } else { None };
        let outcome = match outcome {
            Outcome::Passed => "passed",
            Outcome::Blocked(_) => "blocked",
            Outcome::Proxy(_) => "proxy",
            Outcome::Unanswered => "unanswered",
            Outcome::Unplaceable => "unplaceable",
        };
        note(Noted { file, line: *line, labels, place: place.as_deref(), outcome, reason });
    }
}

/// Hands out all lines; answers which files broke off, and where.
fn read(files: &[File], jobs: &mpsc::SyncSender<Batch>) -> Vec<(usize, u64, String)> {
    let mut broken = Vec::new();
    for (number, file) in files.iter().enumerate() {
        let mut lines = match Lines::open(&file.path) {
            Ok(lines) => lines,
            Err(error) => {
                broken.push((number, 0, error.to_string()));
                continue;
            }
        };
        let mut batch = Vec::new();
        loop {
            match lines.next() {
                Ok(Some(line)) => batch.push(line),
                Ok(None) => break,
                Err(error) => {
                    broken.push((number, lines.number().saturating_add(1), error.to_string()));
                    break;
                }
            }
            if batch.len() >= BATCH
                && jobs.send(Batch { file: number, lines: std::mem::take(&mut batch) }).is_err()
            {
                // Every worker has given up, and says why.
                return broken;
            }
        }
        if !batch.is_empty() && jobs.send(Batch { file: number, lines: batch }).is_err() {
            return broken;
        }
    }
    broken
}

fn work(
    taken: &Mutex<mpsc::Receiver<Batch>>,
    found: &mpsc::Sender<(usize, Counted)>,
    judged: &AtomicU64,
    make: MakeJudge<'_>,
) -> Result<()> {
    let mut judge = make()?;
    loop {
        let batch = taken.lock().map_err(|_| anyhow::anyhow!("a worker has panicked"))?.recv();
        // The reader is done.
        let Ok(batch) = batch else { return Ok(()) };
        for (number, text) in batch.lines {
            let counted = judged_line(number, &text, &mut *judge);
            if let Counted::Judged { outcomes, .. } = &counted {
                judged.fetch_add(u64::try_from(outcomes.len()).unwrap_or(0), Ordering::Relaxed);
            }
            found.send((batch.file, counted)).context("nobody counts any more")?;
        }
    }
}

fn judged_line(number: u64, text: &[u8], judge: &mut dyn Judge) -> Counted {
    match line::read(text) {
        Err(error) => Counted::Unread { line: number, why: error.to_string() },
        Ok(entry) => {
            let outcomes = entry.cases.into_iter().map(|case| {
                let outcome = case.request.map_or(Outcome::Unplaceable, |request| judge.judge(&request));
                (case.place.map(|place| place.name()), outcome)
            });
            Counted::Judged { line: number, labels: entry.labels, outcomes: outcomes.collect() }
        }
    }
}

/// A line on the terminal that tells how far it is; gone when dropped.
struct Progress(Option<mpsc::Sender<()>>);

impl Progress {
    fn start<'scope>(scope: &'scope thread::Scope<'scope, '_>, judged: &'scope AtomicU64) -> Self {
        let (end, ended) = mpsc::channel::<()>();
        scope.spawn(move || {
            while ended.recv_timeout(Duration::from_millis(250)) == Err(mpsc::RecvTimeoutError::Timeout) {
                eprint!("\r{} requests", table::grouped(judged.load(Ordering::Relaxed)));
            }
            eprint!("\r\u{1b}[K");
        });
        Self(Some(end))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        drop(self.0.take());
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn folder(name: &str) -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("portcullis-corpus-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn a_folder_is_judged_and_counted() {
        let folder = folder("counted");
        let plain = "{\"payload\": \"1' or 1=1 -- \", \"label\": \"bad\"}\n\n{\"payload\": \"tea\\nfor two\", \"label\": \"good\"}\n{\"what\": 1}\nno";
        std::fs::write(folder.join("a.jsonl"), plain).unwrap();
        let file = std::fs::File::create(folder.join("b.jsonl.gz")).unwrap();
        let mut zipped = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        zipped.write_all(b"{\"uri\": \"/a\", \"expect_ids\": [1]}\n{\"uri\": \"/../../etc/passwd\", \"expect_ids\": [1]}").unwrap();
        zipped.finish().unwrap();
        std::fs::write(folder.join("other.txt"), "no").unwrap();
        let mut noted = 0;
        let make = native::judge(b"{}");
        let report = run(&folder, 2, &make, &mut |_| noted += 1).unwrap();
        let rows: Vec<String> = report
            .rows
            .iter()
            .filter(|row| row.place.is_none())
            .map(|row| format!("{} {} {} {}", row.file, row.label, row.total, row.blocked))
            .collect();
        assert_eq!(
            rows,
            ["a.jsonl (all) 7 4", "a.jsonl bad 4 4", "a.jsonl good 3 0", "b.jsonl.gz positive 2 1"]
        );
        let header =
            report.rows.iter().find(|row| row.place.as_deref() == Some("header") && row.label == "good");
        assert_eq!(header.map(|row| (row.total, row.unplaceable)), Some((0, 1)));
        let unread: Vec<(&str, u64)> =
            report.unread.iter().map(|line| (line.file.as_str(), line.line)).collect();
        assert_eq!(unread, [("a.jsonl", 4), ("a.jsonl", 5)]);
        assert_eq!(noted, 10);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_cannot_be_judged_is_an_error() {
        let folder = folder("error");
        let make = native::judge(b"{}");
        assert!(run(&folder, 1, &make, &mut |_| {}).unwrap_err().to_string().contains("no *.jsonl"));
        std::fs::write(folder.join("a.jsonl"), "{}\n".repeat(5000)).unwrap();
        let wrong = native::judge(b"{\"x\": 1}");
        let error = run(&folder, 1, &wrong, &mut |_| {}).unwrap_err().to_string();
        assert!(error.contains('x'), "{error}");
        std::fs::write(folder.join("a.jsonl.gz"), "not gzip").unwrap();
        let report = run(&folder, 1, &make, &mut |_| {}).unwrap();
        assert!(report.unread.iter().any(|line| line.file == "a.jsonl.gz"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
