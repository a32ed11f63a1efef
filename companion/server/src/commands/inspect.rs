//! `portcullis inspect`: what the module would do with recorded requests, and why.

use std::ffi::OsString;
use std::io::{self, BufReader, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use portcullis_replay::{Guard, Known};
use serde_json::json;

use crate::cli::InspectArgs;
use crate::inspect::source::{self, Item};
use crate::inspect::summary::Summary;
use crate::inspect::{Fate, Judged, printable};

/// At least one request would be refused.
const REFUSED: u8 = 1;
/// Something could not be read, and nothing would be refused.
const UNREADABLE: u8 = 2;

/// Judges and prints; the exit code is the answer.
#[must_use]
pub fn run(args: &InspectArgs) -> ExitCode {
    match judge_all(args) {
        Ok(summary) if summary.against() > 0 => ExitCode::from(REFUSED),
        Ok(summary) if summary.is_whole() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(UNREADABLE),
        Err(error) => {
            eprintln!("portcullis: {error:#}");
            ExitCode::from(UNREADABLE)
        }
    }
}

fn judge_all(args: &InspectArgs) -> anyhow::Result<Summary> {
    let mut printer = Printer {
        guard: guard(args)?,
        args,
        out: BufWriter::new(io::stdout().lock()),
        summary: Summary::default(),
        failed: None,
    };
    match &args.file {
        None => {
            let words: Vec<Vec<u8>> =
                args.curl.iter().map(|word: &OsString| word.as_bytes().to_vec()).collect();
            let request = source::arguments(&words).map_err(|error| error.to_string());
            printer.take(Item { origin: "curl".to_owned(), place: None, among_others: false, request });
        }
        Some(path) => {
            let name = path.display().to_string();
            let read = |printer: &mut Printer<'_>| -> io::Result<()> {
                if path.as_os_str() == "-" {
                    return source::each("-", io::stdin().lock(), args.format, &mut |item| {
                        printer.take(item)
                    });
                }
                let file = BufReader::with_capacity(64 * 1024, std::fs::File::open(path)?);
                source::each(&name, file, args.format, &mut |item| printer.take(item))
            };
            read(&mut printer)
                .with_context(|| format!("{name}: name a readable file, or - for standard input"))?;
        }
    }
    printer.finish()
}

/// The configuration, with its warnings on standard error.
fn guard(args: &InspectArgs) -> anyhow::Result<Guard> {
    let bytes = match &args.config {
        None => b"{}".to_vec(),
        Some(path) => read_config(path)?,
    };
    let mut claims = Vec::new();
    for claim in &args.claim {
        let Some((name, value)) = claim.split_once('=') else { bail!("--claim {claim}: write NAME=VALUE") };
        claims.push((name.to_owned(), value.to_owned()));
    }
    match Guard::new(&bytes, Known { claims }) {
        Ok((guard, warnings)) => {
            // Of the defaults there is nothing that whoever asks has written.
            for warning in warnings.iter().filter(|_| args.config.is_some()) {
                eprintln!("portcullis: warning: {}", printable(&warning.to_string()));
            }
            Ok(guard)
        }
        Err(_) => {
            let shown = args.config.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
            bail!("{shown}: not a valid configuration; `portcullis check {shown}` tells why")
        }
    }
}

fn read_config(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("{}: cannot be read", path.display()))
}

struct Printer<'a> {
    guard: Guard,
    args: &'a InspectArgs,
    out: BufWriter<io::StdoutLock<'a>>,
    summary: Summary,
    failed: Option<io::Error>,
}

impl Printer<'_> {
    /// Judges one, and prints what is to be printed at once; false when nobody reads any more.
    fn take(&mut self, item: Item) -> bool {
        let Item { origin, place, among_others, request } = item;
        let written = match request {
            Err(why) => {
                self.summary.unreadable();
                eprintln!("portcullis: {}: {}", printable(&origin), printable(&why));
                let line = json!({"origin": origin, "place": place, "unreadable": why});
                if self.args.json && !self.args.summary { writeln!(self.out, "{line}") } else { Ok(()) }
            }
            Ok(request) => {
                let judged = Judged::new(&mut self.guard, origin, place, &request);
                self.summary.add(&judged);
                self.print(&judged, among_others)
            }
        };
        self.failed = written.err();
        self.failed.is_none()
    }

    fn print(&mut self, judged: &Judged, among_others: bool) -> io::Result<()> {
        if self.args.summary {
            return Ok(());
        }
        if self.args.json {
            return writeln!(self.out, "{}", judged.json());
        }
        // Of a log, what passes is most of it, and of no interest.
        if !among_others || judged.fate() != Fate::Allowed {
            writeln!(self.out, "{}\n", judged.lines())?;
        }
        Ok(())
    }

    fn finish(mut self) -> anyhow::Result<Summary> {
        let last = match (self.args.summary, self.args.json) {
            (true, true) => serde_json::to_string_pretty(&self.summary.json())?,
            (true, false) => self.summary.lines(),
            (false, true) => String::new(),
            (false, false) => self.summary.line(),
        };
        let written = match self.failed.take() {
            Some(error) => Err(error),
            None if last.is_empty() => self.out.flush(),
            None => writeln!(self.out, "{last}").and_then(|()| self.out.flush()),
        };
        // A reader that has seen enough, like `head`, is no error.
        match written {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
            _ => Ok(self.summary),
        }
    }
}
