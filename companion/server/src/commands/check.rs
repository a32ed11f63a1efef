//! `portcullis check`: what the module would say of a configuration, before a proxy is given it.

use std::io::{self, IsTerminal, Read};
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
    let text = if args.json {
        json(valid, &problems)
    } else {
        lines(&args.config, valid, &problems, Paint::choose())
    };
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

/// Colour, for eyes alone: on a terminal, unless NO_COLOR asks for none (<https://no-color.org>).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Paint {
    Plain,
    Colour,
}

impl Paint {
    fn choose() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if io::stdout().is_terminal() && !refused { Self::Colour } else { Self::Plain }
    }

    fn severity(self, severity: ConfigSeverity) -> String {
        let (code, name) = match severity {
            ConfigSeverity::Error => (31, name(severity)),
            ConfigSeverity::Warning => (33, name(severity)),
        };
        match self {
            Self::Plain => name.to_owned(),
            Self::Colour => format!("\u{1b}[1;{code}m{name}\u{1b}[0m"),
        }
    }
}

fn lines(path: &Path, valid: bool, problems: &ConfigErrors, paint: Paint) -> String {
    // What must be put right stands before what could be better.
    let mut problems_by_severity: Vec<_> = problems.iter().collect();
    problems_by_severity.sort_by_key(|problem| problem.severity == ConfigSeverity::Warning);
    let mut lines: Vec<String> = problems_by_severity
        .into_iter()
        .map(|problem| format!("{}: {}", paint.severity(problem.severity), shown(&problem.to_string())))
        .collect();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_marks_the_severity_and_nothing_from_the_configuration() {
        let Err(problems) = Chain::from_json(b"{\"a\\u001b[31m\": 1}") else { panic!("valid") };
        let of = |paint| lines(Path::new("c.json"), false, &problems, paint);
        assert!(!of(Paint::Plain).contains('\u{1b}'));
        let coloured = of(Paint::Colour);
        assert!(coloured.starts_with("\u{1b}[1;31merror\u{1b}[0m: a\\u{1b}[31m"), "{coloured}");
        assert_eq!(coloured.matches('\u{1b}').count(), 2 * problems.iter().count());
    }
}
