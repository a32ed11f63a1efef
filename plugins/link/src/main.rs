//! What becomes of a module after the compiler. A program of its own, because what it is made of is large, and only whoever
//! builds modules needs it.
//!
//! - `portcullis-link glue MODULE FOLDER` turns a module that was built with `wasm-bindgen` into `portcullis.js` and
//!   `portcullis_bg.wasm` in that folder, for hosts that load both as they are (`--target web`).
//! - `portcullis-link restrict MODULE RESULT` writes a module that asks its host for nothing optional; see [`restrict`].
//! - `portcullis-link trim MODULE RESULT` writes the edge module without its compiler; see [`trim`].

mod restrict;
mod trim;

use std::{path::Path, process::ExitCode};

use anyhow::{Context, Result};
use wasm_bindgen_cli_support::Bindgen;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let done = match arguments.as_slice() {
        [command, from, to] if command == "glue" => glue(from.as_ref(), to.as_ref()),
        [command, from, to] if command == "restrict" => restrict::file(from.as_ref(), to.as_ref()),
        [command, from, to] if command == "trim" => trim::file(from.as_ref(), to.as_ref()),
        _ => {
            eprintln!("usage: portcullis-link glue MODULE FOLDER");
            eprintln!("       portcullis-link restrict|trim MODULE RESULT");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("portcullis-link: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn glue(module: &Path, folder: &Path) -> Result<()> {
    let mut bindgen = Bindgen::new();
    bindgen.input_path(module).out_name("portcullis").typescript(false).remove_producers_section(true);
    bindgen.web(true).context("the target web is unknown")?;
    bindgen.generate(folder).with_context(|| format!("no glue for {}", module.display()))
}
