//! The `portcullis` binary. Everything lives in the library, where it is tested.

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    portcullis_server::commands::run(portcullis_server::cli::Cli::parse())
}
