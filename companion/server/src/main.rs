//! The `portcullis` binary. Everything lives in the library, where it is tested.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    portcullis_server::commands::run(portcullis_server::cli::Cli::parse())
}
