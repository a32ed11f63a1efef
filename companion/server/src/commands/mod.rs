//! The subcommands of `portcullis`.

pub mod audit;
pub mod backup;
pub mod check;
pub mod database;
pub mod inspect;
pub mod keys;
pub mod migrate;
pub mod push;
pub mod serve;
pub mod tenant;
pub mod token;

use std::process::ExitCode;

use crate::cli::{Cli, Command};

/// Runs the command line; an error is one line on standard error and exit code 1.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
    let done = match cli.command {
        Command::Serve(args) => serve::run(&args),
        Command::Check(args) => return check::run(&args),
        Command::Inspect(args) => return inspect::run(&args),
        Command::Schema => schema(),
        Command::Database(args) => return database::run(&args),
        Command::Token(args) => token::run(&args),
        Command::Tenant(args) => tenant::run(&args),
        Command::Keys(args) => keys::run(&args),
        Command::Migrate(args) => migrate::run(&args),
        Command::Backup(args) => backup::backup(&args),
        Command::Restore(args) => backup::restore(&args),
        Command::Push(args) => push::run(&args),
        Command::Audit(args) => return audit::run(&args),
        Command::Version => print(&format!("portcullis {}", env!("CARGO_PKG_VERSION"))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("portcullis: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn schema() -> anyhow::Result<()> {
    print(&serde_json::to_string_pretty(&portcullis_chain::schema())?)
}

/// Prints a line; a reader that has gone away ends the command as it would end any other.
fn print(line: &str) -> anyhow::Result<()> {
    use std::io::Write;
    writeln!(std::io::stdout(), "{line}")?;
    Ok(())
}
