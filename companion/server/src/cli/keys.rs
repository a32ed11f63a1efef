//! What `portcullis keys` takes.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::{RetentionArgs, StoreArgs};
use crate::units;

/// What `keys` takes.
#[derive(Debug, Args)]
pub struct KeysArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: KeysCommand,
    /// Where the store is.
    #[command(flatten)]
    pub store: StoreArgs,
}

/// One tenant, or all.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Tenants {
    /// The tenant
    pub tenant: Option<String>,
    /// Every tenant that has keys
    #[arg(long)]
    pub all: bool,
}

/// As what a value was sealed.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
pub struct SealedAs {
    /// What kind of value it was sealed as
    #[arg(long, value_name = "TEXT")]
    pub data_type: Option<String>,
    /// The field that a proxy has sealed, as 'header x-card'
    #[arg(long, value_name = "FIELD")]
    pub field: Option<String>,
    /// What an exported record tells of people (`personal_sealed`), of the record with this uid
    #[arg(long, value_name = "UID")]
    pub record: Option<String>,
}

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a tenant's first key, or a new one after a shredding
    Create {
        /// The tenant
        tenant: String,
    },
    /// List keys: versions and ages, never the keys themselves
    List {
        /// The tenant; all when left out
        tenant: Option<String>,
        /// Print a JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Print the public key to which a proxy may seal the tenant's values: pcpk1.VERSION.KEY
    Public {
        /// The tenant
        tenant: String,
    },
    /// Make a new version, which seals from now on; older ones still open
    Rotate {
        /// Which.
        #[command(flatten)]
        tenants: Tenants,
        /// Only keys that are older: 90d; with --all
        #[arg(long, value_parser = units::duration, value_name = "DURATION")]
        older_than: Option<Duration>,
    },
    /// Seal kept values anew under the newest version, and wrap keys under the present root key
    Rewrap {
        /// Which.
        #[command(flatten)]
        tenants: Tenants,
    },
    /// Open only versions from this one on; refused while the audit trail may hold records that older ones sealed
    Minimum {
        /// The tenant
        tenant: String,
        /// The least version that is opened
        version: u32,
        /// Delete the versions below it, for good
        #[arg(long)]
        trim: bool,
        /// Do it all the same: what those records tell of people cannot be read any more
        #[arg(long)]
        force: bool,
        /// How long the trail keeps records, as `serve` has it.
        #[command(flatten)]
        retention: RetentionArgs,
    },
    /// Delete the versions below the minimum that neither the audit trail nor the store needs any more, for good
    Trim {
        /// Which.
        #[command(flatten)]
        tenants: Tenants,
        /// How long the trail keeps records, as `serve` has it.
        #[command(flatten)]
        retention: RetentionArgs,
    },
    /// Delete all of a tenant's keys: what they sealed is lost for ever, and its events tell nothing of people any more
    Shred {
        /// The tenant
        tenant: String,
        /// It is meant
        #[arg(long)]
        yes: bool,
    },
    /// Seal standard input, print the envelope; /api/security/decrypt opens it
    Seal {
        /// The tenant
        tenant: String,
        /// What kind of value it is
        #[arg(long, value_name = "TEXT")]
        data_type: String,
        /// The input is a Fernet token of one of the keys in this file (mode 0600, one a line); it is sealed anew
        #[arg(long, value_name = "FILE")]
        fernet_keys: Option<PathBuf>,
    },
    /// Open an envelope on standard input, print what it holds
    Open {
        /// The tenant
        tenant: String,
        /// As what it was sealed.
        #[command(flatten)]
        sealed_as: SealedAs,
        /// What the proxy has sealed it for
        #[arg(long, default_value = "edge", value_name = "TEXT", conflicts_with_all = ["data_type", "record"])]
        purpose: String,
    },
}
