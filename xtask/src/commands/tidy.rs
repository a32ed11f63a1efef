//! What neither compiler nor linter checks: that paths named in Markdown exist, that source files keep their size, that
//! the make commands which Markdown names exist.
//!
//! It reads text and guesses what is a path; so it looks only at relative links and at code spans that begin with a
//! folder or file of the checkout.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::layout::Layout;

/// Lines that a source file may have.
const MOST_LINES: usize = 500;
/// What only the walk-through in CONTRIBUTING makes.
const IMAGINED: &str = "plugins/greeting";
/// Folders that are made, not written.
const MADE: [&str; 6] = ["target", "dist", ".run", ".tools", ".git", "node_modules"];

/// Checks, and prints what is wrong.
///
/// # Errors
/// When anything is.
pub fn report(layout: &Layout) -> Result<()> {
    let problems = check(layout)?;
    problems.iter().for_each(|problem| println!("{problem}"));
    if problems.is_empty() {
        return Ok(());
    }
    bail!("{} untidy places", problems.len())
}

/// What is wrong, a line each.
///
/// # Errors
/// When the checkout cannot be read.
pub fn check(layout: &Layout) -> Result<Vec<String>> {
    let root = layout.root();
    let mut files = Vec::new();
    collect(root, &mut files)?;
    files.sort();
    let targets =
        make_targets(&fs::read_to_string(root.join("Makefile")).context("cannot read the Makefile")?);
    let mut problems = Vec::new();
    for file in &files {
        let shown = file.strip_prefix(root).unwrap_or(file).display().to_string();
        let text = || fs::read_to_string(file).with_context(|| format!("cannot read {shown}"));
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("rs") => {
                let lines = text()?.lines().count();
                if lines > MOST_LINES {
                    problems.push(format!("{shown}: {lines} lines, may have {MOST_LINES}: split it"));
                }
            }
            Some("md") => {
                let text = text()?;
                let missing = paths(&text).into_iter().filter(|path| !exists(root, file, path));
                problems.extend(missing.map(|path| format!("{shown}: names {path}, which does not exist")));
                let unknown = make_commands(&text).into_iter().filter(|name| !targets.contains(name));
                problems
                    .extend(unknown.map(|name| {
                        format!("{shown}: says `make {name}`, which the Makefile does not have")
                    }));
            }
            _ => {}
        }
    }
    Ok(problems)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_file() {
            files.push(entry.path());
        } else if kind.is_dir() && !MADE.iter().any(|made| entry.file_name() == *made) {
            collect(&entry.path(), files)?;
        }
    }
    Ok(())
}

/// Where a path may be meant to start: the checkout, or the Markdown file's own folder.
fn exists(root: &Path, file: &Path, path: &str) -> bool {
    let first = path.split('/').next().unwrap_or_default();
    let own = file.parent().unwrap_or(root);
    if MADE.contains(&first) || path.starts_with(IMAGINED) {
        return true;
    }
    // `src/` is meant from the crate that the text stands in, or from one that the text talks about.
    if first == "src" && !own.join(first).exists() {
        return true;
    }
    // A module may be named without the ending of its file.
    [root, own].iter().any(|start| start.join(path).exists() || start.join(format!("{path}.rs")).exists())
}

/// Relative links, and code spans that look like a path of the checkout.
fn paths(markdown: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for piece in markdown.split("](").skip(1) {
        let link = piece.split([')', '#', ' ']).next().unwrap_or_default();
        if !link.is_empty() && !link.contains("://") && !link.starts_with("mailto:") {
            found.insert(link.to_owned());
        }
    }
    for line in outside_fences(markdown) {
        for span in line.split('`').skip(1).step_by(2) {
            // A place within a file may follow: `file.rs:12`.
            let path = span.split(':').next().unwrap_or_default();
            if looks_like_path(path) {
                found.insert(path.to_owned());
            }
        }
    }
    found
}

fn looks_like_path(text: &str) -> bool {
    const FOLDERS: [&str; 10] = [
        "plugins/",
        "companion/",
        "envoy/",
        "tests/",
        "host-tests/",
        "xtask/",
        "fuzz/",
        "src/",
        "docs/",
        ".ci/",
    ];
    const NAMES: [&str; 4] = [".md", ".toml", ".rs", ".yaml"];
    let plain = !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.' | b'-' | b'_'));
    let in_folder = FOLDERS.iter().any(|folder| text.starts_with(folder));
    plain
        && (in_folder
            || (text.contains('/')
                && NAMES.iter().any(|name| text.ends_with(name))
                && !text.starts_with('/')))
}

fn outside_fences(markdown: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    markdown.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

/// The targets of `make NAME`, in code spans and in fenced code, where a command starts a line.
fn make_commands(markdown: &str) -> BTreeSet<String> {
    let spans = outside_fences(markdown).flat_map(|line| line.split('`').skip(1).step_by(2));
    let mut fenced = false;
    let fences = markdown.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        fenced && !fence
    });
    let commands = spans
        .chain(fences)
        .filter_map(|text| text.trim_start().trim_start_matches("$ ").strip_prefix("make "));
    commands
        .filter_map(|rest| rest.split_whitespace().find(|word| !word.contains('=') && !word.starts_with('-')))
        .filter(|word| {
            word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        })
        .map(ToOwned::to_owned)
        .collect()
}

fn make_targets(makefile: &str) -> BTreeSet<String> {
    let rules =
        makefile.lines().filter(|line| !line.starts_with(['\t', '#', ' ', '.']) && !line.contains(":="));
    rules
        .filter_map(|line| line.split_once(':'))
        .flat_map(|(names, _)| names.split_whitespace())
        .map(ToOwned::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_paths_and_nothing_else() {
        let markdown = "[a](ARCHITECTURE.md#map) [b](https://x.test/y.md) `plugins/policy/src/limits.rs:7` `a/b` `GET /api/x.md`\n\
                        ```\nplugins/not/looked/at\n```\n`plugins/<name>/x` `host-tests/README.md` `portcullis check`";
        let found: Vec<String> = paths(markdown).into_iter().collect();
        assert_eq!(found, ["ARCHITECTURE.md", "host-tests/README.md", "plugins/policy/src/limits.rs"]);
    }

    #[test]
    fn finds_make_commands() {
        let markdown = "Say `make run` or `make test`; make sure.\n```sh\n$ make up ENVOY_PORT=1 # why\nmake DATA_DIR=x down\n```";
        assert_eq!(make_commands(markdown).into_iter().collect::<Vec<_>>(), ["down", "run", "test", "up"]);
        let targets = make_targets(".PHONY: x\nrun up: tools ## y\n\tcargo: z\nA := b:c\n# n: m\n");
        assert_eq!(targets.into_iter().collect::<Vec<_>>(), ["run", "up"]);
    }

    #[test]
    fn a_long_file_a_lost_path_and_a_lost_command_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("Makefile", "run:\n");
        write("long.rs", &"\n".repeat(MOST_LINES + 1));
        write("README.md", "`make run` `make nothing` [x](gone.md) `target/x.rs`");
        let problems = check(&Layout::at(folder.path())).unwrap().join("\n");
        for part in ["long.rs: 501 lines", "names gone.md", "says `make nothing`"] {
            assert!(problems.contains(part), "{part} not in {problems}");
        }
        assert_eq!(problems.lines().count(), 3, "{problems}");
    }

    #[test]
    fn this_checkout_is_tidy() {
        let problems = check(&Layout::of_this_checkout()).unwrap();
        assert!(problems.is_empty(), "{}", problems.join("\n"));
    }
}
