//! What `portcullis audit` takes.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::StoreArgs;

/// What `portcullis audit --help` adds.
pub const AUDIT_HELP: &str = "\
The trail lies in DATA_DIR/audit: every event, in the order of its arrival, in an append-only log whose Merkle tree is
signed. What the API shows is made from it. All commands but rebuild read only, and may run beside `serve`.

Keep a checkpoint where nobody can change it together with the trail, and verify against it later:
  portcullis audit checkpoint > 2026-03.checkpoint
  portcullis audit verify --checkpoint 2026-03.checkpoint
Without one, a roll-back of the whole trail to an earlier state cannot be excluded.

Examples:
  portcullis audit tail --tenant acme --follow
  portcullis audit export --from 1000 > records.jsonl
  portcullis audit prove 4711 > proof.json      that record 4711 is in the trail, for somebody who has a checkpoint
  portcullis audit rebuild                      fill the tables of the store anew from the trail; stop `serve` first

What records tell of people is sealed under their tenant's key. --open shows it, to whoever has the store (DATABASE_URL) and
the root key (ENCRYPTION_KEY); null stands for what nobody can read any more. verify and checkpoint need no key, and do not
change when a tenant's keys are shredded.

Exit code of verify: 0 the trail is whole, 1 it is not, 2 it could not be read. Of the others: 0 done, 2 not.";

/// What `audit` takes.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: AuditCommand,
    /// Where the trail and the store are.
    #[command(flatten)]
    pub store: StoreArgs,
}

/// Whether records are shown as a whole.
#[derive(Debug, Clone, Copy, Args)]
pub struct Opening {
    /// Open what is sealed: needs the store and the root key
    #[arg(long)]
    pub open: bool,
}

/// What to do with the trail.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Read everything and name the first record that was changed, removed, put elsewhere or cut off
    Verify {
        /// A checkpoint that was kept elsewhere; with it a roll-back of the whole trail is found too
        #[arg(long, value_name = "FILE")]
        checkpoint: Option<PathBuf>,
        /// The trail's verifier key as it was kept elsewhere (`serve` logs it, `checkpoint --json` prints it); left out,
        /// the trail's own copy is believed
        #[arg(long, value_name = "KEY")]
        key: Option<String>,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Print records as JSON lines: number, time, tenant, and the event as far as it is not sealed
    Export {
        /// What is sealed.
        #[command(flatten)]
        opening: Opening,
        /// The first record
        #[arg(long, default_value_t = 0, value_name = "NUMBER")]
        from: u64,
        /// The record before which to stop; left out: all
        #[arg(long, value_name = "NUMBER")]
        until: Option<u64>,
        /// Only of this tenant
        #[arg(long)]
        tenant: Option<String>,
    },
    /// Print the last records, and with --follow those that come
    Tail {
        /// What is sealed.
        #[command(flatten)]
        opening: Opening,
        /// How many
        #[arg(long, short = 'n', default_value_t = 10, value_name = "NUMBER")]
        lines: u64,
        /// Only of this tenant
        #[arg(long)]
        tenant: Option<String>,
        /// Go on with what is published, at most 5 seconds after it was written
        #[arg(long, short)]
        follow: bool,
    },
    /// Print the proof that a record is in the trail, or that an earlier state of it is its beginning
    Prove {
        /// What is sealed.
        #[command(flatten)]
        opening: Opening,
        /// The record's number
        #[arg(required_unless_present = "since")]
        record: Option<u64>,
        /// Prove instead that the first so many records begin the trail
        #[arg(long, value_name = "SIZE", conflicts_with = "record")]
        since: Option<u64>,
    },
    /// Print the newest published checkpoint: keep it elsewhere
    Checkpoint {
        /// Print one JSON document, with the verifier key
        #[arg(long)]
        json: bool,
    },
    /// Empty the tables of events and fill them from the trail; `serve` must not run
    Rebuild,
}

impl AuditCommand {
    /// Whether what is sealed is to be opened.
    #[must_use]
    pub fn opens(&self) -> bool {
        match self {
            Self::Export { opening, .. } | Self::Tail { opening, .. } | Self::Prove { opening, .. } => {
                opening.open
            }
            Self::Verify { .. } | Self::Checkpoint { .. } | Self::Rebuild => false,
        }
    }
}
