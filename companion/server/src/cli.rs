//! The command line. Secrets are no flags: every process of the machine can read a command line, so they come
//! from the environment.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Parser, Subcommand};

pub use alerts::AlertArgs;
pub use audit::{AuditArgs, AuditCommand, Opening};
pub use bouncer::{BouncerArgs, PoolMode, ServerTls};
pub use databases::{Allowed, DatabasesArgs};
pub use export::ExportArgs;
pub use keys::{KeysArgs, KeysCommand, SealedAs, Tenants};
pub use push::{PushArgs, Shape};
pub use serve::{Environment, RetentionArgs, ServeArgs, TlsArgs};

use crate::commands::database;
use crate::inspect::source::Format;
use crate::units;

mod alerts;
mod audit;
mod bouncer;
mod databases;
mod export;
mod keys;
mod push;
mod serve;

use audit::AUDIT_HELP;
use push::PUSH_HELP;
use serve::SERVE_HELP;

const START_HELP: &str = "\
Start here:
  portcullis check my-config.json          what the module would say of it, before a proxy loads it
  portcullis serve --demonstration         try out; every other start asks for SECRET_KEY and an ingest token
  portcullis tenant add acme               outside the demonstration, tenants are added by hand
  portcullis token --tenant acme           a token that opens that tenant's events and nothing else
`portcullis serve --help` tells all variables.";

const INSPECT_HELP: &str = "\
The policies decide as in the module, except that rates are not limited: a recording has no time. Nothing is sent.
Headers that a filter sets (`set_by`) are taken as recorded; claims of tokens come from --claim.

A file may hold
  one raw HTTP request, head and body as on the wire
  one curl command, as a browser's \"Copy as cURL\" (bash) gives it
  a HAR file, as a browser's network panel saves it
  JSON lines: whole requests {method, uri, headers, body}, or lines of an access log {method, path, authority,
    user_agent, referer}, or audit records of the module (which hold no bodies, no headers and no secrets)
Of a log, only requests that would be refused are printed; --json prints all, --summary what they add up to.

Examples:
  portcullis inspect -- curl 'https://shop.example/search?q=tea'
  portcullis inspect --file request.http --config my-config.json
  portcullis inspect --file session.har --json
  portcullis inspect --file access.jsonl --summary --config my-config.json
  zcat access.jsonl.gz | portcullis inspect --file - --summary

Exit code: 0 all would pass, 1 at least one would be refused (or would be, if `monitor` were `enforce`),
2 something could not be read, and nothing would be refused.";

const KEYS_HELP: &str = "\
The root key is ENCRYPTION_KEY, the file that ENCRYPTION_KEY_FILE names, in the service that ENCRYPTION_KEY_SERVICE names
(`portcullis serve --help`), or DATA_DIR/encryption-key which `serve --demonstration` makes. `serve` may run meanwhile, on this machine or others: it sees each change at once.

Examples:
  portcullis keys list
  portcullis keys rotate acme
  portcullis keys rotate --all --older-than 90d
  echo -n 'DE02 1203' | portcullis keys seal acme --data-type iban > sealed
  portcullis keys open acme --data-type iban < sealed
  portcullis keys public acme                                       to which others may seal
  portcullis keys open acme --field 'header x-card' < sealed        what a proxy has sealed
  portcullis keys open acme --record 9f2c00000000abcd-7 < sealed    what an exported record tells of people
  portcullis keys seal acme --data-type iban --fernet-keys old.key < token   migrates a Fernet token
  portcullis keys minimum acme 3 && portcullis keys trim acme       when nothing outside is sealed under versions 1 and 2
  ENCRYPTION_KEY=$NEW ENCRYPTION_KEY_PREVIOUS=$OLD portcullis keys rewrap --all   replaces the root key
  ENCRYPTION_KEY_SERVICE=https://vault.example/transit/portcullis ENCRYPTION_KEY_SERVICE_TOKEN_FILE=token \
    ENCRYPTION_KEY_PREVIOUS=$OLD portcullis keys rewrap --all                     moves it into a service; without
    ENCRYPTION_KEY_PREVIOUS, after `bao write -f transit/keys/portcullis/rotate`: wraps all keys under its newest version

Exit code: 0 done, 1 not (standard error says why), 2 a command line that cannot be.";

/// The companion of Portcullis: keeps the audit trail, answers for it, checks configurations and tries them on requests.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, arg_required_else_help = true, after_help = START_HELP)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Take audit records from modules, store them, and serve the API
    #[command(after_help = SERVE_HELP)]
    Serve(Box<ServeArgs>),
    /// Check a module configuration: every error with its path and remedy
    #[command(
        after_help = "Exit code: 0 it is good (warnings may be printed), 1 it is not, 2 it could not be read.\nFor programs: portcullis check --json my-config.json | jq -r '.problems[] | .path + \": \" + .remedy'"
    )]
    Check(CheckArgs),
    /// Explain what a configuration would do with recorded requests: a file, a curl command, a HAR file, a log
    #[command(after_help = INSPECT_HELP)]
    Inspect(InspectArgs),
    /// Find what a PostgreSQL database lacks: indexes for its workload, within a budget, with reasons and proof
    Database(database::DatabaseArgs),
    /// Print the JSON Schema of the module configuration, for editors and other tools
    Schema,
    /// Print a bearer token for the API
    #[command(
        after_help = "The key is SECRET_KEY, or DATA_DIR/secret-key which `serve --demonstration` makes."
    )]
    Token(TokenArgs),
    /// Add or list tenants
    Tenant(TenantArgs),
    /// Make, list, rotate, rewrap and shred tenants' keys; seal and open with them
    #[command(after_help = KEYS_HELP)]
    Keys(KeysArgs),
    /// Bring the store's schema up to date, as `serve` does at its start
    Migrate(StoreArgs),
    /// Copy the store into one file and the audit trail beside it, while `serve` may run
    #[command(
        after_help = "Of PostgreSQL with pg_dump, which must be on the PATH. Secrets of DATA_DIR and the variables are not in it: \
                      keep SECRET_KEY, ENCRYPTION_KEY and AUDIT_SIGNING_KEY elsewhere."
    )]
    Backup(BackupArgs),
    /// Fill an empty store with a backup
    Restore(RestoreArgs),
    /// Read, prove and verify the audit trail
    #[command(after_help = AUDIT_HELP)]
    Audit(AuditArgs),
    /// Push the module as an OCI image to a registry, from where meshes fetch it
    #[command(after_help = PUSH_HELP)]
    Push(PushArgs),
    /// Print the release
    Version,
}

/// Where the store is.
#[derive(Debug, Clone, Args)]
pub struct StoreArgs {
    /// Where state lies
    #[arg(long, env = "DATA_DIR", default_value = ".run", value_name = "FOLDER")]
    pub data_dir: PathBuf,
    /// The store: a path, sqlite:PATH, or postgres://USER:PASSWORD@HOST/DATABASE [default: DATA_DIR/companion.db]
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: Option<String>,
}

/// What `check` takes.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The configuration, JSON; - reads standard input
    pub config: PathBuf,
    /// Print one JSON document instead of lines
    #[arg(long)]
    pub json: bool,
}

/// What `inspect` takes.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("source").args(["file", "curl"]).required(true)))]
pub struct InspectArgs {
    /// What to inspect; - reads standard input
    #[arg(long, short, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// What the file holds
    #[arg(long, value_enum, default_value_t = Format::Auto)]
    pub format: Format,
    /// The module's configuration, JSON; left out: the defaults
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// A claim of a verified token that all requests are taken to carry
    #[arg(long, value_name = "NAME=VALUE")]
    pub claim: Vec<String>,
    /// Print a JSON object a line, for every request
    #[arg(long)]
    pub json: bool,
    /// Print only what they add up to: decisions by reason and place, and the parameters that cause most of them
    #[arg(long)]
    pub summary: bool,
    /// A curl command, behind `--`
    #[arg(last = true, value_name = "curl")]
    pub curl: Vec<OsString>,
}

/// What `token` takes.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// Open this tenant alone; without it the token opens everything
    #[arg(long)]
    pub tenant: Option<String>,
    /// How long it is good: 90s, 15m, 12h, 30d; 1m to 366d
    #[arg(long, default_value = "30d", value_parser = units::duration)]
    pub ttl: Duration,
    /// Where state lies
    #[arg(long, env = "DATA_DIR", default_value = ".run", value_name = "FOLDER")]
    pub data_dir: PathBuf,
}

/// What `backup` takes.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// The file to write; it must not exist
    pub file: PathBuf,
    /// Where the store is.
    #[command(flatten)]
    pub store: StoreArgs,
}

/// What `restore` takes.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The backup
    pub file: PathBuf,
    /// Where the store is to be.
    #[command(flatten)]
    pub store: StoreArgs,
}

/// What `tenant` takes.
#[derive(Debug, Args)]
pub struct TenantArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: TenantCommand,
    /// Where the store is.
    #[command(flatten)]
    pub store: StoreArgs,
}

/// What to do with tenants.
#[derive(Debug, Subcommand)]
pub enum TenantCommand {
    /// Add a tenant; its events become readable, earlier ones too
    Add {
        /// 1 to 50 visible ASCII characters
        name: String,
    },
    /// List all tenants, one a line
    List,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_secret_is_a_flag() {
        let serve = Cli::command().find_subcommand_mut("serve").unwrap().render_long_help().to_string();
        for flag in ["--secret", "--encryption", "--ingest-token"] {
            assert!(!serve.contains(flag), "{flag}");
        }
    }
}
