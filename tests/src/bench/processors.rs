//! Which processor runs what: Envoy has one for itself, load and upstream have the others. So none of them displaces what the
//! other has in its caches, and a wake-up does not move a thread.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};

/// Keeps this process, and what it starts from now on, off one processor, and names that one; `None` where there is but one.
///
/// # Errors
/// When the system does not let a process choose its processors.
pub fn spare_one() -> Result<Option<usize>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let mut all = parse(list.context("Cpus_allowed_list")?.trim());
    let spared = all.pop().filter(|_| !all.is_empty());
    if spared.is_some() {
        let others: Vec<String> = all.iter().map(usize::to_string).collect();
        let process = std::process::id().to_string();
        let mut command = Command::new("taskset");
        let done = command.args(["--all-tasks", "--cpu-list", "--pid", &others.join(","), &process]).output();
        let done = done.context("`taskset` of util-linux is needed to place processes")?;
        ensure!(done.status.success(), "taskset: {}", String::from_utf8_lossy(&done.stderr));
    }
    Ok(spared)
}

/// A command that runs on that processor.
pub fn command(binary: &Path, processor: Option<usize>) -> Command {
    let Some(processor) = processor else { return Command::new(binary) };
    let mut command = Command::new("taskset");
    // It becomes the binary: the process has the same number.
    command.args(["--cpu-list", &processor.to_string()]).arg(binary);
    command
}

/// Numbers and ranges, like `0-3,8`.
fn parse(list: &str) -> Vec<usize> {
    let number = |text: &str| text.parse::<usize>().ok();
    list.split(',')
        .filter_map(|part| match part.split_once('-') {
            Some((first, last)) => Some(number(first)?..=number(last)?),
            None => Some(number(part)?..=number(part)?),
        })
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read() {
        assert_eq!(parse("0-3,8"), [0, 1, 2, 3, 8]);
        assert_eq!(parse("5"), [5]);
        assert!(parse("").is_empty());
    }
}
