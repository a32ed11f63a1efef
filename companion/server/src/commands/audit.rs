//! `portcullis audit`: what is done with the trail from outside of `serve`.

use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use portcullis_audit_log::feed::{Feed, Stored};
use portcullis_audit_log::merkle::Hash;
use portcullis_audit_log::note::{Checkpoint, MAX_NOTE_BYTES, Verifier};
use portcullis_audit_log::recovery::{HEAD, KEY};
use portcullis_audit_log::storage::{Disk, Storage as Folder};
use portcullis_audit_log::verify::{Fault, Report, verify};
use portcullis_audit_log::view::View;
use serde_json::{Value, json};

use crate::cli::{AuditArgs, AuditCommand};
use crate::clock::{at_millis, rfc3339};
use crate::logging::line::shown as terminal;
use crate::secret::hex;
use crate::settings::TRAIL_FOLDER;
use crate::trail::record::personal;
use crate::trail::seal::Opener;
use opened::Opened;

mod opened;
mod rebuild;

/// The trail is not as it was written.
const NOT_WHOLE: u8 = 1;
/// It could not be read, or something else hindered.
const FAILED: u8 = 2;
/// Bytes of records read at a time.
const PAGE_BYTES: usize = 1 << 20;
/// How often `tail --follow` looks.
const PAUSE: Duration = Duration::from_millis(500);

/// Does what is asked; the exit code is the answer.
#[must_use]
pub fn run(args: &AuditArgs) -> ExitCode {
    match answer(args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(NOT_WHOLE),
        // A reader that has seen enough, like `head`, is no error.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("portcullis: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn answer(args: &AuditArgs) -> anyhow::Result<bool> {
    if let AuditCommand::Rebuild = &args.command {
        return rebuild::run(&args.store).map(|()| true);
    }
    let path = args.store.data_dir.join(TRAIL_FOLDER);
    let folder = Disk::existing(path.clone()).with_context(|| {
        format!("{}: there is no trail; set DATA_DIR to where `serve` has its state", path.display())
    })?;
    let opened = args.command.opens().then(|| Opened::new(&args.store)).transpose()?;
    let trail = OnDisk { folder, path: &path, opened };
    match &args.command {
        AuditCommand::Verify { checkpoint, key, json } => {
            return trail.verify(checkpoint.as_deref(), key.as_deref(), *json);
        }
        AuditCommand::Export { from, until, tenant, .. } => trail.export(*from, *until, tenant.as_deref())?,
        AuditCommand::Tail { lines, tenant, follow, .. } => trail.tail(*lines, tenant.as_deref(), *follow)?,
        AuditCommand::Prove { record: Some(record), .. } => trail.prove(*record)?,
        AuditCommand::Prove { since, .. } => trail.prove_consistency(since.unwrap_or_default())?,
        AuditCommand::Checkpoint { json } => trail.checkpoint(*json)?,
        AuditCommand::Rebuild => {}
    }
    Ok(true)
}

/// A trail as its files show it.
struct OnDisk<'a> {
    folder: Arc<Disk>,
    path: &'a Path,
    /// Opens what is sealed, if that is asked for.
    opened: Option<Opened>,
}

impl OnDisk<'_> {
    fn small(&self, name: &str) -> anyhow::Result<Option<String>> {
        let file = match self.folder.read(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.with_context(|| format!("{}/{name}: cannot be read", self.path.display()))?,
        };
        let mut bytes = vec![0; usize::try_from(file.length()?).unwrap_or(usize::MAX).min(MAX_NOTE_BYTES)];
        let read = file.read_at(&mut bytes, 0)?;
        bytes.truncate(read);
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn verifier(&self) -> anyhow::Result<Verifier> {
        let place = self.path.display();
        let text = self.small(KEY)?.with_context(|| format!("{place}/{KEY}: is missing; give --key"))?;
        Verifier::parse(text.trim()).with_context(|| format!("{place}/{KEY}"))
    }

    fn verify(&self, checkpoint: Option<&Path>, key: Option<&str>, as_json: bool) -> anyhow::Result<bool> {
        let verifier = match key {
            Some(text) => Verifier::parse(text.trim()).context("--key")?,
            None => self.verifier()?,
        };
        let external = checkpoint
            .map(|path| -> anyhow::Result<Checkpoint> {
                let note = std::fs::read_to_string(path)
                    .with_context(|| format!("{}: cannot be read", path.display()))?;
                Checkpoint::open(&note, &verifier).with_context(|| format!("{}", path.display()))
            })
            .transpose()?;
        let report = verify(&*self.folder, &verifier, external.as_ref())
            .with_context(|| format!("{}: cannot be read", self.path.display()))?;
        let mut out = io::stdout().lock();
        if as_json {
            let mut document = serde_json::to_value(&report)?;
            if let Value::Object(fields) = &mut document {
                fields.insert("verifier_key".to_owned(), verifier.to_string().into());
                fields.insert("key_given".to_owned(), key.is_some().into());
            }
            writeln!(out, "{document:#}")?;
        } else {
            write!(out, "{}", lines(&report, external.as_ref(), key.is_some()))?;
        }
        Ok(report.finding.is_none())
    }

    fn export(&self, from: u64, until: Option<u64>, tenant: Option<&str>) -> anyhow::Result<()> {
        let size = self.size()?;
        let mut out = BufWriter::new(io::stdout().lock());
        let mut feed = Feed::new(self.folder.clone(), from);
        self.print_records(&mut feed, until.unwrap_or(size).min(size), tenant, &mut out)?;
        Ok(out.flush()?)
    }

    fn tail(&self, lines: u64, tenant: Option<&str>, follow: bool) -> anyhow::Result<()> {
        let size = self.size()?;
        let mut out = BufWriter::new(io::stdout().lock());
        let mut feed = Feed::new(self.folder.clone(), self.start_of_tail(size, lines, tenant)?);
        self.print_records(&mut feed, size, tenant, &mut out)?;
        out.flush()?;
        if !follow {
            return Ok(());
        }
        loop {
            std::thread::sleep(PAUSE);
            let published = self.head()?.map_or(0, |(checkpoint, _)| checkpoint.size);
            self.print_records(&mut feed, published, tenant, &mut out)?;
            out.flush()?;
        }
    }

    /// How many records there are: as far as the files are whole, and as many as the published head vouches for, so that
    /// damage shows as an error and not as an early end.
    fn size(&self) -> anyhow::Result<u64> {
        let published = self.head()?.map_or(0, |(checkpoint, _)| checkpoint.size);
        Ok(View::open(self.folder.clone())?.size().max(published))
    }

    /// Where the last `lines` records of the tenant begin; looks back further and further.
    fn start_of_tail(&self, size: u64, lines: u64, tenant: Option<&str>) -> anyhow::Result<u64> {
        if tenant.is_none() {
            return Ok(size.saturating_sub(lines));
        }
        let mut span = lines.max(1_000);
        loop {
            let start = size.saturating_sub(span);
            let mut feed = Feed::new(self.folder.clone(), start);
            let mut found = Vec::new();
            while feed.position() < size {
                let page = feed.page(size, PAGE_BYTES)?;
                found.extend(
                    page.records.iter().filter(|record| is_of(record, tenant)).map(|record| record.index),
                );
            }
            let wanted = usize::try_from(lines).unwrap_or(usize::MAX);
            if found.len() >= wanted || start == 0 {
                let skip = found.len().saturating_sub(wanted);
                return Ok(found.get(skip).copied().unwrap_or(size));
            }
            span = span.saturating_mul(8);
        }
    }

    /// The published checkpoint, checked, and its note.
    fn head(&self) -> anyhow::Result<Option<(Checkpoint, String)>> {
        let Some(note) = self.small(HEAD)? else { return Ok(None) };
        let checkpoint = Checkpoint::open(&note, &self.verifier()?)
            .with_context(|| format!("{}/{HEAD}", self.path.display()))?;
        Ok(Some((checkpoint, note)))
    }

    fn published(&self) -> anyhow::Result<(Checkpoint, String)> {
        self.head()?.context("nothing has been published yet; the first record is within 5 seconds")
    }

    fn checkpoint(&self, as_json: bool) -> anyhow::Result<()> {
        let (checkpoint, note) = self.published()?;
        let mut out = io::stdout().lock();
        if as_json {
            let document = json!({
                "origin": checkpoint.origin, "size": checkpoint.size, "root": format!("{:?}", checkpoint.root),
                "verifier_key": self.verifier()?.to_string(), "note": note,
            });
            writeln!(out, "{document:#}")?;
        } else {
            write!(out, "{note}")?;
        }
        Ok(())
    }

    fn prove(&self, record: u64) -> anyhow::Result<()> {
        let (checkpoint, note) = self.published()?;
        if record >= checkpoint.size {
            bail!("record {record}: the published trail has {} records, numbered from 0", checkpoint.size);
        }
        let (leaf, path) = View::open(self.folder.clone())?.inclusion(record, checkpoint.size)?;
        let mut feed = Feed::new(self.folder.clone(), record);
        let stored = feed.page(record.saturating_add(1), PAGE_BYTES)?.records.into_iter().next();
        let document = json!({
            "record": record, "leaf": hex(&leaf.0), "path": hashes(&path), "size": checkpoint.size,
            "root": hex(&checkpoint.root.0), "checkpoint": note,
            // Null when retention has removed it: its leaf is left.
            "content": stored.map(|stored| shown(&stored, self.opener().as_mut())).transpose()?,
        });
        Ok(writeln!(io::stdout().lock(), "{document:#}")?)
    }

    fn prove_consistency(&self, since: u64) -> anyhow::Result<()> {
        let (checkpoint, note) = self.published()?;
        if since > checkpoint.size {
            bail!("--since {since}: the published trail has {} records", checkpoint.size);
        }
        let mut view = View::open(self.folder.clone())?;
        let path = view.consistency(since, checkpoint.size)?;
        let document = json!({
            "since": since, "since_root": hex(&view.root(since)?.0), "path": hashes(&path), "size": checkpoint.size,
            "root": hex(&checkpoint.root.0), "checkpoint": note,
        });
        Ok(writeln!(io::stdout().lock(), "{document:#}")?)
    }

    fn opener(&self) -> Option<Opener<'_>> {
        self.opened.as_ref().map(Opened::opener)
    }

    fn print_records(
        &self,
        feed: &mut Feed,
        until: u64,
        tenant: Option<&str>,
        out: &mut impl Write,
    ) -> anyhow::Result<()> {
        while feed.position() < until {
            let before = feed.position();
            let page = feed.page(until, PAGE_BYTES)?;
            let mut opener = self.opener();
            for record in page.records.iter().filter(|record| is_of(record, tenant)) {
                writeln!(out, "{}", terminal(&shown(record, opener.as_mut())?.to_string()))?;
            }
            if page.next == before {
                break;
            }
        }
        Ok(())
    }
}

fn hashes(path: &[Hash]) -> Vec<String> {
    path.iter().map(|hash| hex(&hash.0)).collect()
}

fn is_of(record: &Stored, tenant: Option<&str>) -> bool {
    tenant.is_none_or(|tenant| record.tenant == tenant)
}

/// A record for people and programs. What it tells of people stands there as it is kept, sealed, and with an opener as
/// `personal`.
fn shown(record: &Stored, opener: Option<&mut Opener<'_>>) -> anyhow::Result<Value> {
    let at = i64::try_from(record.time).ok().and_then(at_millis);
    let event = serde_json::from_slice(&record.public)
        .unwrap_or_else(|_| Value::String(BASE64_STANDARD.encode(&record.public)));
    let mut document = json!({
        "record": record.index, "timestamp": at.map(rfc3339), "tenant_id": record.tenant, "event": event,
    });
    if !record.sealed.is_empty()
        && let Value::Object(fields) = &mut document
    {
        fields.insert("sealed".to_owned(), BASE64_STANDARD.encode(&record.sealed).into());
        if let Some(opener) = opener {
            fields.insert("personal".to_owned(), personal(record, opener)?);
        }
    }
    Ok(document)
}

/// What verification says, in lines.
fn lines(report: &Report, external: Option<&Checkpoint>, key_given: bool) -> String {
    let mut text = format!("{}: {} records in {} files\n", report.origin, report.size, report.files);
    if report.erased > 0 {
        text += &format!("{} of them were removed by retention, with a signed word\n", report.erased);
    }
    if report.unfinished_bytes > 0 {
        text += &format!(
            "{} bytes at the end belong to no whole group: never acknowledged, or being written\n",
            report.unfinished_bytes
        );
    }
    match &report.finding {
        Some(finding) => {
            let to =
                if finding.last > finding.record { format!(" to {}", finding.last) } else { String::new() };
            text += &format!(
                "NOT WHOLE: record {}{to}: {}: {} ({}, byte {})\nthe records before it are as they were written\n",
                finding.record,
                match finding.fault {
                    Fault::Changed => "changed",
                    Fault::Removed => "removed",
                    Fault::Reordered => "put elsewhere",
                    Fault::CutOff => "cut off",
                    Fault::Forged => "forged",
                },
                finding.what,
                if finding.file.is_empty() { "no file" } else { &finding.file },
                finding.offset
            );
        }
        None => text += &format!("whole: root {}\n", report.root),
    }
    match external {
        Some(checkpoint) if report.rollback_excluded => {
            text += &format!(
                "the checkpoint of {} records holds: the trail was not taken back behind it\n",
                checkpoint.size
            );
        }
        Some(_) => {}
        None => {
            text += "no checkpoint was given: a roll-back of the whole trail to an earlier state cannot be excluded\n";
        }
    }
    if !key_given {
        text += "no key was given: the trail's own copy was believed; --key excludes a trail that was forged as a whole\n";
    }
    text
}
