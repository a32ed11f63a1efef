//! `portcullis check`: what the module would say of a configuration, before a proxy is given it.

use std::io::{self, Read};
use std::path::Path;
use std::process::ExitCode;

use portcullis_chain::Chain;
use portcullis_policy::{ConfigError, ConfigErrors, ConfigSeverity, limits};
use serde::Serialize;

use crate::cli::CheckArgs;

/// The exit code when the file could not be read; 1 says that it was read and is wrong.
const UNREADABLE: u8 = 2;

#[derive(Serialize)]
struct Report<'a> {
    valid: bool,
    problems: Vec<ProblemLine<'a>>,
    /// Problems beyond those listed.
    more: usize,
}

#[derive(Serialize)]
struct ProblemLine<'a> {
    severity: &'static str,
    path: String,
    problem: &'a str,
    remedy: &'a str,
}

impl<'a> From<&'a ConfigError> for ProblemLine<'a> {
    fn from(error: &'a ConfigError) -> Self {
        let ConfigError { severity, site, problem, remedy } = error;
        Self { severity: name(*severity), path: site.to_string(), problem, remedy }
    }
}

/// Checks the file and prints every problem.
#[must_use]
pub fn run(args: &CheckArgs) -> ExitCode {
    let bytes = match read(&args.config) {
        Ok(bytes) => bytes,
        Err(error) => {
            eprintln!(
                "portcullis: {}: {error}; name a readable file, or - for standard input",
                args.config.display()
            );
            return ExitCode::from(UNREADABLE);
        }
    };
    let (valid, problems) = match Chain::from_json(&bytes) {
        Ok((_, warnings)) => (true, warnings),
        Err(errors) => (false, errors),
    };
    let text = if args.json { json(valid, &problems) } else { lines(&args.config, valid, &problems) };
    if super::print(&text).is_err() {
        return ExitCode::from(UNREADABLE);
    }
    if valid { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One byte more than the most, so that a file that is too long is told so by the same check as in the module.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let most = u64::try_from(limits::CONFIG_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    if path.as_os_str() == "-" {
        io::stdin().take(most).read_to_end(&mut bytes)?;
    } else {
        std::fs::File::open(path)?.take(most).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

fn name(severity: ConfigSeverity) -> &'static str {
    match severity {
        ConfigSeverity::Error => "error",
        ConfigSeverity::Warning => "warning",
    }
}

fn lines(path: &Path, valid: bool, problems: &ConfigErrors) -> String {
    let mut lines: Vec<String> =
        problems.iter().map(|problem| shown(&format!("{}: {problem}", name(problem.severity)))).collect();
    if problems.beyond() > 0 {
        lines.push(format!("and {} more", problems.beyond()));
    }
    lines.push(format!("{}: {}", path.display(), if valid { "valid" } else { "not valid" }));
    lines.join("\n")
}

/// A configuration may come from anyone: its control characters stay off the terminal.
fn shown(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { char::REPLACEMENT_CHARACTER } else { char }).collect()
}

fn json(valid: bool, problems: &ConfigErrors) -> String {
    let report =
        Report { valid, problems: problems.iter().map(ProblemLine::from).collect(), more: problems.beyond() };
    serde_json::to_string_pretty(&report).unwrap_or_default()
}
