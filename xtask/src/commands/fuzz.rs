//! `make fuzz`: builds the targets of `fuzz/` for libFuzzer, runs each for some time, and tells what it found.
//!
//! The stable compiler does it: what instruments code for libFuzzer is an LLVM pass that it carries anyway. Sanitizers,
//! which need another toolchain, would find little in code without `unsafe`.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command as Program, Stdio},
};

use anyhow::{Context, Result, bail};

use super::{cargo, succeed};
use crate::layout::Layout;

/// What libFuzzer needs to see: which edges ran, and what was compared with what. The latter costs more than half of the
/// time, and is what finds its way past words.
const INSTRUMENTED: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Clink-dead-code --cfg fuzzing";
/// Seconds that one input may take: more is a finding.
const PATIENCE: u32 = 5;

/// The longest input, in bytes: short ones are tried more often.
fn longest(name: &str) -> u32 {
    match name {
        "growth" => 48,
        "values" => 256,
        _ => 4096,
    }
}

/// The words that a target's inputs are made of.
fn dictionary(name: &str) -> Option<&'static str> {
    match name {
        "growth" | "values" | "requests" | "recordings" => Some("languages.dict"),
        "configurations" => Some("configurations.dict"),
        _ => None,
    }
}

/// Builds, and runs each target for so many seconds; one alone, if it is named.
///
/// # Errors
/// When something does not build, no target has that name, or an input was found for which a property does not hold.
pub fn run(layout: &Layout, seconds: u32, only: Option<&str>, features: &[String]) -> Result<()> {
    let fuzz = layout.root().join("fuzz");
    let target = layout.target().join("fuzz");
    let host = host()?;
    println!("building; from nothing this takes some minutes");
    // With a target named, the flags are not used for build scripts and macros, which run here.
    let mut build = cargo(layout);
    build
        .args(["build", "--quiet", "--release", "--bins", "--target", &host, "--manifest-path"])
        .arg(fuzz.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .env("RUSTFLAGS", INSTRUMENTED)
        .env_remove("CARGO_TARGET_DIR");
    if !features.is_empty() {
        build.arg("--features").arg(features.join(","));
    }
    succeed(&mut build, "a C++ compiler is needed too: apt install g++")?;
    let names: Vec<String> =
        names(&fuzz)?.into_iter().filter(|name| only.is_none_or(|only| only == name)).collect();
    if names.is_empty() {
        bail!("TARGET={}: there is no such target in fuzz/targets", only.unwrap_or_default());
    }
    let mut broken = 0;
    for name in &names {
        let program = target.join(&host).join("release").join(name);
        let found = one(&program, name, &fuzz, &target, seconds)?;
        println!("{name:<15} {found}");
        broken += usize::from(found.input.is_some());
    }
    if broken > 0 {
        bail!(
            "{broken} of {} targets found an input; run the target's program with it to see it again",
            names.len()
        );
    }
    Ok(())
}

/// What this machine builds for.
fn host() -> Result<String> {
    let output = Program::new("rustc").arg("-vV").output().context("cannot start rustc")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(ToOwned::to_owned).context("rustc does not say what it builds for")
}

fn names(fuzz: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(fuzz.join("targets")).context("fuzz/targets cannot be read")? {
        let path = entry?.path();
        names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

/// What came of one target.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    executions: u64,
    /// Edges and the like that were reached.
    coverage: u64,
    /// The input for which its property does not hold, and the program that takes it.
    input: Option<(PathBuf, PathBuf)>,
    /// What it said last.
    said: Vec<String>,
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:>12} executions  {:>6} edges  ", self.executions, self.coverage)?;
        match &self.input {
            None => write!(f, "holds"),
            Some((program, input)) => {
                write!(f, "FOUND {}\n  again: {} {}", input.display(), program.display(), input.display())?;
                self.said.iter().try_for_each(|line| write!(f, "\n  {line}"))
            }
        }
    }
}

fn one(program: &Path, name: &str, fuzz: &Path, target: &Path, seconds: u32) -> Result<Found> {
    // What was learned is kept beside what is built, for the next run.
    let learned = target.join("learned").join(name);
    let inputs = target.join("found").join(name);
    fs::create_dir_all(&learned)?;
    fs::create_dir_all(&inputs)?;
    let mut command = Program::new(program);
    command
        .arg(&learned)
        .arg(fuzz.join("seeds").join(name))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={PATIENCE}"))
        .arg(format!("-max_len={}", longest(name)))
        .arg(format!("-artifact_prefix={}/", inputs.display()))
        .args(["-rss_limit_mb=2048", "-print_final_stats=1", "-verbosity=1"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    if let Some(words) = dictionary(name) {
        command.arg(format!("-dict={}", fuzz.join(words).display()));
    }
    let mut running = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
    let mut found = Found::default();
    let errors = running.stderr.take().context("no standard error")?;
    for line in BufReader::new(errors).split(b'\n') {
        found.read(&String::from_utf8_lossy(&line?), program);
    }
    let status = running.wait()?;
    if !status.success() && found.input.is_none() {
        bail!("{name} {}, and left no input:\n{}", crate::process::describe(status), found.said.join("\n"));
    }
    Ok(found)
}

/// Lines of a panic that are shown.
const SAID: usize = 8;

impl Found {
    /// Reads a line of libFuzzer's.
    fn read(&mut self, line: &str, program: &Path) {
        let number = |text: &str| text.split_whitespace().next().and_then(|word| word.parse().ok());
        if let Some(rest) = line.strip_prefix("stat::number_of_executed_units:") {
            self.executions = number(rest).unwrap_or(0);
        } else if let Some((_, path)) = line.split_once("Test unit written to ") {
            self.input = Some((program.to_owned(), PathBuf::from(path.trim())));
        } else if line.starts_with('#') {
            if let Some((_, rest)) = line.split_once(" cov: ") {
                self.coverage = number(rest).unwrap_or(self.coverage).max(self.coverage);
            }
        } else if line.contains("panicked at")
            || line.starts_with("==")
            || self.said.last().is_some_and(|last| last.contains("panicked at"))
        {
            self.said.truncate(SAID);
            self.said.push(line.chars().take(400).collect());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libfuzzer_says_is_understood() {
        let said = "\
INFO: Seed: 1
#2	INITED cov: 100 ft: 12 corp: 1/1b exec/s: 0 rss: 30Mb
#512	NEW    cov: 120 ft: 13
thread '<unnamed>' (1) panicked at fuzz/src/values.rs:1:2:
planted
==7== ERROR: libFuzzer: deadly signal
artifact_prefix='x/'; Test unit written to x/crash-1
stat::number_of_executed_units: 1234
";
        let mut found = Found::default();
        said.lines().for_each(|line| found.read(line, Path::new("p")));
        assert_eq!((found.executions, found.coverage), (1234, 120));
        assert_eq!(found.input, Some((PathBuf::from("p"), PathBuf::from("x/crash-1"))));
        let shown = found.to_string();
        assert!(shown.contains("again: p x/crash-1\n") && shown.contains("planted"), "{shown}");
        assert!(Found::default().to_string().ends_with("holds"));
    }

    #[test]
    fn every_target_has_seeds() {
        let fuzz = Layout::of_this_checkout().root().join("fuzz");
        let all = names(&fuzz).unwrap();
        assert!(all.len() > 4);
        for name in all {
            assert!(
                fs::read_dir(fuzz.join("seeds").join(&name)).is_ok_and(|seeds| seeds.count() > 0),
                "{name}"
            );
        }
    }
}
