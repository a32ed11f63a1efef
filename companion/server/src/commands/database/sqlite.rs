//! `portcullis database advise` and `tune` on an SQLite file.

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use portcullis_database::plan::megabytes;
use portcullis_database::sqlite;

use super::super::print;
use super::AdviseArgs;
use super::tune::TuneArgs;

/// The file that a URL names: `sqlite:data/shop.db`, `sqlite:///srv/shop.db`.
pub(super) fn file(url: &str) -> Option<&Path> {
    let rest = url.strip_prefix("sqlite:")?;
    Some(Path::new(rest.strip_prefix("//").unwrap_or(rest)))
}

pub(super) fn advise(args: &AdviseArgs, path: &Path) -> anyhow::Result<()> {
    let Some(workload) = args.workload.read()? else {
        bail!("SQLite counts no statements: name a folder of them with --workload");
    };
    let advice = sqlite::advise(path, workload, args.budget)?;
    for skipped in &advice.skipped {
        eprintln!("portcullis: left out: {}: {}", skipped.name, skipped.reason);
    }
    let mut text = format!(
        "-- Indexes for {}: {} of {}; the workload's steps x {:.4}, counted on a copy.\n",
        path.display(),
        megabytes(advice.bytes),
        megabytes(args.budget),
        advice.steps
    );
    for index in &advice.indexes {
        let _ = writeln!(text, "\n-- {}", megabytes(index.bytes));
        for (name, before, after) in &index.serves {
            let _ = writeln!(text, "--   {name}: {before:.0} -> {after:.0} steps");
        }
        let _ = writeln!(text, "{};", index.create);
    }
    if !advice.indexes.is_empty() {
        text.push_str("\nPRAGMA optimize;\n");
    }
    if let Some(out) = &args.out {
        std::fs::write(out, &text)
            .with_context(|| format!("{}: cannot be written; name another with --out", out.display()))?;
    }
    match (args.json, &args.out) {
        (true, _) => print(&serde_json::to_string_pretty(&advice)?),
        (false, None) => print(text.trim_end()),
        (false, Some(out)) => print(&format!(
            "{}: {} indexes, {}; the workload's steps x {:.4}",
            out.display(),
            advice.indexes.len(),
            megabytes(advice.bytes),
            advice.steps
        )),
    }
}

/// Sets the database up and shows what was read back.
pub(super) fn tune(args: &TuneArgs, path: &Path) -> anyhow::Result<ExitCode> {
    if !path.is_file() {
        bail!("{}: no such file; name an SQLite database", path.display());
    }
    let pragmas = sqlite::settle(path).with_context(|| path.display().to_string())?;
    if args.json {
        print(&serde_json::to_string_pretty(&pragmas)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    for pragma in &pragmas {
        print(&format!("PRAGMA {} = {}; -- read back; {} before", pragma.name, pragma.now, pragma.before))?;
    }
    print(
        "the write-ahead log stays with the file; the rest each connection sets for itself: run these lines on it",
    )?;
    Ok(ExitCode::SUCCESS)
}
