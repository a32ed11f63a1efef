//! Prints how each set of vectors was met; exit code 1 when one was not.

use std::process::ExitCode;

fn main() -> ExitCode {
    match portcullis_primitives::all() {
        Ok(outcomes) => {
            outcomes.iter().for_each(|outcome| println!("{outcome}"));
            ExitCode::from(u8::from(outcomes.iter().any(|outcome| !outcome.failed.is_empty())))
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}
