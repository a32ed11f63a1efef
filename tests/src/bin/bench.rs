//! `make bench`: measures and prints the table.

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use portcullis_tests::bench::{Options, keys, run, table};

/// CPU time per request of Envoy alone, with native filters, and with Portcullis, in alternating rounds of one run.
#[derive(Parser)]
struct Arguments {
    /// Envoy's binary.
    #[arg(long, env = "ENVOY")]
    envoy: PathBuf,
    /// Where the built modules lie.
    #[arg(long, default_value = "dist")]
    dist: PathBuf,
    /// Another module to measure beside `portcullis.wasm`, in the same rounds: an older build, say. May be repeated.
    #[arg(long, value_name = "FILE")]
    beside: Vec<PathBuf>,
    /// Rounds; each loads every variant once, in rotating order
    #[arg(long, default_value_t = 60)]
    rounds: usize,
    /// Requests per variant and round
    #[arg(long, default_value_t = 500)]
    requests: usize,
    /// Connections that are kept open to each Envoy
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Let requests go on to an upstream instead of having Envoy answer them: what it costs to wait and wake up is then in the
    /// figures, most of all with --connections 1
    #[arg(long)]
    upstream: bool,
    /// Measure only variants whose name contains this (and the baseline).
    #[arg(long)]
    only: Option<String>,
    /// Instead: limit so many users, and tell how Envoy's memory grows
    #[arg(long, conflicts_with_all = ["rounds", "requests", "only"])]
    keys: Option<usize>,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let options = Options {
        envoy: arguments.envoy,
        dist: std::path::absolute(arguments.dist)?,
        beside: arguments.beside.into_iter().map(std::path::absolute).collect::<Result<_, _>>()?,
        rounds: arguments.rounds,
        requests: arguments.requests,
        connections: arguments.connections,
        upstream: arguments.upstream,
        only: arguments.only,
    };
    if let Some(keys) = arguments.keys {
        let seen = keys::run(&options, keys, &mut std::io::stderr())?;
        if arguments.json {
            println!("{}", serde_json::to_string_pretty(&seen)?);
        } else {
            print!("{}", keys::table(&seen));
        }
        return Ok(());
    }
    let rows = run(&options, &mut std::io::stderr())?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        print!("{}", table(&rows));
    }
    Ok(())
}
