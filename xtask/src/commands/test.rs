//! `make test`: installs and builds what the tests need, runs all of them, and tells the true count.

use std::{
    io::{BufRead, BufReader, Write},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result};

use super::{cargo, edge, install, succeed, wasm};
use crate::{clock::Deadline, layout::Layout};

/// Everything. The last line is the count; answers whether all passed.
///
/// # Errors
/// When something does not build: then nothing was counted.
pub fn all(layout: &Layout) -> Result<bool> {
    let watch = Deadline::after(Duration::MAX);
    step(&watch, "installing what the tests need");
    install::for_tests(layout)?;
    step(&watch, "building the modules");
    wasm::build(layout, wasm::Which::ForTests)?;
    edge::build(layout)?;
    step(&watch, "building programs and tests");
    super::vendor::charts(layout)?;
    // In one go and with the profile that users run: dependencies are compiled once.
    let build = ["build", "--release", "--workspace", "--bins", "--tests"];
    succeed(cargo(layout).args(build), "the tests do not build: see above")?;
    step(&watch, "running the tests");
    let (mut count, succeeded) = run(layout)?;
    match wasm::check_size(layout) {
        Ok(()) => count.passed = count.passed.saturating_add(1),
        Err(error) => {
            println!("{error}");
            count.failed = count.failed.saturating_add(1);
        }
    }
    let seconds = watch.elapsed().as_secs();
    let passed = succeeded && count.failed == 0 && count.passed > 0;
    println!("\n== {seconds:>4} s  {}", if passed { "done" } else { "tests failed: see above" });
    if count.skipped > 0 {
        println!("{} skipped", count.skipped);
    }
    println!("{count}");
    Ok(passed)
}

fn step(watch: &Deadline, what: &str) {
    println!("== {:>4} s  {what}", watch.elapsed().as_secs());
}

/// Runs all tests, with their output on ours; tells the count, and whether cargo was content.
fn run(layout: &Layout) -> Result<(Count, bool)> {
    let mut count = Count::default();
    let mut succeeded = true;
    for arguments in RUNS {
        succeeded &= run_one(layout, arguments, &mut count)?;
    }
    Ok((count, succeeded))
}

/// Everything, and what a model checker schedules: its locks take the place of the usual ones.
const RUNS: [&[&str]; 2] =
    [&["--workspace"], &["--workspace", "--features", "portcullis-limits/shuttle", "--test", "model"]];

fn run_one(layout: &Layout, arguments: &[&str], count: &mut Count) -> Result<bool> {
    let mut command = cargo(layout);
    command.args(["test", "--release", "--no-fail-fast"]).args(arguments).stdout(Stdio::piped());
    let mut running = command.spawn().context("cannot start cargo")?;
    if let Some(output) = running.stdout.take() {
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        while output.read_until(b'\n', &mut line)? > 0 {
            std::io::stdout().write_all(&line)?;
            count.read(&String::from_utf8_lossy(&line));
            line.clear();
        }
    }
    let succeeded = running.wait()?.success();
    count.close();
    Ok(succeeded)
}

/// What came of the tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Count {
    passed: u64,
    failed: u64,
    skipped: u64,
    /// Tests that a program has announced, and not yet accounted for.
    announced: u64,
}

impl Count {
    /// Reads a line of a test program's output.
    fn read(&mut self, line: &str) {
        let line = line.trim();
        if let Some(tests) = line
            .strip_prefix("running ")
            .and_then(|rest| rest.strip_suffix('s').unwrap_or(rest).strip_suffix(" test"))
        {
            self.close();
            self.announced = tests.parse().unwrap_or(0);
        } else if let Some(result) = line.strip_prefix("test result: ") {
            let of = |what: &str| {
                let parts = result.split([';', '.']).map(str::trim);
                parts
                    .filter_map(|part| part.strip_suffix(what))
                    .find_map(|number| number.trim().parse::<u64>().ok())
            };
            self.passed = self.passed.saturating_add(of("passed").unwrap_or(0));
            self.failed = self.failed.saturating_add(of("failed").unwrap_or(0));
            self.skipped = self.skipped.saturating_add(of("ignored").unwrap_or(0));
            self.announced = 0;
        }
    }

    /// A program that announced tests and never told their result has died: all of them failed.
    fn close(&mut self) {
        self.failed = self.failed.saturating_add(self.announced);
        self.announced = 0;
    }
}

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(output: &str) -> String {
        let mut count = Count::default();
        output.lines().for_each(|line| count.read(line));
        count.close();
        count.to_string()
    }

    #[test]
    fn sums_over_all_programs() {
        let output = "\
running 3 tests
test a ... ok
test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.00s

running 1 test
test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.02s
";
        assert_eq!(counted(output), "2 passed, 1 failed");
    }

    #[test]
    fn a_program_that_dies_fails_all_its_tests() {
        let died = "running 4 tests\ntest a ... ok\nrunning 2 tests\ntest result: ok. 2 passed; 0 failed; 0 ignored\n";
        assert_eq!(counted(died), "2 passed, 4 failed");
        assert_eq!(counted("running 5 tests\n"), "0 passed, 5 failed");
        assert_eq!(counted("running late\n"), "0 passed, 0 failed");
    }
}
