//! `cargo xtask`: the commands behind the Makefile. Everything lives in the library.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    xtask::commands::Cli::parse().run()
}
