//! `make corpus`: judges recorded requests and prints how many were refused.

use std::{
    fs,
    io::{self, BufWriter, Write as _},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};
use portcullis_tests::corpus::{Details, Noted, envoy::Proxy, native, run, table};
use xtask::clock::Deadline;

/// Who judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Via {
    /// The chain, in this process.
    Native,
    /// A real Envoy with the built module.
    Envoy,
}

/// How much of recorded traffic is refused, by file, label and place.
///
/// Rates are not limited. What Envoy refuses by itself is counted apart.
#[derive(Parser)]
struct Arguments {
    /// A folder with *.jsonl and *.jsonl.gz: requests, access logs, or single values.
    #[arg(long, env = "CORPUS")]
    corpus: PathBuf,
    /// Who judges.
    #[arg(long, default_value = "native")]
    via: Via,
    /// The module's configuration, JSON; left out: the defaults.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Count refusals by their reason too.
    #[arg(long)]
    reasons: bool,
    /// Print one JSON document instead of a table.
    #[arg(long)]
    json: bool,
    /// Write what became of each request to this file, a JSON object a line. Requests themselves are not in it.
    #[arg(long)]
    list: Option<PathBuf>,
    /// Requests in flight; 0: as many as suit.
    #[arg(long, default_value_t = 0)]
    workers: usize,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let configuration = match &arguments.config {
        None => b"{}".to_vec(),
        Some(path) => fs::read(path).with_context(|| format!("CONFIG={}: cannot be read", path.display()))?,
    };
    // Before anything is started: a configuration that is wrong is told at once.
    let native = native::judge(&configuration);
    native()?;
    let mut list = match &arguments.list {
        None => None,
        Some(path) => {
            let file =
                fs::File::create(path).with_context(|| format!("{}: cannot be written", path.display()))?;
            Some(BufWriter::new(file))
        }
    };
    let mut failed: Result<(), io::Error> = Ok(());
    let mut note = |noted: Noted<'_>| {
        if let (Some(list), Ok(line), true) = (&mut list, serde_json::to_string(&noted), failed.is_ok()) {
            failed = writeln!(list, "{line}");
        }
    };
    let watch = Deadline::after(Duration::MAX);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let workers = |suits: usize| if arguments.workers == 0 { suits } else { arguments.workers };
    let report = match arguments.via {
        Via::Native => run(&arguments.corpus, workers(cores), &native, &mut note)?,
        Via::Envoy => {
            let proxy = Proxy::start(&configuration)?;
            run(&arguments.corpus, workers(16), &proxy.judge(), &mut note)?
        }
    };
    failed.and_then(|()| list.map_or(Ok(()), |mut list| list.flush())).context("the list was not written")?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", table(&report, Details { reasons: arguments.reasons }));
        eprintln!("{:.1} s", watch.elapsed().as_secs_f64());
    }
    Ok(())
}
